//! How `landbridge connect` ends, what it leaves behind, and what its client notices when the server ends
//! or nobody reads.

use landbridge_fixtures::{DYING_WORDS, STILLBORN_WORDS, WATCHED_URI};
use serde_json::{Value, json};

use crate::children::{pid_of, text};
use crate::gateway::{config_file, descendants, is_running, signal, wait_until};
use crate::pipe::{Pipe, fixture, initialize};

const TOOLS: &str = "notifications/tools/list_changed";
const PROMPTS: &str = "notifications/prompts/list_changed";
const UPDATED: &str = "notifications/resources/updated";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// A call that takes a minute, and has begun.
fn begin_slow(pipe: &mut Pipe) {
    let params = json!({"name": "slow", "arguments": {"steps": 1_000, "delay_ms": 60}, "_meta": {"progressToken": 1}});
    pipe.send(&pipe.request(7, "tools/call", params));
    assert_eq!(pipe.next()["method"], "notifications/progress");
}

fn server_pid(pipe: &mut Pipe) -> u32 {
    pid_of(&pipe.tool("where_am_i", json!({})))
}

#[track_caller]
fn hears(pipe: &mut Pipe, expected: &[&str]) {
    let heard: Vec<Value> = expected.iter().map(|_| pipe.next()).collect();
    let methods: Vec<&str> = heard.iter().map(|message| message["method"].as_str().unwrap_or("an answer")).collect();
    assert_eq!(methods, expected, "{heard:?}");
}

// --- the end ------------------------------------------------------------------------------------

#[test]
fn connect_ends_with_its_input_and_leaves_nobody() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        pipe.echoes();
        let below = descendants(pipe.pid());
        assert_eq!(below.is_empty(), !["legacy", "modern"].contains(&server), "{server}");
        pipe.close();
        let (said, status) = pipe.rest();
        assert_eq!((said, status.code()), (vec![], Some(0)), "{server}");
        assert!(below.iter().all(|pid| !is_running(*pid)), "{server}");
    }
}

#[test]
fn connect_ends_with_its_input_before_anybody_spoke() {
    let mut pipe = Pipe::to("legacy");
    pipe.close();
    let (said, status) = pipe.rest();
    assert_eq!((said, status.code()), (vec![], Some(0)));
    assert_eq!(pipe.log(), "");
}

#[test]
fn connect_withdraws_what_runs_when_its_input_ends() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        begin_slow(&mut pipe);
        let below = descendants(pipe.pid());
        pipe.close();
        let (said, status) = pipe.rest();
        assert!(said.iter().all(|message| message["method"] == "notifications/progress"), "{server}: {said:?}");
        assert_eq!(status.code(), Some(0), "{server}");
        assert!(below.iter().all(|pid| !is_running(*pid)), "{server}");
        pipe.wait_for_log("withdrawn");
    }
}

#[test]
fn connect_answers_a_script_that_pipes_its_requests_in_and_leaves() {
    let mut pipe = Pipe::to("demo");
    let hello = initialize(1, "2025-11-25", &json!({}));
    let call =
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "slow", "arguments": {"steps": 2, "delay_ms": 10}}});
    // Many a script ends without the end of its line.
    pipe.write(format!("{hello}\n{call}").as_bytes());
    pipe.close();
    let (said, status) = pipe.rest();
    let ids: Vec<&Value> = said.iter().map(|message| &message["id"]).collect();
    assert_eq!((ids, status.code()), (vec![&json!(1), &json!(2)], Some(0)));
    assert_eq!(text(&said[1]), "2 steps done");
}

#[test]
fn connect_ends_well_when_it_is_told_to() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        begin_slow(&mut pipe);
        let below = descendants(pipe.pid());
        pipe.terminate();
        let (_, status) = pipe.rest();
        assert_eq!(status.code(), Some(0), "{server}");
        assert!(below.iter().all(|pid| !is_running(*pid)), "{server}");
    }
}

