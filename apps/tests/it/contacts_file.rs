//! The file of the contacts: who may open it, what becomes of an older one, and what is left of it when the process is killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::app::{App, Client, fresh_dir, run};
use crate::contacts::request;
use crate::wire::Wire;

/// Somebody's id.
pub fn add(client: &mut Client, contact: Value) -> i64 {
    client.json("add_contact", contact)["id"].as_i64().unwrap()
}

/// Works on the file, as another program does.
pub fn file<T>(path: &Path, work: impl AsyncFnOnce(&mut SqliteConnection) -> T) -> T {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        let done = work(&mut connection).await;
        connection.close().await.unwrap();
        done
    })
}

pub async fn one(connection: &mut SqliteConnection, query: &str) -> String {
    let row = sqlx::query(AssertSqlSafe(format!("SELECT CAST(({query}) AS TEXT)"))).fetch_one(connection).await.unwrap();
    row.try_get::<Option<String>, _>(0).unwrap().unwrap_or_default()
}

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

/// The columns, keys, indexes and triggers of all tables, as far as everybody has to have them.
async fn shape(c: &mut SqliteConnection) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for query in [
        "SELECT m.name || '.' || c.name || ' ' || c.pk FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'",
        "SELECT 'index ' || m.name || ' ' || m.tbl_name || ' ' || (SELECT group_concat(name) FROM pragma_index_info(m.name)) FROM sqlite_master m WHERE type = 'index' AND sql IS NOT NULL",
        "SELECT 'trigger ' || name || ' ' || tbl_name FROM sqlite_master WHERE type = 'trigger'",
        "SELECT 'reference ' || m.name || ' ' || f.\"from\" || ' ' || f.\"table\" || ' ' || f.on_delete FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'",
        "SELECT 'version ' || user_version FROM pragma_user_version",
    ] {
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut *c).await.unwrap();
        all.extend(rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()));
    }
    all
}

/// contacts-tui of its first days: nothing of bumps, archives, styles, labels and notes elsewhere, and no logs.
const FIRST: &str = "
    CREATE TABLE contacts (id INTEGER PRIMARY KEY AUTOINCREMENT, external_id TEXT UNIQUE, source TEXT NOT NULL DEFAULT 'manual',
        name TEXT NOT NULL, email TEXT, phone TEXT, company TEXT, notes TEXT,
        relationship_type TEXT CHECK (relationship_type IN ('close','family','network','social','providers','recruiters','work'))
            NOT NULL DEFAULT 'network',
        contacted_at DATE, state TEXT CHECK (state IN ('ping','invite','write','pinged','followup','sked','notes','scheduled','timeout')),
        follow_up_date DATE, deadline_date DATE, created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
        updated_at DATETIME DEFAULT CURRENT_TIMESTAMP, synced_at DATETIME);
    CREATE TABLE contact_interactions (id INTEGER PRIMARY KEY AUTOINCREMENT, contact_id INTEGER NOT NULL,
        interaction_type TEXT NOT NULL, interaction_date DATE NOT NULL, notes TEXT, created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
        FOREIGN KEY (contact_id) REFERENCES contacts (id) ON DELETE CASCADE);
    CREATE INDEX idx_contacts_search ON contacts (name, email, company);
    INSERT INTO contacts (id, name, company, relationship_type, state, contacted_at, created_at)
        VALUES (7, 'Ada', 'Engines', 'close', 'ping', '2026-01-31 00:00:00+00:00', '2020-02-02 02:02:02');
    INSERT INTO contact_interactions VALUES (3, 7, 'call', '2026-01-31', 'tea', '2026-01-31 10:00:00');";

