//! Rows S2: tools, resources and prompts, and who may use them on what.

use image::ImageFormat;
use serde_json::{Value, json};

use crate::app::{App, Client};
use crate::content::{ACID, ACME, ADA, BOB, KEYS, b64, path_of, picture, start};

const TOOLS: [&str; 14] = [
    "batch_get_details",
    "batch_upload",
    "delete_content",
    "download_content",
    "get_content",
    "get_content_details",
    "get_content_status",
    "get_thumbnails",
    "list_by_status",
    "list_content",
    "list_derived_content",
    "search_content",
    "update_content",
    "upload_content",
];

const NOBODYS: &str = "00000000-0000-4000-8000-000000000000";

fn both(app: &App) -> [Client; 2] {
    [app.sse("/sse", &[]), app.http("/mcp", &[])]
}

#[test]
fn s2_36_there_are_exactly_the_fourteen_tools() {
    let app = start(&[]);
    for mut client in both(&app) {
        let mut tools = client.tools();
        tools.sort();
        assert_eq!(tools, TOOLS);
        let listed = client.ask("tools/list", json!({}));
        for tool in listed["result"]["tools"].as_array().unwrap() {
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
            assert!(tool["description"].as_str().is_some_and(|about| about.len() > 10), "{tool}");
            assert!(tool["annotations"]["readOnlyHint"].is_boolean(), "{tool}");
        }
        let upload = listed["result"]["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "upload_content").unwrap();
        assert_eq!(upload["inputSchema"]["required"], json!(["owner_id", "name", "data"]));
        assert_eq!(upload["inputSchema"]["properties"]["owner_id"]["format"], "uuid");
    }
}

#[test]
fn s2_25_an_answer_is_one_text_of_json() {
    let app = start(&[]);
    let result = app.sse("/sse", &[]).call("upload_content", json!({"owner_id": ADA, "name": "example.txt", "data": "SGVsbG8gV29ybGQ="}));
    let content = result["content"].as_array().unwrap();
    assert_eq!((content.len(), &content[0]["type"]), (1, &json!("text")));
    let told: Value = serde_json::from_str(content[0]["text"].as_str().unwrap()).unwrap();
    assert_eq!((told["status"].as_str(), told["id"].as_str().map(str::len)), (Some("uploaded"), Some(36)));
}

#[test]
fn s2_36_upload_content() {
    let app = start(&[]);
    for mut client in both(&app) {
        let told = client.json(
            "upload_content",
            json!({"owner_id": ADA.to_uppercase(), "tenant_id": ACME, "name": " a name ", "data": "aGVsbG8", "description": "about",
                   "document_type": "text/plain", "storage_backend": "default", "file_name": "a.txt", "tags": ["a", "b", "a"],
                   "metadata": {"k": [1, {"deep": null}]}}),
        );
        assert!(told["created_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let details = client.json("get_content_details", json!({"content_id": told["id"]}));
        assert_eq!(
            (&details["file_name"], &details["file_size"], &details["mime_type"]),
            (&json!("a.txt"), &json!(5), &json!("text/plain"))
        );
        assert_eq!((&details["tags"], &details["metadata"]), (&json!(["a", "b"]), &json!({"k": [1, {"deep": null}]})));
        assert_eq!(details["checksum"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        for (change, field) in [
            (json!({"owner_id": "ada"}), "owner_id"),
            (json!({"owner_id": ADA.replace('-', "")}), "owner_id"),
            (json!({"tenant_id": "x"}), "tenant_id"),
            (json!({"name": "  "}), "name"),
            (json!({"name": "n".repeat(9000)}), "name"),
            (json!({"name": "n\u{0}"}), "name"),
            (json!({"data": ""}), "data"),
            (json!({"data": "%%%"}), "data"),
            (json!({"document_type": "x\r\ny: z"}), "document_type"),
            (json!({"tags": [""]}), "tags"),
            (json!({"tags": (0..100).map(|n| n.to_string()).collect::<Vec<_>>()}), "tags"),
            (json!({"metadata": {"k": "v".repeat(70_000)}}), "metadata"),
        ] {
            let mut arguments = json!({"owner_id": ADA, "name": "n", "data": "eA=="});
            arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let said = client.fails("upload_content", arguments);
            assert!(said.starts_with(&format!("invalid parameter '{field}': validation error: ")), "{field}: {said}");
        }
        for wrong in [
            json!({}),
            json!({"owner_id": ADA, "name": 7, "data": "eA=="}),
            json!({"owner_id": ADA, "name": "n", "data": "eA==", "tags": "t"}),
        ] {
            let answer = client.call("upload_content", wrong);
            assert!(answer["code"] == -32602 || answer["isError"] == true, "{answer}");
        }
    }
}

#[test]
fn s2_40_the_documents_arguments_are_taken() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let told = client.json(
        "upload_content",
        json!({"owner_id": "550e8400-e29b-41d4-a716-446655440000", "name": "example.txt", "data": "SGVsbG8gV29ybGQ=", "tags": ["example"]}),
    );
    let got = client.json("download_content", json!({"content_id": told["id"], "format": "base64"}));
    assert_eq!((&got["data"], &got["mime_type"]), (&json!("SGVsbG8gV29ybGQ="), &json!("application/octet-stream")));
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "tags": ["example"]})), ["example.txt"]);
}

#[test]
fn s2_40_a_content_may_be_as_long_as_a_message_can_hold() {
    let app = start(&[]);
    for mut client in both(&app) {
        let id = client.upload("large", vec![7; 20_000_000]);
        assert_eq!(client.json("get_content_details", json!({"content_id": id}))["file_size"], 20_000_000);
    }
    let more = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "upload_content",
        "arguments": {"owner_id": ADA, "name": "larger", "data": "A".repeat(33 * 1024 * 1024)}}});
    assert_eq!(app.post("/mcp", &more).status, 413);
}

#[test]
fn s2_36_get_content() {
    let app = start(&[]);
    for mut client in both(&app) {
        let id = client.upload("n", "x");
        let told = client.json("get_content", json!({"content_id": id}));
        assert_eq!(
            (&told["id"], &told["owner_id"], &told["name"], &told["status"]),
            (&json!(id), &json!(ADA), &json!("n"), &json!("uploaded"))
        );
        assert_eq!(client.fails("get_content", json!({"content_id": NOBODYS})), format!("content not found: {NOBODYS}"));
        assert!(client.fails("get_content", json!({"content_id": "' OR 1=1 --"})).contains("is no UUID"));
    }
}

