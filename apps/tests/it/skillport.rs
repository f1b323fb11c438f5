//! The marketplace over REST and by tools, in a directory.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::app::{App, fresh_dir, run};
use crate::wire::Response;

/// One with a token for REST.
pub struct Shop {
    pub app: App,
    pub token: String,
}

impl Shop {
    pub fn start(variables: &[(&str, &str)]) -> Shop {
        Shop::of(App::start("skillport", &[], variables))
    }

    pub fn of(app: App) -> Shop {
        let token = app.http("/mcp", &[]).json("skillport_auth", json!({}))["token"].as_str().unwrap().to_owned();
        Shop { app, token }
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let bearer = format!("Bearer {}", self.token);
        self.app.wire().request(method, path, &[("authorization", &bearer)], body.map(Value::to_string).as_deref())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let response = self.ask("GET", path, None);
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("cache-control"), Some("no-store"));
        response.json()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.ask("POST", path, Some(body));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Fails with that status, and says this.
    #[track_caller]
    pub fn fails(&self, method: &str, path: &str, body: Option<&Value>, status: u16, said: &str) {
        let response = self.ask(method, path, body);
        let told = response.json();
        assert_eq!(response.status, status, "{told}");
        assert!(told["error"].is_string() && told["message"].as_str().unwrap().contains(said), "{told}");
    }

    fn market(&self, path: &str) -> std::path::PathBuf {
        self.app.dir.join("data/skillport/marketplace").join(path)
    }

    fn written(&self, path: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.market(path)).unwrap()).unwrap()
    }
}