/// With logs, but before labels had an index, and with columns that have come since: bumps only.
const SECOND: &str = "
    ALTER TABLE contacts ADD COLUMN label TEXT; ALTER TABLE contacts ADD COLUMN basic_memory_url TEXT;
    ALTER TABLE contacts ADD COLUMN last_bump_date TIMESTAMP; ALTER TABLE contacts ADD COLUMN bump_count INTEGER DEFAULT 0;
    CREATE TABLE logs (id INTEGER PRIMARY KEY AUTOINCREMENT, content TEXT NOT NULL, created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE log_contacts (log_id INTEGER NOT NULL, contact_id INTEGER NOT NULL, PRIMARY KEY (log_id, contact_id));
    UPDATE contacts SET label = '@ada', bump_count = 2;
    INSERT INTO logs VALUES (5, 'met @ada', '2026-01-31 10:00:00');
    INSERT INTO log_contacts VALUES (5, 7);
    CREATE TRIGGER update_contact_timestamp AFTER UPDATE ON contacts
        BEGIN UPDATE contacts SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;";

/// Somebody's own: fewer columns and rules, more of other things, and rows that point nowhere.
const THIRD: &str = "
    CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT, color TEXT, external_id TEXT, relationship_type TEXT, state TEXT);
    CREATE TABLE contact_interactions (contact_id INTEGER, interaction_type TEXT, interaction_date DATETIME, mood TEXT);
    CREATE TABLE logs (id INTEGER PRIMARY KEY, content TEXT, weather TEXT);
    CREATE TABLE log_contacts (log_id INTEGER, contact_id INTEGER);
    CREATE INDEX idx_contacts_state ON contacts (color);
    CREATE INDEX of_mine ON contacts (color);
    CREATE VIEW greens AS SELECT name FROM contacts WHERE color = 'green';
    CREATE TABLE seen (name TEXT);
    CREATE TRIGGER mine AFTER INSERT ON contacts BEGIN INSERT INTO seen VALUES (NEW.name); END;
    INSERT INTO contacts VALUES (7, 'Ada', 'green', 'x', 'close', 'ping'), (9, NULL, 'green', 'x', 'friends', 'busy'), (10, 'Bob', 'red', NULL, NULL, '');
    INSERT INTO contact_interactions VALUES (7, 'call', '2026-01-31', 'good'), (7, NULL, NULL, NULL), (44, 'call', '2026-01-31', NULL);
    INSERT INTO logs VALUES (5, 'met @ada', 'rain');
    INSERT INTO log_contacts VALUES (5, 7), (5, 7), (5, 41);";

