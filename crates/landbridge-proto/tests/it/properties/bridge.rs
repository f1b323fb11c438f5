//! Crossing the eras: what is added can be taken away again, and nothing else is touched.
//!
//! Odd: the texts are made of the very keys that the bridge looks for, in any place and spelling,
//! since between them and their commas is where a splice goes wrong.

use std::sync::Arc;

use landbridge_proto::back::stdio::request;
use landbridge_proto::bridge::{outcome, tag, untag};
use landbridge_proto::call::{Call, Client, Outcome, Server};
use landbridge_proto::json::members;
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::version::Revision;
use proptest::prelude::*;
use serde_json::{Map, Value};

fn server(revision: Revision) -> Server {
    Server::read(revision, r#"{"capabilities":{},"serverInfo":{"name":"n","version":"1"}}"#.into(), "s").unwrap()
}

fn client(revision: Revision) -> Arc<Client> {
    Arc::new(Client {
        revision,
        principal: Default::default(),
        transport: landbridge_proto::call::Transport::Streamable,
        info: Some(r#"{"name":"c"}"#.into()),
        capabilities: r#"{"roots":{}}"#.into(),
    })
}

/// An object with some of these members, in any order and layout.
fn object(members: Vec<&'static str>) -> impl Strategy<Value = String> {
    let count = members.len();
    (Just(members).prop_shuffle(), 0..=count, "[ \t\r\n]{0,2}").prop_map(|(members, take, space)| {
        let inside: Vec<String> = members.into_iter().take(take).map(|m| format!("{space}{m}{space}")).collect();
        format!("{{{space}{}}}", inside.join(","))
    })
}

fn meta() -> impl Strategy<Value = String> {
    object(vec![r#""k":[1.0]"#, r#""progressToken" : "t""#, r#""x/\"y{":{}"#, r#""traceparent":"00""#])
}

fn result() -> impl Strategy<Value = String> {
    (object(vec![r#""content":[ ]"#, r#""a":{"_meta":1,"resultType":"x"}"#, r#""tools":[{"ttlMs":1}]"#, r#""META""#]), meta())
        .prop_map(|(result, meta)| result.replace(r#""META""#, &format!(r#""_meta": {meta}"#)))
}

fn cross(from: Revision, to: Revision, method: &Method, result: String) -> String {
    match outcome(&client(to), &server(from), method, Outcome::Result(result.into())) {
        Outcome::Result(result) => String::from_utf8(result.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn value(text: &str) -> Map<String, Value> {
    // Our own reader refuses what serde_json would let pass: a key that is there twice.
    members(text).unwrap();
    serde_json::from_str(text).unwrap()
}

fn methods() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::ToolsCall, Method::ToolsList, Method::ResourcesRead, Method::Complete])
}

proptest! {
    #[test]
    fn up_and_down_again_is_the_same(result in result(), method in methods()) {
        let up = cross(Revision::V2025_06_18, Revision::V2026_07_28, &method, result.clone());
        let there = value(&up);
        prop_assert_eq!(&there["resultType"], "complete");
        prop_assert_eq!(there.contains_key("ttlMs"), method.is_cacheable());
        prop_assert_eq!(there.contains_key("cacheScope"), method.is_cacheable());
        prop_assert_eq!(&there["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "n");
        // Twice is once.
        let again = cross(Revision::V2025_06_18, Revision::V2026_07_28, &method, up.clone());
        prop_assert_eq!(&again, &up);
        let mut down = value(&cross(Revision::V2026_07_28, Revision::V2025_11_25, &method, up));
        let mut before = value(&result);
        // An empty `_meta` says nothing; it may go.
        for side in [&mut down, &mut before] {
            if side.get("_meta").is_some_and(|m| m.as_object().is_some_and(Map::is_empty)) {
                side.remove("_meta");
            }
        }
        prop_assert_eq!(down, before);
    }

    #[test]
    fn marks_of_subscriptions_come_and_go(
        params in prop::option::of(object(vec![r#""uri":"a""#, r#""META""#, r#""x":"{\"_meta\":{"#])),
        meta in meta(), shift in any::<bool>(), id in prop::sample::select(vec!["7", r#""L\"""#]),
    ) {
        let params = params.map(|p| p.replace(r#""META""#, &format!(r#""_meta":{meta}"#)).replace(r#""x":"{\"_meta\":{"#, r#""x":"{\"_meta\":{""#));
        let params = params.map_or(String::new(), |p| format!(r#","params":{p}"#));
        let (before, behind) = if shift { (r#""z":{"id":1},"#, "") } else { ("", r#","z":{"id":1}"#) };
        let note = format!(r#"{{{before}"jsonrpc":"2.0","method":"notifications/x"{params}{behind}}}"#);
        let tagged = tag(&note.clone().into(), id.as_bytes());
        let text = String::from_utf8(tagged.to_vec()).unwrap();
        let mark = &value(&text)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
        prop_assert_eq!(mark, &serde_json::from_str::<Value>(id).unwrap());
        prop_assert_eq!(tag(&tagged, id.as_bytes()), tagged.clone());
        let mut plain = value(std::str::from_utf8(&untag(&tagged)).unwrap());
        let mut expected = value(&note);
        for side in [&mut plain, &mut expected] {
            let params = side.entry("params").or_insert_with(|| Value::Object(Map::new()));
            params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| Value::Object(Map::new()));
        }
        prop_assert_eq!(plain, expected);
    }

    /// A request on the pipe is the client's, but for the id and what describes a hop.
    #[test]
    fn a_request_keeps_everything_else(
        params in prop::option::of(object(vec![r#""name":"x""#, r#""arguments":{"id":1,"_meta":{"progressToken":0}}"#, r#""META""#])),
        meta in meta(), from in prop::sample::select(Revision::ALL.to_vec()), to in prop::sample::select(Revision::ALL.to_vec()),
        last in any::<bool>(),
    ) {
        let params = params.map(|p| p.replace(r#""META""#, &format!(r#""_meta":{meta}"#)));
        let wanted = params.as_ref().is_some_and(|p| p.contains(r#""progressToken" : "t""#));
        let params = params.map_or(String::new(), |p| format!(r#""params":{p}"#));
        let comma = if params.is_empty() { "" } else { "," };
        let text = if last {
            format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call"{comma}{params}}}"#)
        } else {
            format!(r#"{{{params}{comma} "method":"tools/call","jsonrpc":"2.0","id" : "a"}}"#)
        };
        let message = Message::read(text.clone().into()).unwrap();
        let Kind::Request(id, method) = message.kind.clone() else { unreachable!() };
        let params = Params::read(&message).unwrap();
        let call = Call { id, method, message, params, client: client(from), log_level: None };
        let line = request(&call, &server(to), 42);
        let line = std::str::from_utf8(&line).unwrap();
        prop_assert_eq!(line.matches('\n').count(), 1);
        let mut there = value(line);
        let mut expected = value(&text);
        expected.insert("id".into(), 42.into());
        let empty = || Value::Object(Map::new());
        for (at, side) in [&mut there, &mut expected].into_iter().enumerate() {
            let params = side.entry("params").or_insert_with(empty).as_object_mut().unwrap();
            let meta = params.entry("_meta").or_insert_with(empty).as_object_mut().unwrap();
            if at == 0 {
                prop_assert_eq!(meta.get("progressToken").cloned(), wanted.then(|| 42.into()));
                let described = meta.contains_key("io.modelcontextprotocol/protocolVersion");
                prop_assert_eq!(described, to.era() != from.era() && to == Revision::NEWEST);
            }
            meta.retain(|key, _| key != "progressToken" && !key.starts_with("io.modelcontextprotocol/"));
        }
        prop_assert_eq!(there, expected);
    }
}
