//! The contacts themselves: all tools, REST, files of other programs, and the page about all that.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::app::{App, Client, fresh_dir};
use crate::contacts::{TOKEN, bearer};
use crate::contacts_file::{add, file, one};
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

fn day(days_ago: i64) -> String {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    today.checked_sub(jiff::Span::new().days(days_ago)).unwrap().to_string()
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

// --- what others write, and what strangers ask ----------------------------------------------------

#[test]
fn a_text_is_found_in_letters_of_any_size_and_means_only_itself() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    for (name, more) in [
        ("Ünal Çelik", json!({"company": "ÖBB"})),
        ("ünal zwei", json!({"notes": "likes 100% wool_socks"})),
        ("Straße", json!({"email": "o'hara@x.org"})),
        ("Zoë", json!({"label": "@ÄPFEL", "relationship_type": "work"})),
        ("ΟΔΟΣ", json!({"notes": "back\\slash \"quoted\" * [a-z]"})),
        ("小林", json!({"state": "ping"})),
    ] {
        let mut contact = more;
        contact["name"] = json!(name);
        add(&mut client, contact);
    }
    let mut names = |query: &str| -> Vec<String> {
        let told = client.json("search_contacts", json!({"query": query}));
        assert_eq!(told["total"], told["count"]);
        told["contacts"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    for (query, found) in [
        ("ÜNAL", &["ünal zwei", "Ünal Çelik"][..]),
        ("çelik", &["Ünal Çelik"]),
        ("öbb", &["Ünal Çelik"]),
        ("äpfel", &["Zoë"]),
        ("STRAßE", &["Straße"]),
        ("小", &["小林"]),
        // Nothing of these is anything but itself.
        ("100%", &["ünal zwei"]),
        ("100_", &[]),
        ("l_socks", &["ünal zwei"]),
        ("%", &["ünal zwei"]),
        ("_", &["ünal zwei"]),
        ("o'hara", &["Straße"]),
        ("' OR 1=1 --", &[]),
        ("back\\slash", &["ΟΔΟΣ"]),
        ("\"quoted\" *", &["ΟΔΟΣ"]),
        ("[a-z]", &["ΟΔΟΣ"]),
        (".", &["Straße"]),
        ("?1", &[]),
    ] {
        let mut found: Vec<&str> = found.to_vec();
        let mut there = names(query);
        found.sort_unstable();
        there.sort_unstable();
        assert_eq!(there, found, "{query}");
    }
    assert_eq!(names("*"), ["Straße", "Zoë", "ünal zwei", "Ünal Çelik", "ΟΔΟΣ", "小林"], "small and large letters stand together");
    assert_eq!(names("   ").len(), 6);
    let page = client.json("search_contacts", json!({"query": "", "limit": 2}));
    assert_eq!((&page["count"], &page["total"]), (&json!(2), &json!(6)));
    let one = client.json("search_contacts", json!({"query": "o", "relationship_type": "WORK"}));
    assert_eq!((&one["total"], &one["contacts"][0]["name"]), (&json!(1), &json!("Zoë")));
    // Logs as well.
    client.json("add_log", json!({"content": "Fünf ÄPFEL, 100%_"}));
    for (query, count) in [("fünf äpfel", 1), ("FÜNF", 1), ("%_", 1), ("f_nf", 0), ("'", 0)] {
        assert_eq!(client.json("search_logs", json!({"query": query}))["count"], count, "{query}");
    }
}

#[test]
fn nothing_that_another_program_writes_keeps_the_others_from_being_found() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    let good = add(&mut client, json!({"name": "Good"}));
    let path = app.dir.join("data/contacts/contacts.db");
    file(&path, async |c| {
        let odd = "INSERT INTO contacts (id, name, label, contacted_at, last_bump_date, deadline_date, follow_up_date, custom_frequency_days, bump_count, archived)
            VALUES (101, x'ff41646120', '@twin', '2026-02-30', 'now', '', '', 'often', 'many', 'no'),
                (102, 'One', '@Twin ', 20260131, 1769817600.5, 'soon', NULL, 7.9, 2.7, NULL),
                (103, x'00', 'twin', '0000-00-00', '9999-99-99', '2026-01-31T10:00:00Z', NULL, -5, -1, 0),
                (104, 'Future', NULL, '2999-01-01 00:00:00+00:00', NULL, NULL, NULL, 99999999999, NULL, 1);
            UPDATE contacts SET email = CAST(x'fffe' AS TEXT), notes = 7, phone = 1.5 WHERE id = 102;
            INSERT INTO logs (content) VALUES ('plain');";
        sqlx::raw_sql(odd).execute(c).await.unwrap();
    });
    assert_eq!(client.json("search_contacts", json!({"query": "*"}))["total"], 5);
    assert_eq!(client.json("search_contacts", json!({"query": "good"}))["contacts"][0]["id"], good);
    for (id, overdue, days) in [(101, true, json!(null)), (102, true, json!(null)), (103, true, json!(null)), (104, false, json!(null))] {
        let told = client.json("get_contact", json!({"contact_id": id}));
        assert_eq!((&told["overdue"], &told["overdue_days"]), (&json!(overdue), &days), "{told}");
    }
    for tool in
        ["list_overdue_contacts", "list_active_contacts", "get_contact_stats", "suggest_tasks", "analyze_relationships", "find_duplicates"]
    {
        client.json(tool, json!({}));
    }
    for format in ["vcard", "csv"] {
        assert_eq!(client.json("export_contacts", json!({"format": format}))["count"], 5);
    }
    // Three have one label there, which forbids nothing that leaves it as it is.
    for tool in ["mark_contacted", "bump_contact", "set_contact_state", "archive_contact"] {
        client.json(tool, json!({"contact_id": 102}));
    }
    client.json("bulk_change_relationship", json!({"contact_ids": [101, 102, 103], "relationship_type": "work"}));
    client.json("update_contact_info", json!({"contact_id": 102, "phone": "1"}));
    assert_eq!(client.call("update_contact_info", json!({"contact_id": good, "label": "TWIN"}))["isError"], true);
    assert_eq!(client.json("add_log", json!({"content": "with @twin"}))["contact_ids"], json!([101]), "who had it first");
}

#[test]
fn overdue_is_counted_by_days_of_the_relationship_and_by_whatever_was_last() {
    for (setting, work, recruiters) in [("", 30, 90), ("tui", 60, 60), ("work=5", 5, 90)] {
        let app =
            App::start("contacts", &[], &[("CONTACTS_TOOLS", "full"), ("CONTACTS_EXTRAS", "true"), ("CONTACTS_OVERDUE_DAYS", setting)]);
        let mut client = app.http("/mcp", &[]);
        let mut wanted = Vec::new();
        let mut total = 0;
        for (relationship, days) in [("close", 30), ("family", 30), ("network", 90), ("work", work), ("recruiters", recruiters)] {
            for over in [-1, 0, 1, 40] {
                let id = add(&mut client, json!({"name": format!("{relationship} {over}"), "relationship_type": relationship}));
                client.json("mark_contacted", json!({"contact_id": id, "date": day(days + over)}));
                total += 1;
                if over > 0 {
                    wanted.push((over, id));
                }
                let told = client.json("get_contact", json!({"contact_id": id}));
                assert_eq!((&told["overdue"], &told["frequency_days"]), (&json!(over > 0), &json!(days)), "{told}");
                assert_eq!(told["overdue_days"], if over > 0 { json!(over) } else { json!(null) });
            }
        }
        wanted.sort_by_key(|(over, _)| std::cmp::Reverse(*over));
        let late = client.json("list_overdue_contacts", json!({"limit": 7}));
        assert_eq!((&late["count"], &late["total"]), (&json!(7), &json!(wanted.len())));
        let came: Vec<i64> = late["contacts"].as_array().unwrap().iter().map(|one| one["overdue_days"].as_i64().unwrap()).collect();
        assert_eq!(came, wanted.iter().take(7).map(|(over, _)| *over).collect::<Vec<_>>(), "{setting:?}: the longest first");
        let only = client.json("list_overdue_contacts", json!({"relationship_type": "work"}));
        assert_eq!(only["total"], 2);
        let stats = client.json("get_contact_stats", json!({}));
        assert_eq!(
            (&stats["overdue"], &stats["total"], &stats["overdue_after_days"]["work"]),
            (&json!(wanted.len()), &json!(total), &json!(work))
        );
        let report = client.json("report_by_group", json!({"relationship_type": "close"}));
        assert_eq!((&report["overdue"], &report["total"], report["contacts"].as_array().unwrap().len()), (&json!(2), &json!(4), 4));
        let tasks = client.json("suggest_tasks", json!({"limit": 3}));
        assert_eq!(
            (&tasks["count"], &tasks["total"], &tasks["tasks"][0]["why"]),
            (&json!(3), &json!(wanted.len()), &json!("overdue for 40 days"))
        );
        // A number of their own counts for more, until it is taken away.
        let id = wanted[0].1;
        for (own, overdue) in [(500, false), (1, true), (0, true)] {
            let told = client.json("update_contact_info", json!({"contact_id": id, "custom_frequency_days": own}));
            assert_eq!(told["overdue"], overdue, "{own}");
        }
        assert_eq!(client.json("get_contact", json!({"contact_id": id}))["custom_frequency_days"], json!(null));
    }
}

#[test]
fn a_hundred_thousand_are_searched_while_somebody_waits() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    let path = app.dir.join("data/contacts/contacts.db");
    file(&path, async |c| {
        let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 99999)
            INSERT INTO contacts (name, label, notes, relationship_type, contacted_at)
            SELECT 'Person Ü' || n, '@p' || n, printf('%.*c', 200, 'x'), iif(n % 2, 'work', 'close'), date('now', '-' || (n % 400) || ' days') FROM n;";
        sqlx::raw_sql(many).execute(c).await.unwrap();
    });
    let begun = std::time::Instant::now();
    let found = client.json("search_contacts", json!({"query": "person ü99998", "limit": 5}));
    assert_eq!((&found["total"], &found["contacts"][0]["label"]), (&json!(1), &json!("@p99998")));
    let all = client.json("search_contacts", json!({"query": "*", "limit": 3}));
    assert_eq!((&all["count"], &all["total"]), (&json!(3), &json!(99_999)));
    assert_eq!(client.json("list_overdue_contacts", json!({"limit": 1}))["contacts"][0]["overdue_days"], 369);
    assert_eq!(client.json("get_contact_stats", json!({}))["by_relationship"]["work"], 50_000);
    // A change of many looks at no others.
    client.json("bulk_mark_contacted", json!({"contact_ids": (1..=500).collect::<Vec<_>>()}));
    assert!(begun.elapsed() < std::time::Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(client.json("add_contact", json!({"name": "The last"}))["id"], 100_000);
    let full = client.call("add_contact", json!({"name": "One too many"}));
    assert!(full["isError"] == true && full["content"][0]["text"].as_str().unwrap().contains("100000"), "{full}");
    let taken = client.call("update_contact_info", json!({"contact_id": 1, "label": " @P99998"}));
    assert!(taken["content"][0]["text"].as_str().unwrap().contains("99998"), "{taken}");
}

