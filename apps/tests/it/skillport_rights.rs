//! Who may do what: every route and every tool, for somebody who edits, somebody who may write one skill, somebody who
//! may only look, and somebody who shows nothing. And what they send who mean no good.

use serde_json::{Value, json};

use crate::app::{App, Client};
use crate::skillport::{Shop, skill_md};
use crate::skillport_house::House;

/// A user, with a token for REST and a client of the tools.
struct User {
    bearer: String,
    client: Client,
}

impl User {
    fn log_in(house: &House, login: &str) -> User {
        let bearer = format!("Bearer {}", house.token(login, ""));
        let mut client = house.app.http("/mcp", &[("authorization", &bearer)]);
        let token = client.json("skillport_auth", json!({}))["token"].as_str().unwrap().to_owned();
        User { bearer: format!("Bearer {token}"), client }
    }

    /// The status of a route.
    fn rest(&self, app: &App, method: &str, path: &str, body: Option<&Value>) -> u16 {
        app.wire().request(method, path, &[("authorization", &self.bearer)], body.map(Value::to_string).as_deref()).status
    }

    /// The error of a tool; `ok` if it has none.
    fn tool(&mut self, tool: &str, arguments: &Value) -> String {
        let result = self.client.call(tool, arguments.clone());
        let told: Value =
            serde_json::from_str(result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool}: {result}"))).unwrap();
        assert_eq!(result["isError"] == true, told["error"].is_string(), "{tool}: {result}");
        told["error"].as_str().unwrap_or("ok").to_owned()
    }
}

/// What lies in the marketplace of the house, beside the sample.
fn furnish(house: &House) {
    let market = house.app.dir.join("data/skillport/marketplace");
    let rules = json!({
        "version": 1,
        "editors": [{"id": "google:1", "label": "Ada"}],
        "skills": {"secret": {"read": "editors"}, "shared": {"write": ["google:2"]}},
    });
    std::fs::write(market.join(".skillport/access.json"), rules.to_string()).unwrap();
    for name in ["secret", "shared", "spare"] {
        let dir = market.join("plugins/writing/skills").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("SKILL.md"), skill_md(name)).unwrap();
    }
}

