//! The contacts themselves: their file, all tools, REST, files of other programs, and the page about all that.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::app::{App, Client, fresh_dir};
use crate::contacts::{TOKEN, bearer, request};
use crate::wire::Response;

const BASIC: [&str; 4] = ["search_contacts", "add_contact", "get_contact", "mark_contacted"];
const FULL: [&str; 20] = [
    "update_contact_info",
    "set_contact_state",
    "delete_contact",
    "bulk_mark_contacted",
    "list_overdue_contacts",
    "list_active_contacts",
    "get_contact_stats",
    "report_by_group",
    "suggest_tasks",
    "change_contact_group",
    "bulk_change_relationship",
    "analyze_relationships",
    "add_log",
    "list_logs",
    "search_logs",
    "get_contact_logs",
    "create_contact_note",
    "update_contact_note",
    "link_contact_note",
    "get_contact_note_url",
];
const EXTRA: [&str; 6] = ["import_contacts", "export_contacts", "find_duplicates", "merge_contacts", "archive_contact", "bump_contact"];

fn full() -> App {
    App::start("contacts", &[], &[("CONTACTS_TOOLS", "full"), ("CONTACTS_EXTRAS", "true"), ("BASIC_MEMORY_ENABLED", "true")])
}

/// Somebody's id.
fn add(client: &mut Client, contact: Value) -> i64 {
    client.json("add_contact", contact)["id"].as_i64().unwrap()
}

fn day(days_ago: i64) -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    today.checked_sub(jiff::Span::new().days(days_ago)).unwrap().to_string()
}

/// Works on the file, as another program does.
fn file<T>(path: &Path, work: impl AsyncFnOnce(&mut SqliteConnection) -> T) -> T {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        work(&mut connection).await
    })
}

async fn one(connection: &mut SqliteConnection, query: &str) -> String {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT CAST(({query}) AS TEXT)"))).fetch_one(connection).await.unwrap();
    row.try_get::<Option<String>, _>(0).unwrap().unwrap_or_default()
}

// --- tools ---------------------------------------------------------------------------------------

