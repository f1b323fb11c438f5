//! Authorization, decided: who a token lets in, and what is said to whom it does not.
//!
//! ```text
//!   records and a request ──▶ decision ──▶ records to write and a response
//! ```
//!
//! A request without a token gets a [`challenge`], by which a client finds the [`metadata`] of the mount and
//! of who issues tokens ([`discovery`] is the same for us as a client). It becomes known as a [`client`],
//! sends its user to [`authorize`], and redeems what comes back at [`token`], with its [`credentials`].
//! The token opens what its [`audience`] says. Which users may come in stands in [`admission`], and how often one may be
//! wrong about a password in [`tries`].
//! The token opens what its [`audience`] says. One of somebody else's server is a [`jwt`], signed with a
//! [`jwk`], or is asked about ([`introspection`]).
//!
//! As a client of others we [`seek`] whoever issues their tokens, [`login`] there, and get tokens by a [`grant`].
//!
//! Everything here is a function of what it is given: the caller loads and saves records, draws
//! pages, and brings the time and random bytes. Nothing here knows of MCP but the names of its
//! rules. What strangers write ([`url`], [`form`], [`document`], [`redirect`]) is read strictly: two
//! readers that disagree about a URL are how tokens go astray.

pub mod address;
pub mod admission;
pub mod audience;
pub mod authorize;
pub mod challenge;
pub mod client;
pub mod credentials;
pub mod discovery;
pub mod document;
pub mod form;
pub mod freshness;
pub mod grant;
pub mod introspection;
pub mod jwk;
pub mod jwt;
pub mod login;
pub mod metadata;
pub mod redirect;
pub mod refusal;
pub mod secret;
pub mod seek;
pub mod standing;
pub mod token;
pub mod tries;
pub mod url;
