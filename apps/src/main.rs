//! `landbridge-apps APP`: serves one of the applications.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match landbridge_apps::cli::run(std::env::args_os()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("landbridge-apps: {why}");
            std::process::ExitCode::FAILURE
        }
    }
}
