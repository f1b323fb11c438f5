//! What users want of one server, all together, and what of it the server was told.
//!
//! ```text
//!   a user's Wish ──counted──▶ Wanted ──▶ changes ──▶ the server
//!                                            ▲           │
//!                                         Granted ◀──────┘ its answers
//! ```
//!
//! Users are sessions and listens. What nobody knows here is how changes are sent and when; and a
//! server that was started again is one that was told nothing, so [`Granted`] begins anew and the
//! same comparison heals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::call::{Level, Notice};
use crate::methods::Method;
use crate::subscribe::Filter;
use crate::version::Era;

/// What one user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// To hear of.
    pub filter: Filter,
    /// Logs, from this level on.
    pub level: Option<Level>,
}

/// The union of all wishes, counted: what two want is still wanted when one of them leaves.
#[derive(Debug, Default)]
pub struct Wanted {
    tools: usize,
    prompts: usize,
    resources: usize,
    uris: BTreeMap<Arc<str>, usize>,
    levels: BTreeMap<Level, usize>,
}

impl Wanted {
    /// One more user, or what one wants from now on. Whether the union is another one now.
    pub fn add(&mut self, wish: &Wish) -> bool {
        fn more<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) -> bool {
            let count = counts.entry(key).or_insert(0);
            *count += 1;
            *count == 1
        }
        let mut news = false;
        for (on, count) in self.lists(&wish.filter) {
            *count += usize::from(on);
            news |= on && *count == 1;
        }
        for uri in &wish.filter.uris {
            news |= more(&mut self.uris, uri.clone());
        }
        news | wish.level.is_some_and(|level| more(&mut self.levels, level))
    }

    /// Takes out what was added. Whether the union is another one now.
    pub fn remove(&mut self, wish: &Wish) -> bool {
        fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
            let Some(count) = counts.get_mut(key) else { return false };
            *count -= 1;
            *count == 0 && counts.remove(key).is_some()
        }
        let mut news = false;
        for (on, count) in self.lists(&wish.filter) {
            news |= on && *count == 1;
            *count = count.saturating_sub(usize::from(on));
        }
        for uri in &wish.filter.uris {
            news |= less(&mut self.uris, uri);
        }
        news | wish.level.is_some_and(|level| less(&mut self.levels, &level))
    }

    fn lists(&mut self, filter: &Filter) -> [(bool, &mut usize); 3] {
        [(filter.tools, &mut self.tools), (filter.prompts, &mut self.prompts), (filter.resources, &mut self.resources)]
    }

    /// What somebody wants to hear of.
    pub fn filter(&self) -> Filter {
        Filter {
            tools: self.tools > 0,
            prompts: self.prompts > 0,
            resources: self.resources > 0,
            uris: self.uris.keys().cloned().collect(),
        }
    }

    /// The most verbose level somebody set.
    pub fn level(&self) -> Option<Level> {
        self.levels.keys().next().copied()
    }
}

/// What a server was asked to tell of, and what it said it would.
#[derive(Debug, Default)]
pub struct Granted {
    /// Also what it refused, so that it is not asked for that again and again.
    asked: Filter,
    given: Filter,
}

/// Something to tell a server, so that it tells of what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `resources/subscribe`
    Subscribe(Arc<str>),
    /// `resources/unsubscribe`
    Unsubscribe(Arc<str>),
    /// A `subscriptions/listen` that takes the place of the one there is. A filter cannot be changed;
    /// the old one ends when the new one is acknowledged, so that nothing is missed in between.
    Listen(Filter),
    /// The listen there is has nobody left to listen for.
    Unlisten,
}

impl Granted {
    /// What is still to be told. A handshake server tells of its lists unasked, and of resources one
    /// by one.
    pub fn changes(&mut self, wanted: &Filter, era: Era) -> Vec<Change> {
        match era {
            Era::Stateless if wanted.is_empty() && !self.asked.is_empty() => vec![Change::Unlisten],
            // Who was told what it gets wants no more than that: this is no reason to ask again.
            Era::Stateless if *wanted == self.asked || *wanted == self.given => Vec::new(),
            Era::Stateless => vec![Change::Listen(wanted.clone())],
            Era::Handshake => {
                // What it refused may be asked for again when somebody else wants it.
                self.asked.uris.retain(|uri| wanted.uris.contains(uri) || self.given.uris.contains(uri));
                let less = self.given.uris.difference(&wanted.uris).cloned().map(Change::Unsubscribe);
                let more = wanted.uris.difference(&self.asked.uris).cloned().map(Change::Subscribe);
                less.chain(more).collect()
            }
        }
    }

    /// The server answered a `resources/subscribe`, or did not in time.
    pub fn subscribed(&mut self, uri: Arc<str>, accepted: bool) {
        if accepted {
            self.given.uris.insert(uri.clone());
        }
        self.asked.uris.insert(uri);
    }

    /// It was told that nobody wants this resource any more.
    pub fn unsubscribed(&mut self, uri: &str) {
        self.asked.uris.remove(uri);
        self.given.uris.remove(uri);
    }

