//! Every dialect, as its client writes it.

use super::*;

/// What a file says in our words, and what was noted.
fn read(text: &str) -> (String, Vec<String>) {
    let config = Config::parse("f", text.into()).unwrap_or_else(|faults| panic!("{faults}"));
    let notes = config.notes();
    (config.to_toml(crate::config::Shown { defaults: false, secrets: true }), notes)
}

/// The same where nothing is to be noted.
fn quietly(text: &str) -> String {
    let (toml, notes) = read(text);
    assert!(notes.is_empty(), "{notes:?}");
    toml
}

fn faults(text: &str) -> Vec<String> {
    Config::parse("f", text.into()).unwrap_err().brief().collect()
}

#[test]
fn claude_code_and_desktop() {
    let text = r#"{"mcpServers": {
        "fs": {"type": "stdio", "command": "npx", "args": ["-y", "pkg"], "env": {"K": "V", "N": 5}},
        "api": {"type": "http", "url": "https://h/mcp", "headers": {"Authorization": "Bearer ${T:-none}"}},
        "old": {"type": "sse", "url": "https://h/sse", "disabled": true}}}"#;
    assert_eq!(
        quietly(text),
        "[servers.api]\nurl = \"https://h/mcp\"\nheaders = { Authorization = \"Bearer ${T:-none}\" }\ntransport = \"http\"\n\n\
         [servers.fs]\ncommand = \"npx\"\nargs = [\"-y\", \"pkg\"]\nenv = { K = \"V\", N = \"5\" }\n\n\
         [servers.old]\nurl = \"https://h/sse\"\ntransport = \"sse\"\ndisabled = true\n"
    );
}

#[test]
fn cursor_expands_its_environment_by_another_name() {
    let text = r#"{"mcpServers": {"a": {"url": "https://h/mcp", "headers": {"X": "${env:TOKEN}"}},
        "b": {"command": "x", "env": {"HOME2": "${userHome}/b"}}}}"#;
    assert_eq!(
        quietly(text),
        "[servers.a]\nurl = \"https://h/mcp\"\nheaders = { X = \"${TOKEN}\" }\n\n[servers.b]\ncommand = \"x\"\nenv = { HOME2 = \"${HOME}/b\" }\n"
    );
}

