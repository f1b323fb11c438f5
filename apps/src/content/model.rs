//! What a content is, who may see it, and what can go wrong.

use std::fmt;

use landbridge::embed::Principal;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How much a content is found by, in bytes.
const MAX_WORDS: usize = 256 * 1024;

/// A content, or something derived from one. Empty texts are none.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) document_type: String,
    pub(super) status: Status,
    pub(super) derivation_type: String,
    pub(super) parent: String,
    pub(super) variant: String,
    pub(super) file_name: String,
    pub(super) file_size: i64,
    pub(super) checksum: String,
    pub(super) tags: Vec<String>,
    pub(super) metadata: Map<String, Value>,
    pub(super) backend: String,
    pub(super) object_key: String,
    pub(super) failure: String,
    pub(super) created_ms: i64,
    pub(super) updated_ms: i64,
    pub(super) deleted_ms: i64,
}

impl Content {
    /// What clients are told of it.
    pub(super) fn told(&self) -> Value {
        let mut told = json!({
            "id": self.id,
            "owner_id": self.owner,
            "name": self.name,
            "status": self.status.name(),
            "created_at": time(self.created_ms),
            "updated_at": time(self.updated_ms),
        });
        let optional = [
            ("tenant_id", &self.tenant),
            ("description", &self.description),
            ("derivation_type", &self.derivation_type),
            ("parent_id", &self.parent),
            ("failure", &self.failure),
        ];
        for (key, value) in optional.into_iter().filter(|(_, value)| !value.is_empty()) {
            told[key] = json!(value);
        }
        told
    }

    /// Whether its bytes can be had.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.status, Status::Uploaded | Status::Processed | Status::Archived)
    }

    /// What it is found by: all its words, and those of its text.
    pub(super) fn words(&self, text: &str) -> String {
        let mut all = [self.name.as_str(), &self.description, &self.file_name].join(" ");
        for tag in &self.tags {
            all.push(' ');
            all.push_str(tag);
        }
        for (key, value) in &self.metadata {
            all.push(' ');
            all.push_str(key);
            all.push(' ');
            all.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        all.push(' ');
        all.push_str(text);
        let mut found = words(&all).join(" ");
        // Postgres takes no more at once; what a content is called comes first.
        found.truncate(found.floor_char_boundary(MAX_WORDS));
        found
    }
}

/// The words of a text, without anything that a search could take for syntax.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Where a content is in its life.
///
/// ```text
///   created ──▶ uploading ──▶ uploaded ──▶ archived          processing ──▶ processed
///                   └────────▶ failed                             └───────▶ failed
///   (what somebody uploads)                                  (what is derived from it)
/// ```
///
/// Archiving is an operator's: see [`keeper`](super::keeper).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Created,
    Uploading,
    Uploaded,
    Processing,
    Processed,
    Failed,
    Archived,
}

impl Status {
    pub(super) const ALL: [Status; 7] =
        [Status::Created, Status::Uploading, Status::Uploaded, Status::Processing, Status::Processed, Status::Failed, Status::Archived];

    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Uploading => "uploading",
            Status::Uploaded => "uploaded",
            Status::Processing => "processing",
            Status::Processed => "processed",
            Status::Failed => "failed",
            Status::Archived => "archived",
        }
    }

    pub(super) fn read(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// Whose call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Nobody is asked who they are.
    Anyone,
    /// The holder of a key.
    Owner { owner: String, tenant: Option<String> },
    /// Somebody without one.
    Nobody,
}

impl Who {
    pub(super) fn of(principal: &Principal, asks: bool) -> Who {
        if !asks {
            return Who::Anyone;
        }
        let Some(person) = principal.person().filter(|person| person.issuer == "key") else { return Who::Nobody };
        let Ok(owner) = Uuid::parse_str(&person.subject) else { return Who::Nobody };
        let tenant = match person.tenant.as_deref().map(Uuid::parse_str) {
            None => None,
            Some(Ok(tenant)) => Some(tenant.to_string()),
            Some(Err(_)) => return Who::Nobody,
        };
        Who::Owner { owner: owner.to_string(), tenant }
    }

    /// Refuses who has shown no key.
    pub(super) fn known(&self) -> Result<(), Trouble> {
        if *self == Who::Nobody { Err(Trouble::Unauthorized) } else { Ok(()) }
    }

    /// Refuses what is of another owner, or of another tenant.
    pub(super) fn may(&self, of_owner: Option<&str>, of_tenant: Option<&str>) -> Result<(), Trouble> {
        let Who::Owner { owner, tenant } = self else { return self.known() };
        let strange_owner = of_owner.is_some_and(|of| of != owner);
        let strange_tenant = of_tenant.is_some_and(|of| tenant.as_deref().is_some_and(|tenant| tenant != of));
        if strange_owner || strange_tenant { Err(Trouble::Denied) } else { Ok(()) }
    }

    /// The tenant that something new belongs to if nobody says so.
    pub(super) fn tenant(&self) -> Option<&str> {
        match self {
            Who::Owner { tenant, .. } => tenant.as_deref(),
            Who::Anyone | Who::Nobody => None,
        }
    }
}

/// Why something cannot be done, for who has asked for it.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    Invalid(&'static str, String),
    NotFound(String),
    Unauthorized,
    Denied,
    /// It is in the wrong status for it.
    Status(String),
    Storage(String),
    /// Others upload too much at the moment.
    Busy,
    /// For the log alone.
    Internal(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Invalid(field, why) => write!(f, "invalid parameter '{field}': validation error: {why}"),
            Trouble::NotFound(id) => write!(f, "content not found: {id}"),
            Trouble::Unauthorized => f.write_str("authentication required: API key missing"),
            Trouble::Denied => f.write_str("access denied"),
            Trouble::Status(why) => f.write_str(why),
            Trouble::Storage(why) => write!(f, "storage error: {why}"),
            Trouble::Busy => f.write_str("too much is being uploaded at once; try again later"),
            Trouble::Internal(_) => f.write_str("internal error: see the server's log"),
        }
    }
}

/// The time, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A time as RFC 3339 has it.
pub(super) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |time| time.to_string())
}