#[test]
fn every_route_and_every_tool_asks_who_may() {
    let house = House::start(&[("SKILLPORT_TOOLS", "full")]);
    furnish(&house);
    // An editor; who may write `shared`, where editors may not; who may look at what is no secret.
    let mut users = [User::log_in(&house, "ada"), User::log_in(&house, "bob"), User::log_in(&house, "alias")];
    let change = json!({"files": [{"path": "a.txt", "content": "a"}]});
    let publish = json!({"description": "x", "tags": ["surface:CC"]});
    let bump = json!({"type": "patch"});
    // For each of the three: may see it, may change it, may publish it.
    for (skill, rights) in [
        ("plain-letters", [(true, true, true), (true, false, false), (true, false, false)]),
        ("shared", [(true, false, true), (true, true, false), (true, false, false)]),
        ("secret", [(true, true, true), (false, false, false), (false, false, false)]),
    ] {
        for (user, (sees, changes, publishes)) in users.iter_mut().zip(rights) {
            let path = |end: &str| format!("/api/skills/{skill}{end}");
            for (method, path, body, may) in [
                ("GET", path(""), None, sees),
                ("GET", path("/install"), None, sees),
                ("GET", path("/edit"), None, changes),
                ("POST", path(""), Some(&change), changes),
                ("POST", path("/bump"), Some(&bump), changes),
                ("POST", path("/publish"), Some(&publish), publishes),
            ] {
                let status = user.rest(&house.app, method, &path, body);
                assert_eq!(status, if may { 200 } else { 403 }, "{method} {path} by {}", user.bearer);
            }
            // Without its confirmation, so that it stays.
            assert_eq!(user.rest(&house.app, "DELETE", &path(""), None), if changes { 400 } else { 403 }, "{skill}");
            for (tool, arguments, may) in [
                ("fetch_skill_details", json!({"name": skill}), sees),
                ("fetch_skill", json!({"name": skill}), sees),
                ("install_skill", json!({"name": skill}), sees),
                ("fetch_skill_for_editing", json!({"name": skill}), changes),
                ("save_skill", json!({"skill": skill, "files": change["files"]}), changes),
                ("bump_version", json!({"skill": skill, "type": "patch"}), changes),
                ("publish_skill", json!({"skill": skill, "description": "x", "tags": ["surface:CC"]}), publishes),
            ] {
                assert_eq!(user.tool(tool, &arguments), if may { "ok" } else { "access_denied" }, "{tool} {skill}");
            }
            let deleted = user.tool("delete_skill", &json!({"skill": skill}));
            assert_eq!(deleted, if changes { "invalid_request" } else { "access_denied" }, "{skill}");
        }
    }
    let new = json!({"skill": "new", "skill_group": "new", "plugin_metadata": {"description": "x"},
        "files": [{"path": "SKILL.md", "content": skill_md("new")}]});
    for (user, may) in users.iter_mut().zip([true, false, false]) {
        // What is not to be seen is in no list, whatever asks.
        for (path, body) in [("/api/skills", None), ("/api/debug/plugins", None)] {
            let text = house.app.wire().request("GET", path, &[("authorization", &user.bearer)], body).text();
            assert_eq!(text.contains("secret"), may, "{path}: {text}");
        }
        for (tool, arguments) in [
            ("list_skills", json!({})),
            ("list_plugins", json!({})),
            ("get_plugin", json!({"name": "writing"})),
            ("check_updates", json!({"installed": [{"name": "secret", "version": "0.0.1"}]})),
        ] {
            let text = user.client.text(tool, arguments);
            assert_eq!(text.contains("secret"), may, "{tool}: {text}");
        }
        assert_eq!(user.tool("save_skill", &new), if may { "ok" } else { "access_denied" });
        assert_eq!(user.rest(&house.app, "POST", "/api/skills/other", Some(&change)), if may { 400 } else { 403 });
    }
    // A skill cannot be taken along to where somebody else decides, and no rule is a file of a skill.
    let [ada, bob, _] = &mut users;
    assert_eq!(
        bob.tool("save_skill", &json!({"skill": "shared", "skill_group": "skillport", "files": change["files"]})),
        "invalid_request"
    );
    for path in ["../secret/SKILL.md", "../../../../.skillport/access.json", "/plugins/writing/skills/secret/SKILL.md"] {
        let files = json!([{"path": path, "content": skill_md("secret")}]);
        assert_eq!(bob.tool("save_skill", &json!({"skill": "shared", "files": files})), "invalid_request", "{path}");
    }
    // Rights that are taken away count at once, for tokens that were given before.
    let given = bob.client.json("install_skill", json!({"name": "shared"}));
    let file = house.app.dir.join("data/skillport/marketplace/.skillport/access.json");
    std::fs::write(&file, json!({"editors": ["google:1"], "defaults": {"read": "editors"}}).to_string()).unwrap();
    assert_eq!(house.app.get(&format!("/api/install/{}", given["install_token"].as_str().unwrap())).status, 403);
    assert_eq!(
        (bob.tool("fetch_skill", &json!({"name": "shared"})), ada.tool("fetch_skill", &json!({"name": "shared"}))),
        ("access_denied".into(), "ok".into())
    );
    assert_eq!(bob.client.json("list_skills", json!({}))["count"], 0);
}

