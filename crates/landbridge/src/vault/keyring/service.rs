//! The keyring of a Linux desktop, as GNOME, KDE and KeePassXC have it: the Secret Service (freedesktop.org, 0.2).
//!
//! ```text
//!   OpenSession ─▶ SearchItems ─▶ Unlock ─▶ GetSecret, or SetSecret
//!                       └ none ─▶ ReadAlias ─▶ Unlock ─▶ CreateItem
//!   Unlock ─▶ a prompt ─▶ somebody types the password ─▶ Completed
//! ```
//!
//! Secrets go over the socket as they are (algorithm `plain`): who could listen there could as well ask for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::warn;

use super::Item;
use super::bus::{Bus, In, Message, Out, To};

/// For somebody to type a password.
const UNLOCKED: Duration = Duration::from_secs(30);
/// In place of an object that there is none of.
const NONE: &str = "/";

const PROMPT: &str = "org.freedesktop.Secret.Prompt";

/// What is kept under that item; `None`: there is no such. `refused` is set when somebody does not unlock it, who is
/// not asked again then.
pub(super) async fn read(address: &str, item: &Item, refused: &AtomicBool) -> Result<Option<String>, String> {
    let mut service = Service::open(address, refused).await?;
    let Some(path) = service.find(item).await? else { return Ok(None) };
    let body = Out::new("o", |out| out.text(&service.session));
    let answer = service.bus.call(at(&path, "org.freedesktop.Secret.Item"), "GetSecret", body).await?;
    let secret = read_by(&answer, |values| {
        values.inside()?;
        let (_session, _parameters) = (values.text()?, values.bytes()?);
        String::from_utf8(values.bytes()?.to_vec()).ok()
    });
    secret.map(Some)
}

/// Keeps this under that item, in place of what was there.
pub(super) async fn write(address: &str, item: &Item, refused: &AtomicBool, text: &str) -> Result<(), String> {
    let mut service = Service::open(address, refused).await?;
    if let Some(path) = service.find(item).await? {
        let body = Out::new("(oayays)", |out| secret(out, &service.session, text));
        return service.bus.call(at(&path, "org.freedesktop.Secret.Item"), "SetSecret", body).await.map(drop);
    }
    let answer = service.call("ReadAlias", Out::new("s", |out| out.text("default"))).await?;
    let collection = read_by(&answer, |values| values.text().map(str::to_owned))?;
    if collection == NONE {
        return Err("there is no default one in which it could be kept".into());
    }
    service.unlock(&collection).await?;
    let body = Out::new("a{sv}(oayays)b", |out| {
        out.array(8, |out| {
            out.pad(8);
            out.text("org.freedesktop.Secret.Item.Label");
            out.signature("s");
            out.text(&item.label);
            out.pad(8);
            out.text("org.freedesktop.Secret.Item.Attributes");
            out.signature("a{ss}");
            out.texts(&item.attributes());
        });
        secret(out, &service.session, text);
        out.flag(true);
    });
    let answer = service.bus.call(at(&collection, "org.freedesktop.Secret.Collection"), "CreateItem", body).await?;
    let (_item, prompt) = read_by(&answer, |values| Some((values.text()?, values.text()?.to_owned())))?;
    service.go_through(&prompt).await
}

/// The structure `Secret`.
fn secret(out: &mut Out, session: &str, text: &str) {
    out.pad(8);
    out.text(session);
    out.bytes(&[]);
    out.bytes(text.as_bytes());
    out.text("text/plain");
}

fn at<'a>(path: &'a str, interface: &'a str) -> To<'a> {
    To { name: "org.freedesktop.secrets", path, interface }
}

fn read_by<'a, T>(answer: &'a Message, read: impl FnOnce(&mut In<'a>) -> Option<T>) -> Result<T, String> {
    read(&mut answer.values()).ok_or_else(|| "its answer cannot be understood".into())
}

struct Service<'a> {
    bus: Bus,
    refused: &'a AtomicBool,
    session: String,
}

