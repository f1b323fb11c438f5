//! Who may log in: somebody whom an issuer vouches for, held against lists that an operator wrote.
//!
//! One match on one list lets in. Empty lists let nobody in, because at GitHub or Google everybody has an
//! account; who wants everybody writes `users = ["*"]`. Odd: which claims may be believed is decided here
//! too. An e-mail address counts only if its issuer has verified it, and only a hosted domain (`hd`) says that
//! somebody belongs to a company: anybody can have an address that looks like one.

/// Lets everybody in, in `users`.
pub const EVERYBODY: &str = "*";

/// Somebody, as an issuer knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who vouches for them: a URL without fragment.
    pub issuer: String,
    /// Their number or name there, which never becomes somebody else's (`sub`; at GitHub the numeric id).
    pub subject: String,
    /// The name they log in with, where no two at the issuer can have the same and nobody picks another's. At
    /// GitHub and for local accounts; never `preferred_username` (OpenID Connect Core §5.7).
    pub login: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// Their address.
    pub email: Option<String>,
    /// Whether the issuer has seen that the address is theirs.
    pub email_verified: bool,
    /// The company or school that runs their account (`hd` at Google).
    pub hosted_domain: Option<String>,
    /// The organisations they are a member of, by login; only where somebody asked.
    pub organisations: Vec<String>,
}

impl Identity {
    /// Who they are in records and sessions: issuer and subject. An issuer has no `#`, so no two are
    /// written alike, whatever is in the subject.
    pub fn principal(&self) -> String {
        format!("{}#{}", self.issuer, self.subject)
    }

    /// What a page or a log calls them: by login, else by address, else by number.
    pub fn called(&self) -> &str {
        self.login.as_deref().or(self.email.as_deref()).unwrap_or(&self.subject)
    }
}

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Logins, in any case (GitHub's have none); where an issuer has no logins, subjects to the letter.
    pub users: Vec<String>,
    /// Organisations by login, in any case.
    pub organisations: Vec<String>,
    /// Hosted domains, to the letter, as the issuer writes them: in lower case. Not those of addresses.
    pub domains: Vec<String>,
    /// Verified addresses, ASCII letters in any case; `@example.com` is every verified address of that domain,
    /// and of none below it.
    pub emails: Vec<String>,
}

impl Admission {
    /// Whether nobody is named, so that nobody gets in.
    pub fn is_empty(&self) -> bool {
        [&self.users, &self.organisations, &self.domains, &self.emails].iter().all(|list| list.is_empty())
    }

    /// Whether everybody gets in whom the issuer knows.
    pub fn is_open(&self) -> bool {
        self.users.iter().any(|user| user == EVERYBODY)
    }

    /// What of the lists can never match, or says what was hardly meant. Each fits after the name of the
    /// section.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.is_empty() {
            complaints
                .push(format!("lets nobody in: name `users`, `organisations`, `domains` or `emails`, or write users = [\"{EVERYBODY}\"]"));
        }
        let lists = [("organisations", &self.organisations), ("domains", &self.domains), ("emails", &self.emails)];
        for (name, list) in lists {
            if list.iter().any(|entry| entry == EVERYBODY) {
                complaints.push(format!("has \"{EVERYBODY}\" in `{name}`, where it means nothing: it belongs in `users`"));
            }
        }
        for entry in lists.iter().flat_map(|(_, list)| *list).chain(&self.users) {
            if entry.trim() != entry || entry.is_empty() {
                complaints.push(format!("has {entry:?} in a list, which nobody is called"));
            }
        }
        for domain in self.domains.iter().filter(|d| d.contains('@') || d.bytes().any(|b| b.is_ascii_uppercase())) {
            complaints.push(format!("has {domain:?} in `domains`: a domain is written in lower case and without @"));
        }
        for email in self.emails.iter().filter(|e| *e != EVERYBODY && !is_address(e)) {
            complaints.push(format!("has {email:?} in `emails`: write name@example.com, or @example.com for all of a domain"));
        }
        complaints
    }
}

fn is_address(entry: &str) -> bool {
    entry.rsplit_once('@').is_some_and(|(_, domain)| !domain.is_empty())
}