#[test]
fn windsurf_and_gemini_have_their_own_words_for_a_url() {
    for key in ["url", "serverUrl", "uri", "httpUrl"] {
        assert_eq!(
            quietly(&format!(r#"{{"mcpServers": {{"a": {{"{key}": "https://h/mcp"}}}}}}"#)),
            "[servers.a]\nurl = \"https://h/mcp\"\n"
        );
    }
    let (toml, notes) =
        read(r#"{"mcpServers": {"a": {"httpUrl": "https://h", "headers": {"K": "$API_KEY"}, "trust": true, "timeout": 5}}}"#);
    assert!(toml.contains("K = \"${API_KEY}\""), "{toml}");
    assert_eq!(
        notes,
        [
            "f:1:17: server `a`: `trust`, `timeout` are left out: there is no such setting here",
            "f:1:64: server `a`: `K` is taken from the environment variable API_KEY",
        ]
    );
}

#[test]
fn every_name_of_a_transport() {
    for (kind, ours) in [
        ("http", "http"),
        ("streamable-http", "http"),
        ("streamable_http", "http"),
        ("streamableHttp", "http"),
        ("streamablehttp", "http"),
        ("sse", "sse"),
        ("SSE", "sse"),
    ] {
        let toml = quietly(&format!(r#"{{"mcpServers": {{"a": {{"type": "{kind}", "url": "https://h"}}}}}}"#));
        assert!(toml.ends_with(&format!("transport = \"{ours}\"\n")), "{kind}: {toml}");
    }
    let said = faults(r#"{"mcpServers": {"a": {"type": "htpp", "url": "https://h"}}}"#);
    assert_eq!(said, ["f:1:31: server `a`: nobody knows the type `htpp`; did you mean `http`?"]);
}

#[test]
fn mcpo_denies_tools() {
    let text = r#"{"mcpServers": {"a": {"type": "streamable-http", "url": "https://h", "disabledTools": ["rm"]}}}"#;
    assert_eq!(quietly(text), "[servers.a]\nurl = \"https://h\"\ntransport = \"http\"\ntools.deny = [\"rm\"]\n");
}

#[test]
fn tbxark_wraps_it() {
    let text = r#"{"mcpProxy": {"baseURL": "https://x.example", "addr": ":9090", "name": "n", "version": "1", "type": "streamable-http",
            "options": {"logEnabled": true}},
        "mcpServers": {"gh": {"command": "gh", "options": {"toolFilter": {"mode": "block", "list": ["x"]}, "logEnabled": true}},
            "in": {"transportType": "stdio", "command": "in", "options": {"toolFilter": {"mode": "allow", "list": ["y"]}}}}}"#;
    let (toml, notes) = read(text);
    assert_eq!(
        toml,
        "listen = \":9090\"\npublic_url = \"https://x.example\"\n\n[servers.gh]\ncommand = \"gh\"\ntools.deny = [\"x\"]\n\n\
         [servers.in]\ncommand = \"in\"\ntools.allow = [\"y\"]\n"
    );
    assert!(notes.len() == 1 && notes[0].contains("127.0.0.1 here"), "{notes:?}");
}

#[test]
fn what_keeps_somebody_away_is_not_dropped_where_it_is_served() {
    let text =
        r#"{"mcpProxy": {"options": {"authTokens": ["t"]}}, "mcpServers": {"a": {"command": "a", "options": {"authTokens": ["u"]}}}}"#;
    let (_, notes) = read(text);
    assert_eq!(notes.len(), 2, "{notes:?}");
    let refused = Config::parse("f", text.into()).unwrap().to_be_served().unwrap_err();
    assert!(refused.brief().count() == 2 && !refused.to_string().contains("\"t\""), "{refused}");
}

#[test]
fn vs_code_asks_for_secrets() {
    let text = r#"// a comment
        {"inputs": [{"type": "promptString", "id": "gh-token", "description": "GitHub token", "password": true,}],
         "servers": {"gh": {"type": "stdio", "command": "gh", "env": {"T": "${input:gh-token}"}, "envFile": "${workspaceFolder}/.env"},
                     "r": {"type": "http", "url": "https://h", /* none */ "headers": {"W": "${workspaceFolder}"}},},}"#;
    let (toml, notes) = read(text);
    assert!(toml.contains("env = { T = \"${GH_TOKEN}\" }"), "{toml}");
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes
            .iter()
            .any(|n| n.contains("server `gh`: nobody is asked for `gh-token` (GitHub token): set the environment variable GH_TOKEN"))
    );
    assert!(notes.iter().any(|n| n.contains("server `gh`: `envFile` is left out")));
    assert!(notes.iter().any(|n| n.contains("server `r`: `W`: `${workspaceFolder}` means something to an editor only")));
    let settings = r#"{"editor.tabSize": 2, "mcp": {"servers": {"a": {"command": "x"}}}}"#;
    assert_eq!(quietly(settings), "[servers.a]\ncommand = \"x\"\n");
}

#[test]
fn zed_now_and_once() {
    let text = r#"{"theme": "One", "context_servers": {
        "new": {"source": "custom", "command": "x", "args": ["a"], "env": {"K": "V"}, "enabled": false},
        "old": {"command": {"path": "y", "args": ["b"], "env": {"K": "W"}}},
        "ext": {"source": "extension", "settings": {"k": "v"}}}}"#;
    let (toml, notes) = read(text);
    assert_eq!(
        toml,
        "[servers.new]\ncommand = \"x\"\nargs = [\"a\"]\nenv = { K = \"V\" }\ndisabled = true\n\n\
         [servers.old]\ncommand = \"y\"\nargs = [\"b\"]\nenv = { K = \"W\" }\n"
    );
    assert!(notes.len() == 1 && notes[0].contains("server `ext`: is left out: an extension of the editor"), "{notes:?}");
}

#[test]
fn codex_is_toml() {
    let text = r#"
        model = "o"
        [mcp_servers.docs]
        command = "npx"
        args = ["-y", "docs"]
        env = { A = "1" }
        env_vars = ["LOCAL"]
        startup_timeout_sec = 20
        [mcp_servers.api]
        url = "https://h/mcp"
        bearer_token_env_var = "TOKEN"
        http_headers = { X = "y" }
        env_http_headers = { Z = "ZED" }
        enabled_tools = ["a"]
        disabled_tools = ["b"]
        enabled = false
    "#;
    let (toml, notes) = read(text);
    assert_eq!(
        toml,
        "[servers.api]\nurl = \"https://h/mcp\"\nheaders = { Authorization = \"Bearer ${TOKEN}\", X = \"y\", Z = \"${ZED}\" }\n\
         tools.allow = [\"a\"]\ntools.deny = [\"b\"]\ndisabled = true\n\n\
         [servers.docs]\ncommand = \"npx\"\nargs = [\"-y\", \"docs\"]\nenv = { A = \"1\", LOCAL = \"${LOCAL}\" }\n"
    );
    assert_eq!(notes, ["f:3:22: server `docs`: `startup_timeout_sec` is left out: there is no such setting here"]);
}

#[test]
fn goose_is_yaml() {
    let text = "GOOSE_MODEL: x\nextensions:\n  memory:\n    type: stdio\n    enabled: true\n    name: Memory\n    cmd: npx\n    args:\n      - -y\n      \
                - memory\n    envs: {PORT: 80}\n    env_keys: [KEY]\n    available_tools: []\n  far:\n    type: streamable_http\n    \
                uri: https://h/mcp\n    headers:\n      X: y\n    envs: {}\n  developer:\n    type: builtin\n    name: developer\n";
    let (toml, notes) = read(text);
    assert_eq!(
        toml,
        "[servers.far]\nurl = \"https://h/mcp\"\nheaders = { X = \"y\" }\ntransport = \"http\"\n\n\
         [servers.memory]\ncommand = \"npx\"\nargs = [\"-y\", \"memory\"]\nenv = { KEY = \"${KEY}\", PORT = \"80\" }\n"
    );
    assert!(notes.len() == 1 && notes[0].contains("server `developer`: is left out: a server of type `builtin`"), "{notes:?}");
}

#[test]
fn librechat_is_yaml() {
    let text = "version: 1.2.8\nmcpServers:\n  a:\n    type: streamable-http\n    url: https://h/mcp\n    headers:\n      \
                X-User: \"{{LIBRECHAT_USER_ID}}\"\n      T: \"${T}\"\n    iconPath: /x\n  w:\n    type: websocket\n    url: wss://h\n";
    let (toml, notes) = read(text);
    assert_eq!(
        toml,
        "[servers.a]\nurl = \"https://h/mcp\"\nheaders = { T = \"${T}\", X-User = \"{{LIBRECHAT_USER_ID}}\" }\ntransport = \"http\"\n"
    );
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("server `w`: is left out: it speaks over websocket")));
}

