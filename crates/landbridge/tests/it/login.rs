//! Logins at GitHub and at OpenID Connect issuers, each of them on loopback and as strict as the real one.

use std::time::{SystemTime, UNIX_EPOCH};

use landbridge::backend::http::Http;
use landbridge::login::{Begin, Blame, Finish, GitHub, Now, Oidc, Provider, Trouble, Upstream, github, oidc};
use landbridge_fixtures::idp::{Algorithm, App, Fault, Idp, Kind, Person};
use landbridge_proto::oauth::admission::Admission;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::secret::{Hash, Secret, spell};
use serde_json::json;

const CALLBACK: &str = "http://127.0.0.1:1/callback";
const STATE: &str = "state & more";
const NONCE: &str = "nonce-of-this-login";

fn app() -> App {
    // Such letters as make a difference in a form and in HTTP Basic.
    App { client_id: "land:bridge".into(), client_secret: "s%3A & +ü".into(), callback: CALLBACK.into() }
}

fn octocat() -> Person {
    Person {
        id: 583_231,
        login: "Octocat".into(),
        name: Some("The Octocat".into()),
        email: Some("octocat@example.com".into()),
        email_verified: true,
        hd: Some("example.com".into()),
        organisations: vec!["github".into()],
    }
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn users(words: &[&str]) -> Admission {
    Admission { users: list(words), ..Admission::default() }
}

fn organisations(words: &[&str]) -> Admission {
    Admission { organisations: list(words), ..Admission::default() }
}

/// A provider, and the fake behind it.
struct Site {
    idp: Idp,
    provider: Provider,
    http: Http,
}

/// What a login comes back with.
struct Login {
    verifier: String,
    callback: String,
}

impl Site {
    fn github(admission: Admission) -> Site {
        let idp = Idp::start(Kind::GitHub, Algorithm::Es256, 0, app(), vec![octocat()]);
        let settings = github::Settings {
            web: idp.url().into(),
            api: format!("{}/api/v3", idp.url()),
            ..github::Settings::new(app().client_id, Secret::new(app().client_secret), admission)
        };
        Site { provider: Provider::GitHub(GitHub::new(settings)), idp, http: Http::new(false).unwrap() }
    }

    fn oidc(admission: Admission) -> Site {
        let idp = Idp::start(Kind::Oidc, Algorithm::Es256, 0, app(), vec![octocat()]);
        let settings = oidc::Settings {
            key: "company".into(),
            label: "Company".into(),
            issuer: idp.url().into(),
            ..oidc::Settings::google(app().client_id, Secret::new(app().client_secret), admission)
        };
        Site { provider: Provider::Oidc(Box::new(Oidc::new(settings))), idp, http: Http::new(false).unwrap() }
    }

    async fn begin(&self) -> Result<(String, String), Trouble> {
        let verifier = spell([9; 32]);
        let challenge = Hash::of(&verifier).to_string();
        let begin = Begin { callback: CALLBACK, state: STATE, nonce: NONCE, challenge: &challenge, choose: false };
        Ok((self.provider.begin(&self.http, &begin).await?, verifier))
    }

    /// The user agrees, as far as the callback.
    async fn agree(&self) -> Login {
        let (url, verifier) = self.begin().await.unwrap();
        let login = self.idp.people()[0].login.clone();
        Login { callback: self.idp.click(&url, &login, true), verifier }
    }

    async fn finish(&self, login: &Login) -> Result<Upstream, Trouble> {
        let query = login.callback.strip_prefix(CALLBACK).unwrap().trim_start_matches('?');
        let form = Form::read(query).unwrap();
        assert_eq!(form.get("state"), Some(STATE));
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let finish = Finish { callback: CALLBACK, nonce: NONCE, verifier: &login.verifier, now_s };
        self.provider.finish(&self.http, &form, &finish).await
    }

    async fn log_in(&self) -> Result<Upstream, Trouble> {
        let login = self.agree().await;
        self.finish(&login).await
    }
}

/// Fails unless the trouble is this one's, and says this.
#[track_caller]
fn assert_trouble(came: Result<Upstream, Trouble>, blame: Blame, said: &str) {
    let trouble = came.expect_err("trouble");
    assert!(trouble.blame == blame && trouble.to_string().contains(said), "{trouble:?}");
    assert!(!trouble.to_string().contains(&app().client_secret), "{trouble}");
}

#[tokio::test]
async fn github_tells_who_somebody_is() {
    let site = Site::github(users(&["octocat"]));
    let upstream = site.log_in().await.unwrap();
    assert_eq!(upstream.identity.principal(), format!("{}#583231", site.idp.url()));
    assert_eq!((upstream.identity.called(), upstream.identity.name.as_deref()), ("Octocat", Some("The Octocat")));
    assert!(
        upstream.held.access_token.reveal().starts_with("gho_")
            && upstream.held.expires_s.is_none()
            && upstream.held.refresh_token.is_none()
    );
    assert!(!format!("{upstream:?}").contains("gho_"), "no log shows a token");
    assert!(!site.idp.seen().contains(&"GET /api/v3/user/orgs".into()), "nobody asks for what no list needs");
    let (url, _) = site.begin().await.unwrap();
    assert!(!url.contains("scope") && url.contains("code_challenge_method=S256"), "{url}");
}

#[tokio::test]
async fn a_renamed_user_is_the_same_and_a_namesake_is_not() {
    let site = Site::github(users(&["*"]));
    let before = site.log_in().await.unwrap().identity.principal();
    site.idp.people()[0].login = "renamed".into();
    assert_eq!(site.log_in().await.unwrap().identity.principal(), before);
    site.idp.people()[0] = Person { id: 7, ..octocat() };
    assert_ne!(site.log_in().await.unwrap().identity.principal(), before);
}

#[tokio::test]
async fn github_is_asked_for_organisations_page_by_page() {
    let site = Site::github(organisations(&["GitHub"]));
    let upstream = site.log_in().await.unwrap();
    assert_eq!(
        (upstream.identity.organisations.as_slice(), upstream.scopes.as_slice()),
        (&list(&["github"])[..], &list(&["read:org"])[..])
    );

    let mut many: Vec<String> = (0..250).map(|n| format!("org-{n}")).collect();
    many.push("github".into());
    site.idp.people()[0].organisations = many;
    assert_eq!(site.log_in().await.unwrap().identity.organisations.len(), 251);

    site.idp.people()[0].organisations = list(&["gitHub2", "hub"]);
    assert_trouble(site.log_in().await, Blame::Admission, "Octocat is not among those who are let in here");
}

#[tokio::test]
async fn who_is_not_on_the_list_stays_out() {
    assert_trouble(Site::github(users(&["hubot"])).log_in().await, Blame::Admission, "Octocat is not among those");
    assert_trouble(Site::github(Admission::default()).log_in().await, Blame::Admission, "nobody is let in here");
    let other = Admission { domains: list(&["example.org"]), ..Admission::default() };
    assert_trouble(Site::oidc(other).log_in().await, Blame::Admission, "octocat@example.com is not among those");
    let verified = Admission { emails: list(&["octocat@example.com"]), ..Admission::default() };
    let site = Site::oidc(verified);
    site.log_in().await.unwrap();
    site.idp.people()[0].email_verified = false;
    assert_trouble(site.log_in().await, Blame::Admission, "only once it is verified");
}

#[tokio::test]
async fn who_says_no_is_told_so() {
    for site in [Site::github(users(&["*"])), Site::oidc(users(&["*"]))] {
        let (url, verifier) = site.begin().await.unwrap();
        let callback = site.idp.click(&url, "Octocat", false);
        assert_trouble(site.finish(&Login { callback, verifier }).await, Blame::User, "says that you did not agree");
    }
}

#[tokio::test]
async fn a_code_works_once_in_time_and_for_who_began() {
    for site in [Site::github(users(&["*"])), Site::oidc(users(&["*"]))] {
        let login = site.agree().await;
        site.finish(&login).await.unwrap();
        assert_trouble(site.finish(&login).await, Blame::User, "took too long, or was finished once before");

        let login = site.agree().await;
        site.idp.expire_codes();
        assert_trouble(site.finish(&login).await, Blame::User, "took too long");

        // Somebody else's code: they do not know its verifier.
        let login = Login { verifier: spell([8; 32]), ..site.agree().await };
        assert_trouble(site.finish(&login).await, Blame::User, "took too long");
    }
}

#[tokio::test]
async fn our_own_mistakes_are_called_ours() {
    let site = Site::github(users(&["*"]));
    let login = site.agree().await;
    for (id, secret, said) in [("land:bridge", "old", "`client_secret`"), ("other", "old", "`client_id`")] {
        let Provider::GitHub(right) = &site.provider else { unreachable!() };
        let wrong = github::Settings { client_id: id.into(), client_secret: Secret::new(secret), ..right.settings().clone() };
        let site = Site {
            provider: Provider::GitHub(GitHub::new(wrong)),
            idp: Idp::start(Kind::GitHub, Algorithm::Es256, 0, app(), vec![]),
            http: site.http.clone(),
        };
        assert_trouble(site.finish(&login).await, Blame::Operator, said);
    }

    let site = Site::oidc(users(&["*"]));
    let login = site.agree().await;
    let Provider::Oidc(right) = &site.provider else { unreachable!() };
    let wrong = oidc::Settings { client_secret: Some(Secret::new("old")), ..right.settings().clone() };
    let wrong = Site { provider: Provider::Oidc(Box::new(Oidc::new(wrong))), idp: site.idp, http: site.http };
    assert_trouble(wrong.finish(&login).await, Blame::Operator, "does not accept this server's");

    let elsewhere = "http://127.0.0.1:1/elsewhere";
    let site = Site::github(users(&["*"]));
    let begin = Begin { callback: elsewhere, state: STATE, nonce: NONCE, challenge: &Hash::of("x").to_string(), choose: true };
    let url = site.provider.begin(&site.http, &begin).await.unwrap();
    let callback = site.idp.click(&url, "Octocat", true);
    assert!(url.contains("prompt=select_account") && callback.contains("redirect_uri_mismatch"), "{callback}");
    assert_trouble(
        site.finish(&Login { callback, verifier: spell([9; 32]) }).await,
        Blame::Operator,
        "how this server is registered there",
    );
}

#[tokio::test]
async fn an_issuer_tells_who_somebody_is() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let mut site = Site::oidc(Admission { domains: list(&["example.com"]), ..Admission::default() });
        if algorithm == Algorithm::Rs256 {
            site.idp = Idp::start(Kind::Oidc, algorithm, 0, app(), vec![octocat()]);
            let Provider::Oidc(was) = &site.provider else { unreachable!() };
            let settings = oidc::Settings { issuer: site.idp.url().into(), ..was.settings().clone() };
            site.provider = Provider::Oidc(Box::new(Oidc::new(settings)));
        }
        let upstream = site.log_in().await.unwrap();
        assert_eq!(upstream.identity.principal(), format!("{}#583231", site.idp.url()));
        assert_eq!(upstream.identity.email.as_deref(), Some("octocat@example.com"));
        assert!(upstream.held.refresh_token.is_some() && upstream.held.expires_s.is_some() && upstream.identity.login.is_none());
        assert_eq!(upstream.scopes, list(&["openid", "email", "profile"]));
        site.log_in().await.unwrap();
        let asked = site.idp.seen().iter().filter(|seen| seen.contains("well-known")).count();
        assert_eq!((asked, site.idp.seen().contains(&"GET /userinfo".into())), (1, false), "{:?}", site.idp.seen());
    }
}