/// Whether somebody may come in. The error is for them and for the log: who they are here, and who can
/// change it. It does not tell what is on the lists.
pub fn decide(identity: &Identity, admission: &Admission) -> Result<(), String> {
    if admission.is_empty() {
        return Err("nobody is let in here: whoever runs this server has to name who may".into());
    }
    if identity.subject.is_empty() || identity.issuer.is_empty() {
        return Err("the account has no number by which it could be known again".into());
    }
    if admission.is_open() {
        return Ok(());
    }
    let among = |list: &[String], name: &str| list.iter().any(|entry| entry != EVERYBODY && entry.eq_ignore_ascii_case(name));
    let by_user = match &identity.login {
        Some(login) => among(&admission.users, login),
        None => admission.users.contains(&identity.subject),
    };
    let by_organisation = identity.organisations.iter().any(|name| among(&admission.organisations, name));
    let by_domain = identity.hosted_domain.as_ref().is_some_and(|hd| !hd.is_empty() && hd != EVERYBODY && admission.domains.contains(hd));
    if by_user || by_organisation || by_domain || by_email(identity, &admission.emails) {
        return Ok(());
    }
    let who = identity.called();
    Err(match &identity.email {
        Some(email) if !identity.email_verified && !admission.emails.is_empty() => {
            format!("the account {who} is not among those who are let in here, and {email} counts only once it is verified")
        }
        _ => format!("the account {who} is not among those who are let in here"),
    })
}

