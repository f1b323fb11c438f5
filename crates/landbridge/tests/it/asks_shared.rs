//! Servers with a handshake that several clients share, and that ask: whose question is it?
//!
//! Nothing on a pipe says. So as long as it is not known that a server asks, its question may have
//! to be refused; but it must never reach the wrong client.

use serde_json::{Value, json};

use crate::asks::{Answer, Client, accept, everything, post, questions, retry, yes};
use crate::children::text;
use crate::gateway::{Gateway, slow, tool, up_to_answer};

const REVISION: &str = "2025-11-25";

fn shared() -> Gateway {
    Gateway::fixture(&["--isolation", "none"], &["legacy"])
}

/// Somebody who asks for `note` and takes no other question for it.
fn ask_later(client: &mut Client<'_>, note: &str, ms: u64) -> Value {
    let talk = client.tool("ask_later", json!({"ms": ms, "note": note}), |question| {
        assert_eq!(question["params"]["message"], format!("Who are you? ({note})"), "a question of somebody else");
        yes(json!({"name": note}))
    });
    talk.last
}

#[track_caller]
fn is_answered(last: &Value, note: &str) {
    assert_eq!(text(last), format!("Hello, {note}! ({note})"), "{last}");
}

/// Answered, or told clearly that it could not be.
fn is_answered_or_refused(last: &Value, note: &str) -> bool {
    if last["result"]["isError"] == true {
        let why = text(last);
        assert!(why.contains("several"), "{last}");
        return false;
    }
    is_answered(last, note);
    true
}

fn echo(gateway: &Gateway) {
    for capabilities in [json!({}), everything()] {
        let said = post(gateway, "/mcp", 9, "tools/call", json!({"name": "echo", "arguments": {"message": "on"}}), &capabilities);
        assert_eq!(text(&said.messages().pop().unwrap()), "on");
    }
}

/// Two clients of each kind, of the same abilities.
fn clients(gateway: &Gateway) -> Vec<Client<'_>> {
    vec![
        Client::stateless(gateway, everything()),
        Client::streamable(gateway, REVISION, everything()),
        Client::stateless(gateway, everything()),
        Client::sse(gateway, REVISION, everything()),
    ]
}

#[test]
fn a_question_whose_owner_cannot_be_told_reaches_nobody() {
    for delays in [[100, 100], [20, 400], [400, 20]] {
        let gateway = shared();
        for pair in [[0, 2], [1, 3], [0, 1]] {
            // A fresh gateway each: afterwards it is known that the server asks.
            let gateway = if pair == [0, 2] { &gateway } else { &shared() };
            let mut all: Vec<Option<Client<'_>>> = clients(gateway).into_iter().map(Some).collect();
            let mut two = pair.map(|n| all[n].take().unwrap());
            let [one, other] = &mut two;
            let said = std::thread::scope(|scope| {
                let one = scope.spawn(|| ask_later(one, "red", delays[0]));
                let other = scope.spawn(|| ask_later(other, "green", delays[1]));
                [one.join().unwrap(), other.join().unwrap()]
            });
            for (last, note) in said.iter().zip(["red", "green"]) {
                is_answered_or_refused(last, note);
            }
            // From here on it is known that it asks.
            for (client, note) in two.iter_mut().zip(["blue", "black"]) {
                is_answered(&ask_later(client, note, 0), note);
            }
        }
    }
}

#[test]
fn a_question_waits_until_only_one_call_can_be_its_own() {
    let gateway = shared();
    let (mut asks, mut works) = (Client::stateless(&gateway, everything()), Client::streamable(&gateway, REVISION, everything()));
    // Met before, so that both calls begin at once.
    works.tool("echo", json!({"message": "x"}), |q| panic!("asked {q}"));
    let (asked, worked) = std::thread::scope(|scope| {
        let worked = scope.spawn(|| works.tool("slow", json!({"steps": 10, "delay_ms": 50}), |q| panic!("asked {q}")).last);
        let asked = scope.spawn(|| ask_later(&mut asks, "red", 100));
        (asked.join().unwrap(), worked.join().unwrap())
    });
    is_answered(&asked, "red");
    assert_eq!(text(&worked), "done after 10 steps");
}

#[test]
fn a_question_that_cannot_be_placed_in_time_is_refused() {
    let gateway = Gateway::limited_with("ask_hold_ms = 300", &["--isolation", "none"], &["legacy"]);
    let (mut asks, works) = (Client::stateless(&gateway, everything()), gateway.session_with(REVISION, everything()));
    let mut busy = works.stream(&slow(7, 600, 100));
    assert!(busy.message().unwrap()["params"]["progress"].is_number());
    let last = ask_later(&mut asks, "red", 0);
    assert_eq!(last["result"]["isError"], true, "{last}");
    assert!(text(&last).contains("it could not be told in time which of several calls it belongs to"), "{last}");
    // And now that it is known to ask, the next one does not share its server.
    is_answered(&ask_later(&mut asks, "green", 0), "green");
    assert_eq!(works.delete().status, 204);
    while busy.message().is_some() {}
}