#[test]
fn tools_are_four_or_all_and_say_what_they_do() {
    let all: Vec<&str> = BASIC.into_iter().chain(FULL).collect();
    let list = |variables: &[(&str, &str)]| App::start("contacts", &[], variables).http("/mcp", &[]).tools();
    assert_eq!(list(&[]), BASIC);
    assert_eq!(list(&[("CONTACTS_TOOLS", "full")]), all);
    assert_eq!(list(&[("CONTACTS_EXTRAS", "true")]), BASIC.into_iter().chain(EXTRA).collect::<Vec<_>>());
    let app = full();
    let tools = app.http("/mcp", &[]).ask("tools/list", json!({}));
    let hints = |name: &str| {
        let tool = tools["result"]["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap();
        ["readOnlyHint", "destructiveHint", "idempotentHint"].map(|hint| tool["annotations"][hint].as_bool().unwrap())
    };
    assert_eq!(hints("search_contacts"), [true, false, true]);
    assert_eq!(hints("delete_contact"), [false, true, false]);
    assert_eq!(hints("set_contact_state"), [false, false, true]);
    assert_eq!(hints("mark_contacted"), [false, false, false]);
    // What is not shown says how it could be.
    let app = App::start("contacts", &[], &[]);
    let hidden = app.http("/mcp", &[]).call("add_log", json!({"content": "x"}));
    assert!(hidden["message"].as_str().unwrap().contains("CONTACTS_TOOLS=full"), "{hidden}");
}

#[test]
fn a_contact_is_changed_and_removed() {
    let app = full();
    let mut client = app.sse("/mcp/oauth", &[]);
    let ada = add(&mut client, json!({"name": "Ada", "label": "@ada", "email": "a@x.org"}));
    let bob = add(&mut client, json!({"name": "Bob"}));
    let taken = client.call("update_contact_info", json!({"contact_id": bob, "label": "Ada"}));
    assert!(taken["isError"] == true && taken["content"][0]["text"].as_str().unwrap().contains("label"), "{taken}");
    let changed = client.json(
        "update_contact_info",
        json!({"contact_id": ada, "email": "", "phone": "123", "custom_frequency_days": 7, "follow_up_date": "2030-01-01"}),
    );
    assert_eq!((&changed["email"], &changed["phone"], &changed["frequency_days"]), (&json!(null), &json!("123"), &json!(7)));
    assert_eq!(client.json("set_contact_state", json!({"contact_id": ada, "state": "write"}))["state"], "write");
    assert_eq!(client.json("list_active_contacts", json!({}))["contacts"][0]["id"], ada);
    assert_eq!(client.json("set_contact_state", json!({"contact_id": ada}))["state"], json!(null));
    assert_eq!(client.json("change_contact_group", json!({"contact_id": ada, "relationship_type": "close"}))["relationship_type"], "close");
    assert_eq!(client.call("set_contact_state", json!({"contact_id": ada, "state": "busy"}))["code"], -32602);
    assert_eq!(client.call("delete_contact", json!({"contact_id": ada}))["code"], -32602, "not without confirmation");
    client.json("mark_contacted", json!({"contact_id": ada}));
    client.json("add_log", json!({"content": "met @ada"}));
    assert_eq!(client.json("delete_contact", json!({"contact_id": ada, "confirm": true}))["deleted"], ada);
    assert_eq!(client.call("get_contact", json!({"contact_id": ada}))["isError"], true);
    let left = file(&app.dir.join("data/contacts/contacts.db"), async |c| {
        (one(c, "SELECT count(*) FROM contact_interactions").await, one(c, "SELECT count(*) FROM log_contacts").await)
    });
    assert_eq!(left, ("0".into(), "0".into()));
}

#[test]
fn many_are_changed_together_or_not_at_all() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    let ids: Vec<i64> = (0..3).map(|n| add(&mut client, json!({"name": format!("P{n}"), "state": "ping"}))).collect();
    let with_nobody = [&ids[..], &[999]].concat();
    for (tool, more) in
        [("bulk_mark_contacted", json!({"interaction_type": "call"})), ("bulk_change_relationship", json!({"relationship_type": "work"}))]
    {
        let mut arguments = more.clone();
        arguments["contact_ids"] = json!(with_nobody);
        assert_eq!(client.call(tool, arguments.clone())["isError"], true);
        let stats = client.json("get_contact_stats", json!({}));
        if tool == "bulk_mark_contacted" {
            assert_eq!(stats["never_contacted"], 3, "nobody, because one was not found");
        }
        arguments["contact_ids"] = json!(ids);
        assert_eq!(client.json(tool, arguments)["count"], 3);
    }
    let stats = client.json("get_contact_stats", json!({}));
    assert_eq!((&stats["by_relationship"]["work"], &stats["never_contacted"], &stats["active"]), (&json!(3), &json!(0), &json!(0)));
    assert_eq!(client.json("report_by_group", json!({"relationship_type": "work"}))["total"], 3);
}

#[test]
fn who_is_overdue_is_found_in_order() {
    let app =
        App::start("contacts", &[], &[("CONTACTS_TOOLS", "full"), ("CONTACTS_EXTRAS", "true"), ("CONTACTS_OVERDUE_DAYS", "close=14")]);
    let mut client = app.http("/mcp", &[]);
    let mut met = |name: &str, relationship: &str, days: Option<i64>| {
        let id = add(&mut client, json!({"name": name, "relationship_type": relationship}));
        if let Some(days) = days {
            client.json("mark_contacted", json!({"contact_id": id, "date": day(days)}));
        }
        id
    };
    let close = met("Close", "close", Some(20));
    let work = met("Work", "work", Some(29));
    let network = met("Network", "network", Some(100));
    let never = met("Never", "social", None);
    let ids = |client: &mut Client| -> Vec<i64> {
        let told = client.json("list_overdue_contacts", json!({}));
        told["contacts"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&mut client), [never, network, close]);
    client.json("bump_contact", json!({"contact_id": network}));
    client.json("archive_contact", json!({"contact_id": never}));
    client.json("update_contact_info", json!({"contact_id": work, "custom_frequency_days": 10}));
    assert_eq!(ids(&mut client), [work, close]);
    client.json("update_contact_info", json!({"contact_id": close, "contact_style": "ambient"}));
    assert_eq!(ids(&mut client), [work]);
    client.json("update_contact_info", json!({"contact_id": close, "deadline_date": day(1)}));
    let tasks = client.json("suggest_tasks", json!({}));
    let order: Vec<i64> = tasks["tasks"].as_array().unwrap().iter().map(|task| task["contact"]["id"].as_i64().unwrap()).collect();
    assert_eq!(order, [close, work], "{tasks}");
    let analysis = client.json("analyze_relationships", json!({}));
    let group = analysis["groups"].as_array().unwrap().iter().find(|group| group["relationship_type"] == "work").unwrap();
    assert_eq!(
        (&group["interactions"], &group["in_time_percent"], &group["average_days_since_contact"]),
        (&json!(1), &json!(0), &json!(29))
    );
    // An older day that is told later does not make it longer.
    client.json("mark_contacted", json!({"contact_id": work, "date": day(50)}));
    assert_eq!(client.json("get_contact", json!({"contact_id": work}))["contacted_at"], day(29));
}