#[test]
fn every_older_file_becomes_what_a_new_one_is_and_loses_nothing() {
    let dir = fresh_dir("contacts");
    let open = |path: &Path| {
        App::start_in(
            &dir,
            "contacts",
            &[],
            &[("CONTACTS_DB_PATH", path.to_str().unwrap()), ("CONTACTS_TOOLS", "full"), ("CONTACTS_EXTRAS", "true")],
        )
    };
    let new = dir.join("new.db");
    drop(open(&new));
    let wanted = file(&new, shape);
    for (name, sql) in [("none", ""), ("first", FIRST), ("second", &(FIRST.to_owned() + SECOND)), ("third", THIRD)] {
        let path = dir.join(format!("{name}.db"));
        if name == "none" {
            std::fs::write(&path, "").unwrap();
        } else {
            file(&path, async |c| {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(c).await.unwrap();
            });
        }
        let app = open(&path);
        let mut client = app.http("/mcp", &[]);
        if name != "none" {
            let ada = client.json("get_contact", json!({"contact_id": 7}));
            assert_eq!(
                (&ada["name"], &ada["relationship_type"], &ada["state"]),
                (&json!("Ada"), &json!("close"), &json!("ping")),
                "{name}"
            );
            assert_eq!(ada["interactions"][0]["interaction_date"], "2026-01-31", "{name}");
        }
        match name {
            "first" => {
                let ada = client.json("get_contact", json!({"contact_id": 7}));
                assert_eq!((&ada["contacted_at"], &ada["created_at"]), (&json!("2026-01-31"), &json!("2020-02-02 02:02:02")));
                assert_eq!(
                    (&ada["interactions"][0]["id"], &ada["contact_style"], &ada["bump_count"]),
                    (&json!(3), &json!("periodic"), &json!(0))
                );
            }
            "second" => {
                assert_eq!(client.json("get_contact", json!({"contact_id": 7}))["bump_count"], 2);
                let logs = client.json("get_contact_logs", json!({"contact_id": 7}));
                assert_eq!((&logs["logs"][0]["id"], &logs["logs"][0]["created_at"]), (&json!(5), &json!("2026-01-31 10:00:00")));
            }
            "third" => {
                let nameless = client.json("get_contact", json!({"contact_id": 9}));
                assert_eq!(
                    (&nameless["name"], &nameless["relationship_type"], &nameless["state"], &nameless["external_id"]),
                    (&json!("(no name)"), &json!("network"), &json!(null), &json!(null))
                );
                let next = add(&mut client, json!({"name": "Carl"}));
                assert!(next > 44, "{next}: who is pointed at, and gone, is nobody new");
                assert_eq!(client.json("get_contact_logs", json!({"contact_id": 7}))["count"], 1);
            }
            _ => {}
        }
        // All of it can be used.
        let bob = add(&mut client, json!({"name": "Bob", "label": "@bob", "relationship_type": "recruiters", "state": "ok"}));
        client.json("mark_contacted", json!({"contact_id": bob, "notes": "x"}));
        client.json("bump_contact", json!({"contact_id": bob}));
        client.json("archive_contact", json!({"contact_id": bob}));
        client.json("add_log", json!({"content": "with @bob"}));
        assert_eq!(client.json("delete_contact", json!({"contact_id": bob, "confirm": true}))["deleted"], bob);
        drop(app);
        let (there, sound) = file(&path, async |c| (shape(c).await, one(c, "SELECT integrity_check FROM pragma_integrity_check").await));
        assert_eq!((wanted.difference(&there).collect::<Vec<_>>(), sound.as_str()), (vec![], "ok"), "{name}");
        assert_eq!(there.len() > wanted.len(), matches!(name, "first" | "second" | "third"), "{name}: what was there besides stays");
        if name == "third" {
            file(&path, async |c| {
                assert_eq!(one(c, "SELECT group_concat(name) FROM greens").await, "Ada,(no name)");
                assert_eq!(one(c, "SELECT color || (SELECT mood FROM contact_interactions WHERE contact_id = 7 LIMIT 1) || (SELECT weather FROM logs WHERE id = 5) FROM contacts WHERE id = 7").await, "greengoodrain");
                assert_eq!(one(c, "SELECT group_concat(name) FROM seen").await, "Ada,Bob,Carl,Bob");
            });
        }
        // The copy is what was, and nobody else's business; a new file needs none.
        let before = dir.join(format!("{name}.db.before"));
        assert_eq!(before.exists(), name != "none", "{name}");
        if before.exists() {
            assert_eq!(file(&before, async |c| one(c, "SELECT count(*) FROM contacts WHERE id = 7").await), "1");
            assert!(!file(&before, shape).iter().any(|line| line.starts_with("contacts.custom_frequency_days")));
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(std::fs::metadata(&before).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        // The second time there is nothing to do.
        let written = |path: &Path| file(path, async |c| one(c, "SELECT group_concat(sql, x'0a') FROM sqlite_master").await);
        let once = written(&path);
        drop(open(&path));
        assert_eq!(written(&path), once, "{name}");
        assert!(std::fs::read_dir(&dir).unwrap().flatten().all(|entry| !entry.file_name().to_string_lossy().contains(".before.")));
    }
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn a_file_that_is_newer_or_somebody_elses_is_refused_and_stays_as_it_is() {
    let dir = fresh_dir("contacts");
    drop(App::start_in(&dir, "contacts", &[], &[]));
    let ours = std::fs::read(dir.join("data/contacts/contacts.db")).unwrap();
    for (name, sql, told) in [
        ("newer", "PRAGMA user_version = 2", "newer version of this program (its number is 2; 1 is"),
        ("music", "CREATE TABLE albums (id); CREATE TABLE songs (id)", "something else, with albums, songs and no contacts"),
        ("crm", "CREATE TABLE contacts (id INTEGER PRIMARY KEY, first TEXT, last TEXT)", "contacts has no column name"),
        (
            "logged",
            "CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE logs (line TEXT)",
            "logs has no column content",
        ),
        ("viewed", "CREATE TABLE people (id, name); CREATE VIEW contacts AS SELECT * FROM people", "contacts is a view"),
        ("wants", "ALTER TABLE contacts ADD COLUMN tenant TEXT NOT NULL DEFAULT 'x'", ""),
        ("demands", "CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT, tenant TEXT NOT NULL)", "wants a column \"tenant\""),
        ("text", "", "file is not a database"),
        ("directory", "", "directory.db"),
    ] {
        let path = dir.join(format!("{name}.db"));
        match name {
            "newer" | "wants" => std::fs::write(&path, &ours).unwrap(),
            "text" => std::fs::write(&path, "Dear diary, ".repeat(1000)).unwrap(),
            "directory" => std::fs::create_dir(&path).unwrap(),
            _ => {}
        }
        if !sql.is_empty() {
            file(&path, async |c| {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(c).await.unwrap();
            });
        }
        let variables = [("CONTACTS_DB_PATH", path.to_str().unwrap())];
        if told.is_empty() {
            // More than we know, and no harm: we can write without it.
            let app = App::start_in(&dir, "contacts", &[], &variables);
            add(&mut app.http("/mcp", &[]), json!({"name": "Ada"}));
            continue;
        }
        let state = || {
            let names: BTreeSet<_> = std::fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
            (std::fs::read(&path).ok(), std::fs::metadata(&path).unwrap().permissions(), names)
        };
        let before = state();
        let (is_good, said) = run(&dir, "contacts", &["--port", "0"], &variables);
        assert!(!is_good && said.contains(told) && said.contains(&format!("{name}.db")), "{name}: {said}");
        assert!(matches!(name, "text" | "directory") || said.contains("CONTACTS_DB_PATH"), "{name}: {said}");
        assert_eq!(state(), before, "{name} is not touched");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn whoever_falls_while_an_older_file_is_mended_begins_again() {
    const N: usize = 20_000;
    let dir = fresh_dir("contacts");
    let path = dir.join("old.db");
    file(&path, async |c| {
        let many = format!(
            "{FIRST}{SECOND} WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {N})
             INSERT INTO contacts (name, notes) SELECT 'Person ' || n, printf('%.*c', 300, 'x') FROM n;"
        );
        sqlx::raw_sql(AssertSqlSafe(many)).execute(c).await.unwrap();
    });
    let variables = [("CONTACTS_DB_PATH", path.to_str().unwrap())];
    let is_done =
        || file(&path, async |c| one(c, "SELECT count(*) FROM pragma_table_info('contacts') WHERE name = 'archived'").await) == "1";
    let mut n_fell = 0;
    for round in 0..40_u64 {
        let mut child = crate::app::command(&dir, "contacts", &variables)
            .args(["--port", "0"])
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(10 + 12 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let counts = file(&path, async |c| {
            assert_eq!(one(c, "SELECT integrity_check FROM pragma_integrity_check").await, "ok");
            one(
                c,
                "SELECT count(*) || ' ' || (SELECT count(*) FROM contact_interactions) || ' ' || (SELECT count(*) FROM logs) FROM contacts",
            )
            .await
        });
        assert_eq!(counts, format!("{} 1 1", N + 1), "round {round}");
        if is_done() {
            break;
        }
        n_fell += 1;
    }
    assert!(n_fell > 0);
    let app = App::start_in(&dir, "contacts", &[], &variables);
    assert_eq!(app.http("/mcp", &[]).json("search_contacts", json!({"query": "person 19999"}))["total"], 1);
    drop(app);
    assert!(is_done());
    let before = dir.join("old.db.before");
    assert_eq!(file(&before, async |c| one(c, "SELECT count(*) FROM contacts").await), (N + 1).to_string(), "a whole copy");
    let _ = std::fs::remove_dir_all(&dir);
}

// --- the end of the process ----------------------------------------------------------------------

/// Does one thing after the other until nobody answers; what was answered.
fn keep_at_it(
    port: u16,
    acks: &AtomicUsize,
    mut what: impl FnMut(u64) -> (&'static str, Value),
    told: impl Fn(&Value) -> Option<String>,
) -> Vec<String> {
    let mut done = Vec::new();
    for n in 0.. {
        let (path, body) = what(n);
        let said = std::panic::catch_unwind(|| Wire::connect(port).post(path, &[], &body.to_string()).json());
        match said.ok().as_ref().and_then(&told) {
            Some(known) => done.push(known),
            None => break,
        }
        acks.fetch_add(1, Ordering::Relaxed);
    }
    done
}

#[test]
fn what_was_answered_survives_the_end_of_the_process() {
    const ROUNDS: u64 = 30;
    let dir = fresh_dir("contacts");
    let path = dir.join("data/contacts/contacts.db");
    let start = || App::start_in(&dir, "contacts", &[], &[("CONTACTS_EXTRAS", "true")]);
    let call = |n: u64, name: &str, arguments: Value| request(n, "tools/call", json!({"name": name, "arguments": arguments}));
    let result = |said: &Value, field: &str| said["result"]["structuredContent"].get(field).map(Value::to_string);
    let (mut interactions, mut people, mut logs, mut bumps) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut ids = (0, 0);
    for round in 0..ROUNDS {
        let app = start();
        if round == 0 {
            let mut client = app.http("/mcp", &[]);
            ids = (add(&mut client, json!({"name": "Ada", "state": "ping"})), add(&mut client, json!({"name": "Bumped"})));
        }
        let (port, acks) = (app.port, &AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let marks = scope.spawn(move || {
                let mark = |n| ("/mcp", call(n, "mark_contacted", json!({"contact_id": ids.0, "notes": format!("mark {round} {n}")})));
                keep_at_it(port, acks, mark, |said| result(said, "interaction_id"))
            });
            let adds = scope.spawn(move || {
                let name =
                    |n| ("/mcp/oauth", call(n, "add_contact", json!({"name": format!("Person {round} {n}"), "notes": "x".repeat(3000)})));
                keep_at_it(port, acks, name, |said| said["result"]["structuredContent"]["name"].as_str().map(str::to_owned))
            });
            let writes = scope.spawn(move || {
                let log = |n| ("/api/logs", json!({"content": format!("log {round} {n}")}));
                keep_at_it(port, acks, log, |said| said["content"].as_str().map(str::to_owned))
            });
            let counts = scope.spawn(move || {
                let bump = |n| ("/mcp", call(n, "bump_contact", json!({"contact_id": ids.1})));
                keep_at_it(port, acks, bump, |said| result(said, "bump_count"))
            });
            // Somewhere in the middle of it, at another place each time.
            let begun = Instant::now();
            while acks.load(Ordering::Relaxed) == 0 && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(round * 37 % 211));
            app.kill();
            interactions.extend(marks.join().unwrap());
            people.extend(adds.join().unwrap());
            logs.extend(writes.join().unwrap());
            bumps = counts.join().unwrap().last().map_or(bumps, |count| count.parse().unwrap());
        });
        // Every other time the program itself is the first to see what is left.
        if round % 2 == 0 || round == ROUNDS - 1 {
            file(&path, async |c| {
                assert_eq!(one(c, "SELECT integrity_check FROM pragma_integrity_check").await, "ok", "round {round}");
                assert_eq!(one(c, "SELECT count(*) FROM pragma_foreign_key_check").await, "0");
                // Both parts of a change, or none.
                let pairs = format!(
                    "SELECT bump_count - (SELECT count(*) FROM contact_interactions WHERE contact_id = {id}) FROM contacts WHERE id = {id}",
                    id = ids.1
                );
                assert_eq!(one(c, &pairs).await, "0", "round {round}");
                let marked = format!(
                    "SELECT contacted_at IS (SELECT max(interaction_date) FROM contact_interactions WHERE contact_id = {id}) FROM contacts WHERE id = {id}",
                    id = ids.0
                );
                assert_eq!(one(c, &marked).await, "1", "round {round}");
            });
        }
    }
    assert!([&interactions, &people, &logs].iter().all(|all| all.len() as u64 > ROUNDS / 2) && bumps > 0, "all of them wrote");
    file(&path, async |c| {
        let all = async |c: &mut SqliteConnection, query: &'static str| -> Vec<String> {
            sqlx::query(query).fetch_all(c).await.unwrap().iter().map(|row| row.try_get(0).unwrap()).collect()
        };
        for (what, query, answered) in [
            ("interactions", "SELECT CAST(id AS TEXT) FROM contact_interactions", &interactions),
            ("contacts", "SELECT name FROM contacts WHERE length(notes) = 3000", &people),
            ("logs", "SELECT content FROM logs", &logs),
        ] {
            let there = all(c, query).await;
            let known: BTreeSet<&String> = there.iter().collect();
            assert_eq!(known.len(), there.len(), "{what}: nothing was done twice");
            let lost: Vec<&String> = answered.iter().filter(|one| !known.contains(one)).collect();
            assert!(lost.is_empty(), "{what} that were answered are lost: {lost:?}");
            // What was not answered may be there, one for each writer and round at most.
            assert!(
                there.len() as u64 <= answered.len() as u64 + ROUNDS + if what == "interactions" { bumps + ROUNDS } else { 0 },
                "{what}"
            );
        }
        let count: u64 = one(c, &format!("SELECT bump_count FROM contacts WHERE id = {}", ids.1)).await.parse().unwrap();
        assert!(count >= bumps, "{count} of {bumps}");
    });
    let app = start();
    assert_eq!(app.http("/mcp", &[]).json("get_contact", json!({"contact_id": ids.0}))["name"], "Ada");
    drop(app);
    let _ = std::fs::remove_dir_all(&dir);
}
