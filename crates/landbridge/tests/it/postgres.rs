//! A Postgres of our own, on a port of its own, in a directory of its own. It speaks TLS with a
//! certificate nobody knows, and wants a password.
//!
//! It is ended by its pid when dropped, and by the kernel if we are killed.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::gateway::wait_until;

/// With what has to be written differently in a URL.
pub const PASSWORD: &str = "pa/ss@word";
const PASSWORD_IN_URL: &str = "pa%2Fss%40word";

const PREFIX: &str = "landbridge-it-postgres-";

pub struct Postgres {
    /// `None` while it is stopped.
    child: Option<Child>,
    directory: PathBuf,
    pub port: u16,
    /// The certificate to trust, as a file.
    pub authority: PathBuf,
}

impl Postgres {
    /// Begins one and starts it. Takes a second or two.
    pub fn start() -> Postgres {
        remove_what_killed_tests_left();
        let directory = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        let authority = directory.join("authority.pem");
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&authority, key.cert.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
        std::fs::write(directory.join("password"), PASSWORD).unwrap();
        std::fs::set_permissions(directory.join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            for path in [&directory, &authority, &directory.join("key.pem"), &directory.join("password")] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut initdb = program("initdb", &directory);
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username=landbridge"]);
        let made = initdb.args(["--pwfile=password", "--pgdata=data"]).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = Postgres { child: None, directory, port: 0, authority };
        for _ in 0..5 {
            postgres.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if postgres.start_again() {
                return postgres;
            }
        }
        panic!("postgres does not start: {}", std::fs::read_to_string(postgres.directory.join("log")).unwrap());
    }

    /// Starts it where it was; false if somebody else has its port.
    pub fn start_again(&mut self) -> bool {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log")).unwrap();
        let port = format!("port={}", self.port);
        let mut command = program("postgres", &self.directory);
        command.args(["-D", "data", "-c", &port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.args(["-c", "ssl=on", "-c", "ssl_cert_file=../authority.pem", "-c", "ssl_key_file=../key.pem"]);
        command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB"]);
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        // Its last line is the state, which is `ready` in the end.
        let pid_file = self.directory.join("data/postmaster.pid");
        let is_ready =
            || std::fs::read_to_string(&pid_file).is_ok_and(|said| said.lines().nth(7).is_some_and(|state| state.trim() == "ready"));
        let mut has_ended = false;
        wait_until("postgres to be ready", || {
            has_ended = child.try_wait().unwrap().is_some();
            has_ended || is_ready()
        });
        self.child = (!has_ended).then_some(child);
        !has_ended
    }

    /// Ends it, as its own administrator would in a hurry: connections are broken off.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = child.wait();
    }

    /// An empty database of this name, which sorts as people do, not as bytes; its URL.
    pub async fn database(&self, name: &str) -> String {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        self.url(name)
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://landbridge:{PASSWORD_IN_URL}@localhost:{}/{name}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Forty megabytes each.
fn remove_what_killed_tests_left() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A program of Postgres, as a user that it accepts, ended with us.
fn program(name: &str, directory: &Path) -> Command {
    let mut command = Command::new("setpriv");
    // An immediate shutdown, of all its processes.
    command.args(["--pdeathsig", "QUIT"]);
    if let Some((uid, gid)) = unprivileged() {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    }
    command.arg("--").arg(programs().join(name)).current_dir(directory).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Where its programs are.
fn programs() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<(u32, PathBuf)> =
        installed.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))).collect();
    installed.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = installed.into_iter().rev().map(|(_, place)| place).chain(std::env::split_paths(&path));
    let place = places.find(|place| place.join("initdb").exists() && place.join("postgres").exists());
    place.expect(
        "these tests need a real Postgres: `apt-get install postgresql`, or run scripts/test, which does so without starting a server",
    )
}

/// The user to be in place of root, whom Postgres does not accept: its own, or else `nobody`.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let mut fields = users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(user("postgres").or_else(|| user("nobody")).expect("a user `postgres` or `nobody`"))
}
