//! The user's browser: which program that is, and what it is told. No shell reads the address.

use std::io::Write as _;
use std::process::Stdio;

use tokio::process::Command;
use tracing::debug;

/// Says where to log in. Standard output belongs to the protocol.
pub(super) fn tell(server: &str, url: &str) {
    let said = format!("landbridge: {server} wants you to log in. If no browser opens, open this address:\n\n  {url}\n\n");
    let _ = std::io::stderr().lock().write_all(said.as_bytes()); // nobody has to read it
}

/// Opens it: with what `BROWSER` names, else with what the system has for that.
pub(super) fn open(url: &str) {
    let programs = match std::env::var("BROWSER") {
        Ok(written) => named(&written),
        Err(_) => usual(),
    };
    for program in programs {
        let mut words = with_url(program, url).into_iter();
        let Some(name) = words.next() else { continue };
        let mut command = Command::new(&name);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(mut child) => {
                tokio::spawn(async move { child.wait().await }); // so that nothing is left of it
                return;
            }
            Err(e) => debug!(name, error = %e, "this browser cannot be started"),
        }
    }
}

/// The programs that `BROWSER` names: where paths have no colon, several can stand there.
fn named(written: &str) -> Vec<Vec<String>> {
    let parts: Vec<&str> = if cfg!(unix) { written.split(':').collect() } else { vec![written] };
    parts.into_iter().filter_map(shlex::split).filter(|words| !words.is_empty()).collect()
}

fn usual() -> Vec<Vec<String>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    match () {
        () if cfg!(windows) => vec![words("rundll32 url.dll,FileProtocolHandler")],
        () if cfg!(target_os = "macos") => vec![words("open")],
        // Without a display it would start a browser in a terminal that is not ours.
        () if has_display => vec![words("xdg-open")],
        () => Vec::new(),
    }
}

/// The words of a command with the address in place of `%s`, or behind them.
fn with_url(program: Vec<String>, url: &str) -> Vec<String> {
    let placed = program.iter().any(|word| word.contains("%s"));
    let mut words: Vec<String> = program.iter().map(|word| word.replace("%s", url)).collect();
    words.extend((!placed).then(|| url.to_owned()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_word() {
        let url = "https://as/authorize?a=b&c=$(x) ;%20";
        for (written, expected) in [
            ("firefox", vec![vec!["firefox", url]]),
            ("'my browser' --new %s -x", vec![vec!["my browser", "--new", url, "-x"]]),
            ("curl -sL", vec![vec!["curl", "-sL", url]]),
            ("", vec![]),
            ("unbalanced '", vec![]),
        ] {
            let words: Vec<_> = named(written).into_iter().map(|program| with_url(program, url)).collect();
            assert_eq!(words, expected, "{written}");
        }
        #[cfg(unix)]
        assert_eq!(named("a:b -c"), [vec!["a"], vec!["b", "-c"]]);
    }
}
