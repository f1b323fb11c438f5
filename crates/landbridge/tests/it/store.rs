//! Records: the same over memory, SQLite and a real Postgres, and by how many they can be used at once.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use landbridge::store::{KEY_BYTES, Kind, PAGE_RECORDS, Record, Store, Trouble, VALUE_BYTES, open};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::postgres::{PASSWORD, Postgres};

type Shared = Arc<dyn Store>;

fn lasting(value: &str) -> Record {
    Record { value: value.into(), expires_s: None }
}

fn until(expires_s: u64) -> Record {
    Record { value: "{}".into(), expires_s: Some(expires_s) }
}

async fn keys(store: &Shared, kind: Kind, after: &str, limit: usize, now_s: u64) -> Vec<String> {
    store.list(kind, after, limit, now_s).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

// --- everywhere ---------------------------------------------------------------------------------

/// What every store does.
async fn does_what_stores_do(store: Shared) {
    reads_what_was_written(&store).await;
    forgets_what_has_expired(&store).await;
    lists_page_by_page(&store).await;
    refuses_what_no_database_keeps(&store).await;
    sweeps_all_that_has_expired(&store).await;
    gives_each_record_to_one(&[store]).await;
}

async fn reads_what_was_written(store: &Shared) {
    let strange = "{\"name\":\"Ä 漢 🦀 \\u0000 ' \\\" ; --\n%_$1 ?\"}";
    for kind in Kind::ALL {
        assert_eq!(store.get(kind, "a'b", 0).await, Ok(None));
        store.put(kind, "a'b", Record { value: format!("{strange}{}", kind.name()), expires_s: Some(u64::MAX >> 1) }).await.unwrap();
    }
    for kind in Kind::ALL {
        let record = store.get(kind, "a'b", 7).await.unwrap().unwrap();
        assert_eq!((record.value, record.expires_s), (format!("{strange}{}", kind.name()), Some(u64::MAX >> 1)));
    }
    // Anew, with everything that belongs to it.
    store.put(Kind::Grant, "a'b", lasting("")).await.unwrap();
    assert_eq!(store.get(Kind::Grant, "a'b", u64::MAX).await, Ok(Some(lasting(""))));
    store.put(Kind::Grant, "a'b", until(9)).await.unwrap();
    assert_eq!(store.get(Kind::Grant, "a'b", 8).await, Ok(Some(until(9))));
    // Longer than any second: kept as long as can be.
    store.put(Kind::Grant, "far", until(u64::MAX)).await.unwrap();
    assert!(store.get(Kind::Grant, "far", 1 << 62).await.unwrap().is_some());

    for kind in Kind::ALL {
        assert!(store.take(kind, "a'b", 8).await.unwrap().is_some());
        assert_eq!(store.take(kind, "a'b", 8).await, Ok(None));
        assert_eq!(store.get(kind, "a'b", 8).await, Ok(None));
    }
    store.take(Kind::Grant, "far", 0).await.unwrap().unwrap();
}

async fn forgets_what_has_expired(store: &Shared) {
    store.put(Kind::Code, "c", until(100)).await.unwrap();
    assert_eq!(store.get(Kind::Code, "c", 99).await, Ok(Some(until(100))));
    assert_eq!(store.get(Kind::Code, "c", 100).await, Ok(None));
    assert_eq!(keys(store, Kind::Code, "", 10, 99).await, ["c"]);
    assert_eq!(keys(store, Kind::Code, "", 10, 100).await, [""; 0]);
    // Whoever takes it too late has nevertheless taken it.
    assert_eq!(store.take(Kind::Code, "c", 100).await, Ok(None));
    assert_eq!(store.get(Kind::Code, "c", 0).await, Ok(None));
}

async fn lists_page_by_page(store: &Shared) {
    // In the order of bytes, in which `Z` is before `a`, and no language has a say.
    let sorted = ["-", "0", "10", "2", "Z", "_", "a", "a-", "aa", "b", "~", "ä", "漢", "🦀"];
    for key in sorted.iter().rev() {
        store.put(Kind::User, key, lasting(&format!("user {key}"))).await.unwrap();
    }
    store.put(Kind::User, "aaa", until(50)).await.unwrap();
    store.put(Kind::Client, "aaa", lasting("of another kind")).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.list(Kind::User, &after, 4, 50).await.unwrap();
        assert!(page.iter().all(|(key, record)| *record == lasting(&format!("user {key}"))));
        seen.extend(page.iter().map(|(key, _)| key.clone()));
        match page.last() {
            Some((last, _)) if page.len() == 4 => after.clone_from(last),
            _ => break,
        }
    }
    assert_eq!(seen, sorted);
    assert_eq!(keys(store, Kind::User, "a", 3, 49).await, ["a-", "aa", "aaa"]);
    assert_eq!(keys(store, Kind::User, "b and what is no key", 2, 0).await, ["~", "ä"]);
    assert_eq!(keys(store, Kind::User, "", 0, 0).await, [""; 0]);
    for key in sorted {
        store.take(Kind::User, key, 0).await.unwrap().unwrap();
    }
    assert_eq!(keys(store, Kind::User, "", 9, 0).await, ["aaa"]);
}