#[test]
fn without_a_token_of_the_right_kind_rest_does_nothing() {
    let shop = Shop::start(&[]);
    let install = shop.get("/api/skills/plain-letters/install")["install_token"].as_str().unwrap().to_owned();
    let upper = shop.token.to_uppercase();
    for shown in
        ["", "Bearer ", "Bearer x", &format!("Bearer {install}"), &format!("Basic {}", shop.token), &format!("Bearer {upper}"), &shop.token]
    {
        for (method, path) in [
            ("GET", "/api/skills"),
            ("GET", "/api/skills/plain-letters"),
            ("GET", "/api/skills/plain-letters/install"),
            ("GET", "/api/skills/plain-letters/edit"),
            ("POST", "/api/skills/plain-letters"),
            ("DELETE", "/api/skills/plain-letters?confirm=true"),
            ("POST", "/api/skills/plain-letters/bump"),
            ("POST", "/api/skills/plain-letters/publish"),
            ("POST", "/api/check-updates"),
            ("GET", "/api/whoami"),
            ("GET", "/api/debug/plugins"),
        ] {
            let body = (method == "POST").then_some("{}");
            let refused = shop.app.wire().request(method, path, &[("authorization", shown)], body);
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{method} {path} with {shown:?}");
            assert!(refused.json()["error"] == "unauthorized" && refused.json()["message"].is_string());
        }
    }
    for (path, status) in [
        ("/api/install/x", 400),
        ("/api/install/sk_edit_x", 400),
        ("/api/edit/sk_install_x", 400),
        ("/api/install/sk_install_", 404),
        ("/api/install/sk_install_%00%27%20OR%201=1--", 404),
        (&format!("/api/edit/{}", install.replace("install", "edit")), 404),
        (&format!("/api/install/{}", shop.token), 400),
        (&format!("/api/install/{}", install.replace("sk_install_", "SK_INSTALL_")), 400),
    ] {
        assert_eq!(shop.app.get(path).status, status, "{path}");
    }
    assert_eq!(shop.app.get(&format!("/api/install/{install}")).status, 200);
}

#[test]
fn no_spelling_of_a_path_leads_out() {
    let shop = Shop::start(&[("SKILLPORT_TOOLS", "full")]);
    let mut client = shop.app.http("/mcp", &[]);
    let before = shop.get("/api/debug/plugins");
    for path in [
        "..",
        ".",
        "/",
        "../x",
        "./x",
        "a/../x",
        "a/./x",
        "a//x",
        "a/",
        "/x",
        "//x",
        "..\\x",
        "a\\..\\x",
        "\\x",
        "C:x",
        "C:\\x",
        "file:///x",
        "...",
        "a/...",
        ".. /x",
        "a./x",
        "x.",
        "x ",
        "a /x",
        "\u{0}",
        "a\u{0}b",
        "a\nb",
        "a\u{7f}b",
        "a\u{85}b",
        ".git",
        ".git/hooks/post-commit",
        "a/.GIT/config",
        ".Git",
        "git~1",
        "GIT~1/x",
        ".g\u{200c}it/x",
        "\u{feff}..",
        "a\u{202e}b",
        "\u{2066}x",
        "",
    ] {
        let body = json!({"files": [{"path": path, "content": "out"}]});
        shop.fails("POST", "/api/skills/plain-letters", Some(&body), 400, "path");
        let refused = client.call("save_skill", json!({"skill": "plain-letters", "files": body["files"]}));
        assert_eq!(refused["isError"], true, "{path:?}: {refused}");
    }
    for long in ["x".repeat(101), format!("{}x", "d/".repeat(150))] {
        shop.fails("POST", "/api/skills/plain-letters", Some(&json!({"files": [{"path": long, "content": "x"}]})), 400, "path");
    }
    // As the name of a skill, or of its group, over REST and by tools.
    for name in [
        "..",
        "%2e%2e",
        "..%2f..",
        "..%5c..",
        "%2e%2e%2fskillport",
        "a%00",
        "plain-letters%2f..%2f..",
        "Plain-Letters",
        "plain_letters",
        "%ff",
        "\u{e4}",
    ] {
        let path: String = name.chars().map(|c| if c.is_ascii() { c.to_string() } else { "%C3%A4".into() }).collect();
        let status = shop.ask("GET", &format!("/api/skills/{path}"), None).status;
        assert!(matches!(status, 400 | 404), "{name}: {status}");
    }
    for name in ["..", "../skillport", "a/b", "/etc", "a\u{0}", "", " ", "Ä", &"a".repeat(65)] {
        assert_eq!(client.call("fetch_skill", json!({"name": name}))["isError"], true, "{name:?}");
        let group = json!({"skill_group": name, "plugin_metadata": {"description": "x"}, "files": [{"path": "SKILL.md", "content": skill_md("x")}]});
        shop.fails("POST", "/api/skills/x", Some(&group), 400, "group");
    }
    // What only looks like a way out is a name like any other.
    for path in ["%2e%2e/x.txt", "..x/y", "~/x.txt", "\u{ff0e}\u{ff0e}/x.txt", "-rf", "$(x)", "a;b", "'\"`"] {
        let body = json!({"files": [{"path": path, "content": "in"}]});
        assert_eq!(shop.post("/api/skills/plain-letters", &body)["files"][0]["created"], true, "{path}");
        assert!(shop.app.dir.join("data/skillport/marketplace/plugins/writing/skills/plain-letters").join(path).is_file(), "{path}");
        shop.post("/api/skills/plain-letters", &json!({"files": [{"path": path, "content": ""}]}));
    }
    assert_eq!(shop.get("/api/debug/plugins"), before);
}

