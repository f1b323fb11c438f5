//! The session bus (D-Bus), as far as a keyring needs it: calls, their answers, and signals.
//!
//! ```text
//!   connect ─▶ AUTH EXTERNAL ─▶ Hello ─▶ call ─▶ an answer, or an error
//!                                         └────▶ signals meanwhile, which are put aside
//! ```
//!
//! Odd: it is written by hand. The crates for it bring 45 others, or a library in C, and all that is said here is
//! ten calls of texts, paths and bytes. Nothing waits for longer than it is told, and no message may be long.
//! Sections are those of the D-Bus specification, 0.43.

use std::ffi::OsString;
use std::future::Future;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// For each answer to be there.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest message.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Signals that are put aside.
const MOST_SIGNALS: usize = 16;
/// The bus itself.
const BUS: To<'static> = To { name: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// Kinds of messages ("Message Format").
const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Whom a call is for.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
}

/// A connection. What fails says why, and the connection is of no use then.
pub(super) struct Bus {
    stream: UnixStream,
    unread: Vec<u8>,
    serial: u32,
    signals: Vec<Message>,
}

impl Bus {
    /// Connects to the first of these addresses that lets us in ("Server Addresses").
    pub(super) async fn connect(addresses: &str) -> Result<Bus, String> {
        let mut why = "its address is none of a socket on this machine".to_owned();
        for socket in sockets(addresses).take(4) {
            let entered = within(PATIENCE, async {
                let stream = UnixStream::connect(&socket).await.map_err(|e| format!("its bus cannot be reached: {e}"))?;
                let mut bus = Bus { stream, unread: Vec::new(), serial: 0, signals: Vec::new() };
                bus.enter().await.map(|()| bus)
            });
            match entered.await {
                Ok(mut bus) => {
                    bus.call(BUS, "Hello", Out::nothing()).await?;
                    return Ok(bus);
                }
                Err(failed) => why = failed,
            }
        }
        Err(why)
    }

    /// Says who we are, which the socket knows ("Authentication Protocol").
    async fn enter(&mut self) -> Result<(), String> {
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes()).await.map_err(broken)?;
        let end = loop {
            if let Some(end) = self.unread.windows(2).position(|end| end == b"\r\n") {
                break end;
            }
            if self.unread.len() > 1024 {
                return Err("its bus does not speak D-Bus".into());
            }
            self.read().await?;
        };
        let line: Vec<u8> = self.unread.drain(..end + 2).collect();
        if !line.starts_with(b"OK ") {
            return Err("its bus does not let us in".into());
        }
        self.stream.write_all(b"BEGIN\r\n").await.map_err(broken)
    }

    /// Calls a method; what it answers.
    pub(super) async fn call(&mut self, to: To<'_>, method: &str, body: Out) -> Result<Message, String> {
        self.serial += 1;
        let (serial, bytes) = (self.serial, spell(self.serial, to, method, &body));
        let answer = within(PATIENCE, async {
            self.stream.write_all(&bytes).await.map_err(broken)?;
            loop {
                let message = self.next().await?;
                match message.kind {
                    ANSWER | ERROR if message.answers == serial => return Ok(message),
                    SIGNAL if self.signals.len() < MOST_SIGNALS => self.signals.push(message),
                    _ => {}
                }
            }
        });
        let answer = answer.await?;
        if answer.kind == ANSWER {
            return Ok(answer);
        }
        match &*answer.error {
            "org.freedesktop.DBus.Error.ServiceUnknown" => Err("there is none".into()),
            name => Err(format!("it refuses `{method}`: {name}")),
        }
    }

    /// Wants to hear this signal of that object.
    pub(super) async fn listen(&mut self, to: To<'_>, signal: &str) -> Result<(), String> {
        let rule = format!("type='signal',sender='{}',path='{}',interface='{}',member='{signal}'", to.name, to.path, to.interface);
        self.call(BUS, "AddMatch", Out::new("s", |out| out.text(&rule))).await.map(drop)
    }

    /// The next such signal; `None`: there was none for so long.
    pub(super) async fn signal(&mut self, to: To<'_>, signal: &str, patience: Duration) -> Result<Option<Message>, String> {
        let wanted = |message: &Message| message.kind == SIGNAL && message.path == to.path && message.member == signal;
        if let Some(at) = self.signals.iter().position(wanted) {
            return Ok(Some(self.signals.swap_remove(at)));
        }
        let heard = async {
            loop {
                let message = self.next().await?;
                if wanted(&message) {
                    return Ok(Some(message));
                }
            }
        };
        tokio::time::timeout(patience, heard).await.unwrap_or(Ok(None))
    }

    async fn next(&mut self) -> Result<Message, String> {
        loop {
            let garbled = || "its bus says what is no D-Bus, or too much".to_owned();
            match length(&self.unread).ok_or_else(garbled)? {
                Some(length) if self.unread.len() >= length => {
                    let bytes: Vec<u8> = self.unread.drain(..length).collect();
                    return Message::read(&bytes).ok_or_else(garbled);
                }
                _ => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), String> {
        match self.stream.read_buf(&mut self.unread).await {
            Ok(0) => Err("its bus has hung up".into()),
            Ok(_) => Ok(()),
            Err(e) => Err(broken(e)),
        }
    }
}

fn broken(e: std::io::Error) -> String {
    format!("its bus has hung up: {e}")
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("it did not answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, work).await.unwrap_or_else(late)
}

/// The sockets among these addresses; the name of one that is in no directory begins with a zero.
fn sockets(addresses: &str) -> impl Iterator<Item = OsString> {
    let of_unix = addresses.split(';').filter_map(|address| address.trim().strip_prefix("unix:"));
    of_unix.flat_map(|pairs| pairs.split(',')).filter_map(|pair| match pair.split_once('=')? {
        ("path", path) => Some(OsString::from_vec(unescape(path)?)),
        ("abstract", name) => Some(OsString::from_vec([vec![0], unescape(name)?].concat())),
        _ => None,
    })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            byte => byte,
        });
    }
    Some(out)
}