#[test]
fn s2_36_get_content_details() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("kitten.png", picture(ImageFormat::Png, 1200, 600));
    let is_made = |told: &Value| told["preview"].is_string();
    let told = client.until("get_content_details", json!({"content_id": id, "include_upload_url": true}), is_made);
    let sizes: Vec<&String> = told["thumbnails"].as_object().unwrap().keys().collect();
    assert_eq!(sizes.len(), 6, "{sizes:?}");
    assert_eq!((&told["ready"], &told["transcodes"]), (&json!(true), &json!({})));
    let shown = app.get(path_of(&told["thumbnail"]));
    assert_eq!((shown.status, shown.header("content-type")), (200, Some("image/jpeg")));
    assert!(told["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now());
    assert!(told.get("upload").is_none() && told["upload_note"].is_string(), "there is nothing to upload");
}

#[test]
fn s2_36_list_content() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    for (name, tags) in [("one", json!(["x", "y"])), ("two", json!(["x"])), ("three", json!([]))] {
        client.json("upload_content", json!({"owner_id": ADA, "tenant_id": ACME, "name": name, "data": "eA==", "tags": tags}));
    }
    client.json("upload_content", json!({"owner_id": BOB, "name": "bob's", "data": "eA=="}));
    assert_eq!(client.names("list_content", json!({"owner_id": ADA})), ["one", "three", "two"]);
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "tags": ["x"]})), ["one", "two"]);
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "tags": ["x", "y"]})), ["one"]);
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "tenant_id": ACID})).len(), 0);
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "status": "failed"})).len(), 0);
    assert!(client.fails("list_content", json!({"owner_id": ADA, "status": "lost"})).contains("none of created, uploading"));
    let page = client.json("list_content", json!({"owner_id": ADA, "limit": 1, "offset": 1}));
    assert_eq!((&page["items"][0]["name"], &page["total"], &page["offset"]), (&json!("two"), &json!(3), &json!(1)));
}

#[test]
fn s2_36_download_content() {
    let app = start(&[]);
    for mut client in both(&app) {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let id = client.upload("größe \"1\".bin", &bytes);
        let told = client.json("download_content", json!({"content_id": id, "format": "base64"}));
        assert_eq!((told["data"] == b64(&bytes), &told["size"]), (true, &json!(3_000_000)));
        let told = client.json("download_content", json!({"content_id": id}));
        let path = path_of(&told["download_url"]);
        assert!(
            told["download_url"].as_str().unwrap().starts_with(&format!("http://127.0.0.1:{}/contents/{id}/download?expires=", app.port))
        );
        let got = app.get(path);
        assert_eq!((got.status, got.body == bytes), (200, true));
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
        assert!(
            got.header("content-disposition").unwrap().starts_with("attachment; filename=\"gr"),
            "{:?}",
            got.header("content-disposition")
        );
        assert!(client.fails("download_content", json!({"content_id": id, "format": "tape"})).contains("neither url nor base64"));

        let (before, signature) = path.rsplit_once('=').unwrap();
        let flipped = if signature.starts_with('0') { "1" } else { "0" };
        let expires = before.split("expires=").nth(1).unwrap().split('&').next().unwrap();
        let other = client.upload("other", "x");
        for forged in [
            format!("{before}={flipped}{}", &signature[1..]),
            format!("{before}="),
            format!("{before}={signature}00"),
            path.replace(expires, &(expires.parse::<i64>().unwrap() + 1).to_string()),
            path.replace(expires, "1"),
            path.replace(&id, &other),
            path.replace("/download", "/upload"),
        ] {
            let refused = app.get(&forged);
            assert!(matches!(refused.status, 403 | 405), "{forged}: {}", refused.status);
        }
        for broken in
            [format!("/contents/{id}/download"), format!("/contents/{id}/download?expires=x&signature=y"), "/contents/../x".into()]
        {
            assert!((400..500).contains(&app.get(&broken).status), "{broken}");
        }
        client.json("delete_content", json!({"content_id": id}));
        assert_eq!(app.get(path).status, 404, "what is deleted is gone");
    }
}

#[test]
fn s2_36_update_content() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let told = client.json(
        "upload_content",
        json!({"owner_id": ADA, "name": "n", "data": b64("words within"), "document_type": "text/plain", "tags": ["a"], "metadata": {"kept": 1, "gone": 2}}),
    );
    let id = told["id"].clone();
    let changed = client.json("update_content", json!({"content_id": id, "tags": ["b"], "metadata": {"gone": null, "new": "zebra"}}));
    assert_eq!(changed["success"], true);
    let details = client.json("get_content_details", json!({"content_id": id}));
    assert_eq!((&details["tags"], &details["metadata"]), (&json!(["b"]), &json!({"kept": 1, "new": "zebra"})));
    assert_eq!((&details["file_size"], &details["file_name"]), (&json!(12), &json!("n")), "nothing else is wiped");
    client.json("update_content", json!({"content_id": id, "name": "renamed"}));
    for query in ["renamed", "zebra", "within"] {
        assert_eq!(client.names("search_content", json!({"query": query})), ["renamed"], "{query}");
    }
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "tags": ["a"]})).len(), 0);
    assert!(client.fails("update_content", json!({"content_id": id, "name": ""})).contains("'name'"));
}

#[test]
fn s2_36_delete_content() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("kitten.png", picture(ImageFormat::Png, 40, 40));
    client.until("get_content_status", json!({"content_id": id}), |told| told["has_previews"] == true);
    let derived = client.json("list_derived_content", json!({"parent_id": id}))["items"][0]["content_id"].clone();
    let told = client.json("delete_content", json!({"content_id": id}));
    assert!(told["success"] == true && told["deleted_at"].is_string());
    for gone in [json!(id), derived] {
        assert!(client.fails("get_content", json!({"content_id": gone})).contains("not found"));
    }
    assert!(client.fails("delete_content", json!({"content_id": id})).contains("not found"));
    assert_eq!(client.json("list_content", json!({"owner_id": ADA}))["total"], 0);
    assert_eq!(client.json("search_content", json!({"query": "kitten"}))["total"], 0);
}

#[test]
fn s2_36_what_is_deleted_while_its_pictures_are_made_leaves_none() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    for wait_ms in [0, 20, 60, 150] {
        let id = client.upload("kitten.png", picture(ImageFormat::Png, 900, 900));
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        client.json("delete_content", json!({"content_id": id}));
    }
    // Once another one is done, so are they.
    let last = client.upload("last.png", picture(ImageFormat::Png, 20, 20));
    client.until("get_content_status", json!({"content_id": last}), |told| told["has_previews"] == true);
    assert_eq!(client.json("list_by_status", json!({"status": "processed"}))["count"], 7);
    assert_eq!(client.json("list_by_status", json!({"status": "processing"}))["count"], 0);
}