async fn refuses_what_no_database_keeps(store: &Shared) {
    // Nothing repeats in it, so that no index can make it smaller.
    let longest: String = (0..KEY_BYTES).map(|at| char::from(b'!' + ((at * at * 31 + at * 7) % 89) as u8)).collect();
    let biggest = lasting(&"v".repeat(VALUE_BYTES));
    store.put(Kind::Document, &longest, biggest.clone()).await.unwrap();
    assert_eq!(store.take(Kind::Document, &longest, 0).await, Ok(Some(biggest)));
    for (key, value) in
        [("", "{}"), ("n\0l", "{}"), (format!("{longest}1").as_str(), "{}"), ("key", "n\0l"), ("key", "v".repeat(VALUE_BYTES + 1).as_str())]
    {
        let refused = store.put(Kind::Document, key, lasting(value)).await;
        assert!(matches!(refused, Err(Trouble::Unfit(_))), "{refused:?}");
        assert_eq!(store.get(Kind::Document, key, 0).await, Ok(None));
        assert_eq!(store.take(Kind::Document, key, 0).await, Ok(None));
        store.list(Kind::Document, key, 1, 0).await.unwrap();
    }
}

async fn sweeps_all_that_has_expired(store: &Shared) {
    store.sweep(1 << 60).await.unwrap();
    // More than one page, and more than one statement sweeps.
    let n_over = PAGE_RECORDS + 100;
    for at in 0..n_over {
        store.put(Kind::Access, &format!("{at:05}"), until(10)).await.unwrap();
    }
    store.put(Kind::Refresh, "over", until(9)).await.unwrap();
    store.put(Kind::Access, "later", until(11)).await.unwrap();
    store.put(Kind::Access, "never", lasting("{}")).await.unwrap();
    assert_eq!(keys(store, Kind::Access, "", usize::MAX, 0).await.len(), PAGE_RECORDS);
    assert_eq!(store.sweep(8).await, Ok(0));
    assert_eq!(store.sweep(10).await, Ok(n_over as u64 + 1));
    assert_eq!(store.sweep(10).await, Ok(0));
    assert_eq!(keys(store, Kind::Access, "", 9, 0).await, ["later", "never"]);
    assert_eq!(keys(store, Kind::Refresh, "", 9, 0).await, [""; 0]);
}

/// Fifty tasks want each of two hundred records, through these handles.
async fn gives_each_record_to_one(handles: &[Shared]) {
    const RECORDS: usize = 200;
    for at in 0..RECORDS {
        handles[0].put(Kind::Refresh, &format!("{at:03}"), lasting(&at.to_string())).await.unwrap();
    }
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let store = handles[task % handles.len()].clone();
            tokio::spawn(async move {
                let mut had = Vec::new();
                for at in 0..RECORDS {
                    // Half of them begin where the others do; the rest comes from elsewhere.
                    let at = (at + if task % 2 == 0 { 0 } else { task * 4 }) % RECORDS;
                    had.extend(store.take(Kind::Refresh, &format!("{at:03}"), 0).await.unwrap().map(|record| record.value));
                }
                had
            })
        })
        .collect();
    let mut had: BTreeMap<String, usize> = BTreeMap::new();
    for task in tasks {
        for value in task.await.unwrap() {
            *had.entry(value).or_default() += 1;
        }
    }
    assert_eq!(had.len(), RECORDS);
    assert!(had.values().all(|times| *times == 1), "{had:?}");
}

// --- over processes -----------------------------------------------------------------------------

/// What every store does that others can open too. `test` is the name of the test that asks.
async fn is_shared(test: &str, url: &str) {
    begins_once(test, url).await;
    let handles = [open(url).await.unwrap(), open(url).await.unwrap()];
    handles[0].put(Kind::Key, "k", lasting("by one")).await.unwrap();
    assert_eq!(handles[1].get(Kind::Key, "k", 0).await, Ok(Some(lasting("by one"))));
    gives_each_record_to_one(&handles).await;
    lets_callers_go(&handles).await;
    gives_each_record_to_one_process(test, url, &handles[0]).await;
    drop(handles);
    keeps_what_a_killed_process_wrote(test, url).await;
}