#[test]
fn whatever_a_tool_is_called_with_it_says_what_is_wrong() {
    let shop = Shop::start(&[("SKILLPORT_TOOLS", "full")]);
    let mut client = shop.app.http("/mcp", &[]);
    let before = shop.get("/api/skills?refresh=true");
    let md = json!([{"path": "SKILL.md", "content": skill_md("plain-letters")}]);
    // What each is called with where all is well, but for its name.
    let tools = [
        ("skillport_auth", json!({"operation": "auth"})),
        ("list_skills", json!({"surface": "CC", "refresh": true})),
        ("install_skill", json!({"name": "x"})),
        ("fetch_skill_details", json!({"name": "x"})),
        ("fetch_skill_for_editing", json!({"name": "x"})),
        ("fetch_skill", json!({"name": "x"})),
        ("check_updates", json!({"installed": [{"name": "x", "version": "1.0.0"}]})),
        (
            "save_skill",
            json!({"skill": "x", "skill_group": "x", "files": md, "commitMessage": "x", "plugin_metadata": {"description": "x"}}),
        ),
        ("delete_skill", json!({"skill": "x", "confirm": true})),
        ("bump_version", json!({"skill": "x", "type": "patch"})),
        ("publish_skill", json!({"skill": "x", "description": "x", "category": "x", "tags": ["surface:CC"], "keywords": ["x"]})),
        ("get_plugin", json!({"name": "x"})),
    ];
    let hostile = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("ä\u{202e}€😀"),
        json!("../../etc/passwd"),
        json!("'; DROP TABLE tickets; --"),
        json!("%_*?[a]"),
        json!("$(touch pwned)`x`"),
        json!("<script>"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([null]),
        json!({}),
        json!([[["x"]]]),
        json!({"$ref": "x"}),
        json!("NaN"),
        json!([{"path": 1}]),
        json!([{"name": "x"}]),
        json!(["x", 1]),
    ];
    let ids = |page: &Value| page["skills"].as_array().unwrap().iter().map(|skill| skill["name"].clone()).collect::<Vec<_>>();
    for (tool, good) in &tools {
        for key in good.as_object().unwrap().keys() {
            for value in &hostile {
                let mut arguments = good.clone();
                arguments[key] = value.clone();
                let result = client.call(tool, arguments);
                let shown = format!(
                    "{tool} {key}={}: {}",
                    value.to_string().chars().take(60).collect::<String>(),
                    result.to_string().chars().take(300).collect::<String>()
                );
                if let Some(code) = result["code"].as_i64() {
                    assert!(code == -32602 && !result["message"].as_str().unwrap().is_empty(), "{shown}");
                } else if result["isError"] == true {
                    let told: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
                    assert!(
                        told["error"] != "internal_error" && told["message"].as_str().is_some_and(|said| said.len() < 100_300),
                        "{shown}"
                    );
                } else {
                    // What may be left out, or is a list that may have nothing in it.
                    let harmless = matches!(key.as_str(), "surface" | "refresh" | "installed" | "operation");
                    assert!(harmless, "{shown}");
                }
            }
        }
    }
    assert_eq!(ids(&shop.get("/api/skills?refresh=true")), ids(&before));
    assert!(!shop.app.dir.join("pwned").exists());
    // The same over REST, where a body can be no JSON at all.
    let bearer = format!("Bearer {}", shop.token);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for path in ["/api/skills/plain-letters", "/api/skills/plain-letters/bump", "/api/skills/plain-letters/publish", "/api/check-updates"] {
        for body in [
            "",
            "{",
            "null",
            "[]",
            "1",
            "\"x\"",
            "{\"files\":{}}",
            "{\"type\":1}",
            "{\"installed\":1}",
            "\u{0}",
            &deep,
            "{\"files\":[],\"files\":[]}",
        ] {
            let refused = shop.app.wire().request("POST", path, &[("authorization", &bearer)], Some(body));
            assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("invalid_request")), "{path} {body:.40}");
        }
        let huge = shop.app.wire().request("POST", path, &[("authorization", &bearer)], Some(&"x".repeat(25 * 1024 * 1024)));
        assert_eq!(huge.status, 413, "{path}");
    }
    assert_eq!(shop.get("/api/skills?refresh=true"), before);
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let shop = Shop::start(&[]);
    let (long, many) = ("x".repeat(5_000), vec!["x"; 101]);
    let new = |description: &str, keywords: &Value, author: &str, about: &str| {
        let md = format!("---\nname: new\ndescription: {about}\n---\n");
        json!({"plugin_metadata": {"description": description, "keywords": keywords, "author": author}, "files": [{"path": "SKILL.md", "content": md}]})
    };
    for body in [
        new(&long, &json!([]), "x", "x"),
        new("x", &json!(many), "x", "x"),
        new("x", &json!([long]), "x", "x"),
        new("x", &json!([]), &long, "x"),
        new("x", &json!([]), "x", &long),
    ] {
        shop.fails("POST", "/api/skills/new", Some(&body), 400, "at most");
    }
    for body in [json!({"description": long}), json!({"description": "x", "keywords": many}), json!({"description": "x", "category": long})]
    {
        shop.fails("POST", "/api/skills/plain-letters/publish", Some(&body), 400, "at most");
    }
    let large = json!({"files": [{"path": "a.txt", "content": "x".repeat(2 * 1024 * 1024 + 1)}]});
    shop.fails("POST", "/api/skills/plain-letters", Some(&large), 400, "larger");
    // A list of the marketplace that is as long as it can be takes nothing more.
    let file = shop.app.dir.join("data/skillport/marketplace/.claude-plugin/marketplace.json");
    let mut market: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    market["metadata"]["filler"] = json!("x".repeat(2 * 1024 * 1024 - 2_000));
    std::fs::write(&file, market.to_string()).unwrap();
    let about = json!({"description": "y".repeat(3_000)});
    shop.fails("POST", "/api/skills/plain-letters/publish", Some(&about), 400, "would be larger");
    assert_eq!(shop.get("/api/skills")["count"], 2);
}

