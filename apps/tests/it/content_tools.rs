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
    for (name, bytes, why) in
        [("wide", bomb(60_000, 2), "too large"), ("large", bomb(16_000, 16_000), "too large"), ("broken", broken, "damaged")]
    {
        let id = client.upload(name, bytes);
        let told = client.until("list_derived_content", json!({"parent_id": id}), |told| {
            told["count"] == 7 && told["items"].as_array().unwrap().iter().all(|item| item["status"] == "failed")
        });
        assert!(told["items"][0]["failure"].as_str().unwrap().contains(why), "{name}: {told}");
        let status = client.json("get_content_status", json!({"content_id": id}));
        assert_eq!((&status["ready"], &status["has_thumbnails"]), (&json!(true), &json!(false)), "the content itself is there");
    }
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
