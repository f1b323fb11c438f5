//! The tool `ask` of the echo child: each call of it asks the client one small question.
//!
//! ```text
//! handshake   tools/call ──▶ elicitation/create ──▶ the client's answer ──▶ result
//! 2026-07-28  tools/call ──▶ input_required ──▶ the same call with the answer ──▶ result
//! ```
//!
//! Odd: the question is the message of the call and the result is the answer as it came, so a
//! client sees it when any of them strayed to another call. Only a client that declared
//! elicitation is asked, so a gateway which does not say so for its client gets a refusal.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::request::{self, Request, TOOL};

pub(crate) struct Asker {
    modern: bool,
    /// The `initialize` of this child said that its client can be asked.
    declared: bool,
    n_asked: u64,
    /// Ids of the calls that wait for an answer, by the id of their question.
    open: HashMap<u64, Box<str>>,
}

#[derive(Deserialize)]
struct Capabilities<'a> {
    #[serde(borrow)]
    elicitation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

/// The answers of a retry, by the keys of the questions.
#[derive(Deserialize)]
struct Answers<'a> {
    #[serde(borrow)]
    question: Option<Elicited<'a>>,
}

/// The result of `elicitation/create`.
#[derive(Deserialize)]
struct Elicited<'a> {
    #[serde(borrow, default)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    answer: Option<&'a RawValue>,
}

impl<'a> Elicited<'a> {
    /// The text of the answer as JSON, if the client gave one.
    fn text(&self) -> Option<&'a str> {
        let content = self.content.as_ref().filter(|_| self.action == "accept")?;
        content.answer.map(RawValue::get).filter(|text| text.starts_with('"'))
    }
}

const ASK_TOOL: &str = r#"{"name":"ask","description":"Asks its client the message it was given, and answers with the answer.","inputSchema":{"type":"object","properties":{"message":{"type":"string"}},"required":["message"]}}"#;
const SCHEMA: &str = r#""requestedSchema":{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}"#;

impl Asker {
    pub(crate) fn new(modern: bool) -> Self {
        Asker { modern, declared: false, n_asked: 0, open: HashMap::new() }
    }