// --- what is said ------------------------------------------------------------------------------

/// Values of a message, under their signature ("Marshaling").
pub(super) struct Out {
    bytes: Vec<u8>,
    signature: &'static str,
}

impl Out {
    pub(super) fn nothing() -> Out {
        Out { bytes: Vec::new(), signature: "" }
    }

    /// What `write` writes has to be what the signature says.
    pub(super) fn new(signature: &'static str, write: impl FnOnce(&mut Out)) -> Out {
        let mut out = Out { bytes: Vec::new(), signature };
        write(&mut out);
        out
    }

    pub(super) fn pad(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: usize) {
        self.pad(4);
        // More than 4 GiB is said by nobody: messages are limited where they come from.
        self.bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.number(flag.into());
    }

    /// A text, or the path of an object.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.bytes.extend(bytes);
    }

    /// What a variant holds; the value follows.
    pub(super) fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// An array of values that begin at multiples of `align`.
    pub(super) fn array(&mut self, align: usize, write: impl FnOnce(&mut Out)) {
        self.number(0);
        let counted = self.bytes.len();
        self.pad(align);
        let begun = self.bytes.len();
        write(self);
        let length = u32::try_from(self.bytes.len() - begun).unwrap_or(u32::MAX);
        self.bytes[counted - 4..counted].copy_from_slice(&length.to_le_bytes());
    }

    /// A dictionary of texts.
    pub(super) fn texts(&mut self, all: &[(&str, &str)]) {
        self.array(8, |out| {
            for (name, value) in all {
                out.pad(8);
                out.text(name);
                out.text(value);
            }
        });
    }
}

/// A call, as bytes.
fn spell(serial: u32, to: To<'_>, method: &str, body: &Out) -> Vec<u8> {
    let mut out = Out { bytes: vec![b'l', CALL, 0, 1], signature: "" };
    out.number(body.bytes.len());
    out.bytes.extend(serial.to_le_bytes());
    out.array(8, |out| {
        for (field, kind, value) in
            [(1, "o", to.path), (2, "s", to.interface), (3, "s", method), (6, "s", to.name), (8, "g", body.signature)]
        {
            if value.is_empty() {
                continue;
            }
            out.pad(8);
            out.bytes.push(field);
            out.signature(kind);
            match kind {
                "g" => out.signature(value),
                _ => out.text(value),
            }
        }
    });
    out.pad(8);
    out.bytes.extend(&body.bytes);
    out.bytes
}

// --- what is heard -----------------------------------------------------------------------------

/// A message that came.
pub(super) struct Message {
    kind: u8,
    answers: u32,
    path: String,
    member: String,
    error: String,
    body: Vec<u8>,
    is_big: bool,
}