#[test]
fn s2_36_search_content() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let mut add = |name: &str, rest: Value| {
        let mut arguments = json!({"owner_id": ADA, "name": name, "data": "eA=="});
        arguments.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        client.json("upload_content", arguments)
    };
    add("Quarterly report", json!({"description": "Numbers of spring", "tags": ["finance"], "metadata": {"author": "Grace Hopper"}}));
    let early =
        add("Straße.txt", json!({"data": b64("the quick brown fox"), "document_type": "text/plain", "tags": ["finance", "street"]}));
    add("binary", json!({"data": b64("the quick brown fox")}));
    for (query, found) in [
        (json!({"query": "report"}), &["Quarterly report"][..]),
        (json!({"query": "REP num"}), &["Quarterly report"]),
        (json!({"query": "hopper"}), &["Quarterly report"]),
        (json!({"query": "finance"}), &["Quarterly report", "Straße.txt"]),
        (json!({"query": "straße"}), &["Straße.txt"]),
        (json!({"query": "quick fox"}), &["Straße.txt"]),
        (json!({"query": "quick dog"}), &[]),
        (json!({"tags": ["finance", "street"]}), &["Straße.txt"]),
        (json!({"tags": ["finance"], "query": "numbers"}), &["Quarterly report"]),
        (json!({"status": ["failed", "created"]}), &[]),
        (json!({"status": ["uploaded"], "owner_id": ADA}), &["Quarterly report", "Straße.txt", "binary"]),
        (json!({"owner_id": BOB}), &[]),
        (json!({"created_after": "2020-01-01T00:00:00Z", "query": "binary"}), &["binary"]),
        (json!({"created_before": early["created_at"]}), &["Quarterly report"]),
        (json!({"query": "NEAR(\"quick\" OR * AND - fox)"}), &[]),
        (json!({}), &["Quarterly report", "Straße.txt", "binary"]),
    ] {
        assert_eq!(client.names("search_content", query.clone()), found, "{query}");
    }
    for (bad, field) in [
        (json!({"query": "\"*()"}), "query"),
        (json!({"query": "w ".repeat(40)}), "query"),
        (json!({"created_after": "yesterday"}), "created_after"),
        (json!({"status": ["lost"]}), "status"),
        (json!({"limit": 100_000}), "limit"),
    ] {
        assert!(client.fails("search_content", bad.clone()).contains(&format!("'{field}'")), "{bad}");
    }
}

/// What a search must take for words, or refuse, whatever it is to the database: nothing of it fails within.
pub const HOSTILE: [&str; 41] = [
    "\"",
    "'",
    "\\",
    "%",
    "_",
    "*",
    "-",
    "--",
    ";",
    ":",
    "(",
    ")",
    "{",
    "^",
    "a*",
    "a OR",
    "OR a",
    "AND",
    "NOT",
    "NOT a",
    "a NOT b",
    "NEAR(a b, 5)",
    "name:a",
    "words : a",
    "{words} : a",
    "^a",
    "\"unclosed",
    "a\" OR \"b",
    "a:*",
    "a & !b",
    "a <-> b",
    "a | b",
    "!a",
    "'a':B",
    "'; DROP TABLE content; --",
    "a\u{0}b",
    "\u{fb01} \u{130}stanbul \u{df}",
    "\u{200b}\u{202e}a",
    "\u{24b6} \u{b2} \u{2160}",
    "e\u{301}",
    "\u{1f600}a",
];

#[test]
fn s2_36_a_search_has_no_syntax() {
    let app = start(&[]);
    hostile_searches(&mut app.sse("/sse", &[]));
}

pub fn hostile_searches(client: &mut Client) {
    for query in HOSTILE {
        let found = client.json(
            "upload_content",
            json!({"owner_id": ADA, "name": format!("x {query} x").replace('\0', " "), "data": "eA==",
            "description": query.replace('\0', " "), "metadata": {"said": query.replace('\0', " ")}}),
        );
        let result = client.call("search_content", json!({"query": query}));
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{query:?}: {result}"));
        if result["isError"] == true {
            assert!(text.starts_with("invalid parameter 'query'"), "{query:?}: {text}");
            assert!(!query.chars().any(|c| c.is_ascii_alphanumeric()), "{query:?}: {text}");
            continue;
        }
        // Where it has a word of letters and digits, what it is written in is found by it.
        let told: Value = serde_json::from_str(text).unwrap();
        if query.chars().any(|c| c.is_ascii_alphanumeric()) {
            let ids: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
            assert!(ids.contains(&&found["id"]), "{query:?}: {told}");
        }
    }
    assert_eq!(client.json("search_content", json!({"query": "x"}))["total"], HOSTILE.len());
    for wild in ["%", "_", "100%", "a_b"] {
        assert!(client.call("list_content", json!({"owner_id": ADA, "tags": [wild]}))["isError"] != true);
        assert_eq!(client.json("list_content", json!({"owner_id": ADA, "tags": [wild]}))["total"], 0, "{wild}: a tag is no pattern");
    }
}