fn by_email(identity: &Identity, emails: &[String]) -> bool {
    let Some(email) = identity.email.as_deref().filter(|_| identity.email_verified) else { return false };
    let Some((local, domain)) = email.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty()) else {
        return false;
    };
    // A quoted local part may hold an @ (RFC 5321 §4.1.2), and readers disagree about where it ends.
    if local.contains(['@', '"']) {
        return false;
    }
    emails.iter().any(|entry| match entry.strip_prefix('@') {
        Some(of) => of.eq_ignore_ascii_case(domain),
        None => entry.eq_ignore_ascii_case(email),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    /// `users | organisations | domains | emails`
    fn admission(text: &str) -> Admission {
        let mut lists = text.split('|').map(list);
        let mut next = || lists.next().unwrap_or_default();
        Admission { users: next(), organisations: next(), domains: next(), emails: next() }
    }

    fn github(login: &str, organisations: &str) -> Identity {
        Identity {
            issuer: "https://github.com".into(),
            subject: "583231".into(),
            login: Some(login.into()),
            organisations: list(organisations),
            ..Identity::default()
        }
    }

    fn google(email: &str, email_verified: bool, hd: Option<&str>) -> Identity {
        Identity {
            issuer: "https://accounts.google.com".into(),
            subject: "1102".into(),
            email: Some(email.into()),
            email_verified,
            hosted_domain: hd.map(str::to_owned),
            ..Identity::default()
        }
    }

    #[test]
    fn the_table_of_who_gets_in() {
        let octocat = || github("Octocat", "GitHub rust-lang");
        let ada = || google("Ada@Example.com", true, Some("example.com"));
        for (who, lists, expected) in [
            // Nobody is named, somebody is, everybody is.
            (octocat(), "", false),
            (octocat(), "octocat", true),
            (octocat(), "OCTOCAT", true),
            (octocat(), "hubot", false),
            (octocat(), "octocat2", false),
            (octocat(), "octo", false),
            (octocat(), "*", true),
            (ada(), "*", true),
            (octocat(), "hubot *", true),
            // `*` is a word of its own, in `users` only; nobody's name is it.
            (octocat(), "octo*", false),
            (octocat(), "|*", false),
            (ada(), "||*", false),
            (ada(), "|||*", false),
            (ada(), "|||@*", false),
            (github("x", "*"), "|*", false),
            (google("a@b.c", true, Some("*")), "||*", false),
            // The number is no login: another could be called that.
            (octocat(), "583231", false),
            (github("583231", ""), "583231", true),
            // Organisations.
            (octocat(), "|github", true),
            (octocat(), "|Rust-Lang", true),
            (octocat(), "|rust", false),
            (octocat(), "rust-lang", false),
            (octocat(), "|octocat", false),
            (github("x", ""), "|github", false),
            // Subjects, where there is no login.
            (ada(), "1102", true),
            (ada(), "110", false),
            (ada(), "ada@example.com", false),
            // Hosted domains to the letter, never those of addresses.
            (ada(), "||example.com", true),
            (ada(), "||Example.com", false),
            (ada(), "||example.co", false),
            (ada(), "||com", false),
            (google("ada@example.com", true, None), "||example.com", false),
            (google("ada@example.com", true, Some("evil.com")), "||example.com", false),
            (google("ada@example.com", true, Some("sub.example.com")), "||example.com", false),
            (google("ada@example.com", true, Some("")), "||example.com", false),
            (google("ada@gmail.com", true, Some("example.com")), "||example.com", true),
            // Addresses, verified.
            (ada(), "|||ada@example.com", true),
            (ada(), "|||ADA@EXAMPLE.COM", true),
            (ada(), "|||bob@example.com", false),
            (ada(), "|||ada@example.com.evil", false),
            (google("ada@example.com", false, None), "|||ada@example.com", false),
            (google("ada@example.com", false, None), "|||@example.com", false),
            (google("ada@example.com", true, None), "|||@example.com", true),
            (google("ada@sub.example.com", true, None), "|||@example.com", false),
            (google("ada@evilexample.com", true, None), "|||@example.com", false),
            (google("ada@evil.com@example.com", true, None), "|||@example.com", false),
            (google("\"ada@evil.com\"@example.com", true, None), "|||@example.com", false),
            (google("@example.com", true, None), "|||@example.com", false),
            (google("ada@", true, None), "|||@", false),
            (google("ada", true, None), "|||ada", false),
            // One list is enough.
            (ada(), "nobody|none|example.com|x@y.z", true),
        ] {
            let decided = decide(&who, &admission(lists));
            assert_eq!(decided.is_ok(), expected, "{} against {lists:?}: {decided:?}", who.called());
        }
    }

    #[test]
    fn who_has_no_number_is_nobody() {
        for (issuer, subject) in [("", "1"), ("https://i", "")] {
            let who = Identity { issuer: issuer.into(), subject: subject.into(), login: Some("a".into()), ..Identity::default() };
            assert!(decide(&who, &admission("*")).is_err());
        }
    }

    #[test]
    fn a_renamed_account_stays_itself() {
        assert_eq!(github("octocat", "").principal(), github("renamed", "").principal());
        assert_eq!(github("octocat", "").principal(), "https://github.com#583231");
        let odd = Identity { issuer: "https://a".into(), subject: "b#c".into(), ..Identity::default() };
        assert_eq!(odd.principal().split_once('#'), Some(("https://a", "b#c")));
    }

    #[test]
    fn refusals_say_who_can_change_it() {
        let told = decide(&github("octocat", ""), &admission("hubot secret-name")).unwrap_err();
        assert_eq!(told, "the account octocat is not among those who are let in here");
        let told = decide(&google("a@b.c", false, None), &admission("|||a@b.c")).unwrap_err();
        assert!(told.contains("only once it is verified"), "{told}");
        assert!(decide(&github("octocat", ""), &admission("")).unwrap_err().contains("nobody is let in"));
    }

    #[test]
    fn lists_that_cannot_be_meant_are_told() {
        for (lists, n_complaints) in [
            ("octocat|github", 0),
            ("||example.com|@example.com a@b.c", 0),
            ("*", 0),
            ("", 1),
            ("|*", 1),
            ("||@example.com", 1),
            ("||Example.com", 1),
            ("|||example.com", 1),
            ("|||ada@", 1),
        ] {
            let complaints = admission(lists).complaints();
            assert_eq!(complaints.len(), n_complaints, "{lists}: {complaints:?}");
        }
        let spaced = Admission { users: vec![" octocat".into(), String::new()], ..Admission::default() };
        assert_eq!(spaced.complaints().len(), 2);
        assert!(admission("*").is_open() && !admission("octocat").is_open() && !admission("|*").is_open());
        assert!(admission("").is_empty() && !admission("|||x").is_empty());
    }
}
