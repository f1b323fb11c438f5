//! Whether somebody who was let in once may go on: their issuer is asked again, with the token of their login.
//!
//! ```text
//!   Question::next ──▶ Renew ──▶ handle_renewed, or handle_not_renewed ──▶ Said
//!                 ├──▶ Ask ────▶ who they are ──▶ Said, or handle_refused
//!                 └──▶ Told ───▶ Said ──▶ judge ──▶ they stay, or have to log in again
//! ```
//!
//! Odd: what an issuer does not say puts nobody out, and that it refuses a token says something of its user only where
//! nothing else could be the reason.

use crate::oauth::admission::{Admission, Identity, decide};

/// A token that ends so soon is as good as over, in seconds.
const SOON_S: u64 = 30;
/// How soon an issuer is asked again that had no answer, in seconds, if it is asked so often at all.
const AGAIN_S: u64 = 60;

/// The token of a login, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// When it ends, in seconds since 1970, if that was said.
    pub expires_s: Option<u64>,
    /// It is meant to outlive the user's visit at the issuer.
    pub lasts: bool,
    /// Another can be had in its place.
    pub renewable: bool,
    /// Another was asked for once, and what came of it is not known: what that is done with may be spent.
    pub unsure: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Get another token.
    Renew,
    /// Ask who the user is.
    Ask,
    /// Nothing: this is what was said.
    Told(Said),
}

/// One question about a user.
#[derive(Clone, Debug)]
pub struct Question {
    token: Token,
    /// Such a question was answered before.
    knew: bool,
    refused: bool,
    renewed: bool,
}

impl Question {
    /// With that token. `knew`: as in [`judge`].
    pub fn new(token: Token, knew: bool) -> Question {
        Question { token, knew, refused: false, renewed: false }
    }

    /// What to do now.
    pub fn next(&self, now_s: u64) -> Next {
        let Token { expires_s, lasts, renewable, .. } = self.token;
        let is_over = expires_s.is_some_and(|expires_s| expires_s <= now_s.saturating_add(SOON_S));
        if self.renewed {
            // Whoever has just given us this one knows its user.
            return if self.refused { Next::Told(Said::Nothing) } else { Next::Ask };
        }
        if !self.refused && !is_over {
            return Next::Ask;
        }
        if renewable {
            return Next::Renew;
        }
        // Refused, though it should be taken by all that was said of it, and was before or is to last.
        let is_good = expires_s.map_or(lasts, |expires_s| expires_s > now_s);
        Next::Told(if self.refused && is_good && (self.knew || lasts) { Said::Gone } else { Said::Mute })
    }

    /// The issuer did not take the token.
    pub fn handle_refused(&mut self) {
        self.refused = true;
    }

    /// There is another token.
    pub fn handle_renewed(&mut self) {
        (self.refused, self.renewed) = (false, true);
    }

    /// The issuer does not give another.
    pub fn handle_not_renewed(&self) -> Said {
        if self.token.lasts && !self.token.unsure { Said::Gone } else { Said::Mute }
    }
}

/// What an issuer says of somebody it has vouched for before, when it is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This is who they are now.
    Is {
        /// Them.
        identity: Box<Identity>,
        /// Something is missing that could let them in, and that it perhaps never says in this way.
        lacks: bool,
    },
    /// It does not take what they gave us to ask with: they have taken it back, or are gone.
    Gone,
    /// Nothing that could be had or understood.
    Nothing,
    /// It cannot be asked before they log in again.
    Mute,
}

/// What follows for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They may go on.
    Stays {
        /// The issuer is asked again from this second since 1970 on.
        again_s: u64,
        /// By what it says when asked again, they may come in.
        knows: bool,
    },
    /// They have to log in again, and perhaps may not; why, for the log.
    Ends(&'static str),
}