#[tokio::test]
async fn what_the_id_token_leaves_out_is_asked_for() {
    let admission = Admission { emails: list(&["@example.com"]), ..Admission::default() };
    let site = Site::oidc(admission.clone());
    site.idp.fault(Fault::Slim);
    site.idp.fault(Fault::SecretInBody);
    let identity = site.log_in().await.unwrap().identity;
    assert_eq!((identity.email.as_deref(), identity.name.as_deref()), (Some("octocat@example.com"), Some("The Octocat")));

    let site = Site::oidc(admission);
    site.idp.fault(Fault::Slim);
    site.idp.fault(Fault::Stranger);
    assert_trouble(site.log_in().await, Blame::Provider, "userinfo is about somebody else");

    // A name is worth asking for, but not worth failing for.
    let site = Site::oidc(users(&["583231"]));
    site.idp.fault(Fault::Slim);
    site.idp.fault(Fault::Stranger);
    let identity = site.log_in().await.unwrap().identity;
    assert_eq!((identity.name.as_deref(), identity.called()), (None, "583231"));
}

#[tokio::test]
async fn id_tokens_that_are_not_for_us_are_refused() {
    for (claim, value, said) in [
        ("nonce", Some(json!("another")), "of another login"),
        ("nonce", None, "of another login"),
        ("aud", Some(json!("somebody else")), "not for us"),
        ("aud", Some(json!(["somebody else"])), "not for us"),
        ("azp", Some(json!("somebody else")), "asked for by"),
        ("iss", Some(json!("https://accounts.google.com")), "is of"),
        ("exp", Some(json!(1_000_000_000)), "expired"),
        ("exp", None, "cannot be read"),
        ("nbf", Some(json!(100_000_000_000_u64)), "future"),
        ("sub", Some(json!("")), "no proper subject"),
        ("sub", None, "cannot be read"),
    ] {
        let site = Site::oidc(users(&["*"]));
        site.idp.fault(Fault::Claim(claim, value.clone()));
        let came = site.log_in().await;
        let trouble = came.as_ref().expect_err("trouble");
        assert!(!trouble.told.contains(said), "that is for the log: {}", trouble.told);
        assert_trouble(came, Blame::Provider, said);
    }
    for (none, said) in [(false, "signature"), (true, "")] {
        let site = Site::oidc(users(&["*"]));
        site.idp.fault(Fault::Unsigned(none));
        assert_trouble(site.log_in().await, Blame::Provider, said);
    }
    let site = Site::oidc(users(&["*"]));
    site.idp.fault(Fault::Answer("/token", 200, r#"{"access_token":"x","token_type":"Bearer"}"#));
    assert_trouble(site.log_in().await, Blame::Provider, "no id token");
}

#[tokio::test]
async fn answers_of_another_server_are_not_looked_at() {
    let site = Site::oidc(users(&["*"]));
    let mut login = site.agree().await;
    assert!(login.callback.contains("&iss="));
    login.callback = login.callback.split("&iss=").next().unwrap().to_owned() + "&iss=https%3A%2F%2Fevil.example";
    assert_trouble(site.finish(&login).await, Blame::Provider, "is not from Company");
    assert!(!site.idp.seen().contains(&"POST /token".into()));
    // Not even their error, and no second code.
    for (params, said) in [("error=access_denied&iss=https%3A%2F%2Fevil.example", "is not from"), ("code=a&code=b", "two of")] {
        let callback = format!("{CALLBACK}?state=state%20%26%20more&{params}");
        assert_trouble(site.finish(&Login { callback, verifier: spell([9; 32]) }).await, Blame::Provider, said);
    }
    let callback = format!("{CALLBACK}?state=state%20%26%20more");
    assert_trouble(site.finish(&Login { callback, verifier: spell([9; 32]) }).await, Blame::User, "without a code");
}

#[tokio::test]
async fn an_issuer_that_is_another_is_not_believed() {
    let site = Site::oidc(users(&["*"]));
    site.idp.fault(Fault::Issuer("https://accounts.google.com"));
    let trouble = site.begin().await.unwrap_err();
    assert!(trouble.blame == Blame::Operator && trouble.told.contains("`issuer` is wrong"), "{trouble}");
    for (status, body, blame, said) in [
        (404, "", Blame::Operator, "is no OpenID Connect issuer"),
        (500, "oops", Blame::Provider, "out of order"),
        (200, "<html>", Blame::Provider, "do not understand"),
        (200, "{}", Blame::Provider, "do not understand"),
    ] {
        let site = Site::oidc(users(&["*"]));
        site.idp.fault(Fault::Answer("/.well-known/openid-configuration", status, body));
        let trouble = site.begin().await.unwrap_err();
        assert!(trouble.blame == blame && trouble.to_string().contains(said), "{trouble:?}");
    }
    let site = Site::oidc(users(&["*"]));
    let plain = format!(
        r#"{{"issuer":"{0}","authorization_endpoint":"http://idp.example/authorize","token_endpoint":"{0}/token"}}"#,
        site.idp.url()
    );
    site.idp.fault(Fault::Answer("/.well-known/openid-configuration", 200, plain.leak()));
    let trouble = site.begin().await.unwrap_err();
    assert!(trouble.told.contains("not https"), "{trouble:?}");
}

#[tokio::test]
async fn providers_in_trouble_are_called_so() {
    for (path, status, body, said) in [
        ("/login/oauth/access_token", 500, "", "out of order"),
        ("/login/oauth/access_token", 503, "", "out of order"),
        ("/login/oauth/access_token", 200, "<html>", "do not understand"),
        ("/login/oauth/access_token", 200, "{}", "no token"),
        ("/login/oauth/access_token", 200, r#"{"access_token":"a\r\nb"}"#, "cannot be sent"),
        ("/login/oauth/access_token", 200, r#"{"access_token":"a","token_type":"mac"}"#, "of a kind"),
        ("/login/oauth/access_token", 200, r#"{"error":"odd","error_description":"x\n\u001b[31my"}"#, "GitHub Enterprise refused"),
        ("/api/v3/user", 502, "", "out of order"),
        ("/api/v3/user", 429, "", "too much to do"),
        ("/api/v3/user", 401, r#"{"message":"Bad credentials"}"#, "refused a request"),
        ("/api/v3/user", 200, r#"{"login":"Octocat"}"#, "do not understand"),
        ("/api/v3/user", 200, r#"{"id":"583231","login":"Octocat"}"#, "do not understand"),
    ] {
        let site = Site::github(users(&["*"]));
        site.idp.fault(Fault::Answer(path, status, body));
        let came = site.log_in().await;
        assert!(!came.as_ref().unwrap_err().to_string().contains(['\n', '\u{1b}']));
        assert_trouble(came, Blame::Provider, said);
    }
    // The user has taken the scope away.
    let site = Site::github(organisations(&["github"]));
    site.idp.fault(Fault::Answer("/api/v3/user/orgs", 403, "{}"));
    assert_trouble(site.log_in().await, Blame::User, "which organisations");
    // There is an end to every answer.
    let site = Site::github(users(&["*"]));
    site.idp.fault(Fault::Endless("/api/v3/user"));
    assert_trouble(site.log_in().await, Blame::Provider, "did not answer");
}

#[tokio::test]
async fn a_provider_that_is_silent_is_not_waited_for_for_ever() {
    let site = Site::github(users(&["*"]));
    site.idp.fault(Fault::Silent("/login/oauth/access_token"));
    assert_trouble(site.log_in().await, Blame::Provider, "no answer within 10 s");
    let Site { idp, provider, http } = site;
    drop(idp);
    // Nobody is there any more; the port may be free or refuse.
    let form = Form::read("code=x").unwrap();
    let finish = Finish { callback: CALLBACK, nonce: NONCE, verifier: "x", now_s: 0 };
    let gone = provider.finish(&http, &form, &finish).await;
    assert_eq!(gone.unwrap_err().blame, Blame::Provider);
}

// --- asked again, later ---------------------------------------------------------------------------

impl Site {
    /// Who the user is now, by the token of that login.
    async fn who(&self, upstream: &Upstream) -> Result<Now, Trouble> {
        self.provider.who(&self.http, &upstream.held, &upstream.identity.subject).await
    }

    async fn renew(&self, upstream: &mut Upstream) -> Result<(), Trouble> {
        self.provider.renew(&self.http, &mut upstream.held, 1_000).await
    }
}

fn is(upstream: &Upstream) -> Now {
    Now::Is { identity: Box::new(upstream.identity.clone()), lacks: false }
}

#[tokio::test]
async fn github_tells_again_who_somebody_is_and_where_they_belong() {
    let site = Site::github(organisations(&["github"]));
    let upstream = site.log_in().await.unwrap();
    assert_eq!(site.who(&upstream).await, Ok(is(&upstream)));
    site.idp.people()[0].organisations.clear();
    let Ok(Now::Is { identity, lacks: false }) = site.who(&upstream).await else { panic!("somebody") };
    assert!(identity.organisations.is_empty());
    // What is out of order, has too much to do or is somebody else's word says nothing of anybody.
    let suspended = r#"{"message":"Sorry. Your account was suspended"}"#;
    let scope = r#"{"message":"You need at least read:org scope or user scope to list your organizations"}"#;
    for (fault, blame) in [
        (Fault::Answer("/api/v3/user", 500, ""), Blame::Provider),
        (Fault::Answer("/api/v3/user", 200, "<html>"), Blame::Provider),
        (Fault::Answer("/api/v3/user", 403, "<html>"), Blame::Provider),
        (Fault::Answer("/api/v3/user/orgs", 403, r#"{"message":"Resource protected by organization SAML enforcement."}"#), Blame::Provider),
        (Fault::Tired("/api/v3/user"), Blame::Provider),
        (Fault::Tired("/api/v3/user/orgs"), Blame::Provider),
        (Fault::Answer("/api/v3/user", 403, suspended), Blame::User),
        (Fault::Answer("/api/v3/user/orgs", 403, scope), Blame::User),
    ] {
        site.idp.fault(fault.clone());
        assert_eq!(site.who(&upstream).await.expect_err("trouble").blame, blame, "{fault:?}");
        site.idp.mend();
    }
    // Of an organisation that wants its own single sign-on first nothing is said.
    site.idp.fault(Fault::Partial);
    assert_eq!(site.who(&upstream).await.expect_err("trouble").blame, Blame::Provider);
    site.idp.mend();
    site.idp.revoke();
    assert_eq!(site.who(&upstream).await, Ok(Now::Refused));
}

#[tokio::test]
async fn an_issuer_tells_again_who_somebody_is_by_a_new_token_if_the_old_one_is_over() {
    let verified = Admission { emails: list(&["octocat@example.com"]), ..Admission::default() };
    let site = Site::oidc(verified);
    let mut upstream = site.log_in().await.unwrap();
    let first = upstream.held.clone();
    assert!(!first.lasts, "nobody was told that it outlives the visit");
    assert_eq!(site.who(&upstream).await, Ok(is(&upstream)));
    site.idp.expire_tokens();
    assert_eq!(site.who(&upstream).await, Ok(Now::Refused));
    site.renew(&mut upstream).await.unwrap();
    assert_eq!((upstream.held.expires_s, upstream.held.lasts), (Some(4_600), false));
    assert!(upstream.held.access_token != first.access_token && upstream.held.refresh_token != first.refresh_token);
    assert_eq!(site.who(&upstream).await, Ok(is(&upstream)));
    site.idp.people()[0].email_verified = false;
    let Ok(Now::Is { identity, lacks: false }) = site.who(&upstream).await else { panic!("somebody") };
    assert!(!identity.email_verified);
    site.idp.people()[0].email = None;
    assert!(matches!(site.who(&upstream).await, Ok(Now::Is { lacks: true, .. })));
    site.idp.fault(Fault::Stranger);
    assert_eq!(site.who(&upstream).await.expect_err("trouble").blame, Blame::Provider);
    site.idp.mend();
    site.idp.fault(Fault::Answer("/token", 503, ""));
    assert_eq!(site.renew(&mut upstream).await.expect_err("trouble").blame, Blame::Provider);
    site.idp.mend();
    site.idp.revoke();
    assert_eq!(site.renew(&mut upstream).await.expect_err("trouble").blame, Blame::User);
}