#[test]
fn logs_are_linked_by_labels() {
    let app = full();
    let mut client = app.sse("/mcp/oauth", &[]);
    let ada = add(&mut client, json!({"name": "Ada", "label": "@ada"}));
    add(&mut client, json!({"name": "Bob", "label": "bob"}));
    let log = client.json("add_log", json!({"content": "Dinner with @Ada, @bob and @carl. ÄPFEL"}));
    assert_eq!((log["contact_ids"].as_array().unwrap().len(), &log["unknown_labels"]), (2, &json!(["carl"])));
    client.json("add_log", json!({"content": "alone"}));
    assert_eq!(client.json("list_logs", json!({"days": 1}))["count"], 2);
    assert_eq!(client.json("list_logs", json!({"contact_id": ada}))["count"], 1);
    assert_eq!(client.json("get_contact_logs", json!({"contact_id": ada}))["logs"][0]["id"], log["id"]);
    assert_eq!(client.json("search_logs", json!({"query": "äpfel"}))["count"], 1);
    assert_eq!(client.call("get_contact_logs", json!({"contact_id": 99}))["isError"], true);
}

#[test]
fn notes_are_written_where_they_are_wanted() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    let ada = add(&mut client, json!({"name": "Ada: \"Countess\"\n---", "company": "Engines", "label": "@ada"}));
    assert_eq!(client.call("get_contact_note_url", json!({"contact_id": ada}))["isError"], true);
    let url = client.json("create_contact_note", json!({"contact_id": ada, "content": "She likes tea."}))["url"].clone();
    assert_eq!(url, format!("memory://contacts/contact-{ada}"));
    assert_eq!(client.call("create_contact_note", json!({"contact_id": ada}))["isError"], true);
    client.json("mark_contacted", json!({"contact_id": ada, "date": "2026-01-31"}));
    client.json("update_contact_note", json!({"contact_id": ada}));
    let note = std::fs::read_to_string(app.dir.join(format!("data/contacts/basic-memory/contacts/contact-{ada}.md"))).unwrap();
    for line in [
        format!("contact_id: {ada}"),
        "relationship: \"network\"".into(),
        "last_contact: \"2026-01-31\"".into(),
        "company: \"Engines\"".into(),
    ] {
        assert!(note.contains(&line), "{note}");
    }
    assert!(note.ends_with("\n\nShe likes tea.\n"), "{note}");
    assert_eq!(client.json("get_contact_note_url", json!({"contact_id": ada}))["url"], url);
    assert_eq!(client.call("link_contact_note", json!({"contact_id": ada, "url": "https://x"}))["code"], -32602);
    assert_eq!(client.json("link_contact_note", json!({"contact_id": ada, "url": "memory://people/ada"}))["url"], "memory://people/ada");
    let without = App::start("contacts", &[], &[("CONTACTS_TOOLS", "full")]);
    let told = without.http("/mcp", &[]).call("create_contact_note", json!({"contact_id": 1}));
    assert!(told["content"][0]["text"].as_str().unwrap().contains("BASIC_MEMORY_ENABLED"), "{told}");
}

