//! Runs what a page of docs/ shows, as its reader would, and holds the page to what it says comes out.
//!
//! ````text
//! ```console
//! $ landbridge-apps guide --help        is run in a shell, and has to succeed
//! A server to try clients …             is what it says: `…` stands for any text, a line of `...` for any lines
//! ...                                   (nothing below a command: whatever it says)
//! ```
//! ````
//!
//! Blocks of `console` are run, and of `sh`, which have neither prompt nor output. Comments right above a block say
//! what is special about it:
//!
//! - `<!-- run: stays -->`: its commands run on in the background, once they have said the lines below them;
//! - `<!-- run: stop -->` (with no block): those are ended, as by Ctrl-C;
//! - `<!-- run: no, because it needs npm -->`: it is not run, for that reason;
//! - `<!-- file: name.json -->`: the block, in whatever language, is written to that file.
//!
//! What programs log, lines that begin with a time, is no part of what they say.
//!
//! All of a page happens in one empty directory. Variables and `cd` last, as they do in a terminal. `landbridge` and
//! `landbridge-apps` are on the `PATH`. Ports that the page names are exchanged for free ones, there and back.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::app::{PROGRAM, fresh_dir};

/// How long a command may take, or one that stays until it has said its lines.
const PATIENCE: Duration = Duration::from_secs(40);

/// A page of docs/.
pub struct Page {
    name: String,
    text: String,
    ports: HashMap<u16, u16>,
    variables: Vec<(String, String)>,
}

/// That page, such as `guide.md`.
pub fn page(name: &str) -> Page {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Page { name: name.into(), text, ports: HashMap::new(), variables: Vec::new() }
}

/// What a page wants done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// A command, and the lines that it says; `None` where nothing is said of them.
    Run {
        line: usize,
        command: String,
        says: Option<Vec<String>>,
        stays: bool,
    },
    File {
        name: String,
        text: String,
    },
    Stop,
}

impl Page {
    /// A port that the page names. It is another one in a test.
    pub fn port(mut self, port: u16) -> Page {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        self.ports.insert(port, listener.local_addr().expect("an address").port());
        self
    }

    /// A variable that its reader does not need: the port that is the default, for instance.
    pub fn variable(mut self, name: &str, value: &str) -> Page {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Runs all of it. Returns how many commands that were.
    pub fn run(self) -> usize {
        let steps = steps(&self.text).unwrap_or_else(|why| panic!("docs/{}: {why}", self.name));
        let mut terminal = Terminal::open(&self);
        let mut count = 0;
        for step in steps {
            match step {
                Step::Stop => terminal.stop(),
                Step::File { name, text } => {
                    let path = terminal.dir.join(name);
                    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
                    fs::write(path, exchange(&text, &self.ports)).expect("a file");
                }
                Step::Run { line, command, says, stays } => {
                    count += 1;
                    let said = terminal.run(&exchange(&command, &self.ports), says.as_deref(), stays);
                    if let Err(why) = said {
                        panic!("docs/{}:{line}: {command}\n{why}", self.name);
                    }
                }
            }
        }
        count
    }
}

/// A shell in a directory of its own, and what it has left running.
struct Terminal {
    dir: PathBuf,
    /// Variables and the working directory, as the last command has left them.
    state: PathBuf,
    back: HashMap<u16, u16>,
    variables: Vec<(String, String)>,
    running: Vec<Child>,
    number: usize,
}

impl Terminal {
    fn open(page: &Page) -> Terminal {
        let back = page.ports.iter().map(|(shown, real)| (*real, *shown)).collect();
        let base = fresh_dir(&format!("docs-{}", page.name));
        let (dir, state) = (base.join("here"), base.join("state"));
        fs::create_dir(&dir).expect("a directory");
        fs::write(&state, format!("cd '{}'\n", dir.display())).expect("a file");
        let variables = page.variables.iter().map(|(name, value)| (name.clone(), exchange(value, &page.ports))).collect();
        Terminal { dir, state, back, variables, running: Vec::new(), number: 0 }
    }

