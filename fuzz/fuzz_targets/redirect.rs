//! Redirect URIs and forms: what matches is the registered URI but for a port on this machine, and
//! nothing that runs in a browser may be registered.

#![no_main]

use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::redirect::{Application, check, matches};
use landbridge_proto::oauth::url::Url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for registered in ["https://h.example/cb", "http://127.0.0.1/cb", "http://localhost:1/cb?a", "app.example:/cb"] {
        if !matches(registered, text) || registered == text {
            continue;
        }
        let (one, other) = (Url::read(registered).expect("a URL"), Url::read(text).expect("a URL"));
        assert!(!other.is_https() && other.is_loopback(), "{text}");
        assert_eq!((one.host(), one.path(), one.query()), (other.host(), other.path(), other.query()));
    }
    if check(text, Application::Native).is_ok() {
        assert!(text.is_ascii() && !text.contains(['#', '\\', '"', '<', ' ']));
        let scheme = text.split(':').next().unwrap_or_default().to_ascii_lowercase();
        assert!(!matches!(&*scheme, "javascript" | "data" | "file" | "vbscript" | "blob"), "{text}");
        assert!(scheme != "http" || Url::read(text).is_ok_and(|url| url.is_loopback()), "{text}");
    }
    if check(text, Application::Web).is_ok() {
        assert!(Url::read(text).is_ok_and(|url| url.is_https()), "{text}");
    }
    let _ = Form::read(text);
    if let Ok(form) = Form::read(&format!("a={}", encode(text))) {
        assert_eq!(form.get("a").unwrap_or_default(), text);
    }
});
