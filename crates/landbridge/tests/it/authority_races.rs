//! Many who refresh the same token at once: none loses its login, and no login becomes two.
//!
//! Requests go to the gateway without sockets between, so that they are as many and as close together as they can be.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use landbridge::arrival::Arrival;
use landbridge::auth::Auth;
use landbridge::auth::tokens;
use landbridge::body::Beats;
use landbridge::gateway::Gateway;
use landbridge::routes;
use landbridge::store::{self, Kind, Pending, Record, Store, Trouble};
use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::Grant;
use landbridge_proto::oauth::secret::{Hash, spell};
use landbridge_proto::oauth::token::{Refresh, Write};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::visitors::{now_s, plan, written};

const BASE: &str = "http://127.0.0.1:1";

/// A gateway that nobody listens for.
#[derive(Clone)]
pub struct Quiet {
    pub gateway: Arc<Gateway>,
    beats: Arc<Beats>,
}

impl Quiet {
    pub async fn open(config: &str, store: &str) -> Quiet {
        let mut plan = plan(config);
        plan.auth.store = Some(store.into());
        let auth = Auth::open(plan.auth.clone()).await.unwrap();
        Quiet { gateway: Gateway::guarded(plan, auth).unwrap(), beats: Arc::new(Beats::new()) }
    }

    /// Over that store.
    fn over(config: &str, store: Arc<dyn Store>) -> Quiet {
        let plan = plan(config);
        let auth = Arc::new(Auth::new(plan.auth.clone(), store).unwrap());
        Quiet { gateway: Gateway::guarded(plan, auth).unwrap(), beats: Arc::new(Beats::new()) }
    }

    pub fn store(&self) -> &dyn Store {
        &*self.gateway.auth().store
    }

    /// A request as the listener would pass it on.
    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> http::Response<Bytes> {
        let response = routes::handle(self.gateway.clone(), self.beats.clone(), request, Arrival::default()).await;
        let (parts, body) = response.into_parts();
        http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// A form to that path.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let request = http::Request::post(path).header("host", "127.0.0.1:1");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(written(fields).into()).unwrap();
        let response = self.send(request).await;
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
    }

