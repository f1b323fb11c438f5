//! What goes wrong, as a client is told it: over REST by status and `{error, message}`, by tools as the same JSON.

use http::StatusCode;
use serde_json::{Value, json};

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The status over HTTP.
    pub(super) status: StatusCode,
    /// In a word, for programs.
    pub(super) error: &'static str,
    /// In a sentence, for people.
    pub(super) message: String,
}

impl Wrong {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Wrong {
        Wrong { status, error, message: message.into() }
    }

    /// The caller can mend it.
    pub(super) fn bad(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// Nobody has shown who they are.
    pub(super) fn unauthorized(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// The caller may not.
    pub(super) fn forbidden(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::FORBIDDEN, "access_denied", message)
    }

    /// There is no such thing.
    pub(super) fn unknown(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// There was, and it is over.
    pub(super) fn gone(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::GONE, "gone", message)
    }

    /// Somebody else was faster.
    pub(super) fn conflict(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// The marketplace itself is not as it should be, or we are not.
    pub(super) fn broken(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// What the marketplace is kept in did not answer.
    pub(super) fn upstream(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::BAD_GATEWAY, "upstream_error", message)
    }

    /// There is too much of it at the moment.
    pub(super) fn busy(message: impl Into<String>) -> Wrong {
        Wrong::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    /// Whether somebody else was faster, so that it is worth another try.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    pub(super) fn json(&self) -> Value {
        json!({"error": self.error, "message": self.message})
    }
}