/// Callers that go away in the middle hold nobody up, and leave each record whole or gone.
async fn lets_callers_go(handles: &[Shared; 2]) {
    for at in 0..100 {
        let store = handles[0].clone();
        let caller = tokio::spawn(async move {
            for turn in 0.. {
                store.put(Kind::Login, &format!("{at}"), lasting(&format!("{at}"))).await.unwrap();
                store.take(Kind::Login, &format!("{at}"), 0).await.unwrap();
                store.list(Kind::Login, "", turn % 5, 0).await.unwrap();
            }
        });
        tokio::time::sleep(Duration::from_micros(at * 37 % 5000)).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        handles[1].put(Kind::Login, "other", lasting("{}")).await.unwrap();
    }
    for (key, record) in handles[1].list(Kind::Login, "", 1000, 0).await.unwrap() {
        assert!(record.value == key || key == "other", "{key}");
        assert_eq!(handles[0].take(Kind::Login, &key, 0).await, Ok(Some(record)));
    }
}

/// Many processes that find an empty database make it together.
async fn begins_once(test: &str, url: &str) {
    let others: Vec<Other> = (0..5).map(|at| Other::start(test, url, &format!("put {at}"))).collect();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn({
                let url = url.to_owned();
                async move { open(&url).await.map(drop) }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for other in others {
        assert_eq!(other.end(), ["done"]);
    }
    assert_eq!(keys(&open(url).await.unwrap(), Kind::Client, "", 9, 0).await, ["0", "1", "2", "3", "4"]);
}

async fn gives_each_record_to_one_process(test: &str, url: &str, store: &Shared) {
    let all: Vec<String> = (0..300).map(|at| format!("{at:03}")).collect();
    for key in &all {
        store.put(Kind::Code, key, lasting(key)).await.unwrap();
    }
    let others: Vec<Other> = (0..4).map(|_| Other::start(test, url, "take")).collect();
    let mut had: Vec<String> = others.into_iter().flat_map(Other::end).filter(|line| line != "done").collect();
    had.sort();
    assert_eq!(had, all);
}

async fn keeps_what_a_killed_process_wrote(test: &str, url: &str) {
    let mut other = Other::start(test, url, "write");
    other.wait_for("50");
    other.kill();
    let store = open(url).await.unwrap();
    let kept = keys(&store, Kind::Vault, "", 1000, 0).await;
    assert!(kept.len() >= 50, "{kept:?}");
    for (at, key) in kept.iter().enumerate() {
        assert_eq!(*key, format!("{:05}", at + 1));
    }
}

/// This test once more, in a process of its own, to do a part.
struct Other {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
}

const STORE: &str = "LANDBRIDGE_TEST_STORE";
const PART: &str = "LANDBRIDGE_TEST_PART";
/// The harness prints, too.
const MARK: &str = "other process: ";

impl Other {
    fn start(test: &str, url: &str, part: &str) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(STORE, url)
            .env(PART, part)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Other { child, out }
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(&format!("{MARK}{word}")) {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "it ended before it said {word}");
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it said until it ended well.
    fn end(mut self) -> Vec<String> {
        let lines = self.out.lines().map(Result::unwrap);
        let said = lines.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned())).collect();
        assert!(self.child.wait().unwrap().success());
        said
    }
}

/// Does its part if it is such a process: whether it was.
async fn is_other() -> bool {
    let (Ok(url), Ok(part)) = (std::env::var(STORE), std::env::var(PART)) else { return false };
    let say = |word: &str| {
        println!("{MARK}{word}");
        std::io::stdout().flush().unwrap();
    };
    let store = open(&url).await.unwrap();
    match part.split_once(' ') {
        Some(("put", key)) => store.put(Kind::Client, key, lasting("{}")).await.unwrap(),
        None if part == "take" => {
            for at in 0..300 {
                if let Some(record) = store.take(Kind::Code, &format!("{at:03}"), 0).await.unwrap() {
                    say(&record.value);
                }
            }
        }
        None if part == "write" => {
            // Ended by a signal, long before.
            for at in 1..100_000 {
                store.put(Kind::Vault, &format!("{at:05}"), lasting("{}")).await.unwrap();
                say(&at.to_string());
            }
        }
        _ => panic!("what is {part}?"),
    }
    say("done");
    true
}