/// What is too much, of the wrong kind, or nonsense: an error in words, at once, and nobody else notices.
#[test]
fn s2_36_hostile_arguments_get_an_error_in_words() {
    let app = start(&[]);
    let mut client = app.http("/mcp", &[]);
    let id = client.upload("n", "x");
    let many = |n: usize| (0..n).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let huge = "z".repeat(100_000);
    for (tool, arguments, why) in [
        ("list_content", json!({"owner_id": ADA, "tags": many(5000)}), "'tags'"),
        ("list_content", json!({"owner_id": ADA, "tags": [""]}), "'tags'"),
        ("list_content", json!({"owner_id": ADA, "status": huge}), "'status'"),
        ("list_content", json!({"owner_id": huge}), "'owner_id'"),
        ("list_content", json!({"owner_id": format!("{{{}}}", &ADA[..34])}), "'owner_id'"),
        ("list_content", json!({"owner_id": ADA, "limit": 0}), "'limit'"),
        ("list_content", json!({"owner_id": ADA, "limit": i64::MAX}), "'limit'"),
        ("list_content", json!({"owner_id": ADA, "offset": i64::MIN}), "'offset'"),
        ("search_content", json!({"tags": many(5000)}), "'tags'"),
        ("search_content", json!({"status": vec!["lost"; 50_000]}), "'status'"),
        ("search_content", json!({"created_after": huge}), "'created_after'"),
        ("search_content", json!({"created_before": "2026-02-30T00:00:00Z"}), "'created_before'"),
        ("search_content", json!({"query": huge}), "'query'"),
        ("list_derived_content", json!({"parent_id": id, "variants": many(40_000)}), "'variants'"),
        ("get_thumbnails", json!({"parent_id": id, "sizes": (0..40_000).collect::<Vec<_>>()}), "'sizes'"),
        ("download_content", json!({"content_id": id, "format": huge}), "'format'"),
        ("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA==", "tags": ["t".repeat(300)]}), "'tags'"),
        ("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA==", "storage_backend": huge}), "'storage_backend'"),
        ("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA==", "storage_backend": "../../etc"}), "'storage_backend'"),
        ("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA==", "document_type": huge}), "'document_type'"),
        (
            "upload_content",
            json!({"owner_id": ADA, "name": "n", "data": "eA==", "document_type": "text/html\r\nSet-Cookie: a=b"}),
            "'document_type'",
        ),
        ("upload_content", json!({"owner_id": ADA, "name": "n", "data": "data:text/plain;base64,eA=="}), "'data'"),
        ("update_content", json!({"content_id": id, "metadata": {"k\u{0}": 1}}), "'metadata'"),
        ("batch_get_details", json!({"content_ids": vec!["x"; 5000]}), "'content_ids'"),
        ("list_by_status", json!({"status": "UPLOADED"}), "'status'"),
    ] {
        let said = client.fails(tool, arguments);
        assert!(said.starts_with("invalid parameter ") && said.contains(why) && said.len() < 500, "{tool}: {said}");
    }
    for (tool, arguments) in [
        ("list_content", json!({"owner_id": ADA, "limit": "5"})),
        ("list_content", json!({"owner_id": ADA, "limit": 1.5})),
        ("list_content", json!({"owner_id": ADA, "limit": 1e300})),
        ("list_content", json!({"owner_id": ADA, "limit": [1]})),
        ("list_content", json!({"owner_id": {"$ne": null}})),
        ("get_content", json!({"content_id": 7})),
        ("get_content", json!({"content_id": null})),
        ("get_content", json!([])),
        ("get_content", json!("id")),
        ("get_thumbnails", json!({"parent_id": id, "sizes": [-1]})),
        ("get_thumbnails", json!({"parent_id": id, "sizes": [4294967296_u64]})),
        ("update_content", json!({"content_id": id, "metadata": []})),
        ("update_content", json!({"content_id": id, "tags": {"a": 1}})),
        ("batch_upload", json!({"owner_id": ADA, "items": {"name": "n"}})),
        ("batch_upload", json!({"owner_id": ADA, "items": [7]})),
        ("batch_get_details", json!({"content_ids": [null]})),
    ] {
        let answer = client.call(tool, arguments.clone());
        let said = answer["message"].as_str().or(answer["content"][0]["text"].as_str()).unwrap_or_default();
        assert!((answer["code"].is_i64() || answer["isError"] == true) && !said.is_empty(), "{tool} {arguments}: {answer}");
    }
    // What serde could not even read as JSON: each is answered, and soon.
    for arguments in [
        format!(r#"{{"owner_id":"{ADA}","limit":1e400}}"#),
        format!(r#"{{"owner_id":"{ADA}","limit":99999999999999999999999}}"#),
        format!(r#"{{"owner_id":"{ADA}","tags":["\ud800"]}}"#),
        format!(r#"{{"owner_id":"{ADA}","x":{}{}}}"#, "[".repeat(200), "]".repeat(200)),
        format!(r#"{{"owner_id":"{ADA}","owner_id":"{BOB}"}}"#),
    ] {
        let message =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"list_content","arguments":{arguments}}}}}"#);
        let began = std::time::Instant::now();
        let answer = app.wire().post("/mcp", &[], &message);
        assert!(matches!(answer.status, 200 | 400), "{arguments}: {} {}", answer.status, answer.text());
        let said = answer.json();
        assert!(said["error"]["code"].is_i64() || said["result"].is_object(), "{arguments}: {said}");
        assert!(began.elapsed() < std::time::Duration::from_secs(5), "{arguments}");
    }
    assert_eq!(client.json("get_content", json!({"content_id": id}))["name"], "n");
}

#[test]
fn s2_36_changes_of_one_content_at_once_leave_it_whole() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("n", "x");
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (app, id) = (&app, &id);
            scope.spawn(move || {
                let mut client = app.http("/mcp", &[]);
                for n in 0..15 {
                    let key = format!("k{thread}");
                    let changed = json!({"content_id": id, "metadata": {key: n}, "tags": [format!("t{thread}")]});
                    assert_eq!(client.json("update_content", changed)["success"], true);
                }
            });
        }
    });
    let told = client.json("get_content_details", json!({"content_id": id}));
    let expected: Value = (0..6).map(|thread| (format!("k{thread}"), json!(14))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(told["metadata"], expected, "nobody's change is lost");
    let tag = told["tags"][0].as_str().unwrap();
    assert_eq!(told["tags"].as_array().unwrap().len(), 1);
    for thread in 0..6 {
        let found = client.json("list_content", json!({"owner_id": ADA, "tags": [format!("t{thread}")]}))["total"].clone();
        assert_eq!(found == 1, tag == format!("t{thread}"), "what it is found by is what it has");
    }
    // Deleted by several at once, it is deleted once.
    let told: Vec<Value> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| app.http("/mcp", &[]).call("delete_content", json!({"content_id": id})))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(told.iter().filter(|told| told["isError"] != true).count(), 1, "{told:?}");
    assert!(
        told.iter().filter(|told| told["isError"] == true).all(|told| told["content"][0]["text"].as_str().unwrap().contains("not found"))
    );
}

#[test]
fn s2_36_list_derived_content() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("kitten.gif", picture(ImageFormat::Gif, 50, 30));
    let told = client.until("list_derived_content", json!({"parent_id": id}), |told| {
        told["items"].as_array().unwrap().iter().filter(|item| item["status"] == "processed").count() == 7
    });
    let item = &told["items"][0];
    assert_eq!((&item["parent_id"], &told["count"], &told["limit"]), (&json!(id), &json!(7), &json!(50)));
    assert!(item["download_url"].is_string() && item["document_type"].as_str().unwrap().starts_with("image/"));
    let of = |filter: Value, client: &mut Client| {
        let mut arguments = json!({"parent_id": id});
        arguments.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        client.json("list_derived_content", arguments)["count"].clone()
    };
    assert_eq!(of(json!({"derivation_type": "Preview"}), &mut client), 1);
    assert_eq!(of(json!({"variant": "THUMBNAIL_256"}), &mut client), 1);
    assert_eq!(of(json!({"variants": ["thumbnail_256", "thumbnail_512"]}), &mut client), 2);
    assert_eq!(of(json!({"limit": 3}), &mut client), 3);
    assert_eq!(of(json!({"derivation_type": "transcode"}), &mut client), 0);
    let text = client.upload("a.txt", "no picture");
    assert_eq!(client.json("list_derived_content", json!({"parent_id": text}))["count"], 0);
}