#[test]
fn names_become_parts_of_urls() {
    let text = r#"{"mcpServers": {"My Server": {"command": "a"}, "My/Server": {"command": "b"}, "ä": {"command": "c"}, "ok-1": {"command": "d"}}}"#;
    let (toml, notes) = read(text);
    for name in ["My-Server", "My-Server-2", "server", "ok-1"] {
        assert!(toml.contains(&format!("[servers.{name}]")), "{toml}");
    }
    assert!(notes.len() == 3 && notes[0].contains("server `My Server`: is called `My-Server` here"), "{notes:?}");
}

#[test]
fn what_is_passed_on_as_it_is_is_noted() {
    let (toml, notes) = read(r#"{"mcpServers": {"a": {"command": "x", "args": ["--token", "${TOKEN}"], "headers": {"A": "b"}}}}"#);
    assert!(toml.contains("\"${TOKEN}\"") && !toml.contains("headers"), "{toml}");
    assert!(notes.iter().any(|n| n.contains("server `a`: `args` holds `${TOKEN}`")), "{notes:?}");
    assert!(notes.iter().any(|n| n.contains("server `a`: `headers` is left out")), "{notes:?}");
}

#[test]
fn what_is_both_is_what_its_type_says() {
    let both = |kind: &str| read(&format!(r#"{{"mcpServers": {{"a": {{"type": "{kind}", "command": "x", "url": "https://h"}}}}}}"#));
    assert!(both("sse").0.contains("url") && !both("sse").0.contains("command"));
    assert!(both("stdio").0.contains("command") && !both("stdio").0.contains("url") && both("stdio").1.len() == 1);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, said) in [
        (r#"{"mcpServers": {"a": {"args": []}}}"#, "f:1:17: server `a`: neither a `command` nor a `url`"),
        (r#"{"mcpServers": {"a": {"command": ["x"]}}}"#, "f:1:34: server `a`: `command` is a list, and must be a string"),
        (r#"{"mcpServers": {"a": "x"}}"#, "f:1:22: server `a`: is a string, and must be a table with a `command` or a `url`"),
        (r#"{"mcpServers": []}"#, "f:1:16: `mcpServers` is a list, and must be a table of servers by their names"),
        (
            r#"{"mcpServers": {"a": {"command": "x", "args": [{}]}}}"#,
            "f:1:48: server `a`: `args` is a list of strings, and this is a table",
        ),
    ] {
        assert_eq!(faults(text), [said], "{text}");
    }
    assert!(faults("{}")[0].contains("none of `mcpServers`"));
}

#[test]
fn a_file_that_leaves_no_server_is_not_served() {
    for text in [r#"{"mcpServers": {}}"#, r#"{"mcpServers": {"a": {"command": "x", "disabled": true}}}"#] {
        let config = Config::parse("f", text.into()).unwrap();
        assert!(config.to_be_served().unwrap_err().to_string().contains("no server is left"));
    }
}

#[test]
fn faults_of_the_check_are_at_their_place_too() {
    let text = r#"{"mcpServers": {"a": {"command": "x", "env": {"T": "${SURELY_NOT_SET_ANYWHERE}"}}, "b": {"serverUrl": "h"}}}"#;
    let said: Vec<String> = Config::parse("f", text.into()).unwrap().check().unwrap_err().brief().collect();
    assert!(said[0].starts_with("f:1:52: server `a`") && said[1].starts_with("f:1:103: server `b`"), "{said:?}");
}