#[test]
fn several_at_one_contact_lose_nothing_of_each_other() {
    let app = full();
    let id = add(&mut app.http("/mcp", &[]), json!({"name": "Ada", "state": "ping"}));
    std::thread::scope(|scope| {
        for n in 0..6 {
            let app = &app;
            scope.spawn(move || {
                let mut client = if n % 2 == 0 { app.http("/mcp", &[]) } else { app.sse("/mcp/oauth", &[]) };
                for k in 0..8 {
                    client.json("bump_contact", json!({"contact_id": id}));
                    let field = ["email", "phone", "company"][n % 3];
                    client.json("update_contact_info", json!({"contact_id": id, field: format!("{field} {k}")}));
                    client.call("update_contact_info", json!({"contact_id": id, "label": "@ada"}));
                    client.call("add_contact", json!({"name": "Twin", "label": format!("@twin{k}")}));
                }
            });
        }
    });
    let mut client = app.http("/mcp", &[]);
    let ada = client.json("get_contact", json!({"contact_id": id, "limit": 500}));
    assert_eq!((&ada["bump_count"], ada["interactions"].as_array().unwrap().len()), (&json!(48), 48));
    for field in ["email", "phone", "company"] {
        assert_eq!(ada[field], format!("{field} 7"), "a change of one field leaves the others");
    }
    assert_eq!(client.json("search_contacts", json!({"query": "twin"}))["total"], 8, "a label is one contact's, whoever was faster");
}

