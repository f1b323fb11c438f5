//! `/metrics`: who speaks what.

use serde_json::json;

use crate::foreign::Foreign;
use crate::gateway::Gateway;

/// How many calls were counted between these.
fn calls(gateway: &Gateway, client: (&str, &str), server: (&str, &str)) -> Option<u64> {
    let labels = format!(
        "{{client_transport=\"{}\",client_revision=\"{}\",server_transport=\"{}\",server_revision=\"{}\"}} ",
        client.0, client.1, server.0, server.1
    );
    let metrics = gateway.wire().request("GET", "/metrics", &[], None);
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    metrics.text().lines().find_map(|line| line.strip_prefix(&format!("landbridge_calls_total{labels}"))?.parse().ok())
}

#[test]
fn calls_are_counted_by_the_wires_of_both_ends() {
    let mut gateway = Gateway::fixture(&["--protocol", "2025-11-25"], &["legacy"]);
    let far = Foreign::stateless(|heard, reply| reply.text(heard, "here"));
    let other = far.gateway("/mcp");
    for (gateway, server) in [(&gateway, ("stdio", "2025-11-25")), (&other, ("http", "2026-07-28"))] {
        let mut sse = gateway.sse("2024-11-05");
        let session = gateway.session("2025-06-18");
        assert_eq!(calls(gateway, ("http", "2025-06-18"), server), None);
        for id in 2..5 {
            sse.call(id, "prompts/get", json!({"name": "x"}));
            session.call(id, "prompts/get", json!({"name": "x"}));
            session.call(10 + id, "prompts/get", json!({"name": "x"}));
        }
        gateway.stateless(2, "prompts/get", json!({"name": "x"}));
        assert_eq!(calls(gateway, ("sse", "2024-11-05"), server), Some(3));
        assert_eq!(calls(gateway, ("http", "2025-06-18"), server), Some(6));
        assert_eq!(calls(gateway, ("http", "2026-07-28"), server), Some(1));
        let text = gateway.wire().request("GET", "/metrics", &[], None).text();
        assert!(text.contains("\nlandbridge_sessions 2\n"), "{text}");
        assert_eq!(text.contains("\nlandbridge_children 0\n"), server.0 == "http", "{text}");
        for line in text.lines() {
            let is_comment = line.starts_with("# HELP landbridge_") || line.starts_with("# TYPE landbridge_");
            assert!(is_comment || line.split_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
    }
    assert!(gateway.terminate().success());
    gateway.wait_for_log("client=\"http 2025-06-18\" server=\"stdio 2025-11-25\" calls=6");
}

#[test]
fn metrics_are_for_who_may_call() {
    let gateway = Gateway::start(&[]);
    assert_eq!(gateway.wire().request("GET", "/metrics", &[("host", "evil.example")], None).status, 403);
    assert_eq!(gateway.wire().request("GET", "/metrics", &[("origin", "https://evil.example")], None).status, 403);
    assert_eq!(gateway.wire().post("/metrics", &[], "{}").status, 405);
}
