//! 2026-07-28: no handshake, every request describes itself, and the order in which its faults
//! are told is part of the protocol (basic/transports, "Error responses").

use serde_json::{Value, json};

use crate::gateway::{Gateway, meta, stateless_request};
use crate::wire::Response;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const LEVEL: &str = "io.modelcontextprotocol/logLevel";
const SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// A request that is right until something about it is changed.
#[derive(Clone)]
struct Ask {
    headers: Vec<(String, String)>,
    body: Value,
}

impl Ask {
    fn new(method: &str, params: Value) -> Ask {
        let (headers, body) = stateless_request(9, method, params);
        Ask { headers, body: serde_json::from_str(&body).unwrap() }
    }

    fn echo() -> Ask {
        Ask::new("tools/call", json!({"name": "echo", "arguments": {"message": "hi"}}))
    }

    /// One header more, also where there is one of that name.
    fn with(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Ask {
        self.headers.retain(|(n, _)| n != name);
        self
    }

    fn header(self, name: &str, value: &str) -> Ask {
        self.without(name).with(name, value)
    }

    /// A key of `_meta`; `null` takes it away.
    fn meta(mut self, key: &str, value: Value) -> Ask {
        let meta = self.body["params"]["_meta"].as_object_mut().unwrap();
        if value.is_null() {
            meta.remove(key)
        } else {
            meta.insert(key.into(), value)
        };
        self
    }

    fn without_meta(mut self) -> Ask {
        self.body["params"].as_object_mut().unwrap().remove("_meta");
        self
    }

    fn post(&self, gateway: &Gateway) -> Response {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        gateway.wire().post("/mcp", &headers, &self.body.to_string())
    }

    #[track_caller]
    fn is_refused(&self, gateway: &Gateway, what: &str, status: u16, code: i64) {
        let response = self.post(gateway);
        let said = response.json();
        assert_eq!((response.status, &said["error"]["code"], &said["id"]), (status, &json!(code), &json!(9)), "{what}: {said}");
        assert_eq!(response.header("mcp-session-id"), None);
    }

    #[track_caller]
    fn is_answered(&self, gateway: &Gateway, what: &str) -> Value {
        let response = self.post(gateway);
        assert_eq!((response.status, response.header("mcp-session-id")), (200, None), "{what}: {}", response.text());
        response.messages().pop().unwrap()
    }
}

// --- the order of faults ------------------------------------------------------------------------

#[test]
fn every_fault_has_its_status_and_its_code_and_carries_the_id() {
    let gateway = Gateway::start(&[]);
    let echo = Ask::echo;
    let unknown = |v: &str| echo().meta(VERSION, json!(v)).header("mcp-protocol-version", v);
    Ask::echo().is_answered(&gateway, "the request itself");
    for (what, ask, status, code) in [
        ("no `_meta`", echo().without_meta(), 400, -32602),
        ("no version in it", echo().meta(VERSION, json!(null)), 400, -32602),
        ("a version that is no string", echo().meta(VERSION, json!(20260728)), 400, -32602),
        ("no capabilities", echo().meta(CAPABILITIES, json!(null)), 400, -32602),
        ("capabilities that are no object", echo().meta(CAPABILITIES, json!([])), 400, -32602),
        ("a client that is no object", echo().meta(CLIENT, json!("me")), 400, -32602),
        ("`_meta` before headers", echo().meta(CAPABILITIES, json!(null)).without("mcp-method"), 400, -32602),
        ("no version header", echo().without("mcp-protocol-version"), 400, -32020),
        ("another version in the header", echo().header("mcp-protocol-version", "2025-11-25"), 400, -32020),
        ("no method header", echo().without("mcp-method"), 400, -32020),
        ("another method", echo().header("mcp-method", "tools/list"), 400, -32020),
        ("another case", echo().header("mcp-method", "Tools/Call"), 400, -32020),
        ("no name", echo().without("mcp-name"), 400, -32020),
        ("another name", echo().header("mcp-name", "add"), 400, -32020),
        ("a name in broken base64", echo().header("mcp-name", "=?base64?ZWNobw=?="), 400, -32020),
        ("another name in base64", echo().header("mcp-name", "=?base64?YWRk?="), 400, -32020),
        ("headers before the version", echo().meta(VERSION, json!("v999")), 400, -32020),
        ("an unknown version", unknown("v999"), 400, -32022),
        ("a version with a handshake", unknown("2025-11-25"), 400, -32022),
        (
            "the version before the method",
            {
                let mut ask = unknown("v999").header("mcp-method", "ping").without("mcp-name");
                ask.body["method"] = json!("ping");
                ask
            },
            400,
            -32022,
        ),
        ("a level that is none", echo().meta(LEVEL, json!("loud")), 400, -32602),
        ("a tool that is none", Ask::new("tools/call", json!({"name": "nobody"})), 400, -32602),
        ("no filter", Ask::new("subscriptions/listen", json!({})), 400, -32602),
        ("a filter that is no object", Ask::new("subscriptions/listen", json!({"notifications": []})), 400, -32602),
        ("a filter of numbers", Ask::new("subscriptions/listen", json!({"notifications": {"toolsListChanged": 1}})), 400, -32602),
        ("URIs that are none", Ask::new("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": [1]}})), 400, -32602),
        ("a method that is none", Ask::new("no/such", json!({})), 404, -32601),
    ] {
        ask.is_refused(&gateway, what, status, code);
    }
    let told = unknown("v999").post(&gateway).json();
    assert_eq!(told["error"]["data"], json!({"supported": ["2026-07-28"], "requested": "v999"}));
}