#[test]
fn whatever_is_asked_is_done_or_refused_and_never_our_fault() {
    let app = full();
    let mut client = app.http("/mcp", &[]);
    add(&mut client, json!({"name": "Ada", "label": "@ada"}));
    let operations = app.get("/api/operations").json();
    let long = "ü".repeat(30_000);
    let hostile = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(9_223_372_036_854_775_807_u64),
        json!(u64::MAX),
        json!(""),
        json!("   "),
        json!("NaN"),
        json!("-1"),
        json!("1; DROP TABLE contacts"),
        json!("' OR '1'='1"),
        json!("%"),
        json!("\u{0}"),
        json!("\u{202e}\u{feff}"),
        json!("../../etc/passwd"),
        json!("=cmd|' /C calc'!A0"),
        json!("<script>alert(1)</script>"),
        json!("2026-02-30"),
        json!("9999-12-31"),
        json!("２０２６-01-01"),
        json!("@"),
        json!(long),
        json!([]),
        json!({}),
        json!([[1]]),
        json!([1, "x"]),
        json!([1, -1]),
        json!([1e300]),
        json!((0..600).collect::<Vec<_>>()),
        json!({"a": {"b": []}}),
    ];
    let mut n_asked = 0;
    for operation in operations["operations"].as_array().unwrap() {
        let name = operation["name"].as_str().unwrap();
        let properties = operation["arguments"]["properties"].as_object().unwrap();
        let valid = |argument: &str| match argument {
            "contact_ids" => json!([1]),
            "contact_id" => json!(1),
            "confirm" => json!(false),
            "relationship_type" => json!("work"),
            "format" => json!("csv"),
            "content" if name == "import_contacts" => json!("name\nBob\n"),
            "url" => json!("memory://x"),
            _ => json!("x"),
        };
        let needed: Vec<&str> =
            operation["arguments"]["required"].as_array().into_iter().flatten().map(|one| one.as_str().unwrap()).collect();
        let usual: serde_json::Map<String, Value> = needed.iter().map(|one| ((*one).to_owned(), valid(one))).collect();
        for argument in properties.keys() {
            for value in hostile.iter().filter(|value| argument != "confirm" || **value != json!(true)) {
                let mut arguments = usual.clone();
                arguments.insert(argument.clone(), value.clone());
                let said = client.call(name, Value::Object(arguments));
                n_asked += 1;
                let text = said["content"][0]["text"].as_str().unwrap_or_default();
                assert!(said["code"].is_null() || said["code"] == -32602, "{name} {argument} {value}: {said}");
                assert!(!text.contains("just now") && !said.to_string().contains("SQL"), "{name} {argument} {value}: {said}");
            }
        }
        // Nor is an argument that there is not.
        assert_eq!(client.call(name, json!({"__proto__": {}}))["code"], -32602, "{name}");
    }
    assert!(n_asked > 1000, "{n_asked}");
    let mut left = app.http("/mcp", &[]);
    assert_eq!(left.json("get_contact", json!({"contact_id": 1}))["id"], 1);
    let sound =
        file(&app.dir.join("data/contacts/contacts.db"), async |c| one(c, "SELECT integrity_check FROM pragma_integrity_check").await);
    assert_eq!(sound, "ok");
    // What was taken goes out again as it came in, and as nothing else.
    let names = ["=1+1", "+SUM(A1)", "-2+3", "@SUM(A1)", "a,b;c\"d", "line\nbreak", "END:VCARD", "BEGIN:VCARD", "\\n,;", "'=1", "<b>&amp;"];
    let source = App::start("contacts", &[], &[("CONTACTS_EXTRAS", "true")]);
    let mut client = source.http("/mcp", &[]);
    for name in names {
        add(&mut client, json!({"name": name, "notes": format!("{name}\nX-CONTACTS-STATE:ping\nEND:VCARD"), "company": name}));
    }
    for format in ["csv", "vcard"] {
        let content = client.json("export_contacts", json!({"format": format}))["content"].as_str().unwrap().to_owned();
        if format == "csv" {
            let mut rows = csv::Reader::from_reader(content.as_bytes());
            for cell in rows.records().flat_map(|row| row.unwrap().iter().map(str::to_owned).collect::<Vec<_>>()) {
                assert!(!cell.starts_with(['=', '@']) && !cell.starts_with("+S"), "{cell:?} is a formula");
            }
        } else {
            assert_eq!(content.matches("\r\nEND:VCARD\r\n").count(), names.len());
        }
        let there = App::start("contacts", &[], &[("CONTACTS_EXTRAS", "true")]);
        let mut other = there.http("/mcp", &[]);
        let told = other.json("import_contacts", json!({"format": format, "content": content}));
        assert_eq!(told["added"], names.len(), "{format}: {told}");
        let all = other.json("search_contacts", json!({"query": "*", "limit": 500}));
        let mut came: Vec<&str> = all["contacts"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        let mut went = names.to_vec();
        if format == "vcard" {
            // A name there is one line.
            went.iter_mut().for_each(|name| {
                if *name == "line\nbreak" {
                    *name = "line break"
                }
            });
        }
        came.sort_unstable();
        went.sort_unstable();
        assert_eq!(came, went, "{format}");
        assert!(all["contacts"].as_array().unwrap().iter().all(|one| one["state"].is_null()), "{all}");
    }
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