    /// It acknowledged a listen.
    pub fn listens(&mut self, asked: Filter, given: Filter) {
        *self = Granted { asked, given };
    }

    /// It did not. The listen there was goes on.
    pub fn refused(&mut self, asked: Filter) {
        self.asked = asked;
    }

    /// What of `filter` it tells of.
    pub fn tells_of(&self, filter: &Filter, era: Era) -> Filter {
        match era {
            Era::Stateless => filter.common_with(&self.given),
            Era::Handshake => filter.common_with(&Filter { uris: self.given.uris.clone(), ..Filter::every_list() }),
        }
    }

    /// It may say something else by now.
    pub fn ask_again(&mut self) {
        self.asked = Filter::default();
    }
}

impl Filter {
    /// Every list, and no resource.
    pub fn every_list() -> Filter {
        Filter { tools: true, prompts: true, resources: true, uris: BTreeSet::new() }
    }

    /// What is in both.
    pub fn common_with(&self, other: &Filter) -> Filter {
        Filter {
            tools: self.tools && other.tools,
            prompts: self.prompts && other.prompts,
            resources: self.resources && other.resources,
            uris: self.uris.intersection(&other.uris).cloned().collect(),
        }
    }

    /// One notice of each kind: for those who may have missed some.
    pub fn notices(&self) -> Vec<Notice> {
        let lists =
            [(self.tools, Method::ToolsChanged), (self.prompts, Method::PromptsChanged), (self.resources, Method::ResourcesChanged)];
        let lists = lists.into_iter().filter(|(on, _)| *on).map(|(_, method)| Notice::new(method, None));
        lists.chain(self.uris.iter().map(|uri| Notice::new(Method::ResourceUpdated, Some(uri)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(tools: bool, uris: &[&str]) -> Filter {
        Filter { tools, uris: uris.iter().map(|u| Arc::from(*u)).collect(), ..Filter::default() }
    }

    fn wish(uris: &[&str], level: Option<Level>) -> Wish {
        Wish { filter: filter(true, uris), level }
    }

    #[test]
    fn what_two_want_is_wanted_until_both_have_left() {
        let mut wanted = Wanted::default();
        let (one, two) = (wish(&["a", "b"], Some(Level::Error)), wish(&["b"], Some(Level::Debug)));
        assert!(wanted.add(&one) && wanted.add(&two));
        assert!(!wanted.add(&one) && !wanted.remove(&one), "nothing new");
        assert_eq!((wanted.filter(), wanted.level()), (filter(true, &["a", "b"]), Some(Level::Debug)));
        assert!(wanted.remove(&two));
        assert_eq!((wanted.filter(), wanted.level()), (filter(true, &["a", "b"]), Some(Level::Error)));
        assert!(wanted.remove(&one));
        assert_eq!((wanted.filter(), wanted.level()), (Filter::default(), None));
    }

    #[test]
    fn a_handshake_server_is_told_of_resources_one_by_one() {
        let mut granted = Granted::default();
        let wanted = filter(true, &["a", "b"]);
        let told = granted.changes(&wanted, Era::Handshake);
        assert_eq!(told, [Change::Subscribe("a".into()), Change::Subscribe("b".into())]);
        granted.subscribed("a".into(), true);
        granted.subscribed("b".into(), false);
        assert_eq!(granted.changes(&wanted, Era::Handshake), [], "what it refused is not asked for again");
        assert_eq!(granted.tells_of(&wanted, Era::Handshake), filter(true, &["a"]));
        let told = granted.changes(&filter(true, &["c"]), Era::Handshake);
        assert_eq!(told, [Change::Unsubscribe("a".into()), Change::Subscribe("c".into())]);
    }

    #[test]
    fn a_listen_is_replaced_by_what_is_wanted_now_also_by_less() {
        let mut granted = Granted::default();
        let (more, some, less) = (filter(true, &["a", "b"]), filter(true, &["b"]), filter(true, &[]));
        assert_eq!(granted.changes(&Filter::default(), Era::Stateless), []);
        assert_eq!(granted.changes(&more, Era::Stateless), [Change::Listen(more.clone())]);
        granted.listens(more.clone(), some.clone());
        assert_eq!(granted.changes(&more, Era::Stateless), [], "it does not tell of `a`, and has said so");
        assert_eq!(granted.changes(&some, Era::Stateless), [], "so nobody wants that of it any more");
        assert_eq!(granted.tells_of(&more, Era::Stateless), some);
        assert_eq!(granted.changes(&less, Era::Stateless), [Change::Listen(less.clone())]);
        granted.refused(less.clone());
        assert_eq!(granted.changes(&less, Era::Stateless), []);
        assert_eq!(granted.changes(&Filter::default(), Era::Stateless), [Change::Unlisten]);
    }

    #[test]
    fn who_may_have_missed_something_hears_of_each_kind_once() {
        let notices = Filter { prompts: true, ..filter(true, &["a\"b"]) }.notices();
        let told: Vec<&[u8]> = notices.iter().map(|n| &n.message[..]).collect();
        let expected: [&[u8]; 3] = [
            br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            br#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#,
            br#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a\"b"}}"#,
        ];
        assert_eq!(told, expected);
    }
}
