//! `If-Match` and `If-None-Match` (RFC 9110 section 13.1). On writes the coordinator checks them
//! against the versions that it sees; this is a check of the moment, not a lock: two writers with
//! the same condition may both succeed at two coordinators, and become siblings. On reads the
//! router compares them with the answer.

use dynamo_core::wire::coordinate::Condition;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};
use service_kit::http::error::Problem;

use super::bad_header;
use crate::limits::{ETAG_BYTES_MAX, ETAGS_MAX};

/// The condition of a request.
///
/// # Errors
/// 400 `bad_header` for both headers together, malformed tags and too many of them.
pub fn parse(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    match (headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(bad_header("If-Match", "does not go together with If-None-Match"))
        }
        (Some(value), None) => Ok(Some(match tags(&IF_MATCH, value)? {
            None => Condition::Exists,
            Some(tags) => Condition::Matches(tags),
        })),
        (None, Some(value)) => Ok(Some(match tags(&IF_NONE_MATCH, value)? {
            None => Condition::Absent,
            Some(tags) => Condition::MatchesNone(tags),
        })),
    }
}

/// What a condition means for a read whose answer has the version set `etag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadVerdict {
    /// Answer as usual.
    Proceed,
    /// The client has this version set already: 304.
    NotModified,
    /// It does not have what it insists on: 412.
    Failed,
}

/// Applies `condition` to a read; `etag` is `None` where there is no value.
#[must_use]
pub fn on_read(condition: Option<&Condition>, etag: Option<&str>) -> ReadVerdict {
    let among = |tags: &[String]| etag.is_some_and(|etag| tags.iter().any(|tag| tag == etag));
    let (holds, otherwise) = match condition {
        None => return ReadVerdict::Proceed,
        Some(Condition::Exists) => (etag.is_some(), ReadVerdict::Failed),
        Some(Condition::Matches(tags)) => (among(tags), ReadVerdict::Failed),
        Some(Condition::Absent) => (etag.is_none(), ReadVerdict::NotModified),
        Some(Condition::MatchesNone(tags)) => (!among(tags), ReadVerdict::NotModified),
    };
    if holds { ReadVerdict::Proceed } else { otherwise }
}

/// The tags of a list without their quotes; `None` for `*`.
fn tags(name: &HeaderName, value: &HeaderValue) -> Result<Option<Vec<String>>, Problem> {
    let refuse = |why: &str| Err(bad_header(name.as_str(), why));
    let Ok(text) = value.to_str() else { return refuse("not ASCII") };
    if text.trim() == "*" {
        return Ok(None);
    }
    let mut tags = Vec::new();
    let mut rest = text.trim();
    loop {
        // A weak tag names the same version set; only byte ranges need strong ones.
        let quoted = rest.strip_prefix("W/").unwrap_or(rest);
        let Some((tag, after)) = quoted.strip_prefix('"').and_then(|t| t.split_once('"')) else {
            return refuse("expected '*' or quoted entity tags, separated by commas");
        };
        let plain = tag.bytes().all(|b| b.is_ascii_graphic());
        if !plain || tag.len() > ETAG_BYTES_MAX {
            return refuse("not an entity tag of this server");
        }
        if tags.len() >= ETAGS_MAX {
            return refuse("too many entity tags");
        }
        tags.push(tag.to_owned());
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if after.is_empty() => return Ok(Some(tags)),
            None => return refuse("expected a comma between entity tags"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(if_match: Option<&str>, if_none_match: Option<&str>) -> Option<Option<Condition>> {
        let mut headers = HeaderMap::new();
        for (name, text) in [(IF_MATCH, if_match), (IF_NONE_MATCH, if_none_match)] {
            if let Some(text) = text {
                headers.insert(name, text.parse().unwrap());
            }
        }
        parse(&headers).ok()
    }

    #[test]
    fn lists_of_tags() {
        let tags = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(parsed(None, None), Some(None));
        assert_eq!(parsed(Some("*"), None), Some(Some(Condition::Exists)));
        assert_eq!(parsed(None, Some("*")), Some(Some(Condition::Absent)));
        let cases: [(&str, Option<Vec<String>>); 13] = [
            ("\"a\"", Some(tags(&["a"]))),
            ("\"a\", \"b\" ,\"c\"", Some(tags(&["a", "b", "c"]))),
            ("W/\"a\"", Some(tags(&["a"]))),
            ("\"a,b\"", Some(tags(&["a,b"]))),
            ("", None),
            ("a", None),
            ("\"a", None),
            ("a\"", None),
            ("\"a\",", None),
            ("\"a\" \"b\"", None),
            ("*, \"a\"", None),
            ("\"a b\"", None),
            ("w/\"a\"", None),
        ];
        for (text, expected) in cases {
            let matches = expected.clone().map(|tags| Some(Condition::Matches(tags)));
            assert_eq!(parsed(Some(text), None), matches, "{text}");
            let none = expected.map(|tags| Some(Condition::MatchesNone(tags)));
            assert_eq!(parsed(None, Some(text)), none, "{text}");
        }
        let many = vec!["\"a\""; ETAGS_MAX].join(",");
        assert!(parsed(Some(&many), None).is_some());
        assert_eq!(parsed(Some(&format!("{many},\"a\"")), None), None);
        assert_eq!(parsed(Some("\"a\""), Some("\"a\"")), None, "both together");
    }

    #[test]
    fn reads_compare_with_the_answer() {
        use ReadVerdict::{Failed, NotModified, Proceed};
        let list = || vec!["a".to_owned(), "b".to_owned()];
        let cases: [(Condition, Option<&str>, ReadVerdict); 10] = [
            (Condition::Exists, Some("a"), Proceed),
            (Condition::Exists, None, Failed),
            (Condition::Absent, Some("a"), NotModified),
            (Condition::Absent, None, Proceed),
            (Condition::Matches(list()), Some("b"), Proceed),
            (Condition::Matches(list()), Some("c"), Failed),
            (Condition::Matches(list()), None, Failed),
            (Condition::MatchesNone(list()), Some("b"), NotModified),
            (Condition::MatchesNone(list()), Some("c"), Proceed),
            (Condition::MatchesNone(list()), None, Proceed),
        ];
        for (condition, etag, expected) in cases {
            assert_eq!(on_read(Some(&condition), etag), expected, "{condition:?} {etag:?}");
        }
        assert_eq!(on_read(None, None), Proceed);
    }
}
