//! The marketplace in a repository, at a GitHub on loopback that keeps objects as the real one does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::skillport::{Shop, skill_md};

const REPO: &str = "/repos/acme/market";

/// What is kept of a repository.
#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    /// All files of a tree, by their paths.
    trees: BTreeMap<String, BTreeMap<String, String>>,
    /// Tree, parent, message.
    commits: BTreeMap<String, (String, String, String)>,
    head: String,
    seen: Vec<String>,
    /// So many requests fail.
    failing: usize,
    /// Every request fails that begins so.
    broken: &'static str,
    /// The next change of the branch is done and its answer lost; then somebody else goes on.
    losing: bool,
    /// So many times somebody else is faster.
    racing: usize,
}

fn sha(of: &str) -> String {
    Hash::of(of).as_bytes()[..20].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl State {
    fn blob(&mut self, content: &[u8]) -> String {
        let id = sha(&STANDARD.encode(content));
        self.blobs.insert(id.clone(), content.to_owned());
        id
    }

    fn tree(&mut self, files: BTreeMap<String, String>) -> String {
        let id = sha(&format!("{files:?}"));
        self.trees.insert(id.clone(), files);
        id
    }

    fn commit(&mut self, tree: &str, parent: &str, message: &str) -> String {
        let id = sha(&format!("{tree} {parent} {message}"));
        self.commits.insert(id.clone(), (tree.into(), parent.into(), message.into()));
        id
    }

    /// The files at the branch, or at a commit.
    fn files(&self, at: &str) -> Option<&BTreeMap<String, String>> {
        let tree = self.commits.get(at).map_or(at, |(tree, ..)| tree);
        self.trees.get(tree)
    }

    /// Somebody else changes a file.
    fn change(&mut self, path: &str, content: &str) {
        let mut files = self.files(&self.head.clone()).cloned().unwrap_or_default();
        files.insert(path.into(), self.blob(content.as_bytes()));
        let (tree, parent) = (self.tree(files), self.head.clone());
        self.head = self.commit(&tree, &parent, "by hand");
    }

    fn answer(&mut self, asked: &Asked) -> (u16, Value, Option<Vec<u8>>) {
        self.seen.push(format!("{} {}", asked.method, asked.path));
        let told = |status: u16, message: &str| (status, json!({"message": message}), None);
        if self.failing > 0 {
            self.failing -= 1;
            return told(502, "Server Error");
        }
        if !self.broken.is_empty() && format!("{} {}", asked.method, asked.path).starts_with(&self.broken.replace('~', REPO)) {
            return told(500, "Server Error");
        }
        if !asked.headers.contains_key("user-agent") {
            return told(403, "Request forbidden by administrative rules");
        }
        let token = asked.headers.get("authorization").map_or("", String::as_str);
        if !["Bearer read-token", "Bearer write-token"].contains(&token) {
            return told(if token.is_empty() { 404 } else { 401 }, "Bad credentials");
        }
        if asked.method != "GET" && token != "Bearer write-token" {
            return told(403, "Resource not accessible by personal access token");
        }
        let Some(path) = asked.path.strip_prefix(REPO) else { return told(404, "Not Found") };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').splitn(3, '/').collect();
        let body = &asked.body;
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["git", "ref", "heads/main"]) => {
                (200, json!({"ref": "refs/heads/main", "object": {"type": "commit", "sha": self.head}}), None)
            }
            ("GET", ["git", "trees", id]) => {
                let Some(files) = self.files(id) else { return told(404, "Not Found") };
                assert_eq!(query, "recursive=1");
                let mut all: Vec<Value> = vec![json!({"path": "plugins", "type": "tree", "mode": "040000", "sha": sha("plugins")})];
                all.extend(
                    files
                        .iter()
                        .map(|(path, id)| json!({"path": path, "type": "blob", "mode": "100644", "sha": id, "size": self.blobs[id].len()})),
                );
                (200, json!({"sha": id, "tree": all, "truncated": false}), None)
            }
            ("GET", ["git", "commits", id]) => match self.commits.get(*id) {
                Some((tree, ..)) => (200, json!({"sha": id, "tree": {"sha": tree}}), None),
                None => told(404, "Not Found"),
            },
            ("GET", ["contents", ..]) => {
                let path = path.trim_start_matches("/contents/").replace("%20", " ");
                let at = query.strip_prefix("ref=").unwrap_or(&self.head);
                let found = self.files(at).and_then(|files| files.get(&path)).map(|id| self.blobs[id].clone());
                match found {
                    Some(bytes) if asked.headers["accept"].contains("raw") => (200, Value::Null, Some(bytes)),
                    Some(bytes) => (200, json!({"type": "file", "encoding": "base64", "content": STANDARD.encode(bytes)}), None),
                    None => told(404, "Not Found"),
                }
            }
            ("POST", ["git", "blobs"]) => {
                let content = STANDARD.decode(body["content"].as_str().unwrap()).unwrap();
                (201, json!({"sha": self.blob(&content)}), None)
            }
            ("POST", ["git", "trees"]) => {
                let mut files = self.trees[body["base_tree"].as_str().unwrap()].clone();
                for entry in body["tree"].as_array().unwrap() {
                    let path = entry["path"].as_str().unwrap();
                    match entry["sha"].as_str() {
                        Some(id) => drop(files.insert(path.into(), id.into())),
                        None if files.remove(path).is_none() => return told(422, "GitRPC::BadObjectState"),
                        None => {}
                    }
                }
                (201, json!({"sha": self.tree(files)}), None)
            }
            ("POST", ["git", "commits"]) => {
                let (tree, parent) = (body["tree"].as_str().unwrap().to_owned(), body["parents"][0].as_str().unwrap().to_owned());
                (201, json!({"sha": self.commit(&tree, &parent, body["message"].as_str().unwrap())}), None)
            }
            ("GET", ["compare", both]) => {
                let (from, to) = both.split_once("...").unwrap();
                assert_eq!(to, "main");
                let mut at = self.head.clone();
                while at != from {
                    match self.commits.get(&at) {
                        Some((_, parent, _)) => at.clone_from(parent),
                        None => return (200, json!({"status": "diverged"}), None),
                    }
                }
                (200, json!({"status": if self.head == from { "identical" } else { "ahead" }}), None)
            }
            ("PATCH", ["git", "refs", "heads/main"]) if self.losing => {
                self.losing = false;
                self.head = body["sha"].as_str().unwrap().to_owned();
                self.change("notes/after.md", "by somebody else");
                told(502, "Server Error")
            }
            ("PATCH", ["git", "refs", "heads/main"]) => {
                if self.racing > 0 {
                    self.racing -= 1;
                    let path = format!("notes/{}.md", self.racing);
                    self.change(&path, "by somebody else");
                }
                let to = body["sha"].as_str().unwrap();
                assert_eq!(body["force"], false);
                if to != self.head && self.commits[to].1 != self.head {
                    return told(422, "Update is not a fast forward");
                }
                self.head = to.to_owned();
                (200, json!({"object": {"sha": to}}), None)
            }
            _ => told(404, "Not Found"),
        }
    }
}

struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

struct GitHub {
    url: String,
    state: Arc<Mutex<State>>,
}

impl GitHub {
    fn start() -> GitHub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let market = json!({"name": "acme", "plugins": [
            {"name": "writing", "source": "./plugins/writing", "description": "w", "version": "1.0.0", "tags": ["surface:CALL"]}]});
        {
            let mut state = state.lock().unwrap();
            for (path, content) in [
                (".claude-plugin/marketplace.json", market.to_string()),
                (".skillport/access.json", json!({"version": 1, "editors": [{"id": "local:local"}]}).to_string()),
                ("plugins/writing/.claude-plugin/plugin.json", json!({"name": "writing", "version": "1.0.1"}).to_string()),
                ("plugins/writing/skills/letters/SKILL.md", skill_md("letters")),
            ] {
                state.change(path, &content);
            }
        }
        let all = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = all.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        GitHub { url, state }
    }

    fn shop(&self, more: &[(&str, &str)]) -> Shop {
        let mut variables = vec![
            ("MARKETPLACE_REPO", "acme/market"),
            ("GITHUB_API_URL", self.url.as_str()),
            ("GITHUB_SERVICE_TOKEN", "read-token"),
            ("GITHUB_WRITE_TOKEN", "write-token"),
        ];
        variables.extend(more);
        Shop::start(&variables)
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    fn paths(&self) -> Vec<String> {
        self.now().1
    }

    /// Where the branch is, and what is there.
    fn now(&self) -> (String, Vec<String>) {
        let state = self.state.lock().unwrap();
        (state.head.clone(), state.files(&state.head).unwrap().keys().cloned().collect())
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(n) if n > 0) {
            return;
        }
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers.get("content-length").map_or(0, |n| n.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let asked = Asked { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() };
        let (status, json, raw) = state.lock().unwrap().answer(&asked);
        let body = raw.unwrap_or_else(|| json.to_string().into_bytes());
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        let stream = reader.get_mut();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

#[test]
fn a_repository_is_a_marketplace() {
    let github = GitHub::start();
    let shop = github.shop(&[]);
    let all = shop.get("/api/skills");
    assert_eq!((&all["count"], &all["skills"][0]["name"], &all["skills"][0]["version"]), (&json!(1), &json!("letters"), &json!("1.0.1")));
    assert!(!shop.app.said().contains("-token"), "no token is in the log");
    github.seen();
    shop.get("/api/skills/letters");
    shop.get("/api/skills");
    assert_eq!(github.seen(), [""; 0], "what was seen a moment ago does");
    github.state.lock().unwrap().change("plugins/writing/skills/letters/more file.txt", "more");
    assert_eq!(shop.get("/api/skills?refresh=true")["count"], 1);
    assert_eq!(shop.get("/api/skills/letters")["files"], json!(["SKILL.md", "more file.txt"]));
}

#[test]
fn a_change_of_several_files_is_one_commit() {
    let github = GitHub::start();
    let shop = github.shop(&[]);
    let before = github.state.lock().unwrap().head.clone();
    let files = json!([{"path": "SKILL.md", "content": skill_md("tidy")}, {"path": "a.txt", "content": "a"}]);
    shop.post(
        "/api/skills/tidy",
        &json!({"skill_group": "home", "plugin_metadata": {"description": "x"}, "files": files, "commitMessage": "Add tidy"}),
    );
    {
        let state = github.state.lock().unwrap();
        let (_, parent, message) = &state.commits[&state.head];
        assert_eq!((parent, message.as_str()), (&before, "Add tidy\n\nBy local:local"));
    }
    assert_eq!(github.paths().len(), 7);
    shop.post("/api/skills/tidy/publish", &json!({"description": "x", "tags": ["surface:CC"]}));
    assert_eq!(shop.post("/api/skills/tidy/bump", &json!({"type": "patch"}))["newVersion"], "1.0.1");
    assert_eq!(shop.ask("DELETE", "/api/skills/tidy?confirm=true", None).json()["pluginDeleted"], true);
    assert_eq!(github.paths().len(), 4);
    assert_eq!(shop.get("/api/skills")["count"], 1);
}

#[test]
fn who_is_overtaken_thinks_again_and_nothing_is_lost() {
    let github = GitHub::start();
    let shop = github.shop(&[]);
    github.state.lock().unwrap().racing = 2;
    shop.post("/api/skills/letters", &json!({"files": [{"path": "a.txt", "content": "a"}]}));
    assert!(
        github.paths().contains(&"notes/1.md".to_owned()) && github.paths().contains(&"plugins/writing/skills/letters/a.txt".to_owned())
    );
    github.state.lock().unwrap().racing = 100;
    shop.fails("POST", "/api/skills/letters", Some(&json!({"files": [{"path": "b.txt", "content": "b"}]})), 409, "same time");
}

#[test]
fn github_that_stumbles_is_asked_again() {
    let github = GitHub::start();
    let shop = github.shop(&[("SKILLPORT_CACHE_S", "0")]);
    github.state.lock().unwrap().failing = 2;
    assert_eq!(shop.get("/api/skills")["count"], 1);
    github.state.lock().unwrap().failing = 100;
    shop.fails("GET", "/api/skills", None, 502, "does not answer");
    // A one-time token is not used up by that.
    github.state.lock().unwrap().failing = 0;
    let given = shop.get("/api/skills/letters/install");
    let path = format!("/api/install/{}", given["install_token"].as_str().unwrap());
    github.state.lock().unwrap().failing = 4;
    assert_eq!(shop.app.get(&path).status, 502);
    assert_eq!(shop.app.get(&path).status, 200);
}

#[test]
fn a_change_that_fails_halfway_changes_nothing() {
    let github = GitHub::start();
    let shop = github.shop(&[]);
    let files = json!([{"path": "SKILL.md", "content": skill_md("tidy")}, {"path": "a.txt", "content": "a"}]);
    let body = json!({"skill_group": "home", "plugin_metadata": {"description": "x"}, "files": files});
    let before = github.now();
    let steps = ["GET ~/git/commits", "POST ~/git/blobs", "POST ~/git/trees", "POST ~/git/commits", "PATCH ~/git/refs"];
    for step in steps {
        github.state.lock().unwrap().broken = step;
        shop.fails("POST", "/api/skills/tidy", Some(&body), 502, "does not answer");
        shop.fails("POST", "/api/skills/letters/bump", Some(&json!({"type": "major"})), 502, "does not answer");
        github.state.lock().unwrap().broken = "";
        assert_eq!(github.now(), before, "{step}");
        assert_eq!(
            (shop.get("/api/skills")["count"].clone(), shop.get("/api/skills/letters")["skill"]["version"].clone()),
            (json!(1), json!("1.0.1"))
        );
    }
    assert_eq!(shop.post("/api/skills/tidy", &body)["isNewGroup"], true);
}

#[test]
fn a_change_whose_answer_was_lost_is_made_once() {
    let github = GitHub::start();
    let shop = github.shop(&[]);
    github.state.lock().unwrap().losing = true;
    assert_eq!(shop.post("/api/skills/letters/bump", &json!({"type": "patch"}))["newVersion"], "1.0.2");
    assert_eq!(shop.get("/api/skills/letters")["skill"]["version"], "1.0.2");
    assert!(github.paths().contains(&"notes/after.md".to_owned()), "and what came after stays");
}

#[test]
fn the_script_tries_again_where_the_server_cannot_for_a_while() {
    let github = GitHub::start();
    let shop = github.shop(&[("SKILLPORT_CACHE_S", "0")]);
    let home = crate::app::fresh_dir("skillport-retry");
    for (kind, n_failing, works) in [("install", 8, true), ("edit", 8, true), ("install", 12, false)] {
        let command = shop.get(&format!("/api/skills/letters/{kind}"))["command"].as_str().unwrap().to_owned();
        // Of each download's request the app makes four.
        github.state.lock().unwrap().failing = n_failing;
        let began = std::time::Instant::now();
        let (good, said) = crate::skillport::shell(&home, &command, &[]);
        assert_eq!(good, works, "{kind}: {said}");
        assert!(began.elapsed().as_secs() >= 3, "one second, then two: {:?}", began.elapsed());
        if !works {
            assert!(said.contains("does not answer (502)"), "{said}");
            assert!(crate::skillport::shell(&home, &command, &[]).0, "the token was not used by that");
        }
    }
    assert!(home.join(".claude/skills/letters/SKILL.md").exists() && home.join("letters/SKILL.md").exists());
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn without_a_token_that_writes_nothing_is_changed() {
    let github = GitHub::start();
    let body = json!({"files": [{"path": "a.txt", "content": "a"}]});
    let shop = github.shop(&[("GITHUB_WRITE_TOKEN", "")]);
    shop.fails("POST", "/api/skills/letters", Some(&body), 403, "GITHUB_WRITE_TOKEN");
    let shop = github.shop(&[("GITHUB_WRITE_TOKEN", "wrong")]);
    shop.fails("POST", "/api/skills/letters", Some(&body), 502, "GITHUB_WRITE_TOKEN");
    let shop = github.shop(&[("GITHUB_SERVICE_TOKEN", "wrong")]);
    shop.fails("GET", "/api/skills", None, 502, "token");
}
