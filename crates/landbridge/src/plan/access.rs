//! How we are let in at a server elsewhere that wants a token.

use std::time::Duration;

use landbridge_proto::oauth::jwk;
use landbridge_proto::oauth::login::Own;
use landbridge_proto::oauth::secret::Secret;

/// As whom, for what, and who is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// What we are at the authorization server, if that is known before.
    pub own: Own,
    /// What is asked for, in place of what the server says.
    pub scope: Option<String>,
    /// Who says yes.
    pub by: By,
}

/// Who says that we may.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// A user, who sits at this machine.
    User(Browsing),
    /// A user who is elsewhere: whoever needs the token is told where to log in.
    Visitor,
    /// Nobody: the client stands for itself (client credentials, SEP-1046), by its secret or by this key.
    Itself(Option<Key>),
}

/// How a user at this machine logs in.
#[derive(Clone, Debug, PartialEq)]
pub struct Browsing {
    /// Whether a browser is opened; the address is always printed.
    pub open: bool,
    /// Where the answer comes on this machine; any port, unless the client is registered with one.
    pub port: Option<u16>,
    /// How long the user has.
    pub patience: Duration,
    /// Where what comes of it is kept.
    pub tokens: TokenStore,
}

/// Where the tokens of a user at this machine are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenStore {
    /// In the system's keyring where one answers, else in a file that only its user can read
    #[default]
    Auto,
    /// In the keyring, or nowhere
    Keyring,
    /// In the file; no keyring is asked
    File,
}

/// A private key, in place of a client's secret (`private_key_jwt`).
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// PKCS #8, in PEM.
    pub pem: Secret,
    /// What is signed with it.
    pub algorithm: Algorithm,
    /// For whom what is signed is, if not for the issuer by its name.
    pub audience: Option<String>,
}

/// What such a key can sign by: what a user can choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Algorithm {
    /// ECDSA with P-256
    #[value(name = "ES256")]
    Es256,
    /// ECDSA with P-384
    #[value(name = "ES384")]
    Es384,
    /// RSA
    #[value(name = "RS256")]
    Rs256,
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// The same among all that there are.
    pub fn named(self) -> jwk::Algorithm {
        match self {
            Algorithm::Es256 => jwk::Algorithm::Es256,
            Algorithm::Es384 => jwk::Algorithm::Es384,
            Algorithm::Rs256 => jwk::Algorithm::Rs256,
            Algorithm::EdDsa => jwk::Algorithm::EdDsa,
        }
    }
}