#[test]
fn what_the_revision_removed_is_not_found() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        for (method, params) in [
            ("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}})),
            ("ping", json!({})),
            ("logging/setLevel", json!({"level": "info"})),
            ("resources/subscribe", json!({"uri": "demo://counter"})),
            ("resources/unsubscribe", json!({"uri": "demo://counter"})),
            ("tasks/list", json!({})),
            ("sampling/createMessage", json!({})),
        ] {
            Ask::new(method, params).is_refused(&gateway, method, 404, -32601);
        }
    }
}

#[test]
fn headers_are_read_as_http_has_it() {
    let gateway = Gateway::start(&[]);
    for (what, ask) in [
        ("space around a value", Ask::echo().header("mcp-name", "  echo \t")),
        ("a name in base64", Ask::echo().header("mcp-name", "=?base64?ZWNobw==?=")),
        ("names in any case", Ask::echo().without("mcp-method").with("MCP-METHOD", "tools/call")),
        ("no client info", Ask::echo().meta(CLIENT, json!(null))),
        ("a session id of somebody", Ask::echo().with("mcp-session-id", "0123456789abcdef0123456789abcdef")),
        ("a parameter nobody mirrors", Ask::echo().with("mcp-param-shade", "green")),
    ] {
        assert_eq!(ask.is_answered(&gateway, what)["result"]["content"][0]["text"], "hi", "{what}");
    }
    for (name, value) in [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "echo")] {
        Ask::echo().with(name, value).is_refused(&gateway, "the same header twice", 400, -32020);
    }
}

#[test]
fn only_single_requests_and_notifications_have_a_place() {
    let gateway = Gateway::start(&[]);
    let session = [("mcp-protocol-version", "2026-07-28")];
    let post = |body: &Value| gateway.wire().post("/mcp", &session, &body.to_string());
    let batch = json!([Ask::echo().body]);
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    for body in [batch, json!([]), response] {
        let said = post(&body);
        assert_eq!((said.status, &said.json()["error"]["code"]), (400, &json!(-32600)), "{body}");
    }
    let note = post(&json!({"jsonrpc": "2.0", "method": "notifications/anything", "params": {"_meta": meta()}}));
    assert_eq!((note.status, note.body.len()), (202, 0));
    for method in ["GET", "DELETE"] {
        let headers = [("mcp-protocol-version", "2026-07-28"), ("accept", "text/event-stream")];
        assert_eq!(gateway.wire().request(method, "/mcp", &headers, None).status, 405, "{method}");
    }
}

// --- mirrored parameters ------------------------------------------------------------------------