/// The log, once it says this.
#[track_caller]
pub fn said(app: &App, what: &str) -> String {
    for _ in 0..200 {
        let said = app.said();
        if said.contains(what) {
            return said;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{what} is nowhere: {}", app.said())
}

pub fn skill_md(name: &str) -> String {
    format!("---\nname: {name}\ndescription: Does {name}\n---\n\n# {name}\n")
}

pub fn new_skill(name: &str, group: &str) -> Value {
    json!({"skill_group": group, "plugin_metadata": {"description": "New things", "keywords": ["new"]},
        "files": [{"path": "SKILL.md", "content": skill_md(name)}, {"path": "a/b.txt", "content": "b"}]})
}

/// Runs a command of the app's as a user would.
pub fn shell(dir: &Path, command: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(dir).env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", dir);
    let out = shell.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn skillport_auth_hands_out_a_token_that_rest_takes() {
    let app = App::start("skillport", &[], &[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.tools(), ["skillport_auth"]);
        let given = client.json("skillport_auth", json!({"operation": "auth"}));
        let token = given["token"].as_str().unwrap();
        assert!(token.starts_with("sk_api_") && token.len() == 7 + 32, "{given}");
        assert_eq!(given["expires_in"], 900);
        assert_eq!(given["base_url"], format!("http://127.0.0.1:{}", app.port));
        assert_eq!(given["client_info"], json!({"name": "test", "version": "1"}));
        let who = app.get_with("/api/whoami", &[("authorization", &format!("Bearer {token}"))]);
        assert_eq!(who.json(), json!({"id": "local:local", "email": null, "name": "local user", "provider": "local"}));
    }
    for header in ["", "Bearer", "Bearer sk_api_x", "Bearer sk_install_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Basic eDp5"] {
        let refused = app.get_with("/api/skills", &[("authorization", header)]);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{header}");
        assert_eq!(refused.json()["error"], "unauthorized");
    }
    assert_eq!(app.get("/api/skills").status, 401);
}

#[test]
fn the_sample_is_listed_by_surface_and_shown() {
    let shop = Shop::start(&[]);
    let all = shop.get("/api/skills");
    assert_eq!((&all["count"], &all["surface_filter"]), (&json!(2), &Value::Null));
    let letters = &all["skills"][0];
    assert_eq!(
        (&letters["name"], &letters["plugin"], &letters["version"], &letters["surface_tags"], &letters["published"], &letters["editable"]),
        (&json!("plain-letters"), &json!("writing"), &json!("1.2.0"), &json!(["CDAI"]), &json!(true), &json!(true))
    );
    assert_eq!(shop.get("/api/skills?surface=CC")["count"], 1);
    assert_eq!(shop.get("/api/skills?surface=cai&refresh=true")["surface_filter"], "CAI");
    shop.fails("GET", "/api/skills?surface=XX", None, 400, "XX");
    shop.fails("GET", "/api/skills?refresh=maybe", None, 400, "true or false");
    let one = shop.get("/api/skills/plain-letters");
    assert_eq!(one["files"], json!(["SKILL.md", "scripts/count.sh"]));
    assert!(one["skill_md"].as_str().unwrap().starts_with("---\nname: plain-letters"));
    shop.fails("GET", "/api/skills/nothing", None, 404, "no skill");
    shop.fails("GET", "/api/skills/No_Name", None, 400, "a-z");
    shop.fails("GET", "/api/skills/..%2f..%2fx", None, 400, "a-z");
    shop.fails("GET", "/api/nothing", None, 404, "path");
    shop.fails("PUT", "/api/skills/plain-letters", Some(&json!({})), 405, "method");
    assert_eq!(shop.get("/api/debug/plugins")["entries"].as_array().unwrap().len(), 5);
}

#[test]
fn a_skill_is_added_changed_published_raised_and_deleted() {
    let shop = Shop::start(&[]);
    let added = shop.post("/api/skills/tidy", &new_skill("tidy", "home"));
    assert_eq!((&added["isNewSkill"], &added["isNewGroup"], &added["skill_group"]), (&json!(true), &json!(true), &json!("home")));
    assert_eq!(shop.written("plugins/home/.claude-plugin/plugin.json")["version"], "1.0.0");
    shop.fails("POST", "/api/skills/tidy/bump", Some(&json!({"type": "minor"})), 400, "not published");
    shop.fails("POST", "/api/skills/tidy/publish", Some(&json!({"description": "x", "tags": ["home"]})), 400, "surface");
    shop.fails("POST", "/api/skills/tidy/publish", Some(&json!({})), 400, "description");
    let about = json!({"description": "Tidies", "category": "home", "tags": ["surface:CC"], "keywords": ["tidy"]});
    assert_eq!(shop.post("/api/skills/tidy/publish", &about)["action"], "created");
    assert_eq!(shop.post("/api/skills/tidy/publish", &json!({"description": "Tidies up"}))["action"], "updated");
    let bumped = shop.post("/api/skills/tidy/bump", &json!({"type": "minor"}));
    assert_eq!((&bumped["oldVersion"], &bumped["newVersion"]), (&json!("1.0.0"), &json!("1.1.0")));
    let market = shop.written(".claude-plugin/marketplace.json");
    let entry = &market["plugins"][2];
    assert_eq!((&entry["name"], &entry["version"], &entry["tags"]), (&json!("home"), &json!("1.1.0"), &json!(["surface:CC"])));
    shop.fails("POST", "/api/skills/tidy/bump", Some(&json!({"type": "huge"})), 400, "huge");

    let have = json!({"installed": [{"name": "tidy", "version": "1.0.9"}, {"name": "plain-letters", "version": "1.10.0"}, {"name": "gone", "version": "1.0.0"}]});
    let updates = shop.post("/api/check-updates", &have);
    assert_eq!(
        updates,
        json!({"hasUpdates": true, "updates": [{"name": "tidy", "installedVersion": "1.0.9", "availableVersion": "1.1.0"}]})
    );
    shop.fails("POST", "/api/check-updates", Some(&json!({"installed": [{"name": "tidy", "version": "new"}]})), 400, "1.2.3");

    let changed = shop.post(
        "/api/skills/tidy",
        &json!({"files": [{"path": "a/b.txt", "content": ""}, {"path": "c.bin", "content": "/w==", "encoding": "base64"}]}),
    );
    assert_eq!(changed["summary"], "1 created, 0 updated, 1 deleted");
    assert_eq!(shop.get("/api/skills/tidy")["files"], json!(["SKILL.md", "c.bin"]));
    shop.fails("DELETE", "/api/skills/tidy", None, 400, "confirm=true");
    let deleted = shop.ask("DELETE", "/api/skills/tidy?confirm=true", None).json();
    assert_eq!((&deleted["pluginDeleted"], deleted["deletedFiles"].as_array().unwrap().len()), (&json!(true), 3));
    assert!(!shop.market("plugins/home").exists());
    assert_eq!(shop.written(".claude-plugin/marketplace.json")["plugins"].as_array().unwrap().len(), 2);
    shop.fails("DELETE", "/api/skills/tidy?confirm=true", None, 404, "no skill");
}

#[test]
fn what_cannot_be_a_skill_is_refused() {
    let shop = Shop::start(&[]);
    let file = |path: &str, content: &str| json!({"files": [{"path": path, "content": content}], "plugin_metadata": {"description": "x"}});
    for (body, said) in [
        (json!({}), "files"),
        (json!({"files": []}), "between 1 and"),
        (file("SKILL.md", "no front matter"), "front matter"),
        (file("SKILL.md", "---\nname: x\n---\n"), "description"),
        (file("SKILL.md", &skill_md("other")), "name: x"),
        (file("../SKILL.md", "x"), "path"),
        (file("/etc/passwd", "x"), "path"),
        (file("a.txt", "x"), "needs a SKILL.md"),
        (json!({"files": [{"path": "SKILL.md", "content": skill_md("x")}]}), "plugin_metadata"),
        (json!({"skill_group": "../x", "files": [{"path": "SKILL.md", "content": skill_md("x")}]}), "group"),
        (json!({"files": [{"path": "a", "content": "1"}, {"path": "A", "content": "2"}]}), "twice"),
        (json!({"files": [{"path": "a", "content": "%", "encoding": "base64"}]}), "base64"),
        (
            json!({"plugin_metadata": {"description": "x"}, "files": [{"path": "SKILL.md", "content": skill_md("x")},
                {"path": "a", "content": "1"}, {"path": "a/b", "content": "2"}]}),
            "both",
        ),
    ] {
        shop.fails("POST", "/api/skills/x", Some(&body), 400, said);
    }
    let letters = "/api/skills/plain-letters";
    shop.fails("POST", letters, Some(&file("SKILL.md", "")), 400, "cannot be deleted");
    shop.fails("POST", letters, Some(&file("nothing.txt", "")), 400, "no such file");
    shop.fails("POST", letters, Some(&file("scripts", "x")), 400, "both");
    shop.fails("POST", letters, Some(&json!({"skill_group": "skillport", "files": [{"path": "a", "content": "a"}]})), 400, "another");
    let bearer = format!("Bearer {}", shop.token);
    let bad = shop.app.wire().request("POST", letters, &[("authorization", &bearer)], Some("{"));
    assert_eq!((bad.status, bad.json()["error"].as_str()), (400, Some("invalid_request")));
    assert_eq!(shop.get("/api/skills")["count"], 2);
}

#[test]
fn one_time_tokens_are_single_use_under_concurrency() {
    let shop = Shop::start(&[]);
    let given = shop.get("/api/skills/plain-letters/install");
    let token = given["install_token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("sk_install_") && given["version"] == "1.2.0" && given["expires_in"] == 900, "{given}");
    let path = format!("/api/install/{token}");
    assert_eq!(shop.app.wire().request("HEAD", &path, &[], None).status, 200, "who only looks does not use it");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..12).map(|_| scope.spawn(|| shop.app.get(&path).status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 410).count(), 11, "{statuses:?}");
    assert_eq!(shop.app.get("/api/install/sk_edit_x").status, 400);
    assert_eq!(shop.app.get("/api/install/sk_install_x").status, 404);

    let given = shop.get("/api/skills/plain-letters/edit");
    let whole = shop.app.get(&format!("/api/edit/{}", given["edit_token"].as_str().unwrap())).json();
    assert_eq!(
        (&given["plugin"], &whole["skill_name"], &whole["skill_version"]),
        (&json!("writing"), &json!("plain-letters"), &json!("1.2.0"))
    );
    assert_eq!(whole["files"][1], json!({"path": "scripts/count.sh", "content": "#!/bin/sh\nwc -w < \"$1\"\n"}));
    let kept = std::fs::read(shop.app.dir.join("data/skillport/tickets.db")).unwrap();
    assert!(!kept.windows(16).any(|bytes| bytes == &token.as_bytes()[11..27]), "only hashes are kept");
}

#[test]
fn the_scripts_run() {
    let shop = Shop::start(&[]);
    let script = shop.app.get("/install.sh");
    assert_eq!(
        (script.header("content-type"), script.header("cache-control")),
        (Some("text/plain; charset=utf-8"), Some("public, max-age=300"))
    );
    let long = format!("{}/{}.txt", "d".repeat(80), "f".repeat(80));
    shop.post(
        "/api/skills/plain-letters",
        &json!({"files": [{"path": long, "content": "long"}, {"path": "b.bin", "content": "/wA=", "encoding": "base64"}]}),
    );
    let home = fresh_dir("skillport-home");
    let command = shop.get("/api/skills/plain-letters/install")["command"].as_str().unwrap().to_owned();
    let (good, said) = shell(&home, &command, &[]);
    let there = home.join(".claude/skills/plain-letters");
    assert!(good && said.contains("Installed plain-letters"), "{said}");
    assert_eq!(std::fs::read_to_string(there.join(&long)).unwrap(), "long");
    assert_eq!(std::fs::read(there.join("b.bin")).unwrap(), [255, 0]);
    let (good, said) = shell(&home, &command, &[]);
    assert!(!good && said.contains("used or has expired"), "{said}");

    // An update takes the place of what was there.
    shop.post("/api/skills/plain-letters", &json!({"files": [{"path": "b.bin", "content": ""}]}));
    let command = shop.get("/api/skills/plain-letters/install")["command"].as_str().unwrap().to_owned();
    assert!(shell(&home, &command, &[]).0);
    assert!(!there.join("b.bin").exists() && there.join("SKILL.md").exists());
    assert_eq!(std::fs::read_dir(home.join(".claude/skills")).unwrap().count(), 1, "nothing else is left");

    let command = shop.get("/api/skills/plain-letters/edit")["command"].as_str().unwrap().to_owned();
    let (good, said) = shell(&home, &command, &[]);
    assert!(good && home.join("plain-letters/SKILL.md").exists(), "{said}");
    let command = shop.get("/api/skills/plain-letters/edit")["command"].as_str().unwrap().to_owned();
    let (good, said) = shell(&home, &command, &[]);
    assert!(!good && said.contains("there already"), "{said}");

    let bootstrap = shop.app.http("/mcp", &[]).json("skillport_auth", json!({"operation": "bootstrap"}));
    let (good, said) = shell(&home, bootstrap["command"].as_str().unwrap(), &[]);
    assert!(good && home.join(".claude/skills/skillport/SKILL.md").exists(), "{said}");
    let (good, said) = shell(&home, &format!("curl -fsSL http://127.0.0.1:{}/install.sh | sh -s -- 'x; touch pwned'", shop.app.port), &[]);
    assert!(!good && said.contains("no token"), "{said}");
    std::fs::remove_dir_all(home).unwrap();
}

#[cfg(unix)]
#[test]
fn what_could_be_run_still_can() {
    use std::os::unix::fs::PermissionsExt as _;
    let shop = Shop::start(&[]);
    let script = shop.market("plugins/writing/skills/plain-letters/scripts/count.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    shop.post("/api/skills/plain-letters", &json!({"files": [{"path": "scripts/count.sh", "content": "#!/bin/sh\necho counted\n"}]}));
    let home = fresh_dir("skillport-run");
    let command = shop.get("/api/skills/plain-letters/install")["command"].as_str().unwrap().to_owned();
    assert!(shell(&home, &command, &[]).0);
    assert_eq!(shell(&home, ".claude/skills/plain-letters/scripts/count.sh", &[]), (true, "counted\n".into()));
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn of_two_skills_of_one_name_the_first_counts() {
    let shop = Shop::start(&[]);
    for group in ["aaa", "zzz"] {
        let dir = shop.market(&format!("plugins/{group}/skills/copy"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("SKILL.md"), skill_md("plain-letters")).unwrap();
    }
    // What is published is before what is not, and keeps its name.
    let all = shop.get("/api/skills");
    assert_eq!(
        (&all["count"], &all["skills"][0]["name"], &all["skills"][0]["plugin"]),
        (&json!(2), &json!("plain-letters"), &json!("writing"))
    );
    shop.ask("DELETE", "/api/skills/plain-letters?confirm=true", None);
    assert_eq!(shop.get("/api/skills/plain-letters")["skill"]["plugin"], "aaa");
}

#[test]
fn bootstrap_says_when_its_skill_is_missing() {
    let shop = Shop::start(&[]);
    shop.ask("DELETE", "/api/skills/skillport?confirm=true", None);
    let told = shop.app.sse("/sse", &[]).json("skillport_auth", json!({"operation": "bootstrap"}));
    assert!(told["error"] == "not_found" && told["instructions"].as_array().unwrap().len() == 2, "{told}");
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    let shop = Shop::start(&[]);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let shop = &shop;
            scope.spawn(move || {
                let name = format!("skill-{number}");
                let response = shop.ask("POST", &format!("/api/skills/{name}"), Some(&new_skill(&name, "all")));
                assert_eq!(response.status, 200, "{}", response.text());
            });
        }
    });
    let all = shop.get("/api/skills");
    assert_eq!(all["count"], 6, "{all}");
}

#[test]
fn what_was_saved_survives_a_power_cut() {
    let dir = fresh_dir("skillport-cut");
    let shop = Shop::of(App::start_in(&dir, "skillport", &[], &[]));
    shop.post("/api/skills/kept", &new_skill("kept", "kept"));
    let token = shop.token.clone();
    shop.app.kill();
    let again = Shop { app: App::start_in(&dir, "skillport", &[], &[]), token };
    assert_eq!(again.get("/api/skills/kept")["files"], json!(["SKILL.md", "a/b.txt"]), "and so has the token");
    drop(again);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_power_cut_leaves_every_change_whole_or_not_made() {
    let dir = fresh_dir("skillport-cuts");
    for round in 0..3 {
        let app = App::start_in(&dir, "skillport", &[], &[]);
        let shop = Shop::of(app);
        let (port, token) = (shop.app.port, shop.token.clone());
        let writer = std::thread::spawn(move || {
            for number in 0.. {
                let body = new_skill(&format!("s-{round}-{number}"), "all").to_string();
                let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return };
                let head = format!(
                    "POST /api/skills/s-{round}-{number} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n\
                     connection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let mut answer = Vec::new();
                let done = std::io::Write::write_all(&mut stream, head.as_bytes());
                if done.and_then(|()| std::io::Read::read_to_end(&mut stream, &mut answer)).is_err() {
                    return;
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(150 + 70 * round));
        shop.app.kill();
        writer.join().unwrap();
    }
    let shop = Shop::of(App::start_in(&dir, "skillport", &[], &[]));
    let all = shop.get("/api/skills");
    let ours = all["skills"].as_array().unwrap().iter().filter(|skill| skill["plugin"] == "all");
    let names: Vec<&str> = ours.map(|skill| skill["name"].as_str().unwrap()).collect();
    assert!(!names.is_empty());
    for name in names {
        assert_eq!(shop.get(&format!("/api/skills/{name}"))["files"], json!(["SKILL.md", "a/b.txt"]), "{name}");
    }
    let own = std::fs::read_dir(dir.join("data/skillport/marketplace/.skillport")).unwrap();
    assert_eq!(own.count(), 1, "nothing is left over but the lock");
    drop(shop);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_full_profile_does_all_by_tools() {
    let app = App::start("skillport", &[], &[("SKILLPORT_TOOLS", "full")]);
    let mut sse = app.sse("/sse", &[]);
    assert_eq!(sse.tools().len(), 14);
    let listed = sse.ask("tools/list", json!({}));
    for tool in listed["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert!(!tool["description"].as_str().unwrap().is_empty());
        let (hints, name) = (&tool["annotations"], tool["name"].as_str().unwrap());
        let only_reads =
            name.starts_with("list_") || name.starts_with("fetch_") || ["check_updates", "whoami", "get_plugin"].contains(&name);
        assert_eq!(hints["readOnlyHint"] == true, only_reads, "{tool}");
        let destroys = ["delete_skill", "save_skill"].contains(&name);
        assert!(only_reads || hints["destructiveHint"] == destroys, "{tool}");
    }
    let mut http = app.http("/mcp", &[]);
    let files = json!([{"path": "SKILL.md", "content": skill_md("tidy")}]);
    let saved =
        http.json("save_skill", json!({"skill": "tidy", "skill_group": "home", "files": files, "plugin_metadata": {"description": "x"}}));
    assert_eq!(saved["isNewSkill"], true);
    assert_eq!(sse.json("list_skills", json!({}))["count"], 3);
    assert_eq!(http.json("publish_skill", json!({"skill": "tidy", "description": "x", "tags": ["surface:CALL"]}))["action"], "created");
    assert_eq!(sse.json("bump_version", json!({"skill": "tidy", "type": "major"}))["newVersion"], "2.0.0");
    assert_eq!(http.json("check_updates", json!({"installed": [{"name": "tidy", "version": "1.0.0"}]}))["hasUpdates"], true);
    assert_eq!(sse.json("fetch_skill_details", json!({"name": "tidy"}))["files"], json!(["SKILL.md"]));
    assert_eq!(http.json("fetch_skill_for_editing", json!({"name": "tidy"}))["files"][0]["path"], "SKILL.md");
    assert_eq!(sse.json("fetch_skill", json!({"name": "tidy"}))["skill_version"], "2.0.0");
    assert!(http.json("install_skill", json!({"name": "tidy"}))["command"].as_str().unwrap().contains("install.sh"));
    assert_eq!(sse.json("whoami", json!({}))["id"], "local:local");
    assert_eq!(http.json("list_plugins", json!({}))["count"], 3);
    assert_eq!(sse.json("get_plugin", json!({"name": "home"}))["skills"], json!(["tidy"]));
    assert_eq!(http.json("delete_skill", json!({"skill": "tidy", "confirm": true}))["pluginDeleted"], true);
    let wrong = http.call("delete_skill", json!({"skill": "tidy"}));
    assert_eq!(wrong["isError"], true);
    let told: Value = serde_json::from_str(wrong["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(told["error"], "not_found");
}

#[test]
fn who_is_not_asked_and_not_here_edits_nothing() {
    let shop = Shop::start(&[]);
    assert_eq!(shop.get("/api/skills/plain-letters")["editable"], true);
    let app = App::start("skillport", &["--host", "0.0.0.0", "--insecure-public"], &[("CONNECTOR_URL", "https://mcp.example.com")]);
    let host = ("host", "mcp.example.com");
    let token = app.http("/mcp", &[host]).json("skillport_auth", json!({}))["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let ask = |method: &str, path: &str| app.wire().request(method, path, &[host, ("authorization", &bearer)], None);
    assert_eq!(ask("GET", "/api/skills/plain-letters").json()["editable"], false);
    assert_eq!(ask("DELETE", "/api/skills/plain-letters?confirm=true").status, 403);
    assert!(!ask("GET", "/api/debug/plugins").text().contains(app.dir.to_str().unwrap()), "where it lies is nobody's business");
}

#[test]
fn what_is_badly_set_is_told() {
    for (variables, said) in [
        (&[("SKILLPORT_TOOLS", "many")][..], "SKILLPORT_TOOLS"),
        (&[("SKILLPORT_TRANSPORTS", "udp")], "SKILLPORT_TRANSPORTS"),
        (&[("MARKETPLACE_REPO", "x")], "MARKETPLACE_REPO"),
        (&[("GOOGLE_CLIENT_ID", "x")], "GOOGLE_CLIENT_SECRET"),
        (&[("GOOGLE_ALLOWED_DOMAINS", "example.com")], "GOOGLE_CLIENT_ID"),
        (&[("CONNECTOR_URL", "https://x/'; rm -rf /")], "CONNECTOR_URL"),
        (&[("SKILLPORT_LOGIN", "maybe")], "SKILLPORT_LOGIN"),
    ] {
        let dir = fresh_dir("skillport-bad");
        let (good, told) = run(&dir, "skillport", &["--port", "0"], variables);
        assert!(!good && told.contains(said), "{variables:?}: {told}");
        std::fs::remove_dir_all(dir).unwrap();
    }
    let dir = fresh_dir("skillport-help");
    let (good, told) = run(&dir, "skillport", &["--help"], &[]);
    assert!(good && told.contains("MARKETPLACE_REPO") && told.contains("GOOGLE_ALLOWED_DOMAINS"), "{told}");
    std::fs::remove_dir_all(dir).unwrap();
}
