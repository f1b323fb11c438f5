//! Who the client is and by which URL it came, behind proxies that are trusted and others that are not. The page at
//! `/` tells both.

use crate::gateway::Gateway;
use crate::wire::Response;

fn root(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    gateway.wire().request("GET", "/", headers, None)
}

/// The base URL and the client that the page tells.
#[track_caller]
fn told(gateway: &Gateway, headers: &[(&str, &str)]) -> (String, String) {
    let said = root(gateway, headers);
    let page = said.text();
    assert_eq!(said.status, 200, "{headers:?}: {page}");
    let base = page.split("/mcp (").next().unwrap().rsplit_once(": ").unwrap().1;
    (base.to_owned(), page.lines().find_map(|line| line.strip_prefix("you: ")).unwrap_or_default().to_owned())
}

#[test]
fn a_trusted_proxy_is_believed() {
    let gateway = Gateway::start(&["--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8", "--allow-host", "mcp.example.com"]);
    let ourselves = format!("127.0.0.1:{}", gateway.port);
    for (headers, base, client) in [
        (&[][..], format!("http://{ourselves}"), "127.0.0.1"),
        (&[("x-forwarded-for", "203.0.113.7")], format!("http://{ourselves}"), "203.0.113.7"),
        (&[("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.1.1.1")], format!("http://{ourselves}"), "203.0.113.7"),
        (&[("x-forwarded-proto", "https"), ("x-forwarded-host", "mcp.example.com")], "https://mcp.example.com".into(), "127.0.0.1"),
        (&[("host", "mcp.example.com"), ("x-forwarded-proto", "https")], "https://mcp.example.com".into(), "127.0.0.1"),
        (
            &[(
                "forwarded",
                "for=6.6.6.6;host=evil.example, for=\"[2001:db8::1]:4\";proto=https;host=MCP.example.com, for=10.1.1.1;host=x",
            )],
            "https://mcp.example.com".into(),
            "2001:db8::1",
        ),
        (&[("forwarded", "for=unknown;proto=https")], format!("https://{ourselves}"), ""),
    ] {
        assert_eq!(told(&gateway, headers), (base, client.to_owned()), "{headers:?}");
    }
}

#[test]
fn nobody_else_is_believed() {
    let evil =
        [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https, https"), ("x-forwarded-host", "evil.example"), ("forwarded", "=")];
    for args in [&[][..], &["--trusted-proxy", "10.0.0.0/8"]] {
        let gateway = Gateway::start(args);
        assert_eq!(told(&gateway, &evil), (format!("http://127.0.0.1:{}", gateway.port), "127.0.0.1".into()), "{args:?}");
    }
}

#[test]
fn the_public_url_stands_and_the_client_is_found_out() {
    let file = crate::gateway::config_file("public_url = \"https://mcp.example.com\"\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = landbridge::config::Config::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    config.listen = Some(port.to_string());
    let plan = config.check().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gateway = {
        let _within = runtime.enter();
        let listener = landbridge::serve::listen(plan.listen).unwrap();
        runtime.spawn(landbridge::serve::run_until(
            landbridge::gateway::Gateway::new(plan).unwrap(),
            vec![listener],
            None,
            std::future::pending(),
        ));
        Gateway::at(port)
    };
    let headers = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "mcp.example.com")];
    assert_eq!(told(&gateway, &headers), ("https://mcp.example.com".into(), "203.0.113.7".into()));
}

#[test]
fn a_forwarded_host_must_be_ours_and_headers_well_formed() {
    let gateway = Gateway::start(&["--trusted-proxy", "127.0.0.1", "--allow-host", "mcp.example.com"]);
    for (headers, status, part) in [
        (&[("x-forwarded-host", "evil.example")][..], 403, "the forwarded host \"evil.example\" is not served here"),
        (&[("forwarded", "host=evil.example")], 403, "the forwarded host \"evil.example\" is not served here"),
        // A page on this machine can write every header but this one.
        (&[("host", "evil.example"), ("x-forwarded-host", "mcp.example.com")], 403, "the host \"evil.example\" is not served here"),
        (&[("x-forwarded-host", "mcp.example.com, mcp.example.com")], 400, "`x-forwarded-host` has more than one value"),
        (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")], 400, "`x-forwarded-proto` has more than one value"),
        (&[("x-forwarded-for", "somebody")], 400, "`x-forwarded-for` says \"somebody\""),
        (&[("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4")], 400, "the proxy has to remove"),
    ] {
        for path in ["/", "/mcp"] {
            let said = gateway.wire().request(if path == "/" { "GET" } else { "POST" }, path, headers, (path != "/").then_some("{}"));
            assert_eq!(said.status, status, "{headers:?}: {}", said.text());
            assert!(said.json()["error"]["message"].as_str().unwrap().contains(part), "{headers:?}: {}", said.text());
        }
        // Whoever looks whether we run need not be forwarded well.
        assert_eq!(gateway.wire().request("GET", "/healthz", headers, None).status, 200);
    }
}
