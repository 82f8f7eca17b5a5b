//! The strict query string: every parameter is known to the route and given once, and what is
//! wrong is named. A typo that is silently ignored would change what a write promises.

use std::borrow::Cow;

use dynamo_core::key::decode_key;
use service_kit::auth::api_key::id_of;
use service_kit::http::error::{ErrorCode, Problem, escape_echo};

use super::bad_parameter;
use crate::limits::QUERY_PARAMETERS_MAX;

/// Names under which people put credentials into URLs, where logs and histories keep them.
const CREDENTIAL_NAMES: [&str; 7] =
    ["token", "access_token", "api_key", "apikey", "auth", "authorization", "password"];

/// The parameters of one request. Values are percent-decoded; '+' is a plus.
#[derive(Debug, Default)]
pub struct Query<'a> {
    pairs: Vec<(&'static str, Cow<'a, [u8]>)>,
}

impl<'a> Query<'a> {
    /// Parses `raw`, the query without its '?', against the names that the route `known`s.
    ///
    /// # Errors
    /// 400 `unknown_parameter`, `duplicate_parameter` or `bad_percent_encoding`.
    pub fn parse(raw: Option<&'a str>, known: &[&'static str]) -> Result<Self, Problem> {
        let raw = match raw {
            None | Some("") => return Ok(Self::default()),
            Some(raw) => raw,
        };
        let mut pairs: Vec<(&'static str, Cow<'a, [u8]>)> = Vec::new();
        for pair in raw.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let Some(name) = known.iter().copied().find(|known| known.as_bytes() == &*name) else {
                return Err(unknown(&name));
            };
            if pairs.iter().any(|(given, _)| *given == name) {
                let detail = format!("parameter '{name}' is given twice");
                return Err(Problem::new(ErrorCode::DuplicateParameter, detail));
            }
            if pairs.len() >= QUERY_PARAMETERS_MAX {
                let detail = format!("more than {QUERY_PARAMETERS_MAX} parameters");
                return Err(Problem::new(ErrorCode::BadRequest, detail));
            }
            pairs.push((name, decode(value)?));
        }
        Ok(Self { pairs })
    }

    /// The bytes given for `name`.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(given, _)| *given == name).map(|(_, value)| &**value)
    }

    /// The text given for `name`.
    ///
    /// # Errors
    /// 400 `bad_parameter` where it is not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        self.bytes(name)
            .map(|value| std::str::from_utf8(value).map_err(|_| bad_parameter(name, "not UTF-8")))
            .transpose()
    }

    /// The value of `name`, parsed by its type.
    ///
    /// # Errors
    /// 400 `bad_parameter` with what the type says.
    pub fn parsed<T>(&self, name: &'static str) -> Result<Option<T>, Problem>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| bad_parameter(name, error))
    }

    /// A number in plain digits within `range`.
    ///
    /// # Errors
    /// 400 `bad_parameter` with the range.
    pub fn number(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = digits(text).filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            bad_parameter(name, format!("a number from {} to {}", range.start(), range.end()))
        })
    }

    /// A switch: `name` alone and `name=true` turn it on, `name=false` off.
    ///
    /// # Errors
    /// 400 `bad_parameter` for anything else.
    pub fn switch(&self, name: &'static str) -> Result<Option<bool>, Problem> {
        match self.bytes(name) {
            None => Ok(None),
            Some(b"" | b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(_) => Err(bad_parameter(name, "expected true or false")),
        }
    }
}

/// A number in plain digits: no sign, no space, no exponent, no leading zeros beyond "0" itself.
#[must_use]
pub fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn decode(text: &str) -> Result<Cow<'_, [u8]>, Problem> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let decoded = decode_key(text).map_err(|error| {
        Problem::new(ErrorCode::BadPercentEncoding, format!("{error} in the query"))
    })?;
    Ok(Cow::Owned(decoded.to_vec()))
}

