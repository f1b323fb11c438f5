//! Rows S4 of the list.

use serde_json::json;

use crate::app::App;

#[test]
fn s4_5_the_endpoint_has_an_id_of_32_digits() {
    let app = App::start("guide", &[], &[]);
    let event = app.events("/sse", &[]).event().expect("an event");
    let id = event.data.strip_prefix("/messages?session_id=").expect("the path");
    assert_eq!(event.name, "endpoint");
    assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
}

#[test]
fn s4_29_the_example_tool_echoes() {
    let app = App::start("guide", &[], &[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.text("example-tool", json!({"message": "hi"})), "Echo: hi");
    }
}

#[test]
fn the_page_of_the_guide_is_true() {
    crate::docs::page("guide.md").port(3000).variable("PORT", "3000").run();
}
