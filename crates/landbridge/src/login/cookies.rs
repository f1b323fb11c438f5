//! The one cookie of a login, and what protects the forms that come with it.
//!
//! A cookie is 32 random bytes, which mean nothing by themselves; records are kept under its hash. It has another
//! value after somebody has signed in, so that none that was planted before is worth anything. A form's token is
//! the hash of the cookie and of what the form is for: nothing is kept for it, and who cannot read the cookie cannot
//! make it. Odd: on plain HTTP, which only this machine may use, a cookie cannot have the prefix `__Host-`.

use http::header::{COOKIE, HeaderMap, HeaderValue};

use landbridge_proto::oauth::secret::Hash;

/// Its name where the page came over TLS; browsers then refuse one that a neighbour or a sub-domain has set
/// (RFC 6265bis §4.1.3.2).
const NAME: &str = "__Host-landbridge";
/// Its name on plain HTTP.
const PLAIN_NAME: &str = "landbridge";
/// Most cookies with our name that are looked at.
const MAX_COOKIES: usize = 4;

/// How the page came: by the public URL of ours, not by what a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// `https`
    Tls,
    /// `http` on this machine
    Plain,
}

/// The value of our cookie. One that is no 43 characters of base64url, or is there with two values, is none.
pub fn read(headers: &HeaderMap, over: Over) -> Option<&str> {
    let name = name(over);
    let texts = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(n, _)| *n == name).map(|(_, value)| value).take(MAX_COOKIES);
    let first = ours.next()?;
    (ours.all(|other| other == first) && Hash::read(first).is_some()).then_some(first)
}

/// Sets it (`Set-Cookie`), for `ttl_s` seconds. `Lax`, as it must be there when a provider or a client sends the browser back
/// to us. `None` if `value` is no value of ours.
pub fn set(over: Over, value: &str, ttl_s: u64) -> Option<HeaderValue> {
    Hash::read(value)?;
    header(over, value, ttl_s)
}

/// Takes it away (`Set-Cookie`).
pub fn clear(over: Over) -> Option<HeaderValue> {
    header(over, "", 0)
}

fn header(over: Over, value: &str, ttl_s: u64) -> Option<HeaderValue> {
    let secure = if over == Over::Tls { "; Secure" } else { "" };
    let text = format!("{}={value}; Path=/; Max-Age={ttl_s}; HttpOnly; SameSite=Lax{secure}", name(over));
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn name(over: Over) -> &'static str {
    match over {
        Over::Tls => NAME,
        Over::Plain => PLAIN_NAME,
    }
}

/// The token of a form (`csrf`) for `what` it is for: the request it answers, or a word such as `sign out`.
pub fn form_token(cookie: &str, what: &str) -> String {
    Hash::of(&format!("form {cookie} {what}")).to_string()
}

/// Whether a form came from a page that we gave to this browser. In constant time.
pub fn is_form_token(token: &str, cookie: &str, what: &str) -> bool {
    Hash::read(token).is_some_and(|token| token.is_of(&format!("form {cookie} {what}")))
}

#[cfg(test)]
mod tests {
    use landbridge_proto::oauth::secret::spell;

    use super::*;

    fn with(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|c| (COOKIE, HeaderValue::from_str(c).unwrap())).collect()
    }

    #[test]
    fn a_cookie_comes_back_as_it_was_set() {
        let (a, b) = (spell([1; 32]), spell([2; 32]));
        for over in [Over::Tls, Over::Plain] {
            let set = set(over, &a, 600).unwrap();
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            assert_eq!(read(&with(&[&format!("x=1; {pair};y=2")]), over), Some(a.as_str()));
        }
        assert_eq!(
            set(Over::Tls, &a, 600).unwrap().to_str().unwrap(),
            format!("__Host-landbridge={a}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")
        );
        assert!(!set(Over::Plain, &a, 600).unwrap().to_str().unwrap().contains("Secure"));
        assert!(clear(Over::Tls).unwrap().to_str().unwrap().starts_with("__Host-landbridge=; Path=/; Max-Age=0;"));
        for bad in ["", "x", "a; Domain=evil", &format!("{a}\r\n")] {
            assert!(set(Over::Tls, bad, 1).is_none());
        }
        let ours = |value: &str| format!("__Host-landbridge={value}");
        for (cookies, found) in [
            (vec![], None),
            (vec![format!("landbridge={a}")], None),
            (vec![ours(&a), ours(&a)], Some(a.as_str())),
            (vec![format!("{}; {}", ours(&a), ours(&b))], None),
            (vec![ours(&a), ours(&b)], None),
            (vec![ours("short")], None),
            (vec![format!("x{}", ours(&a))], None),
        ] {
            let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
            assert_eq!(read(&with(&cookies), Over::Tls), found, "{cookies:?}");
        }
    }

    #[test]
    fn a_form_is_of_its_browser_and_for_one_thing() {
        let token = form_token("cookie", "request 1");
        assert!(is_form_token(&token, "cookie", "request 1"));
        for (token, cookie, what) in [
            ("", "cookie", "request 1"),
            (&token, "cookie", "request 2"),
            (&token, "other", "request 1"),
            (&token[1..], "cookie", "request 1"),
        ] {
            assert!(!is_form_token(token, cookie, what));
        }
    }
}
