//! The command line.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: the guard needs no runtime, no log and no second thread.
    let mut args = std::env::args_os();
    let _program = args.next();
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "guard") {
        args.next();
        return landbridge::guard::run(args);
    }
    cli::run()
}
