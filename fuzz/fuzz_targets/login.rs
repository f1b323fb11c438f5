//! What servers, authorization servers and whoever finds our port send to us as their client: reading never panics, a
//! search ends, and only `https` is fetched.

#![no_main]

use landbridge_proto::oauth::challenge::bearer;
use landbridge_proto::oauth::discovery::Issuer;
use landbridge_proto::oauth::grant::granted;
use landbridge_proto::oauth::login::{Login, Method, Registered, registered};
use landbridge_proto::oauth::seek::{Seek, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let header = format!("Bearer {text}");
    let challenge = bearer([header.as_str()]);
    for users in [true, false] {
        let mut seek = Seek::new("https://h/mcp", challenge.as_ref(), users).expect("a good URL");
        for n in 0.. {
            assert!(n < 16);
            match seek.poll_step() {
                Some(Step::Fetch(url)) => {
                    assert!(url.to_ascii_lowercase().starts_with("https://"));
                    seek.handle_fetched((n % 2 == 1).then_some(text));
                }
                Some(_) => break,
                None => panic!("it says what is next"),
            }
        }
    }
    if let Ok(tokens) = granted(200, text) {
        assert!(tokens.access.reveal().bytes().all(|b| b.is_ascii_graphic()));
    }
    let _ = registered(text, &Issuer::default());
    let client = Registered { id: text.into(), secret: None, method: Method::None, secret_until_s: 0 };
    let login = Login::new(Issuer::default(), client, text.into(), Some(text.into()), Some(text.into()), [[1; 32], [2; 32]]);
    assert!(login.url().is_ascii());
    assert!(login.handle_callback(text).is_err());
});