    async fn refresh(&self, client: &str, token: &str) -> (u16, Value) {
        self.form("/token", &[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)]).await
    }

    pub async fn register(&self) -> String {
        let body = json!({"redirect_uris": ["http://127.0.0.1/done"], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"]});
        let request = http::Request::post("/register").header("host", "127.0.0.1:1").header("content-type", "application/json");
        let response = self.send(request.body(body.to_string().into()).unwrap()).await;
        let said: Value = serde_json::from_slice(response.body()).unwrap();
        said["client_id"].as_str().unwrap().to_owned()
    }

    /// A family of tokens, as a login leaves it: its first refresh token.
    async fn family(&self, client: &str, number: u8) -> String {
        let resource = Resource::read(BASE).unwrap();
        let (id, token) = (format!("family {number}"), spell([number; 32]));
        let agreed = tokens::Agreed {
            person: None,
            principal: "landbridge:local#ada".into(),
            name: "ada".into(),
            client_id: client.into(),
            client_name: "app".into(),
            scopes: vec!["mcp".into()],
            resource: resource.to_string(),
            since_s: now_s(),
        };
        tokens::agree(self.store(), &id, &agreed, 3600).await.unwrap();
        let grant = Grant { id, client_id: client.into(), principal: agreed.principal, resource, scopes: agreed.scopes };
        let refresh = Refresh { grant, expires_s: now_s() + 3600, salt: [number ^ 255; 32], used_s: None };
        tokens::carry_out(self.store(), vec![Write::Refresh(Hash::of(&token), refresh)], now_s(), |_| {}).await.unwrap();
        token
    }

    /// Which families have refresh tokens that nobody has used, once for each.
    async fn live(&self) -> Vec<String> {
        let mut live = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.store().list(Kind::Refresh, &after, 1000, now_s()).await.unwrap();
            for (_, record) in &page {
                let value: Value = serde_json::from_str(&record.value).unwrap();
                if value["used_s"].is_null() {
                    live.push(value["grant"].as_str().unwrap().to_owned());
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == 1000 => after.clone_from(key),
                _ => break,
            }
        }
        live.sort();
        live
    }
}

/// So many families, each refreshed by so many racers in every wave, `at_once` under way, at any of these gateways.
async fn race(gateways: &[Quiet], n_families: u8, n_racers: usize, n_waves: usize, at_once: usize) {
    let client = gateways[0].register().await;
    let mut heads = Vec::new();
    for number in 0..n_families {
        heads.push(gateways[0].family(&client, number).await);
    }
    let room = Arc::new(Semaphore::new(at_once));
    let begun = std::time::Instant::now();
    for wave in 0..n_waves {
        let mut racers = JoinSet::new();
        // Racer by racer, not family by family: those of a family are spread over the whole wave, and then close.
        for racer in 0..n_racers {
            for (family, head) in heads.iter().enumerate() {
                let gateway = gateways[(racer + family) % gateways.len()].clone();
                let (room, client, head) = (room.clone(), client.clone(), head.clone());
                racers.spawn(async move {
                    let _place = room.acquire_owned().await.unwrap();
                    (family, gateway.refresh(&client, &head).await)
                });
            }
        }
        let mut successors: Vec<BTreeSet<String>> = vec![BTreeSet::new(); heads.len()];
        let mut access = BTreeSet::new();
        while let Some(done) = racers.join_next().await {
            let (family, (status, said)) = done.unwrap();
            assert_eq!(status, 200, "family {family} in wave {wave} lost its login: {said}");
            successors[family].insert(said["refresh_token"].as_str().unwrap().to_owned());
            access.insert(said["access_token"].as_str().unwrap().to_owned());
        }
        assert_eq!(access.len(), n_racers * heads.len(), "everybody has a token of their own");
        for (family, successors) in successors.into_iter().enumerate() {
            assert_eq!(successors.len(), 1, "family {family} in wave {wave} has forked");
            heads[family] = successors.into_iter().next().unwrap();
        }
        // Each of them lets in.
        let some = access.iter().step_by(97);
        for token in some {
            let found = tokens::find(gateways[0].store(), &Hash::of(token), now_s(), |_| true).await.unwrap();
            assert_eq!(found.unwrap().name, "ada");
        }
    }
    let expected: Vec<String> = {
        let mut all: Vec<String> = (0..n_families).map(|number| format!("family {number}")).collect();
        all.sort();
        all
    };
    assert_eq!(gateways[0].live().await, expected, "one live line for each");
    eprintln!("{} refreshes in {:?}", usize::from(n_families) * n_racers * n_waves, begun.elapsed());
    // And each of these is it.
    for head in &heads {
        assert_eq!(gateways[0].refresh(&client, head).await.0, 200);
    }
}

const CONFIG: &str = "[auth]\nmode = \"oauth\"\n[servers.a]\ndemo = true\n";

/// A directory for a database, until it is dropped.
pub struct Scratch(std::path::PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Scratch(std::env::temp_dir().join(format!("landbridge-it-authority-{}-{number}", std::process::id())))
    }

    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path("store.db"))
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_racing_refreshes_lose_none_and_fork_none_in_memory() {
    race(&[Quiet::open(CONFIG, "memory:").await], 100, 20, 5, 500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_racing_refreshes_lose_none_and_fork_none_in_a_file() {
    let scratch = Scratch::new();
    race(&[Quiet::open(CONFIG, &scratch.url()).await], 100, 50, 2, 100).await;
}

/// As two processes, which know nothing of each other but the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_gateways_over_one_file_lose_none_and_fork_none() {
    let scratch = Scratch::new();
    let url = scratch.url();
    let gateways = [Quiet::open(CONFIG, &url).await, Quiet::open(CONFIG, &url).await];
    race(&gateways, 25, 20, 2, 50).await;
}

/// A client that leaves in the middle of a refresh, after every number of steps, comes back and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_in_the_middle_loses_no_login() {
    let scratch = Scratch::new();
    let gateway = Quiet::open(CONFIG, &scratch.url()).await;
    let client = gateway.register().await;
    let mut head = gateway.family(&client, 1).await;
    let mut n_left = 0;
    for n_ms in 0..40 {
        {
            let mut leaving = pin!(gateway.refresh(&client, &head));
            let polled = leaving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_pending() {
                // A part of a millisecond each.
                let gone = tokio::time::timeout(std::time::Duration::from_micros(n_ms * 150), leaving).await;
                n_left += usize::from(gone.is_err());
            } else {
                assert!(matches!(polled, Poll::Ready((200, _))));
            }
        }
        let (status, said) = gateway.refresh(&client, &head).await;
        assert_eq!(status, 200, "{said}");
        head = said["refresh_token"].as_str().unwrap().to_owned();
    }
    assert!(n_left > 0, "nobody left");
    assert_eq!(gateway.live().await, ["family 1"]);
}

/// A store whose so many-th write from now fails, as when its disk is full for a moment.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Store>,
    fails_at: AtomicUsize,
}

impl Store for Flaky {
    fn get<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        self.inner.get(kind, key, now_s)
    }

    fn put<'a>(&'a self, kind: Kind, key: &'a str, record: Record) -> Pending<'a, ()> {
        match self.fails_at.fetch_sub(1, Ordering::Relaxed) {
            1 => Box::pin(async { Err(Trouble::Database("the disk is full".into())) }),
            _ => self.inner.put(kind, key, record),
        }
    }

    fn take<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        self.inner.take(kind, key, now_s)
    }

    fn list<'a>(&'a self, kind: Kind, after: &'a str, limit: usize, now_s: u64) -> Pending<'a, Vec<(String, Record)>> {
        self.inner.list(kind, after, limit, now_s)
    }

    fn sweep(&self, now_s: u64) -> Pending<'_, u64> {
        self.inner.sweep(now_s)
    }
}

/// A write that fails in the middle of a refresh costs another try, and no login.
#[tokio::test]
async fn a_store_that_fails_for_a_moment_loses_no_login() {
    let flaky = Arc::new(Flaky { inner: store::memory(), fails_at: AtomicUsize::new(0) });
    let gateway = Quiet::over(CONFIG, flaky.clone());
    let client = gateway.register().await;
    let mut head = gateway.family(&client, 1).await;
    let mut n_failed = 0;
    for nth in 1..=4 {
        flaky.fails_at.store(nth, Ordering::Relaxed);
        let (status, said) = gateway.refresh(&client, &head).await;
        flaky.fails_at.store(0, Ordering::Relaxed);
        n_failed += usize::from(status == 503);
        assert!(matches!(status, 200 | 503), "{said}");
        let (status, said) = gateway.refresh(&client, &head).await;
        assert_eq!(status, 200, "write {nth}: {said}");
        head = said["refresh_token"].as_str().unwrap().to_owned();
        assert_eq!(gateway.live().await, ["family 1"], "write {nth}");
    }
    assert_eq!(n_failed, 3, "the successor, the old one, the access token");
}