#[test]
fn calls_that_may_be_asked_take_turns_or_get_servers_of_their_own() {
    let gateway = shared();
    is_answered(&ask_later(&mut Client::stateless(&gateway, everything()), "first", 0), "first");
    std::thread::scope(|scope| {
        let gateway = &gateway;
        for (n, mut client) in clients(gateway).into_iter().chain(clients(gateway)).enumerate() {
            scope.spawn(move || {
                for round in 0..3 {
                    let note = format!("{n}, {round}");
                    is_answered(&ask_later(&mut client, &note, 30), &note);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(move || (0..10).for_each(|_| echo(gateway)));
        }
    });
}

#[test]
fn stateless_clients_that_are_asked_take_turns_too() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    is_answered(&ask_later(&mut Client::stateless(&gateway, everything()), "first", 0), "first");
    std::thread::scope(|scope| {
        for n in 0..6 {
            let mut client = Client::stateless(&gateway, everything());
            scope.spawn(move || {
                let note = format!("note {n}");
                is_answered(&ask_later(&mut client, &note, 50), &note);
            });
        }
    });
}

#[test]
fn a_call_that_waits_for_its_client_blocks_nobody() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let params = |n: usize| json!({"name": "ask_later", "arguments": {"ms": 0, "note": n.to_string()}});
        let parked: Vec<Value> = (0..4).map(|n| post(&gateway, "/mcp", 1, "tools/call", params(n), &everything()).json()).collect();
        echo(&gateway);
        let session = gateway.session_with(REVISION, everything());
        let mut stream = session.stream(&tool(7, "ask_later", json!({"ms": 0, "note": "live"})));
        let question = stream.message().unwrap();
        assert_eq!(question["params"]["message"], "Who are you? (live)");
        echo(&gateway);
        is_answered(&ask_later(&mut Client::sse(&gateway, REVISION, everything()), "sse", 0), "sse");
        for (n, said) in parked.iter().enumerate().rev() {
            assert_eq!(questions(said)[0]["params"]["message"], format!("Who are you? ({n})"));
            let again = retry(&params(n), said, |_| Some(accept(json!({"name": n.to_string()}))));
            is_answered(&post(&gateway, "/mcp", 2, "tools/call", again, &everything()).json(), &n.to_string());
        }
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": accept(json!({"name": "live"}))});
        assert_eq!(session.send(&answer).status, 202);
        is_answered(up_to_answer(&mut stream, 7).last().unwrap(), "live");
    }
}

#[test]
fn where_there_is_no_room_for_another_server_a_call_waits_for_its_turn() {
    let gateway = Gateway::limited_with("children = 1\nask_hold_ms = 20000", &["--isolation", "none"], &["legacy"]);
    // Known to ask: from here on each call has its turn.
    is_answered(&ask_later(&mut Client::stateless(&gateway, everything()), "first", 0), "first");
    let params = json!({"name": "ask_later", "arguments": {"ms": 0, "note": "red"}});
    let said = post(&gateway, "/mcp", 1, "tools/call", params.clone(), &everything()).json();
    std::thread::scope(|scope| {
        let next: Vec<_> =
            ["green", "blue"].map(|note| (note, scope.spawn(|| ask_later(&mut Client::stateless(&gateway, everything()), note, 0)))).into();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let again = retry(&params, &said, |_| Some(accept(json!({"name": "red"}))));
        is_answered(&post(&gateway, "/mcp", 2, "tools/call", again, &everything()).json(), "red");
        for (note, waiting) in next {
            is_answered(&waiting.join().unwrap(), note);
        }
    });
}

#[test]
fn a_client_that_never_returns_gives_its_turn_back() {
    let gateway = Gateway::limited_with("children = 1\nask_timeout_ms = 500", &["--isolation", "none"], &["legacy"]);
    let mut client = Client::stateless(&gateway, everything());
    is_answered(&ask_later(&mut client, "first", 0), "first");
    let params = json!({"name": "ask_later", "arguments": {"ms": 0, "note": "gone"}});
    assert_eq!(questions(&post(&gateway, "/mcp", 1, "tools/call", params, &everything()).json()).len(), 1);
    is_answered(&ask_later(&mut client, "next", 0), "next");
}

#[test]
fn who_waits_too_long_for_a_turn_is_told_to_come_back() {
    let gateway = Gateway::limited_with("children = 1\nask_hold_ms = 300", &["--isolation", "none"], &["legacy"]);
    let params = json!({"name": "ask_later", "arguments": {"ms": 0, "note": "red"}});
    let said = post(&gateway, "/mcp", 1, "tools/call", params.clone(), &everything()).json();
    let busy = post(&gateway, "/mcp", 2, "tools/call", params.clone(), &everything());
    let told = busy.messages().pop().unwrap();
    assert_eq!(told["error"]["code"], -32000, "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("try again later"), "{told}");
    let again = retry(&params, &said, |_| Some(accept(json!({"name": "red"}))));
    is_answered(&post(&gateway, "/mcp", 3, "tools/call", again, &everything()).json(), "red");
    is_answered(&ask_later(&mut Client::stateless(&gateway, everything()), "green", 0), "green");
}

#[test]
fn clients_of_different_abilities_never_meet() {
    let gateway = shared();
    std::thread::scope(|scope| {
        let gateway = &gateway;
        scope.spawn(move || {
            let mut asked = Client::stateless(gateway, json!({"elicitation": {}}));
            (0..5).for_each(|n| is_answered(&ask_later(&mut asked, &n.to_string(), 20), &n.to_string()));
        });
        scope.spawn(move || {
            let mut client = Client::streamable(gateway, REVISION, json!({"sampling": {}}));
            for _ in 0..5 {
                let talk = client.tool("test_sampling", json!({"prompt": "?"}), |question| {
                    assert_eq!(question["method"], "sampling/createMessage");
                    Answer::Result(json!({"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}))
                });
                assert_eq!(talk.success(), "LLM response: hi");
            }
        });
        scope.spawn(move || (0..10).for_each(|_| echo(gateway)));
    });
}