    /// Writes what `request` calls for at the end of `out`. All but questions goes on to [`request::answer`].
    pub(crate) fn answer(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let id = request.id.map_or("null", RawValue::get);
        match &*request.method {
            "tools/call" => match request.message("ask").filter(|message| message.starts_with('"')) {
                Some(message) if self.modern => ask_modern(id, message, request, out),
                Some(message) => self.ask(id, message, out),
                None => request::answer(request, self.modern, out),
            },
            "" if !self.modern => self.handle_answer(request, out),
            "initialize" => {
                self.declared = declares_elicitation(request.params.as_ref().and_then(|params| params.capabilities));
                request::answer(request, self.modern, out);
            }
            "tools/list" => {
                let (kind, cache) = if self.modern { (COMPLETE, r#","ttlMs":0,"cacheScope":"public""#) } else { ("", "") };
                put(out, &[HEAD, id, r#","result":{"#, kind, r#""tools":["#, TOOL, ",", ASK_TOOL, "]", cache, "}}"]);
            }
            _ => request::answer(request, self.modern, out),
        }
    }

    fn ask(&mut self, id: &str, message: &str, out: &mut Vec<u8>) {
        if !self.declared {
            return refused(id, "the client of this child did not declare elicitation", out);
        }
        self.n_asked += 1;
        self.open.insert(self.n_asked, id.into());
        let question = self.n_asked.to_string();
        put(out, &[HEAD, &question, r#","method":"elicitation/create","params":{"message":"#, message, ",", SCHEMA, "}}"]);
    }

    /// The client answered a question, so the call that waits for it gets its result.
    fn handle_answer(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let question = request.id.and_then(|id| id.get().parse().ok());
        // An answer to nothing we asked is for nobody.
        let Some(id) = question.and_then(|question| self.open.remove(&question)) else { return };
        let elicited = request.result.and_then(|result| serde_json::from_str::<Elicited<'_>>(result.get()).ok());
        match elicited.and_then(|elicited| elicited.text()) {
            Some(text) => answered(&id, "", text, out),
            None => {
                let instead = request.error.or(request.result).map_or("nothing", RawValue::get);
                refused(&id, &format!("the question was answered by {instead}"), out);
            }
        }
    }
}

/// Asks, or takes the answer: in 2026-07-28 a call brings along all there is to know.
fn ask_modern(id: &str, message: &str, request: &Request<'_>, out: &mut Vec<u8>) {
    let Some(params) = &request.params else { return };
    let meta = params.meta.and_then(|meta| serde_json::from_str::<Meta<'_>>(meta.get()).ok());
    if !declares_elicitation(meta.and_then(|meta| meta.capabilities)) {
        let error = r#","error":{"code":-32021,"message":"the request did not declare elicitation","data":{"requiredCapabilities":{"elicitation":{"form":{}}}}}}"#;
        return put(out, &[HEAD, id, error]);
    }
    // It names the call, so that a state which strayed to another is found out.
    let state = format!("\"state of {}", &message[1..]);
    let answers = params.input_responses.and_then(|answers| serde_json::from_str::<Answers<'_>>(answers.get()).ok());
    match answers.and_then(|answers| answers.question?.text()) {
        Some(text) if params.request_state.map(RawValue::get) == Some(&*state) => answered(id, COMPLETE, text, out),
        Some(_) => put(out, &[HEAD, id, r#","error":{"code":-32602,"message":"requestState is not what this call was given"}}"#]),
        None => put(
            out,
            &[
                HEAD,
                id,
                r#","result":{"resultType":"input_required","inputRequests":{"question":{"method":"elicitation/create","params":{"mode":"form","message":"#,
                message,
                ",",
                SCHEMA,
                r#"}}},"requestState":"#,
                &state,
                "}}",
            ],
        ),
    }
}

fn declares_elicitation(capabilities: Option<&RawValue>) -> bool {
    let capabilities = capabilities.and_then(|text| serde_json::from_str::<Capabilities<'_>>(text.get()).ok());
    capabilities.is_some_and(|capabilities| capabilities.elicitation.is_some())
}

const HEAD: &str = r#"{"jsonrpc":"2.0","id":"#;
const COMPLETE: &str = r#""resultType":"complete","#;

/// `text` is JSON already.
fn answered(id: &str, kind: &str, text: &str, out: &mut Vec<u8>) {
    put(out, &[HEAD, id, r#","result":{"#, kind, r#""content":[{"type":"text","text":"#, text, r#"}],"isError":false}}"#]);
}

fn refused(id: &str, why: &str, out: &mut Vec<u8>) {
    let why = serde_json::Value::from(why).to_string();
    put(out, &[HEAD, id, r#","result":{"isError":true,"content":[{"type":"text","text":"#, &why, "}]}}"]);
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(asker: &mut Asker, request: &Value) -> Value {
        let (mut out, text) = (Vec::new(), request.to_string());
        asker.answer(&serde_json::from_str(&text).expect("the test's request parses"), &mut out);
        if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).expect("what it wrote is JSON") }
    }

    fn call(id: u64, message: &str, meta: &Value) -> Value {
        json!({"jsonrpc":"2.0","id":id,"method":"tools/call","params":{"name":"ask","arguments":{"message":message},"_meta":meta}})
    }

    #[test]
    fn a_handshake_question_has_an_id_of_its_own_and_its_answer_is_the_result() {
        let mut asker = Asker::new(false);
        let early = said(&mut asker, &call(6, "a", &json!({})));
        assert_eq!(early["result"]["isError"], true, "nobody said yet that the client can be asked: {early}");
        said(&mut asker, &json!({"id":1,"method":"initialize","params":{"capabilities":{"elicitation":{}}}}));
        let (first, second) = (said(&mut asker, &call(7, "a?", &json!({}))), said(&mut asker, &call(8, "b?", &json!({}))));
        assert_eq!((&first["method"], &first["params"]["message"]), (&"elicitation/create".into(), &"a?".into()));
        assert_ne!(first["id"], second["id"]);
        let answer = |question: &Value, text| json!({"id":question["id"],"result":{"action":"accept","content":{"answer":text}}});
        let result = said(&mut asker, &answer(&second, "b!"));
        assert_eq!((&result["id"], &result["result"]["content"][0]["text"]), (&8.into(), &"b!".into()));
        assert_eq!(said(&mut asker, &answer(&second, "again")), Value::Null);
        let refused = said(&mut asker, &json!({"id":first["id"],"error":{"code":-32601,"message":"\"no\""}}));
        assert_eq!((&refused["id"], &refused["result"]["isError"]), (&7.into(), &true.into()));
    }

    #[test]
    fn a_modern_question_is_a_result_and_wants_its_own_state_back() {
        let mut asker = Asker::new(true);
        let meta = json!({"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}});
        assert_eq!(said(&mut asker, &call(1, "a?", &json!({})))["error"]["code"], -32021);
        let asked = said(&mut asker, &call(1, "a?", &meta));
        assert_eq!(asked["result"]["resultType"], "input_required");
        assert_eq!(asked["result"]["inputRequests"]["question"]["params"]["message"], "a?");
        let mut retry = call(2, "a?", &meta);
        retry["params"]["inputResponses"] = json!({"question":{"action":"accept","content":{"answer":"a!"}}});
        assert_eq!(said(&mut asker, &retry)["error"]["code"], -32602);
        retry["params"]["requestState"] = asked["result"]["requestState"].clone();
        let result = said(&mut asker, &retry);
        assert_eq!((&result["id"], &result["result"]["content"][0]["text"]), (&2.into(), &"a!".into()));
    }

    #[test]
    fn both_tools_are_listed() {
        for modern in [false, true] {
            let listed = said(&mut Asker::new(modern), &json!({"id":1,"method":"tools/list"}));
            assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(2));
        }
    }
}