    #[allow(clippy::zombie_processes)] // One that stays is waited for when it is stopped.
    fn run(&mut self, command: &str, says: Option<&[String]>, stays: bool) -> Result<(), String> {
        self.number += 1;
        let output = self.state.with_file_name(format!("output-{}", self.number));
        let state = self.state.display();
        let keep =
            if stays { String::new() } else { format!("\nstatus=$?\n{{ export -p; echo \"cd '$PWD'\"; }} > '{state}'\nexit $status") };
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\nset -a\n. '{state}'\n{command}{keep}")])
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", path())
            .env("HOME", &self.dir)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .process_group(0)
            .spawn()
            .expect("a shell");
        let said = || {
            let all = String::from_utf8_lossy(&fs::read(&output).unwrap_or_default()).into_owned();
            exchange(
                &all.lines().filter(|line| !is_logged(line)).map(|line| format!("{}\n", line.trim_end())).collect::<String>(),
                &self.back,
            )
        };
        let until = Instant::now() + PATIENCE;
        if stays {
            let mut says = says.ok_or("a command that stays has to say when it is ready")?.to_vec();
            says.push("...".into());
            loop {
                if fits(&says, &said().lines().collect::<Vec<_>>()) {
                    self.running.push(child);
                    return Ok(());
                }
                let ended = child.try_wait().expect("a child");
                if ended.is_some() || Instant::now() > until {
                    end(&mut child);
                    return Err(format!("it has not said that it is ready ({ended:?}), but:\n{}", said()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let status = loop {
            match child.try_wait().expect("a child") {
                Some(status) => break status,
                None if Instant::now() > until => {
                    end(&mut child);
                    return Err(format!("it does not end, and has said:\n{}", said()));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let said = said();
        if !status.success() {
            return Err(format!("it failed ({status}):\n{said}"));
        }
        let lines: Vec<&str> = said.lines().collect();
        match says {
            Some(says) if !fits(says, &lines) => Err(format!("the page says:\n{}\nit says:\n{said}", says.join("\n"))),
            _ => Ok(()),
        }
    }

    fn stop(&mut self) {
        self.running.iter_mut().for_each(end);
        self.running.clear();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(self.dir.parent().expect("the base"));
    }
}

/// Ends a shell and all that it has started, in good order if that is possible.
fn end(child: &mut Child) {
    let group = format!("-{}", child.id());
    let signal = |signal: &str| {
        let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
    };
    signal("-TERM");
    let until = Instant::now() + Duration::from_secs(5);
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal("-KILL");
    let _ = child.wait();
}

/// Where our programs are, before everything else.
fn path() -> String {
    let dir = landbridge().parent().expect("a directory").to_owned();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

/// The gateway, beside our program. It is built if nobody has done so.
pub fn landbridge() -> PathBuf {
    let dir = Path::new(PROGRAM).parent().expect("a directory");
    let program = dir.join("landbridge");
    if !program.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        // Together, so that what both are made of is not built a second time with other features.
        build.args(["build", "-p", "landbridge", "-p", "landbridge-apps", "--bin", "landbridge"]);
        if dir.ends_with("release") {
            build.arg("--release");
        }
        let target = dir.parent().expect("a target directory");
        assert!(build.env("CARGO_TARGET_DIR", target).status().expect("cargo").success(), "landbridge cannot be built");
    }
    program
}

/// What a page wants done, from its text.
fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut said: Option<String> = None;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(comment) = line.trim().strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            if comment == "run: stop" {
                steps.push(Step::Stop);
            } else if comment.starts_with("run: ") || comment.starts_with("file: ") {
                said = Some(comment.to_owned());
            }
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            if let Some(said) = said.as_ref().filter(|_| !line.trim().is_empty()) {
                return Err(format!("line {}: `{said}` is about no block", number + 1));
            }
            continue;
        };
        let block: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| *line != "```").map(|(n, line)| (n + 1, line)).collect();
        let said = said.take().unwrap_or_default();
        let whole = || block.iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
        if let Some(name) = said.strip_prefix("file: ") {
            steps.push(Step::File { name: name.into(), text: whole() });
            continue;
        }
        if let Some(no) = said.strip_prefix("run: no") {
            let why = no.strip_prefix(", because ").unwrap_or_default();
            if why.trim().is_empty() {
                return Err(format!("line {}: say why it is not run: `run: no, because …`", number + 1));
            }
            continue;
        }
        let stays = match said.as_str() {
            "" => false,
            "run: stays" => true,
            other => return Err(format!("line {}: `{other}` means nothing", number + 1)),
        };
        match language.trim() {
            "sh" | "bash" | "shell" => steps.push(Step::Run { line: number + 1, command: whole(), says: None, stays }),
            "console" => steps.extend(commands(&block, stays)?),
            _ => {}
        }
    }
    Ok(steps)
}

/// The commands of a block, each with the lines below it.
fn commands(block: &[(usize, &str)], stays: bool) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut lines = block.iter().peekable();
    while let Some((number, line)) = lines.next() {
        let first = line.strip_prefix("$ ").ok_or_else(|| format!("line {number}: a command begins with `$ `"))?;
        let mut command = first.to_owned();
        // A line goes on after a backslash, or, as a shell shows it, behind `> `.
        while let Some((_, more)) = lines.next_if(|(_, line)| command.ends_with('\\') || line.starts_with("> ")) {
            command = format!("{command}\n{}", more.strip_prefix("> ").unwrap_or(more));
        }
        let mut says = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.starts_with("$ ")) {
            says.push(line.trim_end().to_owned());
        }
        while says.last().is_some_and(String::is_empty) {
            says.pop();
        }
        steps.push(Step::Run { line: *number, command, says: (!says.is_empty()).then_some(says), stays });
    }
    Ok(steps)
}

/// Whether a line begins with a time, to the microsecond.
fn is_logged(line: &str) -> bool {
    let time = line.split(' ').next().unwrap_or_default();
    time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T'
}

/// Whether these lines are what was expected.
fn fits(expected: &[String], lines: &[&str]) -> bool {
    match (expected.first().map(String::as_str), lines.first()) {
        (None, None) => true,
        (Some("..."), _) => (0..=lines.len()).any(|at| fits(&expected[1..], &lines[at..])),
        (Some(line), Some(said)) => line_fits(line, said) && fits(&expected[1..], &lines[1..]),
        _ => false,
    }
}

fn line_fits(expected: &str, said: &str) -> bool {
    match expected.split_once('…') {
        None => expected == said,
        Some((before, after)) => said.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| line_fits(after, &rest[at..]))
        }),
    }
}

