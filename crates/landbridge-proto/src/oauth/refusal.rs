//! Why a request of a client is refused: the codes of RFC 6749 and its relatives, in one table.

use crate::json;

use super::challenge::describe;

/// The codes, each with the section that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// RFC 6749 §4.1.2.1, §5.2
    InvalidRequest,
    /// RFC 6749 §5.2
    InvalidClient,
    /// RFC 6749 §5.2
    InvalidGrant,
    /// RFC 6749 §4.1.2.1, §5.2
    UnauthorizedClient,
    /// RFC 6749 §5.2
    UnsupportedGrantType,
    /// RFC 6749 §4.1.2.1
    UnsupportedResponseType,
    /// RFC 6749 §4.1.2.1, §5.2
    InvalidScope,
    /// RFC 8707 §2
    InvalidTarget,
    /// RFC 6749 §4.1.2.1
    AccessDenied,
    /// RFC 7591 §3.2.2
    InvalidRedirectUri,
    /// RFC 7591 §3.2.2
    InvalidClientMetadata,
    /// RFC 6749 §4.1.2.1
    TemporarilyUnavailable,
    /// OpenID Connect Core §3.1.2.6
    RequestNotSupported,
    /// OpenID Connect Core §3.1.2.6
    RequestUriNotSupported,
}

impl Code {
    /// As it stands in `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest => "invalid_request",
            Code::InvalidClient => "invalid_client",
            Code::InvalidGrant => "invalid_grant",
            Code::UnauthorizedClient => "unauthorized_client",
            Code::UnsupportedGrantType => "unsupported_grant_type",
            Code::UnsupportedResponseType => "unsupported_response_type",
            Code::InvalidScope => "invalid_scope",
            Code::InvalidTarget => "invalid_target",
            Code::AccessDenied => "access_denied",
            Code::InvalidRedirectUri => "invalid_redirect_uri",
            Code::InvalidClientMetadata => "invalid_client_metadata",
            Code::TemporarilyUnavailable => "temporarily_unavailable",
            Code::RequestNotSupported => "request_not_supported",
            Code::RequestUriNotSupported => "request_uri_not_supported",
        }
    }
}

/// A refusal, with what the client may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What.
    pub code: Code,
    /// Why, in the letters that an `error_description` may have.
    pub told: String,
}

impl Refusal {
    /// A refusal with a reason.
    pub fn new(code: Code, told: impl AsRef<str>) -> Refusal {
        Refusal { code, told: describe(told.as_ref()) }
    }

    /// The HTTP status where it is the answer to a POST.
    pub fn status(&self) -> u16 {
        match self.code {
            Code::InvalidClient => 401,
            // That of RFC 6585 §4: it is only said to who asks too often.
            Code::TemporarilyUnavailable => 429,
            _ => 400,
        }
    }

    /// The JSON body where it is the answer to a POST (RFC 6749 §5.2).
    pub fn body(&self) -> String {
        format!("{{\"error\":\"{}\",\"error_description\":{}}}", self.code.as_str(), json::quote(&self.told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_json_in_few_letters() {
        let refusal = Refusal::new(Code::InvalidClient, "the client \"x\\\u{fc}\n\" is unknown");
        assert_eq!(refusal.status(), 401);
        assert_eq!(refusal.body(), r#"{"error":"invalid_client","error_description":"the client 'x' is unknown"}"#);
        assert_eq!(Refusal::new(Code::InvalidGrant, "x").status(), 400);
    }
}