impl Message {
    fn read(bytes: &[u8]) -> Option<Message> {
        let (kind, is_big) = (*bytes.get(1)?, *bytes.first()? == b'B');
        let mut values = In { bytes, at: 12, is_big };
        let mut message =
            Message { kind, answers: 0, path: String::new(), member: String::new(), error: String::new(), body: Vec::new(), is_big };
        values.array(8, |values| {
            values.pad(8)?;
            let field = values.take(1)?[0];
            match (values.signature()?, field) {
                ("u", 5) => message.answers = values.number()?,
                ("o", 1) => message.path = values.text()?.into(),
                ("s", 3) => message.member = values.text()?.into(),
                ("s", 4) => message.error = values.text()?.into(),
                ("u", _) => drop(values.number()?),
                ("s" | "o", _) => drop(values.text()?),
                ("g", _) => drop(values.signature()?),
                _ => return None,
            }
            Some(())
        })?;
        values.pad(8)?;
        message.body = bytes.get(values.at..)?.to_vec();
        Some(message)
    }

    /// The values that it carries.
    pub(super) fn values(&self) -> In<'_> {
        In { bytes: &self.body, at: 0, is_big: self.is_big }
    }
}

/// How long the message is that begins with these bytes, if it can be told yet; the outer `None`: it is none, or
/// too long.
fn length(bytes: &[u8]) -> Option<Option<usize>> {
    let Some(head) = bytes.get(..16) else { return Some(None) };
    let is_big = match head[0] {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    let number = |at| usize::try_from(In { bytes: head, at, is_big }.number()?).ok();
    let (body, fields) = (number(4)?, number(12)?);
    let whole = fields.checked_add(16)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (whole <= MOST_BYTES).then_some(Some(whole))
}

/// Values, one after the other. `None`: something else stands there.
pub(super) struct In<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl<'a> In<'a> {
    fn pad(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        Some(())
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(n)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.pad(4)?;
        let four = self.take(4)?.try_into().ok()?;
        Some(if self.is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.number().map(|number| number != 0)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A text, or the path of an object.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.bytes()?).ok()?;
        (self.take(1)? == [0]).then_some(text)
    }

    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let length = self.take(1)?[0];
        let text = std::str::from_utf8(self.take(length.into())?).ok()?;
        (self.take(1)? == [0]).then_some(text)
    }

    /// Begins a structure.
    pub(super) fn inside(&mut self) -> Option<()> {
        self.pad(8)
    }

    fn array(&mut self, align: usize, mut read: impl FnMut(&mut In<'a>) -> Option<()>) -> Option<()> {
        let length = usize::try_from(self.number()?).ok()?;
        self.pad(align)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        while self.at < end {
            read(self)?;
        }
        (self.at == end).then_some(())
    }

    /// Paths of objects.
    pub(super) fn paths(&mut self) -> Option<Vec<String>> {
        let mut paths = Vec::new();
        self.array(4, |values| {
            paths.push(values.text()?.to_owned());
            Some(())
        })?;
        Some(paths)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use tokio::net::UnixListener;

    /// What a scripted bus does with a call.
    pub(in super::super) enum Does {
        /// Answers.
        Says(&'static str, Box<dyn Fn(&mut Out) + Send>),
        /// Sends this signal of that object, and answers then.
        Signals(&'static str, &'static str, bool),
        /// Refuses, by this name.
        Refuses(&'static str),
        /// Sends these bytes.
        Sends(Vec<u8>),
        /// Says nothing.
        Waits,
    }

    /// A bus that knows what to do with each method; the methods that were called. One that it does not know is
    /// answered with nothing.
    pub(in super::super) struct Scripted {
        pub(in super::super) address: String,
        pub(in super::super) called: Arc<Mutex<Vec<String>>>,
        path: PathBuf,
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    impl Scripted {
        pub(in super::super) fn start(name: &str, script: Vec<(&'static str, Does)>) -> Scripted {
            let path = std::env::temp_dir().join(format!("landbridge-bus-{name}-{}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            let (called, script) = (Arc::default(), BTreeMap::from_iter(script));
            tokio::spawn(serve(listener, Arc::clone(&called), script));
            Scripted { address: format!("tcp:host=h,port=1;unix:path={},guid=1", path.display()), called, path }
        }

        pub(in super::super) fn was_called(&self, method: &str) -> bool {
            self.called.lock().unwrap().iter().any(|called| called == method)
        }
    }

    async fn serve(listener: UnixListener, called: Arc<Mutex<Vec<String>>>, script: BTreeMap<&'static str, Does>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut unread = Vec::new();
            for (said, answer) in [("\r\n", "OK 1\r\n"), ("BEGIN\r\n", "")] {
                while !unread.windows(said.len()).any(|end| end == said.as_bytes()) {
                    assert!(stream.read_buf(&mut unread).await.unwrap() > 0);
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            unread.drain(..unread.windows(7).position(|end| end == b"BEGIN\r\n").unwrap() + 7);
            loop {
                let Some(length) = length(&unread).unwrap().filter(|length| *length <= unread.len()) else {
                    match stream.read_buf(&mut unread).await {
                        Ok(n) if n > 0 => continue,
                        _ => break,
                    }
                };
                let bytes: Vec<u8> = unread.drain(..length).collect();
                let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
                let method = Message::read(&bytes).unwrap().member;
                let answer = |body: Out| said(ANSWER, serial, &[], &body);
                let sent = match script.get(&*method) {
                    None => answer(Out::nothing()),
                    Some(Does::Says(signature, write)) => answer(Out::new(signature, write)),
                    Some(Does::Signals(path, signal, flag)) => {
                        let body = Out::new("b", |out| out.flag(*flag));
                        [said(SIGNAL, 0, &[(1, "o", path), (3, "s", signal)], &body), answer(Out::nothing())].concat()
                    }
                    Some(Does::Refuses(name)) => said(ERROR, serial, &[(4, "s", name)], &Out::nothing()),
                    Some(Does::Sends(bytes)) => bytes.clone(),
                    Some(Does::Waits) => Vec::new(),
                };
                called.lock().unwrap().push(method);
                if stream.write_all(&sent).await.is_err() {
                    break;
                }
            }
        }
    }

    /// What a bus says.
    fn said(kind: u8, answers: u32, fields: &[(u8, &str, &str)], body: &Out) -> Vec<u8> {
        let mut out = Out { bytes: vec![b'l', kind, 0, 1], signature: "" };
        out.number(body.bytes.len());
        out.number(7);
        out.array(8, |out| {
            out.bytes.push(5);
            out.signature("u");
            out.number(answers as usize);
            for (field, kind, value) in fields {
                out.pad(8);
                out.bytes.push(*field);
                out.signature(kind);
                out.text(value);
            }
        });
        out.pad(8);
        out.bytes.extend(&body.bytes);
        out.bytes
    }

    #[test]
    fn an_address_names_sockets() {
        for (written, expected) in [
            ("unix:path=/run/user/1000/bus", vec![&b"/run/user/1000/bus"[..]]),
            ("unix:path=/a%20b%2c,guid=12;unix:abstract=/tmp/x", vec![b"/a b,", b"\0/tmp/x"]),
            ("unix:path=%f0%zz;autolaunch:;unixexec:path=/bin/sh;tcp:host=h,port=1;unix:runtime=yes;;", vec![]),
        ] {
            let read: Vec<_> = sockets(written).map(OsString::into_vec).collect();
            assert_eq!(read, expected, "{written}");
        }
    }

    #[test]
    fn what_was_cut_off_or_changed_is_no_message_and_no_panic() {
        let body = Out::new("ao", |out| out.array(4, |out| out.text("/a/b")));
        let whole = said(SIGNAL, 0, &[(1, "o", "/x"), (2, "s", "i"), (3, "s", "Done")], &body);
        assert_eq!(length(&whole), Some(Some(whole.len())));
        let message = Message::read(&whole).unwrap();
        assert_eq!((&*message.path, &*message.member), ("/x", "Done"));
        assert_eq!(message.values().paths().unwrap(), ["/a/b"]);
        for at in 0..whole.len() {
            assert!(length(&whole[..at]).is_some_and(|told| told.is_none_or(|length| length > at)));
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = length(&changed);
                let _ = Message::read(&changed).map(|message| message.values().paths());
            }
            let _ = Message::read(&whole[..at]).map(|message| message.values().paths());
        }
        for (place, byte) in [(0, b'x'), (7, 1), (15, 0xff)] {
            let mut changed = whole.clone();
            changed[place] = byte;
            assert_eq!(length(&changed), None, "{place}");
        }
    }

    #[test]
    fn big_endian_is_read_too() {
        let big = [&b"B\x02\0\x01"[..], &[0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 8, 5, 1, b'u', 0, 0, 0, 0, 3], &[0, 0, 0, 1]].concat();
        assert_eq!(length(&big), Some(Some(big.len())));
        let message = Message::read(&big).unwrap();
        assert_eq!((message.answers, message.values().flag()), (3, Some(true)));
    }
}