/// The text with other ports. A port is a number that stands alone.
fn exchange(text: &str, ports: &HashMap<u16, u16>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, digits) = rest.split_at(at);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (number, after) = digits.split_at(end);
        out.push_str(before);
        let alone = !before.ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_')
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        match number.parse().ok().and_then(|port: u16| ports.get(&port)).filter(|_| alone) {
            Some(port) => out.push_str(&port.to_string()),
            None => out.push_str(number),
        }
        rest = after;
    }
    out + rest
}

mod tests {
    use super::*;

    #[test]
    fn docs_are_read_as_they_are_written() {
        let text = "Words.\n\n<!-- run: stays -->\n```console\n$ serve --port 3000\nready\n```\n\n<!-- file: a.json -->\n\n```json\n{}\n```\n\
            <!-- run: no, because of npm -->\n```sh\nnpx x\n```\n<!-- run: stop -->\n```console\n$ echo a \\\n    b\n$ echo c\nc\n\n```\n```rust\nx\n```\n";
        let run = |line, command: &str, says: Option<&str>, stays| Step::Run {
            line,
            command: command.into(),
            says: says.map(|line| vec![line.to_owned()]),
            stays,
        };
        let expected = [
            run(5, "serve --port 3000", Some("ready"), true),
            Step::File { name: "a.json".into(), text: "{}\n".into() },
            Step::Stop,
            run(20, "echo a \\\n    b", None, false),
            run(22, "echo c", Some("c"), false),
        ];
        assert_eq!(steps(text).unwrap(), expected);
        assert!(steps("<!-- run: no -->\n```sh\nx\n```\n").unwrap_err().contains("say why"));
        assert!(steps("<!-- run: stays -->\nWords.\n").unwrap_err().contains("no block"));
    }

    #[test]
    fn docs_hold_what_comes_out_to_what_was_promised() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(fits(&lines("a\n...\nid …, name …!"), &["a", "b", "c", "id 7, name x!"]));
        assert!(fits(&lines("...\nz"), &["z"]));
        assert!(!fits(&lines("a"), &["a", "b"]));
        assert!(!fits(&lines("a …"), &["b c"]));
        let ports = HashMap::from([(3000, 41_234)]);
        assert_eq!(exchange("3000 --port=3000 :3000/x 30000 0.3000 x3000", &ports), "41234 --port=41234 :41234/x 30000 0.3000 x3000");
    }

    #[test]
    fn docs_are_run_in_one_terminal() {
        let text = "```console\n$ mkdir x; cd x; NAME='a b'\n$ echo \"$NAME\" | tee f; basename \"$PWD\"; command -v landbridge-apps >/dev/null\n\
            a b\nx\n```\n<!-- run: stays -->\n```console\n$ cat f; echo at 127.0.0.1:3000; sleep 100\n...\nat 127.0.0.1:3000\n```\n<!-- run: stop -->\n";
        let page = |text: &str| Page { name: "test".into(), text: text.into(), ports: HashMap::new(), variables: Vec::new() };
        assert_eq!(page(text).port(3000).run(), 3);
        let wrong = std::panic::catch_unwind(|| page("```console\n$ echo a\nb\n```\n").run());
        assert!(wrong.is_err());
        let fails = std::panic::catch_unwind(|| page("```sh\nfalse\n```\n").run());
        assert!(fails.is_err());
    }
}