#[test]
fn connect_takes_a_signal_behind_the_end_of_its_input_for_the_same() {
    let mut pipe = Pipe::start(&[&fixture("slow-exit 300")]).speaking("2025-11-25", json!({}));
    begin_slow(&mut pipe);
    pipe.close();
    pipe.terminate();
    assert_eq!(pipe.rest().1.code(), Some(0));
}

#[test]
fn connect_ends_when_nobody_reads_its_output_any_more() {
    let mut pipe = Pipe::to("legacy").speaking("2025-11-25", json!({}));
    let below = descendants(pipe.pid());
    pipe.close_output();
    // One line may still be taken off the pipe, by whoever then finds that nobody wants it.
    let mut call = pipe.tool_request(7, "slow", json!({"steps": 1_000, "delay_ms": 5}));
    call["params"]["_meta"] = json!({"progressToken": 1});
    pipe.send(&call);
    assert_eq!(pipe.wait().code(), Some(0));
    assert!(below.iter().all(|pid| !is_running(*pid)));
}

#[test]
fn connect_leaves_nobody_however_it_ends() {
    for how in ["input", "TERM", "KILL"] {
        let pids = config_file("");
        let command = format!("sh -c 'FIXTURE_PIDS={} exec {} forks'", pids.display(), landbridge_fixtures::binary().display());
        let mut pipe = Pipe::start(&[&command]).speaking("2025-11-25", json!({}));
        let family: Vec<u32> = std::fs::read_to_string(&pids).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        assert!(family.len() >= 3 && family.iter().any(|pid| is_running(*pid)));
        match how {
            "input" => pipe.close(),
            signal => crate::gateway::signal(pipe.pid(), signal),
        }
        pipe.rest();
        wait_until("the server's family to end", || family.iter().all(|pid| !is_running(*pid)));
        let _ = std::fs::remove_file(pids);
    }
}

#[test]
fn connect_does_not_disturb_another_one() {
    for server in ["demo", "legacy", "modern"] {
        let mut pipes = [0, 1].map(|_| Pipe::to(server).speaking("2025-11-25", json!({})));
        for (n, pipe) in pipes.iter_mut().enumerate() {
            pipe.send(&pipe.tool_request(7, "echo", json!({"message": format!("from {n}")})));
        }
        for (n, pipe) in pipes.iter_mut().enumerate() {
            assert_eq!(text(&pipe.next()), format!("from {n}"), "{server}");
        }
        let [mut one, mut two] = pipes;
        one.terminate();
        assert_eq!(one.rest().1.code(), Some(0));
        two.echoes();
    }
}

// --- standard output ----------------------------------------------------------------------------

#[test]
fn connect_says_nothing_but_messages_whatever_is_logged() {
    for mode in ["garbage", "legacy", "modern"] {
        for revision in ["2025-11-25", "2026-07-28"] {
            let args = [&fixture(mode), "--log-level", "trace"];
            let mut pipe = Pipe::start_with(&args, &[("RUST_LOG", "trace")]).speaking(revision, json!({}));
            pipe.tool("noise", json!({}));
            pipe.echoes();
            assert!(!pipe.log().is_empty());
            pipe.close();
            let (said, status) = pipe.rest();
            assert!(said.is_empty() && status.success(), "{mode}: {said:?}");
        }
    }
}

#[test]
fn connect_logs_nothing_while_all_is_well() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        pipe.echoes();
        pipe.close();
        assert!(pipe.rest().1.success());
        assert_eq!(pipe.log(), "", "{server}");
    }
}

/// What a process needed at most, in bytes.
fn most_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn connect_waits_for_a_client_that_writes_and_does_not_read() {
    const LINES: usize = 200_000;
    let mut pipe = Pipe::to("demo");
    let mut input = pipe.take_input();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        let lines = "no message\n".repeat(LINES);
        input.write_all(lines.as_bytes()).unwrap();
        input
    });
    for _ in 0..LINES {
        assert_eq!(pipe.next()["error"]["code"], -32_700);
    }
    let input = writer.join().unwrap();
    let most = most_memory(pipe.pid());
    drop(input);
    assert!(pipe.poll_next().is_none() && pipe.wait().success());
    assert!(most < 32 << 20, "{most}");
}