#[test]
fn s2_36_get_thumbnails() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    for kind in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif] {
        let id = client.upload("kitten", picture(kind, 800, 400));
        let told = client.until("get_thumbnails", json!({"parent_id": id}), |told| {
            let all = told["thumbnails"].as_object().unwrap();
            all.len() == 4 && all.values().all(|one| one["status"] == "processed")
        });
        for (size, width) in [("256", 256), ("512", 512), ("720", 720), ("1024", 800)] {
            let got = app.get(path_of(&told["thumbnails"][size]["thumbnail_url"]));
            let picture = image::load_from_memory(&got.body).expect("a picture");
            assert_eq!((picture.width(), picture.height()), (width, width / 2), "{kind:?} {size}");
            assert!(got.header("content-disposition").unwrap().starts_with("inline"));
        }
        let two = client.json("get_thumbnails", json!({"parent_id": id, "sizes": [128, 480]}));
        assert_eq!(two["thumbnails"].as_object().unwrap().keys().collect::<Vec<_>>(), ["128", "480"]);
        assert!(client.fails("get_thumbnails", json!({"parent_id": id, "sizes": [99]})).contains("'sizes'"));
    }
}

/// A PNG that says it is that large, and has next to nothing in it.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
        let body = [kind, data].concat();
        let crc = body.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &(!crc).to_be_bytes()].concat()
    }
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[0x78, 0x9c, 1, 0, 0, 0xff, 0xff]), chunk(b"IEND", &[])]
        .concat()
}

#[test]
fn s2_36_pictures_that_are_bombs_or_broken_are_refused() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let mut broken = picture(ImageFormat::Png, 200, 200);
    broken.truncate(200);
    for (name, bytes, why) in [
        ("wide", bomb(60_000, 2), "too large"),
        ("large", bomb(16_000, 16_000), "too large"),
        ("broken", broken, "damaged"),
        ("jpeg", says(ImageFormat::Jpeg, 65_000, 65_000), "too large"),
        ("gif", says(ImageFormat::Gif, 65_000, 65_000), "too large"),
        ("webp", says(ImageFormat::WebP, 16_000, 16_000), "too large"),
        ("broken jpeg", picture(ImageFormat::Jpeg, 300, 300)[..300].to_vec(), "damaged"),
        ("broken gif", picture(ImageFormat::Gif, 300, 300)[..200].to_vec(), "damaged"),
        ("broken webp", picture(ImageFormat::WebP, 300, 300)[..100].to_vec(), "damaged"),
    ] {
        let id = client.upload(name, bytes);
        let told = client.until("list_derived_content", json!({"parent_id": id}), |told| {
            told["count"] == 7 && told["items"].as_array().unwrap().iter().all(|item| item["status"] == "failed")
        });
        assert!(told["items"][0]["failure"].as_str().unwrap().contains(why), "{name}: {told}");
        let status = client.json("get_content_status", json!({"content_id": id}));
        assert_eq!((&status["ready"], &status["has_thumbnails"]), (&json!(true), &json!(false)), "the content itself is there");
    }
}

/// A picture of that kind that says it is that large, where it says so.
fn says(kind: ImageFormat, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = picture(kind, 16, 16);
    match kind {
        ImageFormat::Jpeg => {
            let at = bytes.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
            bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
            bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
        }
        ImageFormat::Gif => {
            bytes[6..8].copy_from_slice(&width.to_le_bytes());
            bytes[8..10].copy_from_slice(&height.to_le_bytes());
        }
        _ => {
            // VP8L: a byte, and then 14 bits for each.
            let at = bytes.windows(4).position(|four| four == b"VP8L").expect("a picture without loss") + 9;
            let sizes = u32::from(width - 1) | u32::from(height - 1) << 14;
            bytes[at..at + 4].copy_from_slice(&sizes.to_le_bytes());
        }
    }
    bytes
}

/// The most memory that a process has had, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Small files that are honest about being large, as large as is taken and larger.
#[test]
fn s2_36_pictures_that_unpack_to_a_lot_have_bounds() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let packed = |picture: image::DynamicImage, kind: ImageFormat| {
        let mut out = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut out, kind).unwrap();
        out.into_inner()
    };
    let grey = |side: u32| image::DynamicImage::from(image::GrayImage::new(side, side));
    let colour = |side: u32| image::DynamicImage::from(image::RgbImage::new(side, side));
    for (name, bytes, status) in [
        ("as large as may be.png", packed(grey(6300), ImageFormat::Png), "processed"),
        ("as large as may be.jpeg", packed(grey(6300), ImageFormat::Jpeg), "processed"),
        ("larger.png", packed(grey(6400), ImageFormat::Png), "failed"),
        ("larger.gif", packed(colour(6400), ImageFormat::Gif), "failed"),
        ("deep.png", packed(image::DynamicImage::new_rgba16(6000, 6000), ImageFormat::Png), "failed"),
    ] {
        assert!(bytes.len() < 3_000_000, "{name}: {}", bytes.len());
        let id = client.upload(name, bytes);
        client.until("list_derived_content", json!({"parent_id": id}), |told| {
            told["count"] == 7 && told["items"].as_array().unwrap().iter().all(|item| item["status"] == status)
        });
    }
    assert!(peak_mib(app.pid()) < 600, "{} MiB", peak_mib(app.pid()));
}

#[test]
fn s2_36_get_content_status() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("a.txt", "x");
    let told = client.json("get_content_status", json!({"content_id": id}));
    assert_eq!(
        (&told["status"], &told["ready"], &told["has_thumbnails"], &told["has_previews"]),
        (&json!("uploaded"), &json!(true), &json!(false), &json!(false))
    );
    assert!(told["updated_at"].is_string());
}

#[test]
fn s2_36_list_by_status() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    client.upload("a.txt", "x");
    let id = client.upload("kitten.png", picture(ImageFormat::Png, 30, 30));
    client.until("get_content_status", json!({"content_id": id}), |told| told["has_previews"] == true);
    assert_eq!(client.names("list_by_status", json!({"status": "uploaded"})), ["a.txt", "kitten.png"]);
    assert_eq!(client.json("list_by_status", json!({"status": "processed", "limit": 3}))["count"], 3);
    assert_eq!(client.json("list_by_status", json!({"status": "uploaded", "owner_id": BOB}))["count"], 0);
    for status in ["created", "uploading", "processing", "failed", "archived"] {
        assert_eq!(client.json("list_by_status", json!({"status": status}))["count"], 0);
    }
    assert!(client.fails("list_by_status", json!({"status": "gone"})).contains("'status'"));
}

