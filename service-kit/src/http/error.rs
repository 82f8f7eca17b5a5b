//! The one table of errors: every refusal of every process is one of these codes. The codes are
//! part of the API: they are never renamed, and never reused for something else.
//!
//! `docs/errors.md` shows it to users and is held to it by a test.
//!
//! Not here: the text of a single refusal, and how it is put on the wire ([`Problem`]).

use http::StatusCode;
use serde::{Deserialize, Serialize};

pub use super::problem::{Problem, ReplicaResult, escape_echo};

/// Whether a refused write may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was changed anywhere, and nothing will be.
    NotApplied,
    /// The write may be in part or in whole there, now or later.
    Unknown,
}

impl Outcome {
    /// Its text in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

macro_rules! error_table {
    ($($variant:ident $code:literal $status:literal $retryable:literal $title:literal, $doc:literal, $remedy:literal;)*) => {
        /// What went wrong, as a closed set.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $(#[doc = $doc] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// A few words for people, the same for every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// One sentence for the documentation of the API.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// What the caller can do about it, for the documentation of the API.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }

            /// Whether the same request may succeed later without change, unless an occurrence
            /// says otherwise.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// The HTTP status as a number.
            #[must_use]
            pub fn status_number(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

error_table! {
    BadRequest "bad_request" 400 false "Malformed request",
        "The request is malformed in a way that no other code names.",
        "Correct the request; the detail says what is wrong with it.";
    BadHost "bad_host" 400 false "Host header missing or invalid",
        "HTTP/1.1 requires exactly one valid Host header.",
        "Send one Host header with the name, or name and port, of the router.";
    BadPercentEncoding "bad_percent_encoding" 400 false "Invalid percent-encoding",
        "Path or query has a '%' that is not followed by two hexadecimal digits.",
        "Percent-encode a literal '%' as %25.";
    BadParameter "bad_parameter" 400 false "Invalid query parameter",
        "A query parameter has a value outside its documented range; the detail names it.",
        "Give the named parameter a value in its range.";
    UnknownParameter "unknown_parameter" 400 false "Unknown query parameter",
        "A query parameter is not known to this route; the detail names it.",
        "Check the spelling of the named parameter and whether the method has it.";
    DuplicateParameter "duplicate_parameter" 400 false "Query parameter given twice",
        "A query parameter was given more than once; the detail names it.",
        "Give the named parameter once.";
    DuplicateHeader "duplicate_header" 400 false "Header given twice",
        "A header that may be given once was given more often; the detail names it.",
        "Send the named header once.";
    BadHeader "bad_header" 400 false "Invalid header",
        "A header has an invalid value; the detail names it.",
        "Correct the value of the named header.";
    BadFraming "bad_framing" 400 false "Invalid message framing",
        "Content-Length and Transfer-Encoding do not say where the body ends. The connection is closed.",
        "Send one Content-Length or 'Transfer-Encoding: chunked', not both; look for a proxy that rewrites messages.";
    BadBucket "bad_bucket" 400 false "Invalid bucket name",
        "Bucket names are 1 to 64 of a-z, 0-9, '.', '_' and '-', and start with a letter or digit.",
        "Choose another bucket name.";
    ReservedBucket "reserved_bucket" 403 false "Reserved bucket name",
        "Bucket names that start with '_' belong to the system.",
        "Choose a bucket name that starts with a letter or digit.";
    EmptyKey "empty_key" 400 false "Empty key",
        "A key has at least one byte.",
        "Put the key after the bucket: /v1/kv/{bucket}/{key}.";
    KeyTooLong "key_too_long" 400 false "Key too long",
        "A key has at most 1,024 bytes after percent-decoding.",
        "Use a shorter key, for example a hash of the long one.";
    BadContext "bad_context" 400 false "Invalid causal context",
        "X-Atoll-Context is not a token that this cluster issued for this bucket and key.",
        "Read the key again and use the context of that answer, unchanged and for this key only.";
    ContextVersion "context_version" 400 false "Causal context of another version",
        "X-Atoll-Context was issued by a version of Atoll that this node does not understand.",
        "Read the key again and use the context of that answer; finish a rolling upgrade.";
    BadJson "bad_json" 400 false "Invalid JSON",
        "The body is not one JSON value, repeats a key, or is nested too deeply.",
        "Send one JSON value in UTF-8, each key once.";
    TruncatedBody "truncated_body" 400 false "Body ended early",
        "The connection ended before the announced end of the body; nothing was stored.",
        "Send the request again, whole.";
    DigestMismatch "digest_mismatch" 400 false "Digest does not match",
        "The body does not have the digest that the request announced; nothing was stored.",
        "Compute the digest over the bytes that are sent and send them again; look for what changes them on the way.";
    BadFrame "bad_frame" 400 false "Invalid peer frame",
        "A message between processes does not have the documented frame.",
        "Check that both processes are of compatible versions; nobody but Atoll sends frames.";
    Unauthorized "unauthorized" 401 false "Credentials required",
        "Credentials are missing, unknown, expired or revoked.",
        "Send a valid API key: Authorization: Bearer atoll_…; docs/security.md says how keys are made.";
    Forbidden "forbidden" 403 false "Not permitted",
        "The credentials do not permit this effect.",
        "Use credentials that permit this, or ask for the permission.";
    NotFound "not_found" 404 false "Not found",
        "There is no such object or route.",
        "Check the path; an object that is not there can be put.";
    MethodNotAllowed "method_not_allowed" 405 false "Method not allowed",
        "The resource does not have this method; Allow lists those it has.",
        "Use one of the methods in Allow.";
    NotAcceptable "not_acceptable" 406 false "Not acceptable",
        "No representation of the resource matches Accept.",
        "Add one of the offered media types to Accept.";
    RequestTimeout "request_timeout" 408 false "Request too slow",
        "The body did not arrive in time. The connection is closed.",
        "Send the body faster, or allow more time with timeout_ms.";
    Conflict "conflict" 409 false "Conflict",
        "The request conflicts with the current state; the detail says how.",
        "Read the current state and decide anew.";
    TooManySiblings "too_many_siblings" 409 false "Too many siblings",
        "The key has as many concurrent versions as are kept; write with the context of this answer to merge them.",
        "Read the siblings, merge them, and write the result with the context of this answer.";
    WrongCluster "wrong_cluster" 409 false "Another cluster",
        "The message belongs to another cluster.",
        "Correct the address or the cluster of the configuration: two clusters must not be mixed.";
    StaleIncarnation "stale_incarnation" 409 false "Older incarnation",
        "A newer process speaks for this node; the older one is no longer listened to.",
        "Stop the older process: two of them run with the same node id.";
    StalePlan "stale_plan" 412 false "Plan out of date",
        "The membership changed since the plan was made; look at the new plan first.",
        "Look at the new plan and commit that one by its hash.";
    ClockSkew "clock_skew" 409 true "Clocks too far apart",
        "A timestamp of the message is more than a minute off this node's clock.",
        "Correct the clock of the host that is wrong; try again when both agree.";
    Gone "gone" 410 false "Gone",
        "The addressed member, hint target or cursor no longer exists.",
        "Forget the reference, and begin anew where that makes sense.";
    PreconditionFailed "precondition_failed" 412 false "Precondition failed",
        "If-Match or If-None-Match does not hold.",
        "Read the object again and decide anew.";
    PayloadTooLarge "payload_too_large" 413 false "Body too large",
        "The body is larger than this route takes.",
        "Send a smaller body; split large values.";
    UriTooLong "uri_too_long" 414 false "Request line too long",
        "The request line is larger than a whole request head may be.",
        "Shorten path and query.";
    UnsupportedMediaType "unsupported_media_type" 415 false "Unsupported media type",
        "Content-Type or Content-Encoding is not one that this route takes.",
        "Send the documented Content-Type, and the body without Content-Encoding.";
    ExpectationFailed "expectation_failed" 417 false "Unknown expectation",
        "Expect knows 100-continue only.",
        "Leave out Expect, or send 100-continue.";
    NotOwner "not_owner" 421 true "Not a replica of this key",
        "This node is not in the preference list of the key under its ring; the detail names the ring version.",
        "Fetch the ring again and send the request to a node of the key's preference list; routers do so by themselves.";
    Unprocessable "unprocessable" 422 false "Invalid content",
        "The body is well-formed but its content is not valid for this route.",
        "Correct the content; the detail says which part.";
    IdempotencyMismatch "idempotency_mismatch" 422 false "Idempotency key reused",
        "The idempotency key was used before with another request.",
        "Use a new idempotency key for every new request.";
    ProtocolVersion "protocol_version" 426 false "Protocol version not supported",
        "The peer speaks a protocol version outside the stated range.",
        "Upgrade the older of both processes.";
    TooManyRequests "too_many_requests" 429 true "Too many requests",
        "The caller is over its own limit; Retry-After says when to try again.",
        "Wait as long as Retry-After says; send less.";
    HeaderTooLarge "header_too_large" 431 false "Request head too large",
        "The request head has more bytes or lines than are taken. The connection is closed.",
        "Send fewer or shorter headers.";
    Internal "internal" 500 false "Internal error",
        "The server failed in a way it did not foresee; its log has the request id.",
        "Look for the request id in the server's log and report it; a write may be there, so read before repeating it.";
    NotImplemented "not_implemented" 501 false "Not implemented",
        "The route is documented but not part of this version.",
        "Do without; the documentation says what this version has.";
    QuorumUnavailable "quorum_unavailable" 503 true "Quorum not reached",
        "Fewer replicas answered than the request asked for; required and got give the counts.",
        "Try again, or ask for fewer replicas; where the outcome is unknown, repeat with the same idempotency key.";
    AbsenceUnconfirmed "absence_unconfirmed" 503 true "Absence not confirmed",
        "The key was not found, but too few primaries answered to say that it does not exist.",
        "Try again, or take an unconfirmed answer with notfound_ok.";
    Overloaded "overloaded" 503 true "Overloaded",
        "The node sheds load; Retry-After says when to try again.",
        "Wait as long as Retry-After says, with jitter; add nodes if it lasts.";
    NotReady "not_ready" 503 true "Not ready",
        "The node has not finished starting, or is stopping.",
        "Try again, or use another node.";
    StoreUnavailable "store_unavailable" 503 true "Store unavailable",
        "The node's store does not take this operation now.",
        "Try again elsewhere; look at the node's disk and log.";
    StoreFull "store_full" 503 true "Disk full",
        "The node's disk is full; it still reads and deletes.",
        "Try again elsewhere; give the node's disk more space, or remove data.";
    DeadlineExceeded "deadline_exceeded" 504 true "Deadline exceeded",
        "The deadline of the request passed before its quorum was reached.",
        "Allow more time with timeout_ms; where the outcome is unknown, repeat with the same idempotency key.";
    VersionNotSupported "version_not_supported" 505 false "HTTP version not supported",
        "HTTP/1.1 and HTTP/1.0 are spoken here.",
        "Speak HTTP/1.1; HTTP/2 is not served.";
}

impl ErrorCode {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// The nearest code for a status that came without one of ours.
    #[must_use]
    pub fn for_status(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            406 => Self::NotAcceptable,
            408 => Self::RequestTimeout,
            409 => Self::Conflict,
            410 => Self::Gone,
            412 => Self::PreconditionFailed,
            413 => Self::PayloadTooLarge,
            414 => Self::UriTooLong,
            415 => Self::UnsupportedMediaType,
            417 => Self::ExpectationFailed,
            421 => Self::NotOwner,
            422 => Self::Unprocessable,
            426 => Self::ProtocolVersion,
            429 => Self::TooManyRequests,
            431 => Self::HeaderTooLarge,
            400..=499 => Self::BadRequest,
            501 => Self::NotImplemented,
            503 => Self::Overloaded,
            504 => Self::DeadlineExceeded,
            505 => Self::VersionNotSupported,
            _ => Self::Internal,
        }
    }

    /// What holds for a refused write unless an occurrence says otherwise: a 4xx never changed
    /// anything, and neither did a node that refused before it began.
    #[must_use]
    pub fn default_outcome(self) -> Outcome {
        match self {
            Self::Internal | Self::QuorumUnavailable | Self::DeadlineExceeded => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    /// The codes are API: this file changes only by added lines.
    #[test]
    fn the_table_is_the_golden_one() {
        let mut table = String::new();
        for code in ErrorCode::ALL {
            writeln!(
                table,
                "{} {} {} {}",
                code.as_str(),
                code.status_number(),
                if code.retryable() { "retryable" } else { "final" },
                code.default_outcome().as_str()
            )
            .unwrap();
        }
        assert_eq!(table, include_str!("../../tests/golden/error_codes.txt"));
    }

    #[test]
    fn codes_are_distinct_and_parse_back() {
        let names: BTreeSet<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert_eq!(code.status().as_u16(), code.status_number());
            assert!(code.status().is_client_error() || code.status().is_server_error());
            let class = ErrorCode::for_status(code.status()).status();
            assert_eq!(class.as_u16() / 100, code.status_number() / 100, "{code:?}");
        }
        assert_eq!(ErrorCode::parse("nope"), None);
    }
}
