//! The library of contents, and what its tests share: where things are kept, and how they come and go.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::app::{App, Client, PROGRAM, fresh_dir, run};

pub const ADA: &str = "550e8400-e29b-41d4-a716-446655440000";
pub const BOB: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
pub const ACME: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
pub const ACID: &str = "9b2e6679-7425-40de-944b-e07fc1f90ae7";

/// Two owners, one of whom has a key for each of two tenants.
pub const KEYS: [(&str, &str); 5] = [
    ("MCP_AUTH_ENABLED", "true"),
    ("MCP_API_KEY_1", "your-key:550e8400-e29b-41d4-a716-446655440000::"),
    ("MCP_API_KEY_2", "the-key-of-bob-himself:6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
    ("MCP_API_KEY_3", "the-key-of-ada-at-acme:550e8400-e29b-41d4-a716-446655440000:7c9e6679-7425-40de-944b-e07fc1f90ae7"),
    ("MCP_API_KEY_4", "the-key-of-ada-at-acid:550e8400-e29b-41d4-a716-446655440000:9b2e6679-7425-40de-944b-e07fc1f90ae7"),
];

pub fn start(variables: &[(&str, &str)]) -> App {
    App::start("content", &["--mode", "sse"], variables)
}

pub fn start_in(dir: &Path, variables: &[(&str, &str)]) -> App {
    App::start_in(dir, "content", &["--mode", "sse"], variables)
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

impl Client {
    /// The id of something new of Ada's.
    pub fn upload(&mut self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let told = self.json("upload_content", json!({"owner_id": ADA, "name": name, "data": b64(bytes)}));
        assert_eq!(told["status"], "uploaded");
        told["id"].as_str().expect("an id").to_owned()
    }

    /// What a tool says that fails.
    pub fn fails(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool}: {result}");
        result["content"][0]["text"].as_str().expect("a text").to_owned()
    }

    /// The names in a list, sorted.
    pub fn names(&mut self, tool: &str, arguments: Value) -> Vec<String> {
        let told = self.json(tool, arguments);
        let items = told["items"].as_array().expect("items").iter();
        let mut names: Vec<String> = items.map(|item| item["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    }

    /// Waits until that holds of what a tool says.
    pub fn until(&mut self, tool: &str, arguments: Value, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let told = self.json(tool, arguments.clone());
            if holds(&told) {
                return told;
            }
            assert!(Instant::now() < end, "{tool}: {told}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The path of one of our URLs.
pub fn path_of(url: &Value) -> &str {
    let url = url.as_str().expect("a URL");
    let rest = url.strip_prefix("http://").expect("of ours");
    &rest[rest.find('/').expect("a path")..]
}

/// A picture of that size.
pub fn picture(kind: image::ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 128]));
    let mut out = std::io::Cursor::new(Vec::new());
    image::DynamicImage::from(picture).write_to(&mut out, kind).expect("a picture");
    out.into_inner()
}

#[test]
fn s2_7_bounds_are_what_the_settings_say() {
    let app =
        start(&[("MCP_MAX_BATCH_SIZE", "2"), ("MCP_DEFAULT_PAGE_SIZE", "1"), ("MCP_MAX_PAGE_SIZE", "3"), ("STORAGE_BACKEND", "memory")]);
    let mut client = app.sse("/sse", &[]);
    for name in ["a", "b", "c"] {
        client.upload(name, "x");
    }
    let told = client.json("list_content", json!({"owner_id": ADA}));
    assert_eq!((&told["items"].as_array().unwrap().len(), &told["total"], &told["limit"]), (&1, &json!(3), &json!(1)));
    assert!(client.fails("list_content", json!({"owner_id": ADA, "limit": 4})).contains("'limit': validation error: it is 4, of 1 to 3"));
    assert!(client.fails("list_content", json!({"owner_id": ADA, "offset": -1})).contains("'offset'"));
    assert!(client.fails("list_content", json!({})).contains("'owner_id'"));
    let items = vec![json!({"name": "n", "data": "eA=="}); 3];
    assert!(client.fails("batch_upload", json!({"owner_id": ADA, "items": items})).contains("the batch has 3, of at most 2"));
    assert!(!app.dir.join("data/storage").exists(), "in memory only");
    let open = start(&[("MCP_REQUIRE_OWNER_ID", "false"), ("MCP_MAX_UPLOAD_BYTES", "10")]);
    let mut client = open.sse("/sse", &[]);
    client.upload("a", "short");
    assert_eq!(client.names("list_content", json!({})), ["a"]);
    let long = json!({"owner_id": ADA, "name": "long", "data": b64("longer than that")});
    assert!(client.fails("upload_content", long).contains("'data': validation error: it is longer than 10 bytes"));
    let dir = fresh_dir("content-bad");
    for (name, value, why) in [
        ("STORAGE_BACKEND", "tape", "say memory, fs or s3"),
        ("MCP_MAX_PAGE_SIZE", "-1", "has to be more than 0"),
        ("MCP_MAX_PAGE_SIZE", "many", "no number"),
        ("DATABASE_URL", "mysql://x", "neither sqlite:PATH nor postgres://"),
        ("CONTENT_URL_SECRET", "short", "fewer than 16"),
        ("MCP_MAX_UPLOADING_BYTES", "1000", "twice MCP_MAX_UPLOAD_BYTES"),
        ("MCP_KEEPALIVE_MS", "1", "less than 15"),
        ("MCP_MAX_WEBSOCKETS", "0", "more than 0"),
    ] {
        let (well, said) = run(&dir, "content", &["--mode", "sse", "--port", "0"], &[(name, value)]);
        assert!(!well && said.contains(name) && said.contains(why), "{name}: {said}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_contents_outlive_a_power_cut() {
    let dir = fresh_dir("content-kill");
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    let ids: Vec<String> = (0..20).map(|n| client.upload(&format!("n{n}"), format!("content {n}"))).collect();
    let url = client.json("download_content", json!({"content_id": ids[3]}))["download_url"].clone();
    app.kill();
    let app = start_in(&dir, &[]);
    let mut client = app.http("/mcp", &[]);
    for (n, id) in ids.iter().enumerate() {
        let told = client.json("download_content", json!({"content_id": id, "format": "base64"}));
        assert_eq!(told["data"], b64(format!("content {n}")));
    }
    assert_eq!(app.get(path_of(&url)).text(), "content 3", "URLs outlive it too");
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_every_upload_that_was_answered_is_there_after_a_crash_among_uploads() {
    let dir = fresh_dir("content-crash");
    let mut known: Vec<(String, String)> = Vec::new();
    for round in 0..3 {
        let app = start_in(&dir, &[]);
        let mut client = app.sse("/sse", &[]);
        let port = app.port;
        let writer = std::thread::spawn(move || {
            let mut done = Vec::new();
            for n in 0..10_000 {
                let text = format!("round {round}, {n}");
                let call = json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {
                    "name": "upload_content", "arguments": {"owner_id": ADA, "name": text, "data": b64(&text)}}});
                let answer = std::panic::catch_unwind(|| crate::wire::Wire::connect(port).post("/mcp", &[], &call.to_string()).text());
                let Some(answer) = answer.ok().and_then(|answer| serde_json::from_str::<Value>(&answer).ok()) else { break };
                let Some(told) = answer["result"]["content"][0]["text"].as_str() else { break };
                let told: Value = serde_json::from_str(told).unwrap();
                done.push((told["id"].as_str().unwrap().to_owned(), text));
            }
            done
        });
        client.upload("first", "x");
        std::thread::sleep(Duration::from_millis(700));
        app.kill();
        known.extend(writer.join().unwrap());
    }
    assert!(known.len() > 10, "{} uploads", known.len());
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    for (id, text) in &known {
        assert_eq!(client.json("download_content", json!({"content_id": id, "format": "base64"}))["data"], b64(text));
    }
    // What was never answered is not half there.
    client.until("list_by_status", json!({"status": "uploading"}), |told| told["count"] == 0);
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_a_database_of_an_older_version_is_brought_up_to_date() {
    let dir = fresh_dir("content-old");
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    client.json("upload_content", json!({"owner_id": ADA, "name": "old", "data": "eA==", "tags": ["kept"]}));
    app.kill();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sql = |text: &'static str| {
        let url = format!("sqlite:{}", dir.join("data/content/content.db").display());
        runtime.block_on(async move {
            let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            sqlx::Connection::close(connection).await.unwrap();
        });
    };
    // As it was before tags had a table of their own.
    sql("DROP TABLE content_tags; DROP INDEX content_deleted; DROP INDEX content_of_object; DROP TRIGGER content_removed;
         ALTER TABLE content DROP COLUMN purge_ms; UPDATE content_version SET version = 1");
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "tags": ["kept"]})), ["old"]);
    app.kill();
    sql("UPDATE content_version SET version = 99");
    let (well, said) = run(&dir, "content", &["--mode", "sse", "--port", "0"], &[]);
    assert!(!well && said.contains("newer version"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

/// A Postgres of our own, in a directory, behind a socket.
pub struct Postgres {
    dir: std::path::PathBuf,
    child: std::process::Child,
    port: u16,
}

impl Postgres {
    /// `None` where there is none on this machine.
    pub fn start() -> Option<Postgres> {
        let dir = fresh_dir("content-postgres");
        let programs = ["/usr/local/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/15/bin"];
        let bin = programs.iter().map(Path::new).find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())?;
        let data = dir.join("data");
        let other = unprivileged(&dir);
        let program = |name: &str| {
            let mut command = Command::new(bin.join(name));
            command.current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // It does not run as root.
            if let Some((uid, gid)) = other {
                std::os::unix::process::CommandExt::uid(&mut command, uid);
                std::os::unix::process::CommandExt::gid(&mut command, gid);
            }
            command
        };
        if let Some((uid, gid)) = other {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
        }
        let made = program("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "content", "-N", "--encoding=UTF8", "--locale=C.UTF-8"])
            .status();
        assert!(made.ok()?.success(), "initdb");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = program("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", "", "-F"]);
        let child = server.spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "postgres does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        Some(Postgres { dir, child, port })
    }

    pub fn url(&self) -> String {
        format!("postgres://content@127.0.0.1:{}/postgres", self.port)
    }
}

/// The user to be in place of root: Postgres's own, or else `nobody`.
fn unprivileged(dir: &Path) -> Option<(u32, u32)> {
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir).unwrap()) != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let mut fields = users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    user("postgres").or_else(|| user("nobody"))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn s2_50_two_instances_share_a_postgres_and_what_is_in_it() {
    let Some(postgres) = Postgres::start() else { panic!("there is no PostgreSQL on this machine") };
    let dir = fresh_dir("content-shared");
    let (url, storage) = (postgres.url(), dir.join("storage"));
    let variables =
        [("DATABASE_URL", url.as_str()), ("STORAGE_PATH", storage.to_str().unwrap()), ("CONTENT_URL_SECRET", "the same secret for both")];
    let (one, two) = (start(&variables), start(&variables));
    let (mut here, mut there) = (one.sse("/sse", &[]), two.http("/mcp", &[]));
    let told = here.json(
        "upload_content",
        json!({"owner_id": ADA, "name": "Über den Wolken.txt", "data": b64("freedom, they say"), "document_type": "text/plain",
               "tags": ["song", "sky"], "metadata": {"singer": "Reinhard"}}),
    );
    let id = told["id"].as_str().unwrap();
    let kitten = here.upload("kitten.png", picture(image::ImageFormat::Png, 300, 200));
    for query in ["über", "FREEDOM", "reinh", "sky wolken"] {
        assert_eq!(there.names("search_content", json!({"query": query})), ["Über den Wolken.txt"], "{query}");
    }
    assert!(there.names("search_content", json!({"query": "free dogs"})).is_empty());
    assert!(there.names("search_content", json!({"query": "'; DROP & (x | !y)"})).is_empty());
    // As much as may be said of one: Postgres has bounds of its own.
    let tags: Vec<String> = (0..64).map(|n| format!("{n} {}", "ab".repeat(120))).collect();
    let long = |n: usize| (0..n).map(|n| format!("{n:x} ")).collect::<String>();
    let much = json!({"owner_id": BOB, "name": long(1500), "description": long(1500), "tags": tags, "metadata": {"k": long(12_000)},
                      "data": b64(long(12_000)), "document_type": "text/plain"});
    here.json("upload_content", much);
    assert_eq!(there.json("list_content", json!({"owner_id": BOB, "tags": [tags[3]]}))["total"], 1);
    here.json("delete_content", json!({"content_id": there.json("list_content", json!({"owner_id": BOB}))["items"][0]["id"]}));
    assert_eq!(there.names("list_content", json!({"owner_id": ADA, "tags": ["sky", "song"]})).len(), 1);
    assert_eq!(two.get(path_of(&told["download_url"])).text(), "freedom, they say");
    there.until("get_content_status", json!({"content_id": kitten}), |told| told["has_previews"] == true);
    let derived = there.json("list_derived_content", json!({"parent_id": kitten}));
    assert_eq!(derived["total"], 7, "each once: {derived}");
    there.json("update_content", json!({"content_id": id, "tags": ["sea"]}));
    assert!(here.names("list_content", json!({"owner_id": ADA, "tags": ["sky"]})).is_empty());
    here.json("delete_content", json!({"content_id": kitten}));
    assert!(there.fails("get_content", json!({"content_id": kitten})).contains("content not found"));
    let stats = there.ask("resources/read", json!({"uri": "stats://system"}));
    assert!(stats["result"]["contents"][0]["text"].as_str().unwrap().contains("\"total\": 1"), "{stats}");
    crate::content_tools::hostile_searches(&mut here);
    drop((one, two));
    std::fs::remove_dir_all(dir).unwrap();
}

/// Without a session every instance answers everybody; a session is of the instance that it was opened at. A client that
/// is sent to another one is told so by 404, and begins anew there, where it finds all it had.
#[test]
fn s2_50_any_instance_serves_any_client() {
    let Some(postgres) = Postgres::start() else { panic!("there is no PostgreSQL on this machine") };
    let dir = fresh_dir("content-balanced");
    let (url, storage) = (postgres.url(), dir.join("storage"));
    let mut variables = KEYS.to_vec();
    variables.extend([
        ("DATABASE_URL", url.as_str()),
        ("STORAGE_PATH", storage.to_str().unwrap()),
        ("CONTENT_URL_SECRET", "the same for all of them"),
    ]);
    let mut all = [(); 3].map(|()| start(&variables));
    let key = ("X-API-Key", "your-key");
    // Without a session, from one instance to the next.
    let call = |app: &App, tool: &str, arguments: Value| {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let answer = app.wire().post("/mcp", &[key], &call.to_string());
        assert_eq!(answer.status, 200);
        serde_json::from_str::<Value>(answer.json()["result"]["content"][0]["text"].as_str().unwrap()).unwrap()
    };
    let mut ids = Vec::new();
    for n in 0..12 {
        let told = call(&all[n % 3], "upload_content", json!({"owner_id": ADA, "name": format!("n{n}"), "data": b64(n.to_string())}));
        ids.push(told["id"].clone());
        assert_eq!(call(&all[(n + 1) % 3], "list_content", json!({"owner_id": ADA}))["total"], n + 1);
        let got = call(&all[(n + 2) % 3], "download_content", json!({"content_id": told["id"]}));
        assert_eq!(all[n % 3].get(path_of(&got["download_url"])).text(), n.to_string());
    }
    // With one: it is unknown elsewhere, on every transport.
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let opened = all[0].wire().post("/mcp", &[key], &hello.to_string());
    let session = ("Mcp-Session-Id", opened.header("mcp-session-id").unwrap().to_owned());
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string();
    let at = |app: &App, verb: &str| {
        let headers = [key, (session.0, session.1.as_str()), ("Accept", "application/json, text/event-stream")];
        app.wire().open(verb, "/mcp", &headers, (verb == "POST").then_some(list.as_str())).status
    };
    assert_eq!(at(&all[0], "POST"), 200);
    assert_eq!(["POST", "GET", "DELETE"].map(|verb| at(&all[1], verb)), [404; 3]);
    assert_eq!(at(&all[0], "POST"), 200, "nobody has ended it");
    let endpoint = all[0].events("/sse", &[key]).event().unwrap().data;
    let lost = all[1].wire().post(&endpoint, &[key], &list);
    assert_eq!((lost.status, lost.text().as_str()), (404, "session not found"));
    // An instance dies; its clients go on at another one.
    let [first, second, third] = all;
    let mut before = first.http("/mcp", &[key]);
    assert_eq!(before.json("list_content", json!({"owner_id": ADA}))["total"], 12);
    first.kill();
    assert_eq!(at(&second, "POST"), 404);
    let mut after = second.http("/mcp", &[key]);
    assert_eq!(after.json("list_content", json!({"owner_id": ADA}))["total"], 12);
    all = [start(&variables), second, third];
    assert_eq!(call(&all[0], "get_content", json!({"content_id": ids[0]}))["name"], "n0");
    drop(all);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_what_is_not_configured_says_so_when_it_is_used() {
    let app = start(&[("STORAGE_BACKEND", "s3")]);
    let mut client = app.sse("/sse", &[]);
    let why = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA=="}));
    assert!(why.contains("set S3_BUCKET"), "{why}");
    client.json("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA==", "storage_backend": "memory"}));
    let why = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA==", "storage_backend": "tape"}));
    assert!(why.contains("'storage_backend'") && why.contains("memory"), "{why}");
}

/// Answers every request with this, for as long as the test runs.
pub fn web(answers: impl Fn(&str) -> Vec<u8> + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answers) = (stream.unwrap(), answers.clone());
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let _ = stream.write_all(&answers(head.split(' ').nth(1).unwrap_or_default()));
            });
        }
    });
    port
}

