//! How often, and how much at once, as planned.

/// How often callers may do something, and how much at once. In a configuration file these are the keys of
/// `[rates]`; 0 is no limit, or for a burst: as many as in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Requests of one principal, with all its tokens and keys.
    pub principal_per_minute: u32,
    /// Of these at once.
    pub principal_burst: u32,
    /// Requests of one client: an application, with all its users, or a key.
    pub client_per_minute: u32,
    /// Of these at once.
    pub client_burst: u32,
    /// Requests from one address, whoever sends them.
    pub address_per_minute: u32,
    /// Of these at once.
    pub address_burst: u32,
    /// Sessions and streams of changes of one principal.
    pub principal_sessions: u32,
    /// Calls of one principal under way.
    pub principal_calls: u32,
    /// Logins from one address: what is asked of `/authorize`, `/login` and `/callback`.
    pub logins_per_minute: u32,
    /// Requests for tokens from one address that fail, or are under way.
    pub token_failures_per_minute: u32,
    /// Registrations of clients from one address.
    pub registrations_per_minute: u32,
    /// Clients that register, from everywhere.
    pub all_registrations_per_minute: u32,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates {
            principal_per_minute: 0,
            principal_burst: 0,
            client_per_minute: 0,
            client_burst: 0,
            address_per_minute: 0,
            address_burst: 0,
            principal_sessions: 0,
            principal_calls: 0,
            // Strangers can have us write: many people may share an address, and few of them log in at once.
            logins_per_minute: 120,
            token_failures_per_minute: 60,
            registrations_per_minute: 60,
            all_registrations_per_minute: 600,
        }
    }
}

impl Rates {
    /// Whether something is limited for callers who show who they are.
    pub fn knows_callers(&self) -> bool {
        [self.principal_per_minute, self.client_per_minute, self.principal_sessions, self.principal_calls].iter().any(|most| *most > 0)
    }
}