#[test]
fn s2_36_a_failed_upload_is_made_good_by_its_url() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let storage = app.dir.join("data/storage");
    // Nothing can be written below a file.
    std::fs::remove_dir_all(&storage).unwrap();
    std::fs::write(&storage, "in the way").unwrap();
    let said = client.fails("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA=="}));
    assert!(said.starts_with("storage error: "), "{said}");
    let failed = client.json("list_by_status", json!({"status": "failed"}))["items"][0].clone();
    assert!(client.fails("download_content", json!({"content_id": failed["id"]})).contains("is failed: only what is uploaded"));
    std::fs::remove_file(&storage).unwrap();
    std::fs::create_dir(&storage).unwrap();
    let told = client.json("get_content_details", json!({"content_id": failed["id"], "include_upload_url": true}));
    assert!(told.get("download").is_none());
    let path = path_of(&told["upload"]).to_owned();
    let put = |body: &str| app.wire().request("PUT", &path, &[], Some(body));
    let put_once = put("better late");
    assert_eq!((put_once.status, put_once.json()["status"].as_str()), (200, Some("uploaded")));
    assert_eq!(put("again").status, 409, "what is there is not overwritten");
    let told = client.json("download_content", json!({"content_id": failed["id"], "format": "base64"}));
    assert_eq!(
        (&told["data"], &told["mime_type"]),
        (&json!(b64("better late")), &json!("application/json")),
        "its type is that of the PUT"
    );
}

#[test]
fn s2_36_batch_upload() {
    let app = start(&[]);
    for mut client in both(&app) {
        let mut items: Vec<Value> =
            (0..30).map(|n| json!({"name": format!("n{n}"), "data": b64(n.to_string()), "tags": ["batch"]})).collect();
        items[7]["data"] = json!("%");
        items[21]["name"] = json!("");
        let told = client.json("batch_upload", json!({"owner_id": ADA, "items": items}));
        assert_eq!((&told["total"], &told["successful"], &told["failed"]), (&json!(30), &json!(28), &json!(2)));
        for (n, result) in told["results"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&result["index"], &result["success"]), (&json!(n), &json!(n != 7 && n != 21)));
        }
        assert!(told["results"][7]["error"].as_str().unwrap().contains("'data'"));
        let ten = client.json("download_content", json!({"content_id": told["results"][10]["content_id"], "format": "base64"}));
        assert_eq!(ten["data"], b64("10"));
        assert!(client.fails("batch_upload", json!({"owner_id": ADA, "items": []})).contains("the batch is empty"));
    }
}

#[test]
fn s2_36_batch_get_details() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("n", "abc");
    let told = client.json("batch_get_details", json!({"content_ids": [id, NOBODYS, "x"]}));
    assert_eq!((&told["total"], &told["successful"], &told["failed"]), (&json!(3), &json!(1), &json!(2)));
    let [first, second, third] = [0, 1, 2].map(|n| &told["results"][n]);
    assert_eq!((&first["details"]["file_size"], &first["details"]["ready"]), (&json!(3), &json!(true)));
    assert!(second["error"].as_str().unwrap().contains("not found") && third["error"].as_str().unwrap().contains("no UUID"));
    assert!(client.fails("batch_get_details", json!({"content_ids": []})).contains("the batch is empty"));
    let capital = start(&[("CONTENT_CAPITAL_KEYS", "true")]);
    let mut client = capital.sse("/sse", &[]);
    let id = client.upload("n", "abc");
    let told = client.json("batch_get_details", json!({"content_ids": [id, NOBODYS]}));
    assert!(told["results"][0]["Details"]["id"] == id && told["results"][1]["Error"].is_string(), "{told}");
}

// --- whose it is -----------------------------------------------------------------------------------

