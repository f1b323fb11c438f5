//! Tokens: none without a user's consent, none for more than it, and a line of refresh tokens never forks
//! or breaks.
//!
//! The store is three maps, and takes and writes as a real one does: nothing else remembers anything.

use std::collections::{BTreeMap, BTreeSet};

use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::{self, Server};
use landbridge_proto::oauth::client::{Client, register};
use landbridge_proto::oauth::form::{Form, with_params};
use landbridge_proto::oauth::refusal::Refusal;
use landbridge_proto::oauth::secret::{Hash, spell};
use landbridge_proto::oauth::token::{Access, CodeRecord, Issued, Lifetimes, Refresh, Wanted, Write, redeem, refresh, wanted};
use proptest::prelude::*;

const LIFETIMES: Lifetimes = Lifetimes { access_s: 900, refresh_s: 1_000_000 };
const ISSUER: &str = "https://as";

struct World {
    client: Client,
    mounts: Vec<Resource>,
    scopes: Vec<String>,
    codes: BTreeMap<String, CodeRecord>,
    refreshes: BTreeMap<String, Refresh>,
    accesses: BTreeMap<String, Access>,
    withdrawn: BTreeSet<String>,
    /// Grants to which a user has agreed.
    agreed: BTreeSet<String>,
    n_random: u64,
    now_s: u64,
}

impl World {
    fn new() -> World {
        let body = r#"{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}"#;
        World {
            client: register(body, "client".into(), [2; 32], 0).unwrap().0,
            mounts: vec![Resource::read("https://h/mcp").unwrap()],
            scopes: vec!["read".into(), "write".into()],
            codes: BTreeMap::new(),
            refreshes: BTreeMap::new(),
            accesses: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            agreed: BTreeSet::new(),
            n_random: 0,
            now_s: 1_000,
        }
    }

    fn random(&mut self) -> [u8; 32] {
        self.n_random += 1;
        let mut bytes = [0xab; 32];
        bytes[..8].copy_from_slice(&self.n_random.to_le_bytes());
        bytes
    }

    /// A whole login, with consent or without: the code, if there is one.
    fn login(&mut self, verifier: &str, scope: &str, agrees: bool) -> Option<String> {
        let challenge = Hash::of(verifier).to_string();
        let query = with_params(
            "",
            &[
                ("client_id", &self.client.id),
                ("redirect_uri", "http://localhost:9/cb"),
                ("response_type", "code"),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
                ("resource", "https://h"),
                ("scope", scope),
            ],
        );
        let server = Server { issuer: ISSUER, mounts: &self.mounts, scopes: &self.scopes, unnamed: None };
        let asked = authorize::check(&Form::read(&query[1..]).unwrap(), &self.client, &server).unwrap();
        if !agrees {
            return None;
        }
        let (code, id) = (self.random(), self.random());
        let granted = asked.grant("ada".into(), ISSUER, [code, id], self.now_s);
        self.agreed.insert(granted.code.grant.id.clone());
        self.codes.insert(granted.key.to_string(), CodeRecord::Fresh(granted.code));
        Some(spell(code))
    }

    /// A request at the token endpoint.
    fn post(&mut self, params: &[(&str, &str)]) -> Result<Issued, Refusal> {
        let form = Form::read(with_params("", params).get(1..).unwrap_or_default()).unwrap();
        let decision = match wanted(&form)? {
            Wanted::Code(key) => {
                let random = [self.random(), self.random(), self.random()];
                let record = self.codes.remove(&key.to_string());
                redeem(&form, &self.client, record, LIFETIMES, random, self.now_s)
            }
            Wanted::Refresh(key) => {
                let random = self.random();
                let record = self.refreshes.remove(&key.to_string());
                refresh(&form, &self.client, record, LIFETIMES, random, self.now_s)
            }
        };
        for write in decision.writes {
            match write {
                Write::Code(key, record) => drop(self.codes.insert(key.to_string(), record)),
                Write::Access(key, record) => drop(self.accesses.insert(key.to_string(), record)),
                Write::Refresh(key, record) => drop(self.refreshes.insert(key.to_string(), record)),
                Write::Withdraw(grant) => {
                    self.refreshes.retain(|_, record| record.grant.id != grant);
                    self.accesses.retain(|_, record| record.grant.id != grant);
                    self.withdrawn.insert(grant);
                }
            }
        }
        decision.answer
    }

    fn redeem(&mut self, code: &str, verifier: &str) -> Result<Issued, Refusal> {
        self.post(&[("grant_type", "authorization_code"), ("code", code), ("code_verifier", verifier)])
    }