#[test]
fn contacts_come_from_files_and_who_is_there_twice_is_made_one() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    let ada = add(&mut client, json!({"name": "Ada Lovelace", "email": "ada@example.com", "label": "@ada", "notes": "first"}));
    let csv = "Name,E-mail 1 - Value,Phone 1 - Value\nada lovelace,ADA@example.com,+44 20 7946 0958\nBob,bob@example.com,\n,,\n";
    let rehearsed = client.json("import_contacts", json!({"format": "csv", "content": csv, "dry_run": true}));
    assert_eq!((&rehearsed["added"], &rehearsed["skipped"]), (&json!(1), &json!(1)));
    assert_eq!(client.json("search_contacts", json!({"query": "*"}))["total"], 1, "nothing was done");
    let told = client.json("import_contacts", json!({"format": "csv", "content": csv, "on_duplicate": "update"}));
    assert_eq!((&told["added"], &told["updated"], told["problems"].as_array().unwrap().len()), (&json!(1), &json!(1), 1), "{told}");
    assert_eq!(client.json("get_contact", json!({"contact_id": ada}))["phone"], "+44 20 7946 0958");
    assert_eq!(client.call("import_contacts", json!({"format": "csv", "content": "nonsense"}))["code"], -32602);

    for format in ["vcard", "csv"] {
        let out = client.json("export_contacts", json!({"format": format}));
        let again = App::start("contacts", &[], &[("CONTACTS_EXTRAS", "true")]);
        let mut other = again.http("/mcp", &[]);
        assert_eq!(other.json("import_contacts", json!({"format": format, "content": out["content"]}))["added"], 2);
        let same = other.json("search_contacts", json!({"query": "ada@"}));
        assert_eq!((&same["contacts"][0]["name"], &same["contacts"][0]["label"]), (&json!("Ada Lovelace"), &json!("@ada")));
        // Twice is no more than once.
        assert_eq!(other.json("import_contacts", json!({"format": format, "content": out["content"]}))["skipped"], 2);
    }

    let twin = add(&mut client, json!({"name": "A. L.", "phone": "020 7946 0958", "company": "Engines", "notes": "second"}));
    client.json("mark_contacted", json!({"contact_id": twin, "date": "2026-01-31"}));
    let found = client.json("find_duplicates", json!({}));
    assert_eq!((&found["total"], found["groups"][0]["contacts"].as_array().unwrap().len()), (&json!(1), 2), "{found}");
    let merged = client.json("merge_contacts", json!({"contact_id": ada, "contact_ids": [twin], "confirm": true}))["contact"].clone();
    assert_eq!(
        (&merged["company"], &merged["notes"], &merged["contacted_at"]),
        (&json!("Engines"), &json!("first\n\nsecond"), &json!("2026-01-31"))
    );
    assert_eq!(client.json("get_contact", json!({"contact_id": ada}))["interactions"].as_array().unwrap().len(), 1);
    assert_eq!(client.call("get_contact", json!({"contact_id": twin}))["isError"], true);
    assert_eq!(client.call("merge_contacts", json!({"contact_id": ada, "contact_ids": [ada], "confirm": true}))["code"], -32602);
    assert_eq!(client.json("find_duplicates", json!({}))["total"], 0);
}

// --- REST ----------------------------------------------------------------------------------------