/// Whether somebody who was let in once, by the name of `principal`, may go on. An issuer that does not answer puts nobody
/// out, nor one that has never said (`knew`) what is asked of its users. `every_s`: how often it is asked at most.
pub fn judge(said: &Said, principal: &str, admission: &Admission, knew: bool, every_s: u64, now_s: u64) -> Standing {
    let stays = |again_s, knows| Standing::Stays { again_s, knows };
    match said {
        Said::Is { identity, .. } if identity.principal() != principal => Standing::Ends("the account at the provider is another"),
        Said::Is { identity, .. } if decide(identity, admission).is_ok() => stays(now_s.saturating_add(every_s), true),
        Said::Is { lacks: true, .. } if !knew => stays(u64::MAX, false),
        Said::Is { .. } => Standing::Ends("the account is not among those who are let in any more"),
        Said::Gone => Standing::Ends("the provider does not take its user's token any more"),
        Said::Nothing => stays(now_s.saturating_add(AGAIN_S.min(every_s)), knew),
        Said::Mute => stays(u64::MAX, knew),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_000;

    /// `lasts, renewable, unsure`, and when it ends.
    fn token(words: &str, expires_s: Option<u64>) -> Token {
        let has = |word| words.split_whitespace().any(|w| w == word);
        Token { expires_s, lasts: has("lasts"), renewable: has("renewable"), unsure: has("unsure") }
    }

    #[test]
    fn another_token_is_had_when_the_old_one_is_over_or_refused_and_once() {
        for expires_s in [None, Some(NOW_S + 31)] {
            let mut question = Question::new(token("renewable", expires_s), false);
            assert_eq!(question.next(NOW_S), Next::Ask);
            question.handle_refused();
            assert_eq!(question.next(NOW_S), Next::Renew);
        }
        let mut question = Question::new(token("renewable", Some(NOW_S + 30)), false);
        assert_eq!(question.next(NOW_S), Next::Renew);
        question.handle_renewed();
        assert_eq!(question.next(NOW_S), Next::Ask);
        question.handle_refused();
        assert_eq!(question.next(NOW_S), Next::Told(Said::Nothing));
    }

    #[test]
    fn a_token_that_is_refused_says_something_of_its_user_or_of_itself() {
        let refused = |words: &str, expires_s, knew| {
            let mut question = Question::new(token(words, expires_s), knew);
            question.handle_refused();
            question.next(NOW_S)
        };
        let lives = Some(NOW_S + 1);
        for (words, expires_s, knew) in [("lasts", None, false), ("lasts", lives, false), ("", lives, true)] {
            assert_eq!(refused(words, expires_s, knew), Next::Told(Said::Gone), "{words} {expires_s:?} {knew}");
        }
        for (words, expires_s, knew) in [("", None, true), ("", lives, false), ("lasts", Some(NOW_S), true)] {
            assert_eq!(refused(words, expires_s, knew), Next::Told(Said::Mute), "{words} {expires_s:?} {knew}");
        }
        assert_eq!(Question::new(token("lasts", Some(NOW_S)), true).next(NOW_S), Next::Told(Said::Mute), "it is over, and nobody said no");
    }

    #[test]
    fn a_refresh_token_that_may_be_spent_or_end_with_a_visit_says_nothing_of_its_user() {
        let refused = |words: &str| Question::new(token(words, None), true).handle_not_renewed();
        assert_eq!(refused("lasts renewable"), Said::Gone);
        assert_eq!(refused("lasts renewable unsure"), Said::Mute);
        assert_eq!(refused("renewable"), Said::Mute);
    }

    #[test]
    fn who_was_let_in_stays_while_their_issuer_says_so_or_nothing() {
        let is = |identity: Identity, lacks| Said::Is { identity: Box::new(identity), lacks };
        let list = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let ada_of = |organisations: &str| Identity {
            issuer: "https://github.com".into(),
            subject: "583231".into(),
            login: Some("ada".into()),
            organisations: list(organisations),
            ..Identity::default()
        };
        let member = |organisations: &str| is(ada_of(organisations), false);
        let hub = Admission { organisations: list("hub"), ..Admission::default() };
        let stands = |said: &Said, principal: &str, knew| judge(said, principal, &hub, knew, 3600, 1_000);
        let stays = |again_s, knows| Standing::Stays { again_s, knows };
        let ada = "https://github.com#583231";
        for knew in [true, false] {
            assert_eq!(stands(&member("hub"), ada, knew), stays(4_600, true));
            assert_eq!(stands(&Said::Nothing, ada, knew), stays(1_060, knew));
            assert_eq!(stands(&Said::Mute, ada, knew), stays(u64::MAX, knew));
            for said in [member(""), member("other"), Said::Gone] {
                assert!(matches!(stands(&said, ada, knew), Standing::Ends(_)), "{said:?}");
            }
            assert!(matches!(stands(&member("hub"), "https://github.com#7", knew), Standing::Ends(_)));
        }
        // An issuer that says nowhere but at the login where somebody belongs says nothing when it does not say so.
        let example = Admission { domains: list("example.com"), ..Admission::default() };
        let domain = |said: &Said, knew| judge(said, "https://accounts.google.com#1", &example, knew, 60, 0);
        let somebody = |hd: Option<&str>| Identity {
            issuer: "https://accounts.google.com".into(),
            subject: "1".into(),
            hosted_domain: hd.map(str::to_owned),
            ..Identity::default()
        };
        assert_eq!(domain(&is(somebody(None), true), false), stays(u64::MAX, false));
        assert!(matches!(domain(&is(somebody(None), true), true), Standing::Ends(_)));
        assert!(matches!(domain(&is(somebody(Some("other.example")), false), false), Standing::Ends(_)));
    }
}