#[test]
fn connect_keeps_every_answer_for_a_client_that_is_slow_to_read() {
    for (server, mut pipe) in
        ["legacy", "modern"].into_iter().flat_map(|s| ["2025-11-25", "2026-07-28"].map(|r| (s, Pipe::to(s).speaking(r, json!({})))))
    {
        const CALLS: u64 = 200;
        for id in 0..CALLS {
            pipe.send(&pipe.tool_request(id, "grow", json!({"bytes": 300_000})));
        }
        // All are under way before the first answer is read.
        let mut answered: Vec<u64> = (0..CALLS)
            .map(|_| {
                let answer = pipe.next();
                assert_eq!(text(&answer).len(), 300_000, "{server}");
                answer["id"].as_u64().unwrap()
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..CALLS).collect::<Vec<_>>(), "{server}");
    }
}

// --- servers that end ---------------------------------------------------------------------------

#[test]
fn connect_starts_its_server_again_when_it_was_killed() {
    for mode in ["legacy", "modern"] {
        for revision in ["2024-11-05", "2025-11-25", "2026-07-28"] {
            let mut pipe = Pipe::to(mode).speaking(revision, json!({"sampling": {}, "experimental": {"com.example/x": {}}}));
            let (first, told) = (server_pid(&mut pipe), text(&pipe.tool("echo_meta", json!({}))).to_owned());
            signal(first, "KILL");
            wait_until("its end", || !is_running(first));
            pipe.wait_for_log("a child ended");
            let second = server_pid(&mut pipe);
            assert_ne!(first, second, "{mode}");
            assert!(told.contains("sampling"), "{mode}: {told}");
            assert_eq!(text(&pipe.tool("echo_meta", json!({}))), told, "{mode}: it is told of its client again");
            pipe.close();
            assert_eq!(pipe.rest().1.code(), Some(0));
            assert!(!is_running(second));
        }
    }
}

#[test]
fn connect_fails_the_call_whose_server_dies_and_no_other() {
    for mode in ["legacy", "modern"] {
        for revision in ["2025-11-25", "2026-07-28"] {
            let mut pipe = Pipe::to(mode).speaking(revision, json!({}));
            for _ in 0..2 {
                let died = pipe.tool("die", json!({}));
                assert!(died["error"]["message"].as_str().unwrap().contains(DYING_WORDS), "{mode}: {died}");
                pipe.echoes();
            }
        }
    }
}

#[test]
fn connect_says_again_what_its_client_had_said_and_brings_the_server_back_unasked() {
    for mode in ["legacy", "modern"] {
        let mut pipe = Pipe::to(mode).speaking("2025-11-25", json!({}));
        assert_eq!(pipe.call("resources/subscribe", json!({"uri": WATCHED_URI}))["result"], json!({}));
        assert_eq!(pipe.call("logging/setLevel", json!({"level": "error"}))["result"], json!({}));
        let first = server_pid(&mut pipe);
        signal(first, "KILL");
        // Nobody calls; what may have changed meanwhile is told once it is there again.
        hears(&mut pipe, &[TOOLS, PROMPTS, UPDATED]);
        pipe.send(&pipe.tool_request(8, "test_logging_tool", json!({})));
        assert_eq!(pipe.next()["id"], 8, "{mode}: too quiet for an error to be logged");
        pipe.send(&pipe.tool_request(9, "touch_watched", json!({})));
        let said = [pipe.next(), pipe.next()];
        assert!(said.iter().any(|message| message["method"] == UPDATED), "{mode}: {said:?}");
    }
}