#[test]
fn rest_does_what_the_tools_do() {
    let app = App::start("contacts", &[], &[]);
    let send = |method: &str, path: &str, body: Value| app.wire().request(method, path, &[], Some(&body.to_string()));
    let made = send("POST", "/api/contacts", json!({"name": "Ada", "email": "a@x.org"}));
    let id = made.json()["id"].as_i64().unwrap();
    let at = format!("/api/contacts/{id}");
    assert_eq!((made.status, made.header("location")), (201, Some(at.as_str())));
    assert_eq!(send("PATCH", &at, json!({"company": "Engines"})).json()["company"], "Engines");
    assert_eq!(send("PUT", &format!("{at}/state"), json!({"state": "ping"})).json()["state"], "ping");
    assert_eq!(send("POST", &format!("{at}/contacted"), json!({"interaction_type": "call"})).json()["contact"]["state"], json!(null));
    assert_eq!(app.get(&at).json()["interactions"][0]["interaction_type"], "call");
    assert_eq!(app.get("/api/contacts?query=engines&limit=5").json()["total"], 1);
    assert_eq!(send("POST", "/api/logs", json!({"content": "x"})).status, 201);
    assert_eq!(app.get("/api/logs").json()["count"], 1);
    assert_eq!(send("POST", "/api/operations/get_contact_stats", json!({})).json()["total"], 1);
    assert_eq!(app.get("/api/operations").json()["operations"].as_array().unwrap().len(), 30);
    assert_eq!(app.get("/api/contacts/duplicates").json()["total"], 0);
    // The same as by the tool.
    assert_eq!(app.http("/mcp", &[]).json("search_contacts", json!({"query": "engines"}))["contacts"][0]["id"], id);

    let card = app.get("/api/contacts/export?format=vcard");
    assert!(card.header("content-type").unwrap().starts_with("text/vcard") && card.text().starts_with("BEGIN:VCARD"));
    let imported = app.wire().request("POST", "/api/contacts/import", &[("content-type", "text/csv")], Some("name,email\nBob,b@x.org\n"));
    assert_eq!(imported.json()["added"], 1, "{}", imported.text());
    assert_eq!(app.wire().request("DELETE", &at, &[], None).status, 400);
    assert_eq!(app.wire().request("DELETE", &format!("{at}?confirm=true"), &[], None).status, 200);

    let wrong = |response: Response, status: u16| {
        assert!(response.status == status && response.json()["error"].is_string(), "{}: {}", response.status, response.text())
    };
    wrong(app.get(&at), 404);
    wrong(app.get("/api/contacts/x"), 400);
    wrong(app.get("/api/nothing"), 404);
    wrong(app.get("/api/contacts?relationship_type=friend"), 400);
    wrong(send("POST", "/api/contacts", json!([])), 400);
    wrong(send("POST", "/api/contacts", json!({"name": ""})), 400);
    wrong(send("POST", "/api/operations/nothing", json!({})), 404);
    wrong(send("POST", "/api/operations/create_contact_note", json!({"contact_id": 1})), 501);
    let huge = app.wire().request("POST", "/api/contacts/import?format=csv", &[], Some(&"x".repeat(6 * 1024 * 1024)));
    assert_eq!(huge.status, 413);
}

#[test]
fn rest_is_for_who_may_call() {
    let app = App::start("contacts", &[], &[("BEARER_TOKEN", TOKEN), ("CONTACTS_AUTH_STORE", "memory:")]);
    assert_eq!(app.get("/api/contacts").status, 401);
    assert_eq!(app.get_with("/api/contacts", &[("Authorization", &bearer(TOKEN))]).status, 200);
    assert_eq!(app.get_with("/api/contacts", &[("Authorization", &bearer(TOKEN)), ("Origin", "https://evil.example")]).status, 403);
}

// --- the file ------------------------------------------------------------------------------------

