//! JSON bodies with one meaning: no repeated keys (serde keeps the last one of a map without a
//! word), no second value, no byte order mark, bounded nesting, and a content type that says JSON.

use std::collections::HashSet;
use std::fmt;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};

use super::body::{BodyLimits, BodyReader, ByteBudget};
use super::error::{ErrorCode, Problem, escape_echo};
use crate::limits::JSON_DEPTH_MAX;

/// The strictly read JSON body of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct StrictJson<T>(pub T);

/// Default bytes of a JSON body where the application state has no [`BodyReader`] of its own.
/// Administrative requests are a few kilobytes.
const JSON_BYTES_MAX: usize = 1024 * 1024;

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for StrictJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        // A route with its own limit puts its reader into the request's extensions.
        let held = match parts.extensions.get::<BodyReader>() {
            Some(reader) => reader.read(&parts.headers, body).await?,
            None => {
                BodyReader::new(
                    BodyLimits::up_to(JSON_BYTES_MAX),
                    ByteBudget::new(PEER_MESSAGE_BYTES_MAX),
                )
                .read(&parts.headers, body)
                .await?
            }
        };
        parse_strict(held.bytes()).map(Self)
    }
}

/// Accepts a missing content type, `application/json` and `application/…+json`, in UTF-8.
///
/// # Errors
/// 415 for anything else.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let kind = kind.trim();
    let is_json =
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    let utf8 = parameters.split(';').map(str::trim).all(|parameter| {
        parameter
            .strip_prefix("charset=")
            .is_none_or(|charset| charset.trim_matches('"').replace('-', "") == "utf8")
    });
    if is_json && utf8 {
        return Ok(());
    }
    let detail = format!("Content-Type '{}' is not JSON in UTF-8", escape_echo(value.as_bytes()));
    Err(Problem::new(ErrorCode::UnsupportedMediaType, detail))
}

/// Reads exactly one JSON value.
///
/// # Errors
/// 400 `bad_json` where it is not one well-formed value without repeated keys; 422
/// `unprocessable` where it is, but not the one that is expected here.
pub fn parse_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Unique { depth: JSON_DEPTH_MAX }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| refuse(ErrorCode::BadJson, &error))?;
    serde_json::from_slice(bytes).map_err(|error| refuse(ErrorCode::Unprocessable, &error))
}

fn refuse(code: ErrorCode, error: &serde_json::Error) -> Problem {
    // serde's messages may repeat input: they are escaped and cut like any other.
    let place = format!(" (line {} column {})", error.line(), error.column());
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    let shown: String = message.chars().filter(|c| !c.is_control()).take(160).collect();
    Problem::new(code, shown + &place)
}

/// An answer in JSON.
#[derive(Debug, Clone, Copy)]
pub struct JsonAnswer<T>(pub T);

impl<T: Serialize> IntoResponse for JsonAnswer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(json) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json)
                .into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer could not be encoded");
                Problem::new(ErrorCode::Internal, "the answer could not be encoded").into_response()
            }
        }
    }
}

/// Walks a JSON value without keeping it, and fails at a repeated key.
#[derive(Clone, Copy)]
struct Unique {
    depth: usize,
}

impl Unique {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX}"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if seen.contains(&key) {
                let shown = escape_echo(key.as_bytes());
                return Err(serde::de::Error::custom(format_args!("repeated key '{shown}'")));
            }
            seen.insert(key);
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Target {
        #[serde(rename = "n")]
        _n: u64,
        #[serde(default, rename = "map")]
        _map: BTreeMap<String, u64>,
    }

    #[test]
    fn one_meaning_or_none() {
        let deep = "[".repeat(100_000);
        let many_digits = format!(r#"{{"n":{}}}"#, "1".repeat(100_000));
        let cases: [(&str, Result<(), ErrorCode>); 17] = [
            (r#"{"n":1}"#, Ok(())),
            (r#" {"n":1,"map":{"a":1,"b":2}} "#, Ok(())),
            (r#"{"n":1,"map":{"a":1,"a":2}}"#, Err(ErrorCode::BadJson)),
            (r#"{"n":1,"n":1}"#, Err(ErrorCode::BadJson)),
            (r#"{"n":1} {}"#, Err(ErrorCode::BadJson)),
            (r#"{"n":1}x"#, Err(ErrorCode::BadJson)),
            ("\u{feff}{\"n\":1}", Err(ErrorCode::BadJson)),
            ("", Err(ErrorCode::BadJson)),
            (r#"{"n":NaN}"#, Err(ErrorCode::BadJson)),
            (r#"{"n":1e999}"#, Err(ErrorCode::BadJson)),
            (r#"{"n":"\ud800"}"#, Err(ErrorCode::BadJson)),
            (&deep, Err(ErrorCode::BadJson)),
            (&many_digits, Err(ErrorCode::BadJson)),
            (r#"{"n":1,"m":2}"#, Err(ErrorCode::Unprocessable)),
            (r#"{"n":-1}"#, Err(ErrorCode::Unprocessable)),
            (r#"{"n":1.0}"#, Err(ErrorCode::Unprocessable)),
            (r#"{"n":18446744073709551616}"#, Err(ErrorCode::Unprocessable)),
        ];
        for (text, expected) in cases {
            let got = parse_strict::<Target>(text.as_bytes());
            let shown = escape_echo(text.as_bytes());
            assert_eq!(got.map(|_| ()).map_err(|p| p.code()), expected, "{shown}");
        }
        assert!(parse_strict::<Target>(b"{\"n\":1,\"map\":{\"\xff\":1}}").is_err());
    }

    #[test]
    fn content_types() {
        let cases = [
            (None, true),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=UTF-8"), true),
            (Some("application/problem+json"), true),
            (Some("application/json; charset=utf-16"), false),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
        ];
        for (given, ok) in cases {
            let mut headers = HeaderMap::new();
            if let Some(text) = given {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(text));
            }
            assert_eq!(require_json(&headers).is_ok(), ok, "{given:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_one_value_or_a_small_refusal(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            text in r#"[\[\]{}",:0-9a-b\\ ]{0,60}"#,
        ) {
            for input in [bytes.as_slice(), text.as_bytes()] {
                let strict = parse_strict::<serde_json::Value>(input);
                let lenient = serde_json::from_slice::<serde_json::Value>(input);
                // Strict is never more lenient, and what both take they read alike.
                match (strict, lenient) {
                    (Ok(strict), Ok(lenient)) => assert_eq!(strict, lenient),
                    (Ok(strict), Err(error)) => panic!("{strict} against {error}"),
                    (Err(problem), _) => assert!(problem.to_json().len() <= 1024),
                }
            }
        }
    }
}