fn ok(media: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn s2_40_data_may_be_a_url_that_is_fetched_within_bounds() {
    let port = web(|path| match path {
        "/text" => ok("text/plain", b"from the web"),
        "/bytes" => ok("application/x-thing", &[0, 255, 254, 7]),
        "/there" => b"HTTP/1.1 302 Found\r\nlocation: /text\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/inside" => b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/long" => ok("text/plain", &[b'x'; 2000]),
        "/endless" => b"HTTP/1.1 302 Found\r\nlocation: /endless\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    });
    let hosts = format!("127.0.0.1:{port}");
    let app = start(&[("CONTENT_FETCH_HOSTS", &hosts), ("MCP_MAX_UPLOAD_BYTES", "1000")]);
    let mut client = app.sse("/sse", &[]);
    let upload = |path: &str| json!({"owner_id": ADA, "name": path, "data": format!("http://{hosts}{path}")});
    for (path, bytes, media) in [
        ("/text", &b"from the web"[..], "text/plain"),
        ("/bytes", &[0, 255, 254, 7], "application/x-thing"),
        ("/there", b"from the web", "text/plain"),
    ] {
        let id = client.json("upload_content", upload(path))["id"].clone();
        let told = client.json("download_content", json!({"content_id": id, "format": "base64"}));
        assert_eq!((&told["data"], &told["mime_type"]), (&json!(b64(bytes)), &json!(media)), "{path}");
    }
    for (path, why) in [
        ("/gone", "HTTP 404"),
        ("/long", "longer than 1000 bytes"),
        ("/endless", "redirects more than 3 times"),
        ("/inside", "not on the public Internet"),
    ] {
        let said = client.fails("upload_content", upload(path));
        assert!(
            said.starts_with("invalid parameter 'data': validation error: the URL cannot be fetched") && said.contains(why),
            "{path}: {said}"
        );
    }
    let kept = client.json("list_content", json!({"owner_id": ADA}));
    assert_eq!(kept["total"], 3, "nothing is left of what failed");
}

#[test]
fn s2_40_no_redirect_and_no_trick_of_a_server_gets_further() {
    let secret = web(|_| ok("text/plain", b"a secret of our network"));
    let to = move |host: &str| format!("HTTP/1.1 302 Found\r\nlocation: http://{host}:{secret}/\r\ncontent-length: 0\r\n\r\n").into_bytes();
    let hosts = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fc00::1]",
        "[::ffff:10.0.0.1]",
        "[::ffff:169.254.169.254]",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
    ];
    let port = web(move |path| match path.strip_prefix("/to/").and_then(|n| n.parse::<usize>().ok()) {
        Some(n) => to(hosts[n]),
        None => match path {
            "/file" => b"HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "/key" => b"HTTP/1.1 302 Found\r\nlocation: http://user:password@127.0.0.1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            // Says little, and sends a lot.
            "/more" => {
                [&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..], b"800\r\n", &[b'x'; 2048], b"\r\n0\r\n\r\n"].concat()
            }
            // Packed, and much larger than it looks.
            "/gzip" => b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00".to_vec(),
            "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nno more".to_vec(),
            _ => b"hello, I am no server of HTTP\r\n\r\n".to_vec(),
        },
    });
    let at = format!("127.0.0.1:{port}");
    let app = start(&[("CONTENT_FETCH_HOSTS", &at), ("MCP_MAX_UPLOAD_BYTES", "1000"), ("CONTENT_FETCH_SECONDS", "2")]);
    let mut client = app.sse("/sse", &[]);
    let mut refuses = |url: String| {
        let said = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": url}));
        assert!(said.starts_with("invalid parameter 'data': validation error: the URL cannot be fetched: "), "{url}: {said}");
        assert!(!said.contains("secret"), "{said}");
        said
    };
    for (n, host) in hosts.iter().enumerate() {
        let said = refuses(format!("http://{at}/to/{n}"));
        assert!(said.contains("not on the public Internet") || said.contains("the URL "), "{host}: {said}");
        refuses(format!("http://{host}:{secret}/"));
    }
    for path in ["/file", "/key", "/more", "/gzip", "/cut", "/nonsense"] {
        refuses(format!("http://{at}{path}"));
    }
    // A body that comes a byte at a time does not come to its end.
    let drip = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = start(&[("CONTENT_FETCH_HOSTS", &drip.local_addr().unwrap().to_string()), ("CONTENT_FETCH_SECONDS", "2")]);
    let url = format!("http://{}/", drip.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = drip.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let (mut client, began) = (slow.sse("/sse", &[]), Instant::now());
    let said = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": url}));
    assert!(said.contains("its server did not answer"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(client.json("list_content", json!({"owner_id": ADA}))["total"], 0);
}

#[test]
fn s2_40_what_all_uploads_hold_together_has_a_bound() {
    let port = web(|_| {
        std::thread::sleep(Duration::from_millis(1500));
        ok("text/plain", b"slow")
    });
    let (at, bounds) = (format!("127.0.0.1:{port}"), [("MCP_MAX_UPLOAD_BYTES", "1000000"), ("MCP_MAX_UPLOADING_BYTES", "2000000")]);
    let app = start(&[("CONTENT_FETCH_HOSTS", &at), bounds[0], bounds[1]]);
    let upload = |data: String| {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "upload_content", "arguments": {"owner_id": ADA, "name": "n", "data": data}}});
        app.post("/mcp", &call).json()["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    };
    let (upload, url) = (&upload, format!("http://{at}/"));
    std::thread::scope(|scope| {
        let four: Vec<_> = (0..4).map(|_| scope.spawn(|| upload(url.clone()))).collect();
        // What comes with its request does not wait for what has to be fetched.
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        assert!(upload(b64([7; 900_000])).contains("uploaded"));
        assert!(began.elapsed() < Duration::from_millis(1200), "{:?}", began.elapsed());
        let said: Vec<String> = four.into_iter().map(|one| one.join().unwrap()).collect();
        let busy = said.iter().filter(|said| *said == "too much is being uploaded at once; try again later").count();
        let done = said.iter().filter(|said| said.contains("uploaded\"")).count();
        assert_eq!((done, busy), (2, 2), "one has room, one waits, and the others are told so: {said:?}");
    });
    assert!(upload(url.clone()).contains("uploaded"), "all room is given back");
}

#[test]
fn s2_40_a_url_leads_to_no_network_of_ours() {
    let secret = web(|_| ok("text/plain", b"a secret of our network"));
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let urls = [
        format!("http://127.0.0.1:{secret}/"),
        format!("http://localhost:{secret}/"),
        format!("http://[::1]:{secret}/"),
        format!("http://[::ffff:127.0.0.1]:{secret}/"),
        format!("http://0.0.0.0:{secret}/"),
        format!("http://2130706433:{secret}/"),
        format!("http://127.1:{secret}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://192.168.1.1/".to_owned(),
        "http://user:password@example.com/".to_owned(),
        "https://127.0.0.1/".to_owned(),
    ];
    for url in urls {
        let said = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": url}));
        assert!(said.contains("the URL cannot be fetched") && !said.contains("secret"), "{url}: {said}");
    }
    for data in ["file:///etc/passwd", "gopher://x", "ftp://127.0.0.1/", "not base64!"] {
        let said = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": data}));
        assert!(said.contains("neither base64 nor an http or https URL"), "{data}: {said}");
    }
    assert_eq!(client.json("list_content", json!({"owner_id": ADA}))["total"], 0);
}

#[test]
fn s2_54_stdio_serves_the_same_tools() {
    let dir = fresh_dir("content-stdio");
    let mut command = Command::new(PROGRAM);
    command.args(["content"]).current_dir(&dir).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut ask = |message: Value| -> Value {
        writeln!(stdin, "{message}").unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    let info = json!({"name": "t", "version": "1"});
    let hello = ask(
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}}),
    );
    assert_eq!(hello["result"]["serverInfo"]["name"], "simple-content-mcp");
    assert_eq!(ask(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}))["result"]["tools"].as_array().unwrap().len(), 14);
    let upload = json!({"name": "upload_content", "arguments": {"owner_id": ADA, "name": "n", "data": b64("at home")}});
    let told = ask(json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": upload}));
    let told: Value = serde_json::from_str(told["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    // Nobody listens: what is no URL of HTTP is one of a resource.
    let read = ask(json!({"jsonrpc": "2.0", "id": 4, "method": "resources/read", "params": {"uri": told["download_url"]}}));
    assert_eq!(read["result"]["contents"][0]["blob"], b64("at home"), "{read}");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_31_nobody_is_asked_for_a_key_over_stdio() {
    let dir = fresh_dir("content-stdio-key");
    let mut command = Command::new(PROGRAM);
    command.args(["content", "--mode", "stdio"]).current_dir(&dir).env_clear().envs(KEYS);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut ask = |message: Value| -> Value {
        writeln!(stdin, "{message}").unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    let info = json!({"name": "t", "version": "1"});
    ask(
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": info}}),
    );
    let list = json!({"name": "list_content", "arguments": {"owner_id": BOB}});
    let told = ask(json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": list}));
    assert_ne!(told["result"]["isError"], true, "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// An S3 server of somebody else's, as a process: `interop/s3` installs it, and runs this.
#[test]
#[ignore = "needs an S3 server: run interop/s3"]
fn s2_7_contents_are_kept_at_an_s3_server() {
    let moto = std::env::var("LANDBRIDGE_MOTO").expect("LANDBRIDGE_MOTO: the path of moto_server");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new(moto);
    server.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "moto_server does not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    let made = crate::wire::Wire::connect(port).request("PUT", "/contents", &[("content-length", "0")], None);
    assert_eq!(made.status, 200, "a bucket: {}", made.text());
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("STORAGE_BACKEND", "s3"),
        ("S3_BUCKET", "contents"),
        ("S3_ENDPOINT", endpoint.as_str()),
        ("S3_ACCESS_KEY_ID", "test"),
        ("S3_SECRET_ACCESS_KEY", "test"),
        ("CONTENT_PURGE_AFTER_DAYS", "0.00001"),
    ];
    let app = start(&variables);
    let mut client = app.sse("/sse", &[]);
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 253) as u8).collect();
    let id = client.upload("large.bin", &bytes);
    let url = client.json("download_content", json!({"content_id": id}))["download_url"].clone();
    assert!(app.get(path_of(&url)).body == bytes);
    let kitten = client.upload("kitten.png", picture(image::ImageFormat::Png, 300, 200));
    let told = client.until("get_content_details", json!({"content_id": kitten}), |told| told["preview"].is_string());
    let shown = app.get(path_of(&told["thumbnail"]));
    assert_eq!(image::load_from_memory(&shown.body).unwrap().width(), 256);
    let s3 = object_store::aws::AmazonS3Builder::new().with_bucket_name("contents").with_endpoint(&endpoint).with_allow_http(true);
    let s3 = s3.with_access_key_id("test").with_secret_access_key("test").with_region("us-east-1").build().unwrap();
    let key = object_store::path::Path::from(format!("contents/{id}"));
    let there = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(async { object_store::ObjectStoreExt::get(&s3, &key).await.unwrap().bytes().await.unwrap() });
    assert!(there == bytes, "it is there");
    assert!(!app.dir.join("data/storage").exists());
    // What is deleted goes from there, and nothing else does.
    client.json("delete_content", json!({"content_id": kitten}));
    let end = Instant::now() + Duration::from_secs(30);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    while runtime.block_on(async { object_store::ObjectStore::list_with_delimiter(&s3, None).await.unwrap() }).common_prefixes.len() > 1 {
        assert!(Instant::now() < end, "its pictures stay");
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = runtime.block_on(async { object_store::ObjectStore::list_with_delimiter(&s3, Some(&"contents".into())).await.unwrap() });
    assert_eq!(left.objects.iter().map(|one| &one.location).collect::<Vec<_>>(), [&key]);
    server.kill().unwrap();
    server.wait().unwrap();
    let said = client.fails("download_content", json!({"content_id": id, "format": "base64"}));
    assert!(said.starts_with("storage error: the storage does not answer"), "{said}");
}