    fn refresh(&mut self, token: &str) -> Result<Issued, Refusal> {
        self.post(&[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    /// The refresh tokens of a grant that nobody has used.
    fn live(&self, grant: &str) -> usize {
        self.refreshes.values().filter(|record| record.grant.id == grant && record.used_s.is_none()).count()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Login { scope: &'static str, agrees: bool },
    Redeem { code: usize, right: bool },
    Refresh { token: usize },
    Guess { params: Vec<(&'static str, String)> },
    Wait { s: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let params = (
        prop::sample::select(vec!["grant_type", "code", "refresh_token", "code_verifier", "scope", "resource"]),
        prop_oneof![
            any::<String>(),
            prop::sample::select(vec!["authorization_code", "refresh_token", "read", "https://h/mcp"]).prop_map(str::to_owned),
        ],
    );
    prop_oneof![
        2 => (prop::sample::select(vec!["read", "read write"]), any::<bool>()).prop_map(|(scope, agrees)| Step::Login { scope, agrees }),
        4 => (0..8_usize, prop::bool::weighted(0.9)).prop_map(|(code, right)| Step::Redeem { code, right }),
        8 => (0..24_usize).prop_map(|token| Step::Refresh { token }),
        1 => prop::collection::vec(params, 0..4).prop_map(|params| Step::Guess { params }),
        2 => prop::sample::select(vec![1, 30, 60, 61]).prop_map(|s| Step::Wait { s }),
    ]
}

proptest! {
    #[test]
    fn no_token_without_consent(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let (mut codes, mut tokens): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut redeemed = BTreeSet::new();
        let verifier = spell([7; 32]);
        for step in steps {
            let answer = match step {
                Step::Login { scope, agrees } => {
                    codes.extend(world.login(&verifier, scope, agrees));
                    continue;
                }
                Step::Wait { s } => {
                    world.now_s += s;
                    continue;
                }
                Step::Guess { params } => {
                    let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    let answer = world.post(&params);
                    prop_assert!(answer.is_err(), "a guess was answered");
                    continue;
                }
                Step::Redeem { code, right } => {
                    let Some(code) = codes.get(code).cloned() else { continue };
                    let answer = world.redeem(&code, if right { &verifier } else { "wrong" });
                    if answer.is_ok() {
                        prop_assert!(right && redeemed.insert(code), "a code was redeemed twice, or by nobody");
                    }
                    answer
                }
                Step::Refresh { token } => {
                    let Some(token) = tokens.get(token).cloned() else { continue };
                    let before = world.refreshes.get(&Hash::of(&token).to_string()).cloned();
                    let answer = world.refresh(&token);
                    // The newest of a line is always renewed; the others only within the grace.
                    let expected = before.is_some_and(|record| record.used_s.is_none_or(|used_s| world.now_s <= used_s + 60));
                    prop_assert_eq!(answer.is_ok(), expected);
                    answer
                }
            };
            let Ok(issued) = answer else { continue };
            let grant = &issued.access.grant;
            prop_assert!(world.agreed.contains(&grant.id) && !world.withdrawn.contains(&grant.id));
            prop_assert_eq!(world.live(&grant.id), 1, "the line forks or breaks");
            prop_assert!(world.accesses.contains_key(&Hash::of(&issued.access_token).to_string()));
            tokens.extend(issued.refresh_token);
        }
        for grant in &world.agreed {
            prop_assert!(world.live(grant) <= 1);
        }
        for grant in &world.withdrawn {
            prop_assert_eq!(world.live(grant), 0);
        }
        // What is kept is no secret: no code and no token is a key of the store.
        for secret in codes.iter().chain(&tokens) {
            prop_assert!(!world.codes.contains_key(secret) && !world.refreshes.contains_key(secret) && !world.accesses.contains_key(secret));
        }
    }

    /// Many copies of a client race through several rounds, each with whatever it was told last.
    #[test]
    fn races_neither_lose_nor_fork(racers in prop::collection::vec(0..4_usize, 1..200)) {
        let mut world = World::new();
        let verifier = spell([7; 32]);
        let code = world.login(&verifier, "read", true).unwrap();
        let issued = world.redeem(&code, &verifier).unwrap();
        let grant = issued.access.grant.id.clone();
        let mut held = vec![issued.refresh_token.unwrap(); 4];
        for racer in racers {
            let issued = world.refresh(&held[racer]);
            prop_assert!(issued.is_ok(), "a racer was turned away");
            held[racer] = issued.unwrap().refresh_token.unwrap();
            prop_assert_eq!(world.live(&grant), 1);
        }
    }
}

#[test]
fn ten_thousand_that_race_are_told_the_same() {
    let mut world = World::new();
    let verifier = spell([7; 32]);
    let code = world.login(&verifier, "read", true).unwrap();
    let first = world.redeem(&code, &verifier).unwrap().refresh_token.unwrap();
    let told: BTreeSet<String> = (0..10_000).map(|_| world.refresh(&first).unwrap().refresh_token.unwrap()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((world.refreshes.len(), world.accesses.len()), (2, 10_001));
}