fn with_key(key: &str) -> [(&'static str, &str); 1] {
    [("X-API-Key", key)]
}

#[test]
fn s2_30_no_tool_reaches_what_another_owner_has() {
    let app = start(&KEYS);
    let bobs = with_key("the-key-of-bob-himself");
    let mut ada = app.sse("/sse", &with_key("your-key"));
    let id = ada.upload("ada's secret.png", picture(ImageFormat::Png, 60, 60));
    ada.until("get_content_status", json!({"content_id": id}), |told| told["has_previews"] == true);
    let derived = ada.json("list_derived_content", json!({"parent_id": id}))["items"][0]["content_id"].clone();
    for mut bob in [app.sse("/sse", &bobs), app.http("/mcp", &bobs)] {
        let item = json!({"name": "n", "data": "eA=="});
        for (tool, arguments) in [
            ("upload_content", json!({"owner_id": ADA, "name": "n", "data": "eA=="})),
            ("list_content", json!({"owner_id": ADA})),
            ("search_content", json!({"owner_id": ADA, "query": "secret"})),
            ("list_by_status", json!({"owner_id": ADA, "status": "uploaded"})),
            ("batch_upload", json!({"owner_id": ADA, "items": [item]})),
        ] {
            assert_eq!(bob.fails(tool, arguments), "access denied", "{tool}");
        }
        for tool in ["get_content", "get_content_details", "download_content", "update_content", "delete_content", "get_content_status"] {
            for id in [json!(id), derived.clone()] {
                let said = bob.fails(tool, json!({"content_id": id, "name": "stolen", "format": "base64", "include_upload_url": true}));
                assert_eq!(said, format!("content not found: {}", id.as_str().unwrap()), "{tool}");
            }
        }
        for tool in ["list_derived_content", "get_thumbnails"] {
            assert_eq!(bob.fails(tool, json!({"parent_id": id})), format!("content not found: {id}"), "{tool}");
        }
        let told = bob.json("batch_get_details", json!({"content_ids": [id, derived]}));
        assert_eq!((&told["successful"], &told["failed"]), (&json!(0), &json!(2)));
        // Nor where nobody is named.
        assert_eq!(bob.json("search_content", json!({"query": "secret"}))["total"], 0);
        assert_eq!(bob.json("search_content", json!({}))["total"], 0);
        assert_eq!(bob.json("list_by_status", json!({"status": "processed"}))["count"], 0);
        for uri in [format!("content://{id}"), format!("content://{id}/details"), format!("content://{id}/data"), format!("derived://{id}")]
        {
            let answer = bob.ask("resources/read", json!({"uri": uri}));
            assert!(answer["error"]["message"].as_str().unwrap().contains("not found"), "{answer}");
        }
        let stats = bob.ask("resources/read", json!({"uri": "stats://system"}));
        assert!(stats["result"]["contents"][0]["text"].as_str().unwrap().contains("\"total\": 0"), "{stats}");
    }
    assert_eq!(ada.json("get_content", json!({"content_id": id}))["name"], "ada's secret.png");
}

#[test]
fn s2_30_nor_what_another_tenant_has() {
    let app = start(&KEYS);
    let mut acme = app.sse("/sse", &with_key("the-key-of-ada-at-acme"));
    let mut acid = app.sse("/sse", &with_key("the-key-of-ada-at-acid"));
    let id = acme.upload("acme's", "x");
    assert_eq!(acme.json("get_content", json!({"content_id": id}))["tenant_id"], ACME, "the tenant of the key");
    assert!(acid.fails("get_content", json!({"content_id": id})).contains("not found"));
    assert_eq!(acid.json("list_content", json!({"owner_id": ADA}))["total"], 0);
    for (tool, arguments) in [
        ("upload_content", json!({"owner_id": ADA, "tenant_id": ACME, "name": "n", "data": "eA=="})),
        ("list_content", json!({"owner_id": ADA, "tenant_id": ACME})),
        ("search_content", json!({"tenant_id": ACME})),
        ("batch_upload", json!({"owner_id": ADA, "tenant_id": ACME, "items": [{"name": "n", "data": "eA=="}]})),
    ] {
        assert_eq!(acid.fails(tool, arguments), "access denied", "{tool}");
    }
    // A key of no tenant is for all that its owner has.
    let mut ada = app.sse("/sse", &with_key("your-key"));
    assert_eq!(ada.names("list_content", json!({"owner_id": ADA, "tenant_id": ACME})), ["acme's"]);
}

/// Every tool and every resource, by a key of the same owner in another tenant.
#[test]
fn s2_30_no_tool_reaches_what_another_tenant_has() {
    let app = start(&KEYS);
    let mut acme = app.sse("/sse", &with_key("the-key-of-ada-at-acme"));
    let id = acme.upload("acme's secret.png", picture(ImageFormat::Png, 60, 60));
    acme.until("get_content_status", json!({"content_id": id}), |told| told["has_previews"] == true);
    let derived = acme.json("list_derived_content", json!({"parent_id": id}))["items"][0]["content_id"].clone();
    let acids = with_key("the-key-of-ada-at-acid");
    for mut acid in [app.sse("/sse", &acids), app.http("/mcp", &acids)] {
        for tool in ["get_content", "get_content_details", "download_content", "update_content", "delete_content", "get_content_status"] {
            for id in [json!(id), derived.clone()] {
                let said = acid.fails(tool, json!({"content_id": id, "name": "stolen", "format": "base64", "include_upload_url": true}));
                assert_eq!(said, format!("content not found: {}", id.as_str().unwrap()), "{tool}");
            }
        }
        for tool in ["list_derived_content", "get_thumbnails"] {
            assert_eq!(acid.fails(tool, json!({"parent_id": id})), format!("content not found: {id}"), "{tool}");
        }
        assert_eq!(acid.json("batch_get_details", json!({"content_ids": [id, derived]}))["failed"], 2);
        assert_eq!(acid.json("list_content", json!({"owner_id": ADA}))["total"], 0);
        assert_eq!(acid.json("search_content", json!({"query": "secret"}))["total"], 0);
        for status in ["uploaded", "processed"] {
            assert_eq!(acid.json("list_by_status", json!({"status": status}))["count"], 0, "{status}");
        }
        let item = json!({"name": "n", "data": "eA=="});
        for (tool, arguments) in [
            ("upload_content", json!({"owner_id": ADA, "tenant_id": ACME, "name": "n", "data": "eA=="})),
            ("batch_upload", json!({"owner_id": ADA, "tenant_id": ACME, "items": [item]})),
            ("list_content", json!({"owner_id": ADA, "tenant_id": ACME})),
            ("search_content", json!({"tenant_id": ACME})),
            ("list_by_status", json!({"owner_id": BOB, "status": "uploaded"})),
        ] {
            assert_eq!(acid.fails(tool, arguments), "access denied", "{tool}");
        }
        for uri in [format!("content://{id}"), format!("content://{id}/details"), format!("content://{id}/data"), format!("derived://{id}")]
        {
            let answer = acid.ask("resources/read", json!({"uri": uri}));
            assert!(answer["error"]["message"].as_str().unwrap().contains("not found"), "{answer}");
        }
        let stats = acid.ask("resources/read", json!({"uri": "stats://system"}));
        assert!(stats["result"]["contents"][0]["text"].as_str().unwrap().contains("\"total\": 0"), "{stats}");
    }
    // Nothing in the arguments of a change makes it somebody else's.
    acme.json("update_content", json!({"content_id": id, "name": "still acme's", "owner_id": BOB, "tenant_id": ACID}));
    let told = acme.json("get_content", json!({"content_id": id}));
    assert_eq!((&told["owner_id"], &told["tenant_id"], &told["name"]), (&json!(ADA), &json!(ACME), &json!("still acme's")));
}

/// A signed URL is for one content, one purpose and one time, whoever has it; nobody gets one for what is not theirs.
#[test]
fn s2_30_a_signed_url_opens_nothing_else() {
    let app = start(&KEYS);
    let mut ada = app.sse("/sse", &with_key("your-key"));
    let mut bob = app.sse("/sse", &with_key("the-key-of-bob-himself"));
    let adas = ada.upload("ada's.txt", "ada's secret");
    let bobs = bob.json("upload_content", json!({"owner_id": BOB, "name": "bob's.txt", "data": b64("bob's own")}));
    let (bobs, path) = (bobs["id"].as_str().unwrap(), path_of(&bobs["download_url"]).to_owned());
    assert_eq!(app.get(&path).text(), "bob's own", "no key is asked for: the signature is one");
    for forged in [
        path.replace(bobs, &adas),
        path.replace(bobs, &adas.to_uppercase()),
        path.replace(bobs, &format!("{bobs}/../{adas}")),
        path.replace(bobs, &format!("{bobs}%2F..%2F{adas}")),
        format!("{}&id={adas}", path.replace(bobs, &adas)),
        path.replace("/download", "/upload"),
        format!("/contents/{adas}/download?{}&expires=99999999999", path.split('?').nth(1).unwrap()),
        path.replace("signature=", "signature=%00"),
    ] {
        let refused = app.get(&forged);
        assert!((400..500).contains(&refused.status) && !refused.text().contains("secret"), "{forged}: {}", refused.status);
    }
    // A URL to download by is none to upload by, and what it was signed for cannot be changed.
    for (verb, path) in [("PUT", path.replace("/download", "/upload")), ("PUT", path.clone()), ("DELETE", path.clone())] {
        let refused = app.wire().request(verb, &path, &[], Some("changed"));
        assert!(matches!(refused.status, 403 | 405), "{verb} {path}: {}", refused.status);
    }
    assert_eq!(app.get(&path).text(), "bob's own");
    // Whoever sends a lot without a signature is not even read.
    let mut wire = app.wire();
    wire.send("PUT", &path.replace("/download", "/upload"), &[("content-length", "50000000")], None);
    assert_eq!(wire.response().status, 403);
}

#[test]
fn s2_30_two_clients_of_two_owners_work_at_once() {
    let app = start(&KEYS);
    std::thread::scope(|scope| {
        for (key, owner) in [("your-key", ADA), ("the-key-of-bob-himself", BOB)] {
            let app = &app;
            scope.spawn(move || {
                let mut client = app.sse("/sse", &with_key(key));
                for n in 0..25 {
                    let name = format!("{owner} {n}");
                    let told = client.json("upload_content", json!({"owner_id": owner, "name": name, "data": b64(&name)}));
                    let got = client.json("download_content", json!({"content_id": told["id"], "format": "base64"}));
                    assert_eq!(got["data"], b64(&name));
                }
                assert_eq!(client.json("list_content", json!({"owner_id": owner}))["total"], 25);
            });
        }
    });
}

// --- resources and prompts -------------------------------------------------------------------------

fn read(client: &mut Client, uri: &str) -> (String, Value) {
    let answer = client.ask("resources/read", json!({"uri": uri}));
    let contents = &answer["result"]["contents"][0];
    let text = contents["text"].as_str().unwrap_or_else(|| panic!("{uri}: {answer}"));
    (contents["mimeType"].as_str().unwrap().to_owned(), serde_json::from_str(text).unwrap())
}

#[test]
fn s2_37_a_content_is_a_resource() {
    let app = start(&[]);
    for mut client in both(&app) {
        let id = client.upload("n", "x");
        let (media, told) = read(&mut client, &format!("content://{id}"));
        assert_eq!(
            (media.as_str(), &told["id"], &told["owner_id"], &told["status"]),
            ("application/json", &json!(id), &json!(ADA), &json!("uploaded"))
        );
        assert_eq!(read(&mut client, &format!("content://{id}/details")).1["file_size"], 1);
        assert_eq!(read(&mut client, &format!("derived://{id}")).1["count"], 0);
        let data = client.ask("resources/read", json!({"uri": format!("content://{id}/data")}));
        assert_eq!(data["result"]["contents"][0]["blob"], b64("x"));
        let templates = client.ask("resources/templates/list", json!({}));
        let templates: Vec<&str> =
            templates["result"]["resourceTemplates"].as_array().unwrap().iter().map(|one| one["uriTemplate"].as_str().unwrap()).collect();
        assert!(templates.contains(&"content://{id}") && templates.contains(&"content://{id}/details"), "{templates:?}");
        for bad in
            ["content://", "content://x", &format!("content://{NOBODYS}"), "nothing", "file:///etc/passwd", &format!("content://{id}/x")]
        {
            assert!(client.ask("resources/read", json!({"uri": bad}))["error"]["message"].is_string(), "{bad}");
        }
    }
}

#[test]
fn s2_37_the_schema_is_a_resource() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let (media, schema) = read(&mut client, "schema://content");
    assert_eq!((media.as_str(), &schema["required"]), ("application/schema+json", &json!(["id", "owner_id", "name", "status"])));
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let id = client.upload("n", "x");
    let told = client.json("get_content", json!({"content_id": id}));
    assert!(told.as_object().unwrap().keys().all(|key| schema["properties"].get(key).is_some()), "{told}");
    assert!(read(&mut client, "schema://derived-content").1["properties"]["variant"].is_object());
}

