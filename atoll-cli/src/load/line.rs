//! One line of an ndjson file, and the key in it.

use std::fmt;
use std::io::{self, BufRead, Read};

use atoll_client::PutId;
use bytes::Bytes;
use dynamo_core::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use xxhash_rust::xxh3::Xxh3;

/// A line to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes, without the newline.
    pub bytes: Bytes,
}

/// Why a line cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than a value may be.
    #[error("longer than {VALUE_BYTES_MAX} bytes")]
    TooLong,
    /// Not one JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// Without the key field.
    #[error("has no field \"{0}\"")]
    NoKey(String),
    /// With the key field more than once.
    #[error("has the field \"{0}\" more than once")]
    KeyTwice(String),
    /// With a key that is neither a string nor a number.
    #[error("field \"{0}\" is neither a string nor a number")]
    KeyType(String),
    /// With a key of no bytes, or too many.
    #[error("field \"{0}\" has no bytes, or more than {KEY_BYTES_MAX}")]
    KeyLength(String),
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line to be stored.
    Line(Line),
    /// A line of blanks.
    Blank,
    /// A line that cannot be stored.
    Bad(u64, LineError),
    /// The end.
    End,
}

/// The lines of a file, one at a time, each at most as long as a value may be.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`.
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line. The last one needs no newline.
    ///
    /// # Errors
    /// Those of reading.
    pub fn next_line(&mut self) -> io::Result<Next> {
        let mut bytes = Vec::new();
        // One byte for the newline, one to see that a line is too long.
        let limit = VALUE_BYTES_MAX as u64 + 2;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(Next::End);
        }
        self.number += 1;
        let ended = bytes.last() == Some(&b'\n');
        if ended {
            bytes.pop();
        }
        if bytes.len() > VALUE_BYTES_MAX {
            if !ended {
                self.input.skip_until(b'\n')?;
            }
            return Ok(Next::Bad(self.number, LineError::TooLong));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Next::Blank);
        }
        Ok(Next::Line(Line { number: self.number, bytes: bytes.into() }))
    }

    /// Number of the line that was read last.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// The key in the field `field` of the JSON object `bytes`.
///
/// # Errors
/// [`LineError`].
pub fn key(bytes: &[u8], field: &str) -> Result<String, LineError> {
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let found = input
        .deserialize_map(Field(field))
        .and_then(|found| input.end().map(|()| found))
        .map_err(|error| LineError::Json(error.to_string()))?;
    let name = || field.to_owned();
    let key = match found {
        Found::None => return Err(LineError::NoKey(name())),
        Found::Twice => return Err(LineError::KeyTwice(name())),
        Found::One(serde_json::Value::String(text)) => text,
        Found::One(serde_json::Value::Number(number)) => number.to_string(),
        Found::One(_) => return Err(LineError::KeyType(name())),
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(LineError::KeyLength(name()));
    }
    Ok(key)
}

/// The id of the put of a line: the same line under the same key has the same id in every run, so
/// that a load may be repeated.
#[must_use]
pub fn put_id(bucket: &str, key: &str, bytes: &[u8]) -> PutId {
    let mut hash = Xxh3::with_seed(0x6174_6f6c_6c6c_6f61);
    for part in [bucket.as_bytes(), key.as_bytes(), bytes] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    PutId(hash.digest128())
}

enum Found {
    None,
    One(serde_json::Value),
    Twice,
}

/// Finds one field of an object and looks at no other.
struct Field<'a>(&'a str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                let value = map.next_value()?;
                found = if let Found::None = found { Found::One(value) } else { Found::Twice };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(text: &[u8]) -> Vec<Next> {
        let mut lines = Lines::new(Cursor::new(text));
        let mut all = Vec::new();
        loop {
            match lines.next_line().unwrap() {
                Next::End => return all,
                next => all.push(next),
            }
        }
    }

    fn line(number: u64, text: &'static str) -> Next {
        Next::Line(Line { number, bytes: text.into() })
    }

    #[test]
    fn lines_keep_their_bytes_and_numbers() {
        assert_eq!(read(b""), []);
        assert_eq!(read(b"a"), [line(1, "a")]);
        assert_eq!(read(b"a\n"), [line(1, "a")]);
        assert_eq!(
            read(b" a \r\n\n \t\nb"),
            [line(1, " a \r"), Next::Blank, Next::Blank, line(4, "b")]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_and_the_next_one_is_read() {
        let mut text = vec![b'x'; VALUE_BYTES_MAX];
        text.push(b'\n');
        assert!(matches!(read(&text)[..], [Next::Line(_)]));
        for extra in [1, 2, 100_000] {
            let mut text = vec![b'x'; VALUE_BYTES_MAX + extra];
            text.extend_from_slice(b"\nnext\n");
            assert_eq!(read(&text), [Next::Bad(1, LineError::TooLong), line(2, "next")], "{extra}");
        }
    }

    #[test]
    fn keys_are_strings_or_numbers() {
        let long = format!(r#"{{"k":"{}"}}"#, "x".repeat(KEY_BYTES_MAX + 1));
        let cases: [(&str, Result<&str, &str>); 14] = [
            (r#"{"k":"a"}"#, Ok("a")),
            (r#" {"x":[{"k":1}],"k":"a\u00e9/b"} "#, Ok("aé/b")),
            (r#"{"k":7}"#, Ok("7")),
            (r#"{"k":-1.5}"#, Ok("-1.5")),
            (r#"{"k":18446744073709551615}"#, Ok("18446744073709551615")),
            (r#"{"K":"a"}"#, Err("no field")),
            (r#"{"k":null}"#, Err("neither")),
            (r#"{"k":["a"]}"#, Err("neither")),
            (r#"{"k":""}"#, Err("no bytes")),
            (&long, Err("no bytes, or more")),
            (r#"{"k":"a","k":"b"}"#, Err("more than once")),
            (r#"["k"]"#, Err("not a JSON object")),
            (r#"{"k":"a"}{"k":"b"}"#, Err("not a JSON object")),
            (r#"{"k":"a""#, Err("not a JSON object")),
        ];
        for (text, expected) in cases {
            match (key(text.as_bytes(), "k"), expected) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text}: {error}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_put_id_names_bucket_key_and_bytes() {
        let id = put_id("b", "k", b"v");
        assert_eq!(id, put_id("b", "k", b"v"));
        for other in [
            put_id("c", "k", b"v"),
            put_id("b", "l", b"v"),
            put_id("b", "k", b"w"),
            put_id("bk", "", b"v"),
        ] {
            assert_ne!(id, other);
        }
    }
}
