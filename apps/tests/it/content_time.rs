//! Rows S2-7 and S2-36: what becomes of contents in time, archived or removed with their bytes, and after a crash.

use std::path::Path;
use std::time::{Duration, Instant};

use image::ImageFormat;
use serde_json::json;
use sqlx::Connection as _;

use crate::app::{Client, fresh_dir, run};
use crate::content::{ADA, Postgres, b64, path_of, picture, start, start_in};

/// Not even a second.
const SOON: (&str, &str) = ("CONTENT_PURGE_AFTER_DAYS", "0.00001");

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The numbers that statements find in the database below `dir`.
fn numbers<const N: usize>(dir: &Path, queries: [&'static str; N]) -> [i64; N] {
    let url = format!("sqlite:{}", dir.join("data/content/content.db").display());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let mut found = [0; N];
        for (n, query) in queries.into_iter().enumerate() {
            found[n] = sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        found
    })
}

fn change(dir: &Path, statement: String) {
    let url = format!("sqlite:{}", dir.join("data/content/content.db").display());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// How many files are below a directory.
fn n_files(dir: &Path) -> usize {
    let Ok(all) = std::fs::read_dir(dir) else { return 0 };
    all.map(|one| one.unwrap().path()).map(|path| if path.is_dir() { n_files(&path) } else { 1 }).sum()
}

const COUNTS: [&str; 3] = [
    "SELECT count(*) FROM content",
    "SELECT count(*) FROM content_tags",
    "SELECT count(*) FROM content_fts WHERE content_fts MATCH 'secret'",
];

#[test]
fn s2_7_what_was_deleted_is_removed_with_its_bytes() {
    let app = start(&[SOON]);
    let (mut client, storage) = (app.sse("/sse", &[]), app.dir.join("data/storage"));
    let add = |client: &mut Client, name: &str| {
        let text = json!({"owner_id": ADA, "name": name, "data": b64("a secret"), "document_type": "text/plain", "tags": ["a", "b"]});
        client.json("upload_content", text)["id"].as_str().unwrap().to_owned()
    };
    let (kept, gone) = (add(&mut client, "kept"), add(&mut client, "gone"));
    let kitten = client.upload("kitten.png", picture(ImageFormat::Png, 40, 40));
    client.until("get_content_status", json!({"content_id": kitten}), |told| told["has_previews"] == true);
    assert_eq!((n_files(&storage), numbers(&app.dir, COUNTS)), (3 + 7, [10, 4, 2]));
    let url = client.json("download_content", json!({"content_id": gone}))["download_url"].clone();
    for id in [&gone, &kitten] {
        client.json("delete_content", json!({"content_id": id}));
    }
    until("files stay", || n_files(&storage) == 1);
    until("rows stay", || numbers(&app.dir, COUNTS) == [1, 2, 1]);
    assert!(!storage.join(format!("derived/{kitten}")).exists(), "nor is an empty directory left");
    assert_eq!(app.get(path_of(&url)).status, 404);
    assert!(client.fails("get_content", json!({"content_id": gone})).contains("not found"));
    assert_eq!(client.names("search_content", json!({"query": "secret"})), ["kept"]);
    assert_eq!(client.json("download_content", json!({"content_id": kept, "format": "base64"}))["data"], b64("a secret"));
}

#[test]
fn s2_7_nothing_is_removed_unless_that_is_said() {
    let app = start(&[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("n", "x");
    client.json("delete_content", json!({"content_id": id}));
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!((n_files(&app.dir.join("data/storage")), numbers(&app.dir, COUNTS)[0]), (1, 1));
    let dir = fresh_dir("content-days");
    for name in ["CONTENT_PURGE_AFTER_DAYS", "CONTENT_ARCHIVE_AFTER_DAYS"] {
        for value in ["0", "-1", "NaN", "inf", "soon"] {
            let (well, said) = run(&dir, "content", &["--mode", "sse", "--port", "0"], &[(name, value)]);
            assert!(!well && said.contains(name), "{value}: {said}");
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_a_removal_that_was_cut_off_is_taken_up_again() {
    let dir = fresh_dir("content-cut");
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    let [kept, marked, half, shared, away] = ["kept", "marked", "half", "shared", "away"].map(|name| client.upload(name, name));
    for id in [&marked, &half, &shared, &away] {
        client.json("delete_content", json!({"content_id": id}));
    }
    app.kill();
    let storage = dir.join("data/storage");
    // As a crash leaves them: one that was condemned, and one whose bytes were gone already.
    change(&dir, format!("UPDATE content SET purge_ms = 1 WHERE id IN ('{marked}', '{half}')"));
    std::fs::remove_file(storage.join(format!("contents/{half}"))).unwrap();
    // One whose bytes are somebody's who lives, and one whose storage is not there any more.
    change(&dir, format!("UPDATE content SET object_key = 'contents/{kept}' WHERE id = '{shared}'"));
    change(&dir, format!("UPDATE content SET backend = 's3' WHERE id = '{away}'"));
    let app = start_in(&dir, &[SOON]);
    until("rows stay", || numbers(&dir, COUNTS)[0] == 3);
    std::thread::sleep(Duration::from_millis(1500));
    let mut client = app.sse("/sse", &[]);
    assert_eq!(client.json("download_content", json!({"content_id": kept, "format": "base64"}))["data"], b64("kept"));
    let left = ["SELECT count(*) FROM content WHERE purge_ms > 0", "SELECT count(*) FROM content WHERE deleted_ms > 0"];
    assert_eq!(numbers(&dir, left), [1, 2], "what is away waits, what is shared stays");
    assert!(!storage.join(format!("contents/{marked}")).exists());
    assert!(app.said().contains("its bytes cannot be removed"), "{}", app.said());
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_no_crash_among_removals_loses_what_is_kept_or_keeps_what_is_gone() {
    let dir = fresh_dir("content-purge-crash");
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    let ids: Vec<String> = (0..120).map(|n| client.upload(&format!("n{n}"), n.to_string())).collect();
    for id in ids.iter().skip(20) {
        client.json("delete_content", json!({"content_id": id}));
    }
    app.kill();
    // Started and cut off again and again, while it removes.
    for wait_ms in [5, 15, 30, 60, 90] {
        let app = start_in(&dir, &[SOON]);
        std::thread::sleep(Duration::from_millis(wait_ms));
        app.kill();
    }
    let app = start_in(&dir, &[SOON]);
    let storage = dir.join("data/storage");
    until("they are not removed", || numbers(&dir, COUNTS)[0] == 20 && n_files(&storage) == 20);
    let mut client = app.sse("/sse", &[]);
    for (n, id) in ids.iter().take(20).enumerate() {
        assert_eq!(client.json("download_content", json!({"content_id": id, "format": "base64"}))["data"], b64(n.to_string()));
    }
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_7_what_was_derived_from_something_deleted_goes_with_it_after_a_crash() {
    let dir = fresh_dir("content-orphans");
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("kitten.png", picture(ImageFormat::Png, 40, 40));
    client.until("get_content_status", json!({"content_id": id}), |told| told["has_previews"] == true);
    app.kill();
    // Deleted while its pictures were made, by a program that did not come to its end.
    change(&dir, format!("UPDATE content SET deleted_ms = 1 WHERE id = '{id}'"));
    let app = start_in(&dir, &[]);
    let mut client = app.sse("/sse", &[]);
    client.until("list_by_status", json!({"status": "processed"}), |told| told["count"] == 0);
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

/// The same with what two programs share, both of which remove.
#[test]
fn s2_7_two_programs_remove_what_is_in_one_postgres() {
    let Some(postgres) = Postgres::start() else { panic!("there is no PostgreSQL on this machine") };
    let dir = fresh_dir("content-purge-shared");
    let (url, storage) = (postgres.url(), dir.join("storage"));
    let archive = ("CONTENT_ARCHIVE_AFTER_DAYS", "0.00002");
    let variables = [("DATABASE_URL", url.as_str()), ("STORAGE_PATH", storage.to_str().unwrap()), SOON, archive];
    let (one, two) = (start(&variables), start(&variables));
    let mut client = one.sse("/sse", &[]);
    let kept = client.upload("kept", "kept");
    let kitten = client.upload("kitten.png", picture(ImageFormat::Png, 40, 40));
    client.until("get_content_status", json!({"content_id": kitten}), |told| told["has_previews"] == true);
    client.json("delete_content", json!({"content_id": kitten}));
    for n in 0..40 {
        let id = client.upload(&format!("n{n}"), "x");
        client.json("delete_content", json!({"content_id": id}));
    }
    until("files stay", || n_files(&storage) == 1);
    client.until("get_content_status", json!({"content_id": kept}), |told| told["status"] == "archived");
    assert_eq!(two.sse("/sse", &[]).json("download_content", json!({"content_id": kept, "format": "base64"}))["data"], b64("kept"));
    let left: i64 = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let end = Instant::now() + Duration::from_secs(20);
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        loop {
            let left = sqlx::query_scalar("SELECT count(*) FROM content").fetch_one(&mut connection).await.unwrap();
            if left == 1 || Instant::now() > end {
                break left;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(left, 1);
    for app in [&one, &two] {
        assert!(!app.said().contains("WARN"), "{}", app.said());
    }
    drop((one, two));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_36_what_nobody_changes_is_archived() {
    let app = start(&[("CONTENT_ARCHIVE_AFTER_DAYS", "0.00002")]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("kitten.png", picture(ImageFormat::Png, 40, 40));
    let of = json!({"content_id": id});
    client.until("get_content_status", of.clone(), |told| told["status"] == "archived" && told["has_previews"] == true);
    assert_eq!(client.names("list_by_status", json!({"status": "archived"})), ["kitten.png"], "and not what was derived from it");
    assert_eq!(client.names("list_content", json!({"owner_id": ADA, "status": "archived"})), ["kitten.png"]);
    assert_eq!(client.names("search_content", json!({"query": "kitten", "status": ["archived"]})), ["kitten.png"]);
    // It can still be had, described and deleted; no bytes can be put in the place of its own.
    let url = client.json("download_content", of.clone())["download_url"].clone();
    assert_eq!(app.get(path_of(&url)).status, 200);
    let details = client.json("get_content_details", json!({"content_id": id, "include_upload_url": true}));
    assert!(details["download"].is_string() && details["thumbnail"].is_string() && details.get("upload").is_none(), "{details}");
    client.json("update_content", json!({"content_id": id, "name": "cat.png"}));
    let told = client.json("get_content", of.clone());
    assert_eq!((&told["name"], &told["status"]), (&json!("cat.png"), &json!("archived")), "for good");
    client.json("delete_content", of);
    assert_eq!(client.json("list_by_status", json!({"status": "archived"}))["count"], 0);
}