// --- the three ----------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let store = open("memory:").await.unwrap();
    does_what_stores_do(store.clone()).await;
    assert!(!format!("{store:?}").contains("{}"));
    assert_eq!(open("memory:").await.unwrap().get(Kind::Access, "never", 0).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    if is_other().await {
        return;
    }
    let directory = Directory::new("sqlite");
    does_what_stores_do(open(&directory.url("a.db")).await.unwrap()).await;
    is_shared("store::sqlite", &directory.url("b.db")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    if is_other().await {
        return;
    }
    let mut postgres = Postgres::start();
    does_what_stores_do(open(&postgres.database("a").await).await.unwrap()).await;
    is_shared("store::postgres", &postgres.database("b").await).await;
    hides_its_password(&postgres).await;
    speaks_tls(&postgres).await;
    refuses_newer_tables(&postgres).await;
    keeps_to_a_schema(&postgres).await;
    outlives_a_restart(&mut postgres).await;
}

// --- SQLite -------------------------------------------------------------------------------------

/// A directory that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("landbridge-it-{}-store-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn url(&self, path: &str) -> String {
        format!("sqlite:{}", self.0.join(path).display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_file_is_its_owners_alone() {
    let directory = Directory::new("modes");
    let store = open(&directory.url("new/deep/store.db")).await.unwrap();
    store.put(Kind::Vault, "k", lasting("{}")).await.unwrap();
    let mode = |path: &str| std::fs::metadata(directory.0.join(path)).unwrap().permissions().mode() & 0o777;
    for (path, expected) in [
        ("new", 0o700),
        ("new/deep", 0o700),
        ("new/deep/store.db", 0o600),
        ("new/deep/store.db-wal", 0o600),
        ("new/deep/store.db-shm", 0o600),
    ] {
        assert_eq!(mode(path), expected, "{path}");
    }
}

#[tokio::test]
async fn a_path_is_a_path_in_every_spelling() {
    let directory = Directory::new("paths");
    let root = directory.0.display();
    for (at, url) in [format!("sqlite:{root}/a?b#c %20.db"), format!("sqlite://{root}/a?b#c %20.db")].iter().enumerate() {
        let store = open(url).await.unwrap();
        assert_eq!(keys(&store, Kind::Key, "", 9, 0).await.len(), at, "{url}");
        store.put(Kind::Key, &at.to_string(), lasting("{}")).await.unwrap();
    }
    assert!(directory.0.join("a?b#c %20.db").exists());
    for url in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite:a\0b"] {
        let said = open(url).await.unwrap_err();
        assert!(said.contains("path of a file"), "{said}");
    }
    for url in ["", "memory", "memory:x", "mysql://ada:hunter@h/db", "/var/lib/hunter.db", "SQLITE:hunter.db"] {
        let said = open(url).await.unwrap_err();
        assert!(said.contains("`sqlite:PATH`") && !said.contains("hunter"), "{said}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_the_way_out() {
    let directory = Directory::new("damaged");
    std::fs::write(directory.0.join("text.db"), "this is no database".repeat(100)).unwrap();
    let said = open(&directory.url("text.db")).await.unwrap_err();
    assert!(said.contains("text.db is damaged, or no SQLite database") && said.contains("restore it from a backup"), "{said}");
    assert_eq!(std::fs::read_to_string(directory.0.join("text.db")).unwrap(), "this is no database".repeat(100), "left as it is");

    for (url, expected) in
        [(directory.url("text.db/store.db"), "cannot be made at"), (format!("sqlite:{}", directory.0.display()), "cannot be opened")]
    {
        let said = open(&url).await.unwrap_err();
        assert!(said.contains(expected) && said.contains(url.strip_prefix("sqlite:").unwrap()), "{said}");
    }
}

#[tokio::test]
async fn a_newer_file_is_left_alone() {
    let directory = Directory::new("newer");
    let url = directory.url("store.db");
    open(&url).await.unwrap().put(Kind::Key, "k", lasting("{}")).await.unwrap();
    let path = Path::new(&directory.0).join("store.db");
    let run = async |sql: &'static str| {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    run("UPDATE store_version SET version = 9").await;
    let said = open(&url).await.unwrap_err();
    assert!(said.contains("made by a newer Landbridge: its version is 9"), "{said}");
    run("UPDATE store_version SET version = 1").await;
    assert_eq!(keys(&open(&url).await.unwrap(), Kind::Key, "", 9, 0).await, ["k"]);
}

// --- Postgres -----------------------------------------------------------------------------------

#[track_caller]
fn assert_hides(said: &str) {
    assert!(!said.contains(PASSWORD) && !said.contains("ss@word") && !said.contains("%2F"), "{said}");
}

async fn hides_its_password(postgres: &Postgres) {
    let url = postgres.database("hidden").await;
    assert_hides(&format!("{:?}", open(&url).await.unwrap()));
    let port = postgres.port.to_string();
    for (url, expected) in [
        (url.replace("/hidden", "/elsewhere"), "database \"elsewhere\" does not exist"),
        (url.replace("landbridge:", "landbridge:not"), "password authentication failed"),
        (url.replace(&port, "1"), "localhost:1 cannot be opened"),
        (format!("{url}?sslmode=verify-full"), "certificate"),
        (format!("{url}?sslmode=most"), "most"),
        (format!("{url}?pasword={PASSWORD}"), "means something else"),
        (format!("{url}?pasword=pa%2Fss%40word"), "unknown parameter"),
        (url.replace("%2F", "/"), "%2F, "),
    ] {
        let said = open(&url).await.unwrap_err();
        assert!(said.contains(expected), "{said}");
        assert_hides(&said.replace("write `/` as %2F, `?` as %3F", ""));
    }
}

async fn speaks_tls(postgres: &Postgres) {
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", postgres.database("secure").await, postgres.authority.display());
    let store = open(&url).await.unwrap();
    store.put(Kind::Key, "k", lasting("{}")).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url("secure")).await.unwrap();
    let (n_ours,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
         WHERE application_name = 'landbridge' AND datname = 'secure' AND ssl",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(n_ours, 1);
    // By another name it is somebody else.
    let said = open(&url.replace("@localhost", "@127.0.0.1")).await.unwrap_err();
    assert!(said.contains("certificate"), "{said}");
}

async fn refuses_newer_tables(postgres: &Postgres) {
    let url = postgres.database("newer").await;
    drop(open(&url).await.unwrap());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // Whoever only uses it need not be able to make tables.
    let role = "CREATE ROLE modest LOGIN PASSWORD 'm'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO modest";
    sqlx::raw_sql(AssertSqlSafe(role)).execute(&mut connection).await.unwrap();
    let modest = format!("postgres://modest:m@localhost:{}/newer", postgres.port);
    open(&modest).await.unwrap().put(Kind::Key, "k", lasting("{}")).await.unwrap();
    sqlx::raw_sql("UPDATE store_version SET version = 9").execute(&mut connection).await.unwrap();
    let said = open(&url).await.unwrap_err();
    assert!(said.contains("made by a newer Landbridge: its version is 9"), "{said}");
    sqlx::raw_sql("DROP TABLE records, store_version; CREATE TABLE records (id INT)").execute(&mut connection).await.unwrap();
    let said = open(&url).await.unwrap_err();
    assert!(said.contains("\"records\" already exists"), "{said}");
}

/// What is somebody else's stays apart.
async fn keeps_to_a_schema(postgres: &Postgres) {
    let url = postgres.database("schemas").await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE records (id INT); CREATE SCHEMA ours").execute(&mut connection).await.unwrap();
    let store = open(&format!("{url}?options=-csearch_path%3Dours")).await.unwrap();
    store.put(Kind::Key, "k", lasting("{}")).await.unwrap();
    let (n_ours,): (i64,) = sqlx::query_as("SELECT count(*) FROM ours.records").fetch_one(&mut connection).await.unwrap();
    assert_eq!(n_ours, 1);
}

async fn outlives_a_restart(postgres: &mut Postgres) {
    let store = open(&postgres.database("restarted").await).await.unwrap();
    store.put(Kind::Grant, "g", lasting("kept")).await.unwrap();
    postgres.stop();
    let trouble = store.get(Kind::Grant, "g", 0).await.unwrap_err();
    assert_eq!(trouble.to_string(), "the store's database failed: no connection could be had in time; it is down, or has too much to do");
    assert!(postgres.start_again());
    // The same handle, with connections that are gone.
    assert_eq!(store.get(Kind::Grant, "g", 0).await, Ok(Some(lasting("kept"))));
    store.put(Kind::Grant, "h", lasting("more")).await.unwrap();
    assert_eq!(keys(&store, Kind::Grant, "", 9, 0).await, ["g", "h"]);
}

#[tokio::test]
async fn a_postgres_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let said = open(&format!("postgres://ada:hunter@127.0.0.1:{port}/db")).await.unwrap_err();
    assert_eq!(said, format!("the store in Postgres at 127.0.0.1:{port} did not answer within 10 s"));
}
