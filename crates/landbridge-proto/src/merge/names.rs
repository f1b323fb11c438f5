//! Names of several servers side by side, and the way back.
//!
//! A tool or prompt is `SERVER__name` where that fits: 64 letters that every client takes, and one way to
//! read it. Otherwise strange letters become `_`, what is too long is cut off, and a hash of the original
//! follows. No name of the first kind ends like one of the second, so that the two never meet; the way back
//! from the second is a table, filled as things are listed.
//!
//! A resource is `SERVER+uri`, which is a URI again. Some clients write schemes in lower case, so the
//! server's name is written without upper case letters. That of an MCP App is `ui://SERVER+rest`, for it
//! is taken for one by its scheme.

use std::collections::{BTreeMap, VecDeque};

/// As long as a tool's name may be, for the pickiest clients.
pub const MAX_NAME: usize = 64;
/// Digits of a hash.
const HASH: usize = 12;
/// Letters of a server in a name with a hash.
const SERVER: usize = 20;
/// Names that are remembered.
const REMEMBERED: usize = 20_000;
/// What the resources of MCP Apps begin with; hosts refuse any other ("MCP Apps", 2026-01-26).
const APP: &str = "ui://";
/// What is longer cannot be called.
const MAX_ORIGINAL: usize = 1024;

/// How the servers are called, and their things in front.
#[derive(Debug)]
pub struct Directory {
    servers: Vec<Server>,
    /// Names with a hash: whose they are, and what they stand for.
    hashed: BTreeMap<String, (usize, String)>,
    /// The same, oldest first.
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Server {
    name: String,
    /// Before the URIs of its resources.
    scheme: String,
}

/// Whose a name is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// That server's, who calls it so.
    At(usize, String),
    /// One of these may know, when it has listed what it has.
    Perhaps(Vec<usize>),
    /// Nobody's.
    Nowhere,
}

impl Directory {
    /// Of these servers, whose order is that of listings.
    pub fn new(servers: impl IntoIterator<Item = String>) -> Directory {
        let servers = servers.into_iter().map(|name| Server { scheme: format!("{}+", scheme(&name)), name }).collect();
        Directory { servers, hashed: BTreeMap::new(), order: VecDeque::new() }
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|server| &*server.name)
    }

    /// The name of one.
    pub fn name(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", |server| &server.name)
    }

    /// The one of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.name == name)
    }

    /// How a tool or prompt of a server is called in front. `None`: not at all, because another is, or
    /// because its name is beyond all measure.
    pub fn learn(&mut self, server: usize, name: &str) -> Option<String> {
        let called = merged(self.name(server), name);
        if is_plain(self.name(server), name) {
            return Some(called);
        }
        if name.len() > MAX_ORIGINAL {
            return None;
        }
        if let Some((of, original)) = self.hashed.get(&called) {
            return (*of == server && original == name).then_some(called);
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashed.remove(&oldest);
        }
        self.order.push_back(called.clone());
        self.hashed.insert(called.clone(), (server, name.to_owned()));
        Some(called)
    }

    /// What a name in front stands for.
    pub fn find(&self, called: &str) -> Found {
        if let Some((server, name)) = self.hashed.get(called) {
            return Found::At(*server, name.clone());
        }
        if ends_in_hash(called) {
            let may_be = |server: &&Server| called.starts_with(&head(&server.name));
            let all: Vec<usize> = self.servers.iter().filter(may_be).filter_map(|server| self.position(&server.name)).collect();
            return if all.is_empty() { Found::Nowhere } else { Found::Perhaps(all) };
        }
        let found = called.split_once("__").and_then(|(server, name)| Some((self.position(server)?, server, name)));
        match found {
            Some((at, server, name)) if is_plain(server, name) => Found::At(at, name.to_owned()),
            _ => Found::Nowhere,
        }
    }

    /// How a resource of a server, or a template of such, is called in front.
    pub fn uri(&self, server: usize, uri: &str) -> String {
        let scheme = self.servers.get(server).map_or("", |server| &server.scheme);
        match uri.strip_prefix(APP) {
            Some(rest) => format!("{APP}{scheme}{rest}"),
            None => format!("{scheme}{uri}"),
        }
    }

    /// Whose a resource is, and how it is called there.
    pub fn find_uri(&self, uri: &str) -> Option<(usize, String)> {
        let (app, uri) = without(uri, APP).map_or(("", uri), |rest| (APP, rest));
        self.servers.iter().enumerate().find_map(|(at, server)| Some((at, format!("{app}{}", without(uri, &server.scheme)?))))
    }
}

/// What follows a scheme, which is not case-sensitive (RFC 3986, 3.1).
fn without<'u>(uri: &'u str, scheme: &str) -> Option<&'u str> {
    let (begin, rest) = uri.split_at_checked(scheme.len())?;
    begin.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// How a tool or prompt is called in front.
fn merged(server: &str, name: &str) -> String {
    if is_plain(server, name) {
        return format!("{server}__{name}");
    }
    let head = head(server);
    let room = MAX_NAME - HASH - 1 - head.len();
    let tail: String = name.chars().map(|c| if is_safe(c) { c } else { '_' }).take(room).collect();
    // The server's length tells apart what begins where.
    let hash = hash(&[&(server.len() as u64).to_le_bytes(), server.as_bytes(), name.as_bytes()]);
    format!("{head}{tail}_{hash:0width$x}", width = HASH)
}

/// What a name with a hash begins with.
fn head(server: &str) -> String {
    let mut head: String = server.chars().map(|c| if is_safe(c) { c } else { '_' }).take(SERVER).collect();
    head.push_str("__");
    head
}

