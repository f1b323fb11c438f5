//! What users want of a server, against the simplest model of it: the wishes of those who are there.
//!
//! The promise: whoever comes, leaves or changes their mind, and however often the server dies, when
//! everything was said it tells of what is wanted of what it has, and of nothing else. Odd: the server
//! is three sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use landbridge_proto::call::Level;
use landbridge_proto::subscribe::{Change, Filter, Granted, Wanted, Wish};
use landbridge_proto::version::Era;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// A user comes, or wants something else.
    Wish(u8, Wish),
    Leave(u8),
    /// The server is told so much of what there is to tell.
    Tell(usize),
    Die,
}

fn wish() -> impl Strategy<Value = Wish> {
    let uris = prop::collection::btree_set((0..6_u8).prop_map(|n| Arc::from(format!("u:{n}"))), 0..4);
    let level = prop::option::of(prop_oneof![Just(Level::Debug), Just(Level::Info), Just(Level::Error)]);
    (any::<[bool; 3]>(), uris, level)
        .prop_map(|([tools, prompts, resources], uris, level)| Wish { filter: Filter { tools, prompts, resources, uris }, level })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4_u8, wish()).prop_map(|(user, wish)| Op::Wish(user, wish)),
        3 => (0..4_u8).prop_map(Op::Leave),
        4 => (1..4_usize).prop_map(Op::Tell),
        1 => Just(Op::Die),
    ]
}

/// It refuses resources with odd numbers.
fn has(uri: &str) -> bool {
    uri.ends_with(['0', '2', '4'])
}

fn what_it_has(filter: &Filter) -> Filter {
    Filter { uris: filter.uris.iter().filter(|u| has(u)).cloned().collect(), ..filter.clone() }
}

#[derive(Default)]
struct World {
    users: BTreeMap<u8, Wish>,
    wanted: Wanted,
    granted: Granted,
    /// What the server tells of, as the server sees it.
    server: Filter,
    listens: usize,
}

impl World {
    fn union(&self) -> (Filter, Option<Level>) {
        let mut all = Filter::default();
        self.users.values().for_each(|wish| all.union(&wish.filter));
        (all, self.users.values().filter_map(|w| w.level).min())
    }

    fn replace(&mut self, user: u8, wish: Option<Wish>) {
        let before = self.union();
        let more = wish.as_ref().is_some_and(|wish| self.wanted.add(wish));
        let old = match wish {
            Some(wish) => self.users.insert(user, wish),
            None => self.users.remove(&user),
        };
        let less = old.is_some_and(|old| self.wanted.remove(&old));
        assert!(more || less || before == self.union(), "a change of the union is never passed over");
        assert_eq!((self.wanted.filter(), self.wanted.level()), self.union());
    }

    /// Tells the server so much; whether there was anything.
    fn tell(&mut self, era: Era, most: usize) -> bool {
        let changes = self.granted.changes(&self.wanted.filter(), era);
        let any = !changes.is_empty();
        for change in changes.into_iter().take(most) {
            match change {
                Change::Subscribe(uri) => {
                    assert!(era == Era::Handshake && !self.server.uris.contains(&uri), "once");
                    if has(&uri) {
                        self.server.uris.insert(uri.clone());
                    }
                    self.granted.subscribed(uri.clone(), has(&uri));
                }
                Change::Unsubscribe(uri) => {
                    assert!(self.server.uris.remove(&uri), "only what it was told");
                    self.granted.unsubscribed(&uri);
                }
                Change::Listen(filter) => {
                    self.server = what_it_has(&filter);
                    self.listens = 1;
                    self.granted.listens(filter, self.server.clone());
                }
                Change::Unlisten => {
                    assert_eq!(self.listens, 1);
                    (self.server, self.listens) = (Filter::default(), 0);
                    self.granted = Granted::default();
                }
            }
        }
        any
    }
}

proptest! {
    #[test]
    fn in_the_end_the_server_tells_of_what_is_wanted(
        ops in prop::collection::vec(op(), 1..40),
        era in prop_oneof![Just(Era::Handshake), Just(Era::Stateless)],
    ) {
        let mut world = World::default();
        for op in ops {
            match op {
                Op::Wish(user, wish) => world.replace(user, Some(wish)),
                Op::Leave(user) => world.replace(user, None),
                Op::Tell(most) => drop(world.tell(era, most)),
                Op::Die => (world.server, world.granted, world.listens) = Default::default(),
            }
        }
        for round in 0.. {
            prop_assert!(round < 3, "it never comes to rest");
            if !world.tell(era, usize::MAX) {
                break;
            }
        }
        let wanted = world.wanted.filter();
        prop_assert_eq!(&world.server.uris, &what_it_has(&wanted).uris);
        prop_assert_eq!(world.granted.tells_of(&wanted, era), what_it_has(&wanted));
        if era == Era::Stateless {
            prop_assert_eq!(&world.server, &what_it_has(&wanted));
            prop_assert_eq!(world.listens == 1, !wanted.is_empty());
        }
    }
}