#[test]
fn connect_keeps_a_listen_open_over_its_servers_end() {
    for mode in ["legacy", "modern"] {
        let mut pipe = Pipe::to(mode).speaking("2026-07-28", json!({}));
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [WATCHED_URI]});
        pipe.send(&pipe.request(7, "subscriptions/listen", json!({"notifications": wanted})));
        hears(&mut pipe, &[ACKNOWLEDGED]);
        let first = server_pid(&mut pipe);
        signal(first, "KILL");
        hears(&mut pipe, &[TOOLS, UPDATED]);
        pipe.send(&pipe.tool_request(9, "touch_watched", json!({})));
        let said = [pipe.next(), pipe.next()];
        assert!(said.iter().any(|message| message["method"] == UPDATED), "{mode}: {said:?}");
    }
}

#[test]
fn connect_goes_on_with_a_server_that_comes_back_late() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let closed = config_file("");
        std::fs::remove_file(&closed).unwrap();
        let script = format!("test -e {} && exit 1; exec {} legacy", closed.display(), landbridge_fixtures::binary().display());
        let mut pipe = Pipe::start(&[&format!("sh -c '{script}'"), "--protocol", "legacy"]).speaking(revision, json!({}));
        pipe.echoes();
        std::fs::write(&closed, "").unwrap();
        pipe.tool("die", json!({}));
        let away = pipe.tool("echo", json!({"message": "anybody?"}));
        assert!(away["error"]["message"].as_str().unwrap().contains("did not come up"), "{away}");
        std::fs::remove_file(&closed).unwrap();
        wait_until("the server", || pipe.tool("echo", json!({"message": "?"})).get("result").is_some());
        pipe.echoes();
    }
}

#[test]
fn connect_tells_at_once_why_a_server_does_not_come_up_and_stays() {
    let mut pipe = Pipe::start(&[&fixture("dies-at-once")]);
    for id in [1, 2] {
        pipe.send(&initialize(id, "2025-11-25", &json!({})));
        let refused = pipe.next();
        assert_eq!(refused["id"], id);
        assert!(refused["error"]["message"].as_str().unwrap().contains(STILLBORN_WORDS), "{refused}");
    }
    let mut pipe = pipe.speaking("2026-07-28", json!({}));
    let refused = pipe.call("tools/list", json!({}));
    assert!(refused["error"]["message"].as_str().unwrap().contains(STILLBORN_WORDS), "{refused}");
    pipe.close();
    assert_eq!(pipe.rest().1.code(), Some(0));
}

#[test]
fn connect_withdraws_a_call_that_waits_for_its_server() {
    for revision in ["2025-11-25", "2026-07-28"] {
        // The first start comes to nothing, when somebody ends it.
        let gate = config_file("");
        let script = format!(
            "test -s {gate} && exec {} legacy; echo >> {gate}; sleep 600",
            landbridge_fixtures::binary().display(),
            gate = gate.display()
        );
        let mut pipe = Pipe::start(&[&format!("sh -c '{script}'"), "--protocol", "legacy"]);
        if revision < "2026" {
            pipe.send(&initialize(1, revision, &json!({})));
        } else {
            pipe = pipe.speaking(revision, json!({}));
        }
        pipe.send(&pipe.tool_request(7, "echo", json!({"message": "never"})));
        wait_until("the start", || std::fs::metadata(&gate).is_ok_and(|file| file.len() > 0));
        pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
        // What is no message is answered at once, and so behind what was taken in before it.
        pipe.write(b"nothing\n");
        assert_eq!(pipe.next()["error"]["code"], -32700);
        // Of the call nothing is heard any more, whatever becomes of the start.
        for pid in descendants(pipe.pid()) {
            if std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with("sleep")) {
                signal(pid, "KILL");
            }
        }
        if revision < "2026" {
            assert_eq!(pipe.next()["id"], 1);
        }
        pipe.close();
        let (rest, status) = pipe.rest();
        assert!(rest.is_empty() && status.success(), "{rest:?}");
        let _ = std::fs::remove_file(gate);
    }
}