#[test]
fn a_mirrored_parameter_must_agree_with_the_body() {
    let demo = Gateway::start(&[]);
    let query = |arguments: Value| Ask::new("tools/call", json!({"name": "query_region", "arguments": arguments}));
    let eu = || query(json!({"region": "eu"}));
    for (what, ask, good) in [
        ("it is there", eu().with("mcp-param-region", "eu"), true),
        ("in base64", eu().with("Mcp-Param-Region", "=?base64?ZXU=?="), true),
        ("what needs base64", query(json!({"region": "Hello, 世界"})).with("mcp-param-region", "=?base64?SGVsbG8sIOS4lueVjA==?="), true),
        (
            "a marker in the wrong case is a value",
            query(json!({"region": "=?BASE64?ZXU=?="})).with("mcp-param-region", "=?BASE64?ZXU=?="),
            true,
        ),
        ("no value, no header", query(json!({})), true),
        ("null, no header", query(json!({"region": null})), true),
        ("missing", eu(), false),
        ("another value", eu().with("mcp-param-region", "us"), false),
        ("another case", eu().with("mcp-param-region", "EU"), false),
        ("broken base64", eu().with("mcp-param-region", "=?base64?ZXU?="), false),
        ("a broken alphabet", eu().with("mcp-param-region", "=?base64?Z!U=?="), false),
        ("twice", eu().with("mcp-param-region", "eu").with("mcp-param-region", "eu"), false),
        ("not wanted", query(json!({})).with("mcp-param-region", "eu"), false),
        ("not wanted for null", query(json!({"region": null})).with("mcp-param-region", "eu"), false),
    ] {
        match good {
            true => assert!(ask.is_answered(&demo, what)["result"].is_object()),
            false => ask.is_refused(&demo, what, 400, -32020),
        }
    }
}

#[test]
fn numbers_and_booleans_are_mirrored_too() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let ask = |priority: &str, verbose: &str| {
            Ask::new("tools/call", json!({"name": "test_custom_header", "arguments": {"region": "eu", "priority": 42, "verbose": true}}))
                .with("mcp-param-region", "eu")
                .with("mcp-param-priority", priority)
                .with("mcp-param-verbose", verbose)
        };
        ask("42", "true").is_answered(&gateway, mode);
        ask("42.0", "true").is_answered(&gateway, mode);
        ask("41", "true").is_refused(&gateway, mode, 400, -32020);
        ask("42", "True").is_refused(&gateway, mode, 400, -32020);
        ask("42", "true").without("mcp-param-priority").is_refused(&gateway, mode, 400, -32020);
    }
}