#[test]
fn versions_go_on_where_they_can() {
    let shop = Shop::start(&[]);
    let manifest = shop.app.dir.join("data/skillport/marketplace/plugins/writing/.claude-plugin/plugin.json");
    let set = |version: &str| std::fs::write(&manifest, json!({"name": "writing", "version": version}).to_string()).unwrap();
    for (from, step, to) in [
        ("1.2.3", "patch", "1.2.4"),
        ("1.2.3-rc.1", "patch", "1.2.3"),
        ("1.2.3-rc.1", "minor", "1.3.0"),
        ("2.0.0-beta.99999999999999999999", "major", "2.0.0"),
        ("1.2.3+build.5", "minor", "1.3.0"),
        ("0.0.0", "patch", "0.0.1"),
        ("1.18446744073709551615.0", "patch", "1.18446744073709551615.1"),
    ] {
        set(from);
        let told = shop.post("/api/skills/plain-letters/bump", &json!({"type": step}));
        assert_eq!((&told["oldVersion"], &told["newVersion"]), (&json!(from), &json!(to)), "{from} {step}");
        assert_eq!(shop.get("/api/skills/plain-letters")["skill"]["version"], to);
    }
    set("18446744073709551615.0.0");
    shop.fails("POST", "/api/skills/plain-letters/bump", Some(&json!({"type": "major"})), 400, "no version can come after");
    for step in ["", "MAJOR", "prerelease"] {
        shop.fails("POST", "/api/skills/plain-letters/bump", Some(&json!({"type": step})), 400, "body");
    }
    set("1.10.0-rc.2");
    for (have, is_newer) in [
        ("1.9.9", true),
        ("1.10.0-rc.1", true),
        ("1.10.0-alpha.99999999999999999999999", true),
        ("1.10.0-rc.2", false),
        ("1.10.0-rc.2+other.build", false),
        ("1.10.0-rc.10", false),
        ("1.10.0", false),
        ("v1.2.0", true),
        ("18446744073709551615.0.0", false),
    ] {
        let told = shop.post("/api/check-updates", &json!({"installed": [{"name": "plain-letters", "version": have}]}));
        assert_eq!(told["hasUpdates"], is_newer, "{have}: {told}");
    }
    for have in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3+", "latest", "-1.0.0", "99999999999999999999.0.0", "1e3.0.0"] {
        let body = json!({"installed": [{"name": "plain-letters", "version": have}]});
        shop.fails("POST", "/api/check-updates", Some(&body), 400, "1.2.3");
    }
}