/// Whether a query string has credentials in it, by the name of a parameter or by its value.
#[must_use]
pub fn has_credentials(raw: &str) -> bool {
    raw.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_key = decode(value).is_ok_and(|value| {
            std::str::from_utf8(&value).is_ok_and(|value| id_of(value).is_some())
        });
        is_key || decode(name).is_ok_and(|name| is_credential_name(&name))
    })
}

fn is_credential_name(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    CREDENTIAL_NAMES.iter().any(|known| known.as_bytes() == lower)
}

fn unknown(name: &[u8]) -> Problem {
    let shown = escape_echo(name);
    let detail = if is_credential_name(name) {
        format!("parameter '{shown}': credentials belong in the Authorization header")
    } else {
        format!("parameter '{shown}' is not known to this method of this route")
    };
    Problem::new(ErrorCode::UnknownParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["r", "explain", "key"];

    #[test]
    fn parameters_are_known_single_and_decoded() {
        let cases: [(Option<&str>, Result<usize, ErrorCode>); 17] = [
            (None, Ok(0)),
            (Some(""), Ok(0)),
            (Some("r=1"), Ok(1)),
            (Some("explain"), Ok(1)),
            (Some("r=1&explain=true&key=%ff+"), Ok(3)),
            (Some("%72=1"), Ok(1)),
            (Some("r=1&r=2"), Err(ErrorCode::DuplicateParameter)),
            (Some("r=1&%72=1"), Err(ErrorCode::DuplicateParameter)),
            (Some("rr=1"), Err(ErrorCode::UnknownParameter)),
            (Some("R=1"), Err(ErrorCode::UnknownParameter)),
            (Some("n=3"), Err(ErrorCode::UnknownParameter)),
            (Some("token=x"), Err(ErrorCode::UnknownParameter)),
            (Some("r=1&"), Err(ErrorCode::UnknownParameter)),
            (Some("&"), Err(ErrorCode::UnknownParameter)),
            (Some("=1"), Err(ErrorCode::UnknownParameter)),
            (Some("r=%zz"), Err(ErrorCode::BadPercentEncoding)),
            (Some("r=%4"), Err(ErrorCode::BadPercentEncoding)),
        ];
        for (raw, expected) in cases {
            let got = Query::parse(raw, &KNOWN);
            assert_eq!(got.map(|q| q.pairs.len()).map_err(|p| p.code()), expected, "{raw:?}");
        }
        let query = Query::parse(Some("key=%ff+%2B"), &KNOWN).unwrap();
        assert_eq!(query.bytes("key"), Some(&b"\xff++"[..]));
        assert_eq!(query.text("key").unwrap_err().code(), ErrorCode::BadParameter);
    }

    #[test]
    fn the_refusal_names_the_parameter_but_never_a_secret_value() {
        let problem = Query::parse(Some("Access_Token=hunter2"), &KNOWN).unwrap_err();
        assert!(problem.detail().contains("Access_Token"), "{problem}");
        assert!(problem.detail().contains("Authorization"), "{problem}");
        assert!(!problem.detail().contains("hunter2"), "{problem}");
    }

    #[test]
    fn credentials_are_known_by_name_or_value() {
        let key = format!("atoll_a_{}", "A".repeat(43));
        let cases = [
            ("r=1&explain", false),
            ("key=atoll_a_b", false),
            ("token=x", true),
            ("r=1&API_KEY", true),
            ("%74oken=x", true),
            (&format!("key={key}"), true),
            (&format!("key={}", key.replace('_', "%5f")), true),
        ];
        for (raw, expected) in cases {
            assert_eq!(has_credentials(raw), expected, "{raw}");
        }
    }

    #[test]
    fn numbers_are_plain_digits() {
        let good = [("0", 0), ("7", 7), ("60000", 60_000), ("18446744073709551615", u64::MAX)];
        for (text, expected) in good {
            assert_eq!(digits(text), Some(expected));
        }
        let bad =
            ["", "+1", "-1", " 1", "1 ", "01", "1.0", "1e0", "0x1", "١", "18446744073709551616"];
        for text in bad {
            assert_eq!(digits(text), None, "{text:?}");
        }
    }
}