#[test]
fn an_empty_file_gets_the_tables_that_other_programs_know() {
    let dir = fresh_dir("contacts");
    let path = dir.join("new.db");
    let app = App::start_in(&dir, "contacts", &[], &[("CONTACTS_DB_PATH", path.to_str().unwrap())]);
    let id = app.http("/mcp", &[]).json("add_contact", json!({"name": "Ada"}))["id"].clone();
    file(&path, async |c| {
        let columns = one(c, "SELECT group_concat(name) FROM pragma_table_info('contacts')").await;
        assert_eq!(columns.split(',').count(), 24, "{columns}");
        for index in ["relationship_type", "contacted_at", "state", "label", "relationship_contacted"] {
            assert_eq!(one(c, &format!("SELECT count(*) FROM sqlite_master WHERE name = 'idx_contacts_{index}'")).await, "1");
        }
        assert_eq!(one(c, "SELECT source || contact_style || bump_count || archived FROM contacts").await, "manualperiodic00");
        // As another program writes, while we run.
        sqlx::raw_sql(
            "UPDATE contacts SET updated_at = '2020-01-01 00:00:00'; UPDATE contacts SET contacted_at = '2026-01-31 10:11:12.5+01:00'",
        )
        .execute(&mut *c)
        .await
        .unwrap();
        assert_ne!(one(c, "SELECT updated_at FROM contacts").await, "2020-01-01 00:00:00", "the trigger");
        for wrong in ["relationship_type = 'friend'", "state = 'busy'", "contact_style = 'x'"] {
            assert!(sqlx::query(AssertSqlSafe(format!("UPDATE contacts SET {wrong}"))).execute(&mut *c).await.is_err(), "{wrong}");
        }
    });
    assert_eq!(app.http("/mcp", &[]).json("get_contact", json!({"contact_id": id}))["contacted_at"], "2026-01-31");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    drop(app);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn an_older_file_is_brought_up_to_date_and_kept() {
    let dir = fresh_dir("contacts");
    let path = dir.join("old.db");
    file(&path, async |c| {
        let old = "CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT, color TEXT,
                relationship_type TEXT CHECK (relationship_type IN ('close', 'family', 'network', 'friends')), state TEXT, contacted_at DATE);
            CREATE TABLE contact_interactions (id INTEGER PRIMARY KEY AUTOINCREMENT,
                contact_id INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
                interaction_type TEXT NOT NULL, interaction_date DATETIME NOT NULL, notes TEXT, created_at DATETIME);
            INSERT INTO contacts VALUES (7, 'Ada', 'a@x.org', 'green', 'close', 'ping', '2026-01-31'), (9, 'Bob', NULL, NULL, 'friends', '', NULL);
            INSERT INTO contact_interactions VALUES (1, 7, 'call', '2026-01-31', 'tea', NULL);";
        sqlx::raw_sql(old).execute(c).await.unwrap();
    });
    let variables = [("CONTACTS_DB_PATH", path.to_str().unwrap())];
    // Twice: the second time there is nothing to do.
    for _ in 0..2 {
        let app = App::start_in(&dir, "contacts", &[], &variables);
        let mut client = app.http("/mcp", &[]);
        let ada = client.json("get_contact", json!({"contact_id": 7}));
        assert_eq!(
            (&ada["relationship_type"], &ada["state"], &ada["interactions"][0]["notes"]),
            (&json!("close"), &json!("ping"), &json!("tea"))
        );
        let bob = client.json("get_contact", json!({"contact_id": 9}));
        assert_eq!(
            (&bob["relationship_type"], &bob["state"], &bob["contact_style"]),
            (&json!("network"), &json!(null), &json!("periodic"))
        );
        let new = add(&mut client, json!({"name": "Carl", "relationship_type": "recruiters", "state": "timeout"}));
        assert!(new > 9);
    }
    file(&path, async |c| {
        assert_eq!(one(c, "SELECT color FROM contacts WHERE id = 7").await, "green", "what we do not know stays");
        assert_eq!(one(c, "SELECT count(*) FROM pragma_foreign_key_check").await, "0");
    });
    let before = dir.join("old.db.before");
    assert_eq!(file(&before, async |c| one(c, "SELECT count(*) FROM contacts").await), "2");
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn a_file_of_contacts_tui_stays_as_it_is_and_both_write_to_it() {
    let dir = fresh_dir("contacts");
    let path = dir.join("tui.db");
    file(&path, async |c| {
        // Its columns and words; neither a CHECK on the style nor our indexes.
        let theirs =
            "CREATE TABLE contacts (id INTEGER PRIMARY KEY AUTOINCREMENT, external_id TEXT UNIQUE, source TEXT NOT NULL DEFAULT 'manual',
                name TEXT NOT NULL, email TEXT, phone TEXT, company TEXT, notes TEXT,
                relationship_type TEXT CHECK (relationship_type IN ('close','family','network','social','providers','recruiters','work'))
                    NOT NULL DEFAULT 'network',
                contacted_at DATE,
                state TEXT CHECK (state IN ('ping','invite','write','pinged','followup','sked','notes','scheduled','timeout','ok')),
                follow_up_date DATE, deadline_date DATE, created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
                updated_at DATETIME DEFAULT CURRENT_TIMESTAMP, synced_at DATETIME, label TEXT, basic_memory_url TEXT,
                last_bump_date TIMESTAMP, bump_count INTEGER DEFAULT 0, archived BOOLEAN DEFAULT 0, archived_at TIMESTAMP,
                contact_style TEXT DEFAULT 'periodic', custom_frequency_days INTEGER);
            CREATE TRIGGER update_contact_timestamp AFTER UPDATE ON contacts
                BEGIN UPDATE contacts SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;
            INSERT INTO contacts (name, label, contacted_at, last_bump_date)
                VALUES ('Ada', '@ada', '2026-01-31 00:00:00+00:00', '2026-02-03 10:11:12.123456789+01:00');";
        sqlx::raw_sql(theirs).execute(c).await.unwrap();
    });
    let written = |path: &Path| file(path, async |c| one(c, "SELECT sql FROM sqlite_master WHERE name = 'contacts'").await);
    let before = written(&path);
    let app = App::start_in(&dir, "contacts", &[], &[("CONTACTS_DB_PATH", path.to_str().unwrap()), ("CONTACTS_TOOLS", "full")]);
    let mut client = app.http("/mcp", &[]);
    let ada = client.json("get_contact", json!({"contact_id": 1}));
    assert_eq!((&ada["contacted_at"], &ada["last_bump_date"]), (&json!("2026-01-31"), &json!("2026-02-03")));
    client.json("mark_contacted", json!({"contact_id": 1, "date": "2026-02-01"}));
    client.json("add_log", json!({"content": "with @ada"}));
    file(&path, async |c| {
        assert_eq!(one(c, "SELECT contacted_at FROM contacts").await, "2026-02-01");
        sqlx::raw_sql("UPDATE contacts SET state = 'ping'").execute(&mut *c).await.unwrap();
    });
    assert_eq!(client.json("list_active_contacts", json!({}))["total"], 1);
    assert_eq!(written(&path), before);
    assert!(!dir.join("tui.db.before").exists());
    drop(app);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn what_was_answered_survives_the_end_of_the_process() {
    let dir = fresh_dir("contacts");
    let mut answered: Vec<i64> = Vec::new();
    let mut id = 0;
    for round in 0..6_u64 {
        let app = App::start_in(&dir, "contacts", &[], &[]);
        if round == 0 {
            id = add(&mut app.http("/mcp", &[]), json!({"name": "Ada", "state": "ping"}));
        }
        let port = app.port;
        let writer = std::thread::spawn(move || {
            let mut done = Vec::new();
            loop {
                let call = json!({"name": "mark_contacted", "arguments": {"contact_id": id, "notes": format!("round {round}")}});
                let body = request(1, "tools/call", call).to_string();
                let said = std::panic::catch_unwind(|| crate::wire::Wire::connect(port).post("/mcp", &[], &body).json());
                match said.ok().and_then(|said| said["result"]["structuredContent"]["interaction_id"].as_i64()) {
                    Some(interaction) => done.push(interaction),
                    None => return done,
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(150 + 70 * round));
        app.kill();
        answered.extend(writer.join().unwrap());
    }
    assert!(answered.len() > 6, "it wrote: {answered:?}");
    let path = dir.join("data/contacts/contacts.db");
    file(&path, async |c| {
        assert_eq!(one(c, "SELECT integrity_check FROM pragma_integrity_check").await, "ok");
        for interaction in &answered {
            assert_eq!(one(c, &format!("SELECT count(*) FROM contact_interactions WHERE id = {interaction}")).await, "1", "{interaction}");
        }
        // Both parts of a change, or none.
        let both =
            "SELECT count(*) FROM contacts WHERE contacted_at = (SELECT max(interaction_date) FROM contact_interactions) AND state IS NULL";
        assert_eq!(one(c, both).await, "1");
    });
    let app = App::start_in(&dir, "contacts", &[], &[]);
    assert_eq!(app.http("/mcp", &[]).json("get_contact", json!({"contact_id": id}))["name"], "Ada");
    drop(app);
    let _ = std::fs::remove_dir_all(&dir);
}

// --- the page ------------------------------------------------------------------------------------

#[test]
fn every_command_of_the_page_works() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contacts.md")).unwrap();
    let dir = fresh_dir("contacts");
    let bin = Path::new(crate::app::PROGRAM).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut server: Option<App> = None;
    let mut n_ran = 0;
    for block in page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let words: Vec<&str> = block.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "landbridge-apps");
        if let Some(at) = at.filter(|_| !words.contains(&"--help")) {
            // A server, that runs until the next one.
            let variables: Vec<(&str, &str)> = words[..at].iter().map(|word| word.split_once('=').unwrap()).collect();
            let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.trim_matches('\''))).collect();
            drop(server.take());
            server = Some(App::start_in(&dir, "contacts", &words[at + 2..], &variables));
        } else {
            let port = server.as_ref().map_or(8787, |server| server.port);
            let script = format!("set -euo pipefail\n{}", block.replace("8787", &port.to_string()));
            let script = script.replace("apps/contacts/test-sse.sh", concat!(env!("CARGO_MANIFEST_DIR"), "/contacts/test-sse.sh"));
            let done = Command::new("bash").arg("-c").arg(&script).current_dir(&dir).env("PATH", &path).output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success() && !said.contains("\"error\""), "{block}\n{said}");
        }
        n_ran += 1;
    }
    assert!(n_ran >= 8, "{n_ran}");
    drop(server);
    let _ = std::fs::remove_dir_all(&dir);
}