#[test]
fn many_who_raise_a_version_at_once_each_get_their_own() {
    let shop = Shop::start(&[]);
    let mut all: Vec<String> = std::thread::scope(|scope| {
        let each = |_| {
            scope
                .spawn(|| shop.post("/api/skills/plain-letters/bump", &json!({"type": "patch"}))["newVersion"].as_str().unwrap().to_owned())
        };
        let all: Vec<_> = (0..8).map(each).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    all.sort();
    assert_eq!(all, (1..=8).map(|n| format!("1.2.{n}")).collect::<Vec<_>>());
}

#[test]
fn a_download_during_changes_is_of_one_moment() {
    let shop = Shop::start(&[]);
    let files = |n: usize| json!({"files": (0..12).map(|file| json!({"path": format!("f{file}.txt"), "content": n.to_string()})).collect::<Vec<_>>()});
    shop.post("/api/skills/plain-letters", &files(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (1..25).for_each(|n| drop(shop.post("/api/skills/plain-letters", &files(n)))));
        let mut n_seen = 0;
        while !writer.is_finished() || n_seen == 0 {
            let given = shop.ask("GET", "/api/skills/plain-letters/install", None);
            // Changes may be so many that it gives up; then it says so.
            if given.status == 409 {
                continue;
            }
            let whole = shop
                .app
                .get(&format!("/api/install/{}", given.json()["install_token"].as_str().unwrap_or_else(|| panic!("{}", given.text()))));
            if whole.status == 409 {
                continue;
            }
            let whole = whole.json();
            let mut seen: Vec<&str> = whole["files"]
                .as_array()
                .unwrap_or_else(|| panic!("{whole}"))
                .iter()
                .filter(|file| file["path"].as_str().unwrap().starts_with('f'))
                .map(|file| file["content"].as_str().unwrap())
                .collect();
            assert_eq!(seen.len(), 12);
            seen.dedup();
            assert_eq!(seen.len(), 1, "of several moments: {seen:?}");
            n_seen += 1;
        }
    });
}

#[test]
fn one_time_tokens_are_single_use_whoever_serves() {
    let dir = crate::app::fresh_dir("skillport-two");
    let (one, two) = (Shop::of(App::start_in(&dir, "skillport", &[], &[])), Shop::of(App::start_in(&dir, "skillport", &[], &[])));
    for kind in ["install", "edit"] {
        let given = one.get(&format!("/api/skills/plain-letters/{kind}"));
        let path = format!("/api/{kind}/{}", given[format!("{kind}_token")].as_str().unwrap());
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let get = |n: usize| {
                let (app, path) = (if n.is_multiple_of(2) { &one.app } else { &two.app }, &path);
                let accept = if n.is_multiple_of(3) { "application/x-tar" } else { "application/json" };
                scope.spawn(move || app.get_with(path, &[("accept", accept)]).status)
            };
            let all: Vec<_> = (0..40).map(get).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let count = |status: u16| statuses.iter().filter(|one| **one == status).count();
        assert_eq!((count(200), count(410)), (1, 39), "{kind}: {statuses:?}");
    }
    drop((one, two));
    std::fs::remove_dir_all(dir).unwrap();
}