#[test]
fn s2_37_statistics_are_a_resource() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    client.upload("n", "x");
    let (_, stats) = read(&mut client, "stats://system");
    assert_eq!(stats["content_count"], json!({"total": 1, "by_status": {"uploaded": 1}}));
    let since = jiff::Timestamp::now().duration_since(stats["timestamp"].as_str().unwrap().parse().expect("a time"));
    assert!(since.as_secs() < 60);
    assert_eq!(read(&mut client, "backends://storage").1["default"], "fs");
    let listed = client.ask("resources/list", json!({}));
    assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 4);
}

#[test]
fn s2_38_prompts_are_listed() {
    let app = start(&[]);
    for mut client in both(&app) {
        let listed = client.ask("prompts/list", json!({}));
        let names: Vec<&str> = listed["result"]["prompts"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["upload-workflow", "search-workflow", "derived-content-workflow", "status-monitoring"]);
    }
}

#[test]
fn s2_39_a_prompt_is_one_message_of_the_user() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let mut get = |name: &str, arguments: Value| {
        let answer = client.ask("prompts/get", json!({"name": name, "arguments": arguments}));
        let messages = answer["result"]["messages"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        assert_eq!((messages.len(), &messages[0]["role"]), (1, &json!("user")));
        messages[0]["content"]["text"].as_str().unwrap().to_owned()
    };
    assert!(get("upload-workflow", json!({"content_type": "a photograph"})).contains("Upload a photograph"));
    assert!(get("search-workflow", json!({"search_type": "tags"})).contains("Pass tags"));
    assert!(get("derived-content-workflow", json!({})).contains("get_thumbnails"));
    assert!(get("status-monitoring", json!({})).contains("list_by_status"));
    assert!(client.ask("prompts/get", json!({"name": "nothing"}))["error"]["message"].as_str().unwrap().contains("there is no prompt"));
}

#[test]
fn s2_6_resources_and_prompts_can_be_switched_off() {
    let app = start(&[("MCP_ENABLE_RESOURCES", "false"), ("MCP_ENABLE_PROMPTS", "false")]);
    let mut client = app.sse("/sse", &[]);
    for method in ["resources/list", "prompts/list"] {
        assert!(client.ask(method, json!({}))["error"].is_object(), "{method}");
    }
    assert_eq!(client.tools().len(), 14);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let headers = [("Accept", "application/json, text/event-stream")];
    let said = app.wire().post("/mcp", &headers, &hello.to_string()).messages()[0].clone();
    let abilities = said["result"]["capabilities"].as_object().unwrap();
    assert!(abilities.contains_key("tools") && !abilities.contains_key("resources") && !abilities.contains_key("prompts"), "{abilities:?}");
}