impl<'a> Service<'a> {
    async fn open(address: &str, refused: &'a AtomicBool) -> Result<Service<'a>, String> {
        let mut service = Service { bus: Bus::connect(address).await?, refused, session: String::new() };
        let body = Out::new("sv", |out| {
            out.text("plain");
            out.signature("s");
            out.text("");
        });
        let answer = service.call("OpenSession", body).await?;
        service.session = read_by(&answer, |values| {
            let _nothing = (values.signature()? == "s").then(|| values.text())??;
            values.text().map(str::to_owned)
        })?;
        Ok(service)
    }

    async fn call(&mut self, method: &str, body: Out) -> Result<Message, String> {
        self.bus.call(at("/org/freedesktop/secrets", "org.freedesktop.Secret.Service"), method, body).await
    }

    /// That item, unlocked.
    async fn find(&mut self, item: &Item) -> Result<Option<String>, String> {
        let answer = self.call("SearchItems", Out::new("a{ss}", |out| out.texts(&item.attributes()))).await?;
        let (open, locked) = read_by(&answer, |values| Some((values.paths()?, values.paths()?)))?;
        if let Some(path) = open.into_iter().next() {
            return Ok(Some(path));
        }
        let Some(path) = locked.into_iter().next() else { return Ok(None) };
        self.unlock(&path).await?;
        Ok(Some(path))
    }

    /// Unlocks an item, or a collection; somebody may have to type a password for that.
    async fn unlock(&mut self, path: &str) -> Result<(), String> {
        let answer = self.call("Unlock", Out::new("ao", |out| out.array(4, |out| out.text(path)))).await?;
        let (open, prompt) = read_by(&answer, |values| Some((values.paths()?, values.text()?.to_owned())))?;
        if open.iter().any(|open| open == path) {
            return Ok(());
        }
        if prompt == NONE || self.refused.load(Ordering::Relaxed) {
            return Err("it is locked".into());
        }
        warn!("the system's keyring is locked; waiting for you to unlock it");
        self.go_through(&prompt).await
    }

    /// Shows a prompt, if there is one, and waits for somebody to say yes.
    async fn go_through(&mut self, prompt: &str) -> Result<(), String> {
        if prompt == NONE {
            return Ok(());
        }
        let to = at(prompt, PROMPT);
        self.bus.listen(to, "Completed").await?;
        self.bus.call(to, "Prompt", Out::new("s", |out| out.text(""))).await?;
        let Some(completed) = self.bus.signal(to, "Completed", UNLOCKED).await? else {
            self.refused.store(true, Ordering::Relaxed);
            let _ = self.bus.call(to, "Dismiss", Out::nothing()).await; // it is gone with the connection, too
            return Err(format!("it is locked, and nobody unlocked it within {} s", UNLOCKED.as_secs()));
        };
        match read_by(&completed, In::flag)? {
            true => {
                self.refused.store(true, Ordering::Relaxed);
                Err("it is locked, and was not unlocked".into())
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bus::tests::{Does, Scripted};
    use super::*;

    static UNASKED: AtomicBool = AtomicBool::new(false);

    fn item() -> Item {
        Item { label: "Landbridge: h".into(), host: "h".into(), hash: "12".into(), home: "/home".into() }
    }

    fn paths(out: &mut Out, paths: &[&str]) {
        out.array(4, |out| paths.iter().for_each(|path| out.text(path)));
    }

    fn says(signature: &'static str, write: impl Fn(&mut Out) + Send + 'static) -> Does {
        Does::Says(signature, Box::new(write))
    }

    /// A keyring with one item, which is locked. What stands in `other` is done otherwise.
    fn locked(name: &str, other: Vec<(&'static str, Does)>) -> Scripted {
        let mut script = vec![
            (
                "OpenSession",
                says("vo", |out| {
                    out.signature("s");
                    out.text("");
                    out.text("/s");
                }),
            ),
            (
                "SearchItems",
                says("aoao", |out| {
                    paths(out, &[]);
                    paths(out, &["/i"]);
                }),
            ),
            (
                "Unlock",
                says("aoo", |out| {
                    paths(out, &[]);
                    out.text("/p");
                }),
            ),
            ("Prompt", Does::Signals("/p", "Completed", false)),
            ("GetSecret", says("(oayays)", |out| secret(out, "/s", "sesame"))),
        ];
        script.extend(other);
        Scripted::start(name, script)
    }

    /// The same with none in it yet, in a collection that is locked.
    fn empty(name: &str, other: Vec<(&'static str, Does)>) -> Scripted {
        let mut script = vec![
            (
                "SearchItems",
                says("aoao", |out| {
                    paths(out, &[]);
                    paths(out, &[]);
                }),
            ),
            ("ReadAlias", says("o", |out| out.text("/c"))),
            (
                "CreateItem",
                says("oo", |out| {
                    out.text("/i");
                    out.text("/");
                }),
            ),
        ];
        script.extend(other);
        locked(name, script)
    }

    #[tokio::test(start_paused = true)]
    async fn a_keyring_that_is_unlocked_in_time_is_used() {
        // It says that it is before it answers to the question, as some do.
        let keyring = locked("unlocked", vec![]);
        assert_eq!(read(&keyring.address, &item(), &UNASKED).await.unwrap().as_deref(), Some("sesame"));
        write(&keyring.address, &item(), &UNASKED, "other").await.unwrap();
        assert!(keyring.was_called("SetSecret") && !keyring.was_called("CreateItem"));
        let keyring = empty("empty", vec![]);
        assert_eq!(read(&keyring.address, &item(), &UNASKED).await.unwrap(), None);
        write(&keyring.address, &item(), &UNASKED, "other").await.unwrap();
        assert!(keyring.was_called("CreateItem") && !keyring.was_called("SetSecret"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_unlocked_says_so() {
        let refused = locked("refused", vec![("Prompt", Does::Signals("/p", "Completed", true))]);
        let left = locked("left", vec![("Prompt", says("", |_| {}))]);
        let elsewhere = locked("elsewhere", vec![("Prompt", Does::Signals("/q", "Completed", false))]);
        let unasked = locked(
            "unasked",
            vec![(
                "Unlock",
                says("aoo", |out| {
                    paths(out, &[]);
                    out.text("/");
                }),
            )],
        );
        for (keyring, said, dismissed) in [
            (refused, "it is locked, and was not unlocked", false),
            (left, "it is locked, and nobody unlocked it within 30 s", true),
            (elsewhere, "it is locked, and nobody unlocked it within 30 s", true),
            (unasked, "it is locked", false),
        ] {
            let refused = AtomicBool::new(false);
            assert_eq!(read(&keyring.address, &item(), &refused).await.unwrap_err(), said);
            assert_eq!(keyring.was_called("Dismiss"), dismissed);
            // Nobody is asked twice.
            assert_eq!(write(&keyring.address, &item(), &refused, "x").await.unwrap_err(), "it is locked");
            let n_asked = keyring.called.lock().unwrap().iter().filter(|method| *method == "Prompt").count();
            assert_eq!(n_asked, usize::from(said != "it is locked"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_step_waits_for_long_or_believes_anything() {
        let reading = ["Hello", "OpenSession", "SearchItems", "Unlock", "AddMatch", "Prompt", "GetSecret"];
        let writing = ["Hello", "OpenSession", "SearchItems", "ReadAlias", "Unlock", "AddMatch", "Prompt", "CreateItem"];
        for step in reading {
            let keyring = locked("silent", vec![(step, Does::Waits)]);
            assert_eq!(read(&keyring.address, &item(), &UNASKED).await.unwrap_err(), "it did not answer within 1 s", "{step}");
            let keyring = locked("refusing", vec![(step, Does::Refuses("org.x.No"))]);
            assert_eq!(read(&keyring.address, &item(), &UNASKED).await.unwrap_err(), format!("it refuses `{step}`: org.x.No"));
            let keyring = locked("garbled", vec![(step, Does::Sends(b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\x08\0\0\0".to_vec()))]);
            assert!(read(&keyring.address, &item(), &UNASKED).await.unwrap_err().contains("no D-Bus"), "{step}");
            if !["Hello", "AddMatch", "Prompt"].contains(&step) {
                let keyring = locked("bare", vec![(step, says("", |_| {}))]);
                assert_eq!(read(&keyring.address, &item(), &UNASKED).await.unwrap_err(), "its answer cannot be understood", "{step}");
            }
        }
        for step in writing {
            let keyring = empty("silent", vec![(step, Does::Waits)]);
            assert_eq!(write(&keyring.address, &item(), &UNASKED, "x").await.unwrap_err(), "it did not answer within 1 s", "{step}");
        }
        let none = locked("none", vec![("OpenSession", Does::Refuses("org.freedesktop.DBus.Error.ServiceUnknown"))]);
        assert_eq!(read(&none.address, &item(), &UNASKED).await.unwrap_err(), "there is none");
        let no_collection = empty("no-collection", vec![("ReadAlias", says("o", |out| out.text("/")))]);
        assert!(write(&no_collection.address, &item(), &UNASKED, "x").await.unwrap_err().contains("no default one"));
        assert!(read("autolaunch:", &item(), &UNASKED).await.unwrap_err().contains("none of a socket"));
    }
}