#[test]
fn a_mirrored_parameter_cannot_be_hidden_by_a_second_one() {
    let gateway = Gateway::start(&[]);
    let ask = Ask::new("tools/call", json!({"name": "query_region", "arguments": {"region": "eu"}}));
    let body = ask.body.to_string().replace(r#"{"region":"eu"}"#, r#"{"region":"eu","region":"us"}"#);
    for extra in [None, Some("eu"), Some("us")] {
        let mut headers: Vec<(&str, &str)> = ask.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        headers.extend(extra.map(|value| ("mcp-param-region", value)));
        let said = gateway.wire().post("/mcp", &headers, &body);
        assert_eq!((said.status, &said.json()["id"]), (400, &json!(9)), "{extra:?}: {}", said.text());
    }
}

// --- results ------------------------------------------------------------------------------------

#[test]
fn discover_says_what_the_gateway_serves() {
    for (gateway, name) in [
        (Gateway::start(&[]), "landbridge-demo"),
        (Gateway::fixture(&[], &["legacy"]), "mcp-fixture"),
        (Gateway::fixture(&[], &["modern"]), "mcp-fixture"),
    ] {
        let said = &Ask::new("server/discover", json!({})).is_answered(&gateway, name)["result"];
        assert_eq!((&said["resultType"], &said["supportedVersions"][0]), (&json!("complete"), &json!("2026-07-28")), "{said}");
        assert!(said["capabilities"]["tools"]["listChanged"] == true && said["instructions"].is_string());
        assert!(said["ttlMs"].as_u64().is_some() && ["public", "private"].contains(&said["cacheScope"].as_str().unwrap()));
        assert_eq!(said["_meta"][SERVER]["name"], name);
    }
}

#[test]
fn a_cacheable_result_says_for_how_long() {
    let (demo, legacy, modern) = (Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"]));
    for (method, hints) in [
        ("tools/list", (300_000, "public")),
        ("prompts/list", (240_000, "public")),
        ("resources/list", (120_000, "private")),
        ("resources/templates/list", (60_000, "public")),
        ("resources/read", (5_000, "private")),
    ] {
        for (gateway, uri, (ttl, scope)) in [
            (&demo, "demo://readme", (0, "private")),
            (&legacy, landbridge_fixtures::STATIC_TEXT_URI, (0, "private")),
            (&modern, landbridge_fixtures::STATIC_TEXT_URI, hints),
        ] {
            let params = if method == "resources/read" { json!({"uri": uri}) } else { json!({}) };
            let said = &Ask::new(method, params).is_answered(gateway, method)["result"];
            assert_eq!(
                (&said["ttlMs"], &said["cacheScope"], &said["resultType"]),
                (&json!(ttl), &json!(scope), &json!("complete")),
                "{method}"
            );
        }
    }
    let plain = &Ask::echo().is_answered(&legacy, "no list")["result"];
    assert!(plain.get("ttlMs").is_none() && plain.get("cacheScope").is_none());
}

#[test]
fn results_cross_between_the_eras_in_both_directions() {
    let legacy = Gateway::fixture(&[], &["legacy"]);
    let said = &Ask::echo().is_answered(&legacy, "a handshake server")["result"];
    assert_eq!((&said["resultType"], &said["_meta"][SERVER]["name"]), (&json!("complete"), &json!("mcp-fixture")));
    let modern = Gateway::fixture(&[], &["modern"]);
    let session = modern.session("2025-11-25");
    assert_eq!(session.hello["result"]["serverInfo"]["name"], "mcp-fixture");
    assert_eq!(session.hello["result"]["instructions"], landbridge_fixtures::INSTRUCTIONS);
    for said in [session.tool(2, "echo", json!({"message": "x"})), session.call(3, "tools/list", json!({})), session.hello.clone()] {
        let keys: Vec<&String> = said["result"].as_object().unwrap().keys().collect();
        assert!(
            keys.iter().all(|k| !["resultType", "ttlMs", "cacheScope", "_meta", "supportedVersions"].contains(&k.as_str())),
            "{keys:?}"
        );
    }
}

#[test]
fn a_missing_resource_is_named() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        let ask = Ask::new("resources/read", json!({"uri": "no://where"}));
        ask.is_refused(&gateway, "no such resource", 400, -32602);
        assert_eq!(ask.post(&gateway).json()["error"]["data"]["uri"], "no://where");
    }
}

#[test]
fn progress_and_logs_come_only_if_asked_for() {
    for (gateway, logs) in [
        (Gateway::start(&[]), "log"),
        (Gateway::fixture(&[], &["legacy"]), "test_logging_tool"),
        (Gateway::fixture(&[], &["modern"]), "test_logging_tool"),
    ] {
        let slow = || Ask::new("tools/call", json!({"name": "slow", "arguments": {"steps": 2, "delay_ms": 10}}));
        assert!(!slow().post(&gateway).is_stream());
        let said = slow().meta("progressToken", json!("täken")).post(&gateway).messages();
        let steps: Vec<&Value> = said.iter().filter(|m| m["method"] == "notifications/progress").map(|m| &m["params"]).collect();
        assert_eq!(steps.iter().map(|p| p["progress"].as_f64().unwrap()).collect::<Vec<_>>(), [1.0, 2.0]);
        assert!(steps.iter().all(|p| p["progressToken"] == "täken"));
        for (level, heard) in [(Value::Null, 0), (json!("error"), 0), (json!("info"), 1)] {
            let said = Ask::new("tools/call", json!({"name": logs})).meta(LEVEL, level.clone()).post(&gateway).messages();
            assert_eq!(said.len(), 1 + heard, "{level}: {said:?}");
            assert!(heard == 0 || said[0]["params"]["level"] == "info");
        }
    }
}