/// Whether a name needs no hash: it fits, every client takes it, it can be read in one way only, and it is
/// not like one with a hash.
fn is_plain(server: &str, name: &str) -> bool {
    let fits = server.len() + 2 + name.len() <= MAX_NAME && server.chars().chain(name.chars()).all(is_safe);
    let one_way = !server.is_empty() && !server.contains("__") && !server.ends_with('_') && !name.is_empty();
    fits && one_way && !ends_in_hash(name)
}

fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn ends_in_hash(name: &str) -> bool {
    let bytes = name.as_bytes();
    let Some(at) = bytes.len().checked_sub(HASH + 1) else { return false };
    bytes[at] == b'_' && bytes[at + 1..].iter().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// FNV-1a of 64 bits, of which as many are left as there are digits for.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let all = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    (all ^ (all >> 48)) & ((1 << (4 * HASH)) - 1)
}

/// A server's name as the beginning of a scheme: a letter first, then letters, digits, `-` and `.`, none of
/// them in upper case. A `.` and what follows it stand for one letter.
fn scheme(server: &str) -> String {
    let mut out = String::new();
    if !server.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.push_str("s.0");
    }
    for c in server.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => out.push(c),
            '.' => out.push_str(".."),
            '_' => out.push_str(".-"),
            'A'..='Z' => out.extend(['.', c.to_ascii_lowercase()]),
            // No server is called so.
            _ => out.push_str(&format!(".1{:x}.1", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(servers: &[&str]) -> Directory {
        Directory::new(servers.iter().map(|name| (*name).to_owned()))
    }

    fn is_taken_by_clients(name: &str) -> bool {
        !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_safe)
    }

    #[test]
    fn a_name_that_fits_is_the_servers_and_its_own() {
        let mut all = directory(&["files", "my-time"]);
        assert_eq!(all.learn(0, "read_file").as_deref(), Some("files__read_file"));
        assert_eq!(all.learn(1, "__now__").as_deref(), Some("my-time____now__"));
        assert_eq!(all.find("files__read_file"), Found::At(0, "read_file".into()));
        assert_eq!(all.find("my-time____now__"), Found::At(1, "__now__".into()));
        for nobodys in ["", "files", "files_x", "files__", "other__x", "__x", "read_file"] {
            assert_eq!(all.find(nobodys), Found::Nowhere, "{nobodys}");
        }
    }

    #[test]
    fn what_does_not_fit_gets_a_hash_and_the_same_each_time() {
        let mut all = directory(&["files", "a.b"]);
        let long = "x".repeat(100);
        for (server, name) in [(0, long.as_str()), (0, "größe"), (0, "a.b"), (0, "a b"), (0, ""), (1, "x"), (0, "f_0123456789ab")] {
            let called = all.learn(server, name).unwrap();
            assert!(is_taken_by_clients(&called) && called.contains("__"), "{called}");
            assert_eq!(all.find(&called), Found::At(server, name.into()));
            assert_eq!(all.learn(server, name).unwrap(), called);
            // Another gateway, or this one tomorrow, knows where to ask.
            assert_eq!(directory(&["files", "a.b"]).find(&called), Found::Perhaps(vec![server]));
        }
        assert_eq!(all.learn(0, "größe").unwrap(), "files__gr__e_c981b01b60a7");
        assert_eq!(all.learn(0, &"x".repeat(2_000)), None);
    }

    #[test]
    fn nothing_is_taken_for_another() {
        let servers = ["a", "a_", "a__b", "A", "a.b", "a_b", "b", "_a", "a-b", "0"];
        let tools = ["b__c", "c", "_c", "__c", "b_c", "c_", "C", "c.", "c_0123456789ab", "b__c_0123456789ab", "é", "è"];
        let mut all = directory(&servers);
        let mut seen = BTreeMap::new();
        for server in 0..servers.len() {
            for tool in tools {
                let called = all.learn(server, tool).unwrap();
                assert_eq!(seen.insert(called.clone(), (server, tool)), None, "{called}");
            }
        }
        for (called, (server, tool)) in seen {
            assert_eq!(all.find(&called), Found::At(server, tool.into()), "{called}");
        }
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut all = directory(&["a"]);
        let first = all.learn(0, "é").unwrap();
        for n in 0..REMEMBERED {
            all.learn(0, &format!("é{n}")).unwrap();
        }
        assert_eq!((all.hashed.len(), all.order.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(all.find(&first), Found::Perhaps(vec![0]));
        assert_eq!(all.learn(0, "é").unwrap(), first);
    }

    #[test]
    fn a_resource_is_a_uri_again_and_finds_back() {
        let servers = ["files", "Files", "my_files", "my.files", "my-files", "0", "s.00", "_", "f"];
        let all = directory(&servers);
        let mut schemes: Vec<&str> = all.servers.iter().map(|server| server.scheme.as_str()).collect();
        for (at, server) in all.servers.iter().enumerate() {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            assert!(server.scheme.starts_with(|c: char| c.is_ascii_lowercase()) && server.scheme.chars().all(legal), "{}", server.scheme);
            for uri in ["file:///a/B?x#y", "files+file:///x", "ui://größe", "UI://x", "ui://files+x", "ui:", "", "+"] {
                assert_eq!(all.find_uri(&all.uri(at, uri)), Some((at, uri.into())));
                assert_eq!(all.find_uri(&format!("{}{uri}", server.scheme.to_ascii_uppercase())), Some((at, uri.into())));
            }
        }
        assert_eq!(all.uri(0, "file:///{path}"), "files+file:///{path}");
        assert_eq!(all.uri(0, "ui://notes/app.html"), "ui://files+notes/app.html");
        for nobodys in ["", "files", "file:///x", "other+file:///x", "ui://notes/app.html", "ui://", "é"] {
            assert_eq!(all.find_uri(nobodys), None, "{nobodys}");
        }
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), servers.len());
    }
}
