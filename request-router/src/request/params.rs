//! The knobs of one request, validated against the properties of its bucket: a get or put with a
//! quorum that its bucket cannot have is refused here, with the name of the parameter that is
//! wrong, before anything is sent.

use std::time::Duration;

use dynamo_core::limits::{TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX};
use dynamo_core::params::{BucketProps, Durability, Quorum, WriteQuorum};
use http::HeaderMap;
use service_kit::http::error::Problem;

use super::query::Query;
use super::{bad_parameter, headers};
use crate::limits::{ETAG_BYTES_MAX, TTL_S_MAX};

/// Parameters of a get or head.
pub const GET_PARAMETERS: [&str; 9] =
    ["r", "pr", "timeout_ms", "notfound_ok", "resolve", "sibling", "explain", "watch", "context"];

/// Parameters of a put.
pub const PUT_PARAMETERS: [&str; 7] =
    ["w", "pw", "dw", "durability", "timeout_ms", "return_body", "ttl_s"];

/// Parameters of a put with a server-chosen key.
pub const POST_PARAMETERS: [&str; 6] = ["w", "pw", "dw", "durability", "timeout_ms", "ttl_s"];

/// Parameters of a delete.
pub const DELETE_PARAMETERS: [&str; 5] = ["w", "pw", "dw", "durability", "timeout_ms"];

/// Parameters of a listing of keys.
pub const LIST_PARAMETERS: [&str; 6] = ["prefix", "start", "end", "limit", "cursor", "timeout_ms"];

/// What a get asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetParams {
    /// Replies to wait for.
    pub r: Option<Quorum>,
    /// Replies of primaries to insist on.
    pub pr: Option<Quorum>,
    /// Whether unconfirmed absence may be answered as absence.
    pub notfound_ok: Option<bool>,
    /// Time for the whole request.
    pub timeout: Duration,
    /// Whether the latest sibling stands for all.
    pub resolve_lww: bool,
    /// Entity tag of the one sibling that is wanted.
    pub sibling: Option<String>,
    /// Whether the answer tells what each replica has.
    pub explain: bool,
    /// Whether the request waits for something newer than its context.
    pub watch: bool,
}

impl GetParams {
    /// Reads them for a bucket with `props`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn read(
        raw: Option<&str>,
        headers: &HeaderMap,
        props: &BucketProps,
    ) -> Result<Self, Problem> {
        let query = Query::parse(raw, &GET_PARAMETERS)?;
        let params = Self {
            r: quorum(&query, "r", props.n)?,
            pr: quorum(&query, "pr", props.n)?,
            notfound_ok: query.switch("notfound_ok")?,
            timeout: timeout(&query, headers)?,
            resolve_lww: resolve(&query)?,
            sibling: sibling(&query)?,
            explain: query.switch("explain")?.unwrap_or(false),
            watch: query.switch("watch")?.unwrap_or(false),
        };
        if !params.watch && query.bytes("context").is_some() {
            return Err(bad_parameter("context", "goes with watch only"));
        }
        let picks = usize::from(params.resolve_lww)
            + usize::from(params.sibling.is_some())
            + usize::from(params.explain);
        if picks > 1 {
            return Err(bad_parameter("sibling", "give one of sibling, resolve and explain"));
        }
        Ok(params)
    }

    /// The number of replies that the request waits for, for answers about a missed quorum.
    #[must_use]
    pub fn required(&self, props: &BucketProps) -> u32 {
        self.r.unwrap_or(props.r).resolve(props.n).unwrap_or(props.n).into()
    }
}

/// What a put or delete asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutParams {
    /// Acknowledgements to wait for.
    pub w: Option<WriteQuorum>,
    /// Acknowledgements of primaries to insist on.
    pub pw: Option<Quorum>,
    /// What acknowledgements must have survived.
    pub durability: Option<Durability>,
    /// Time for the whole request.
    pub timeout: Duration,
    /// Whether the answer carries the resulting versions.
    pub return_body: bool,
    /// Time to live in seconds; 0 for ever. The bucket's where not given.
    pub ttl_s: u64,
}

impl PutParams {
    /// Reads them for a bucket with `props`, for a method that knows the parameters `known`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn read(
        raw: Option<&str>,
        headers: &HeaderMap,
        props: &BucketProps,
        known: &[&'static str],
    ) -> Result<Self, Problem> {
        let query = Query::parse(raw, known)?;
        let w: Option<WriteQuorum> = query.parsed("w")?;
        if let Some(WriteQuorum::Of(count)) = w {
            count.resolve(props.n).map_err(|error| bad_parameter("w", error))?;
        }
        Ok(Self {
            w,
            pw: quorum(&query, "pw", props.n)?,
            durability: durability(&query)?,
            timeout: timeout(&query, headers)?,
            return_body: query.switch("return_body")?.unwrap_or(false),
            ttl_s: query.number("ttl_s", 1..=TTL_S_MAX)?.unwrap_or(props.ttl_s),
        })
    }

    /// The number of acknowledgements that the request waits for, for answers about a missed
    /// quorum.
    #[must_use]
    pub fn required(&self, props: &BucketProps) -> u32 {
        match self.w.unwrap_or(props.w) {
            WriteQuorum::Any => 1,
            WriteQuorum::Of(quorum) => quorum.resolve(props.n).unwrap_or(props.n).into(),
        }
    }
}

fn quorum(query: &Query<'_>, name: &'static str, n: u8) -> Result<Option<Quorum>, Problem> {
    let given: Option<Quorum> = query.parsed(name)?;
    if let Some(quorum) = given {
        quorum.resolve(n).map_err(|error| bad_parameter(name, error))?;
    }
    Ok(given)
}

/// `dw` is the short name of `durability`.
fn durability(query: &Query<'_>) -> Result<Option<Durability>, Problem> {
    match (query.parsed("durability")?, query.parsed("dw")?) {
        (Some(_), Some(_)) => Err(bad_parameter("dw", "is another name of durability; give one")),
        (long, short) => Ok(long.or(short)),
    }
}

fn timeout(query: &Query<'_>, headers: &HeaderMap) -> Result<Duration, Problem> {
    let asked = query.number("timeout_ms", 1..=TIMEOUT_MS_MAX)?;
    let header = headers::timeout_ms(headers)?;
    if let (Some(asked), Some(header)) = (asked, header)
        && asked != header
    {
        return Err(bad_parameter("timeout_ms", "differs from the X-Atoll-Timeout-Ms header"));
    }
    Ok(Duration::from_millis(asked.or(header).unwrap_or(TIMEOUT_MS_DEFAULT)))
}

fn resolve(query: &Query<'_>) -> Result<bool, Problem> {
    match query.bytes("resolve") {
        None => Ok(false),
        Some(b"lww") => Ok(true),
        Some(_) => Err(bad_parameter("resolve", "expected lww")),
    }
}

/// The tag may come with its quotes, as it stands in the `ETag` header, or without.
fn sibling(query: &Query<'_>) -> Result<Option<String>, Problem> {
    let Some(text) = query.text("sibling")? else { return Ok(None) };
    let tag = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let plain = tag.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if plain && (1..=ETAG_BYTES_MAX).contains(&tag.len()) {
        return Ok(Some(tag.to_owned()));
    }
    Err(bad_parameter("sibling", "expected the entity tag of a sibling"))
}

#[cfg(test)]
mod tests {
    use service_kit::http::error::ErrorCode;

    use super::*;

    fn get(raw: &str) -> Result<GetParams, Problem> {
        GetParams::read(Some(raw), &HeaderMap::new(), &BucketProps::default())
    }

    fn put(raw: &str) -> Result<PutParams, Problem> {
        let headers = HeaderMap::new();
        PutParams::read(Some(raw), &headers, &BucketProps::default(), &PUT_PARAMETERS)
    }

    #[test]
    fn wrong_values_name_their_parameter() {
        let counts =
            ["0", "-1", "4", "256", "1.5", "", "0x1", "1e0", "+1", "%201", "QUORUM", "half"];
        for value in counts.iter().copied().chain(["%D9%A1", &"9".repeat(31), "%ff"]) {
            for name in ["r", "pr"] {
                refused(get(&format!("{name}={value}")), name, value);
            }
            for name in ["w", "pw"] {
                refused(put(&format!("{name}={value}")), name, value);
            }
        }
        refused(get("r=any"), "r", "any");
        refused(put("pw=any"), "pw", "any");
        for value in ["0", "-1", "1000000000", "60001", "NaN", "", "1e3", "01"] {
            refused(get(&format!("timeout_ms={value}")), "timeout_ms", value);
            refused(put(&format!("timeout_ms={value}")), "timeout_ms", value);
        }
        refused(get("resolve=first"), "resolve", "first");
        refused(get("sibling="), "sibling", "");
        refused(get("sibling=a%22b"), "sibling", "a\"b");
        refused(get("explain=1"), "explain", "1");
        refused(get("context=abc"), "context", "abc");
        refused(get("explain&resolve=lww"), "sibling", "two");
        refused(put("dw=2"), "dw", "2");
        refused(put("dw=fsync&durability=fsync"), "dw", "both");
        refused(put("ttl_s=0"), "ttl_s", "0");
        refused(put("return_body=yes"), "return_body", "yes");
    }

    fn refused<T: std::fmt::Debug>(got: Result<T, Problem>, name: &str, value: &str) {
        let problem = got.unwrap_err();
        assert_eq!(problem.code(), ErrorCode::BadParameter, "{name}={value}");
        assert!(problem.detail().contains(&format!("'{name}'")), "{name}={value}: {problem}");
    }

    #[test]
    fn words_and_numbers() {
        for word in ["1", "2", "3", "one", "quorum", "all"] {
            assert!(get(&format!("r={word}&pr={word}")).is_ok(), "{word}");
            assert!(put(&format!("w={word}&pw={word}")).is_ok(), "{word}");
        }
        assert_eq!(put("w=any").unwrap().w, Some(WriteQuorum::Any));
        let all = get("r=all&notfound_ok&timeout_ms=60000&sibling=%22abc%22").unwrap();
        assert_eq!(all.sibling.as_deref(), Some("abc"));
        assert_eq!(all.notfound_ok, Some(true));
        assert_eq!(all.required(&BucketProps::default()), 3);
        let put = put("durability=buffered&return_body=true&ttl_s=60").unwrap();
        assert_eq!(put.durability, Some(Durability::Buffered));
        assert_eq!((put.return_body, put.ttl_s), (true, 60));
        assert_eq!(put.timeout, Duration::from_millis(TIMEOUT_MS_DEFAULT));
    }

    #[test]
    fn parameters_of_other_methods_are_unknown() {
        let no_headers = HeaderMap::new();
        let props = BucketProps::default();
        for raw in ["w=1", "ttl_s=1", "return_body", "n=3", "prefix=a"] {
            assert_eq!(get(raw).unwrap_err().code(), ErrorCode::UnknownParameter, "{raw}");
        }
        for raw in ["r=1", "explain", "resolve=lww", "sibling=a", "notfound_ok"] {
            assert_eq!(put(raw).unwrap_err().code(), ErrorCode::UnknownParameter, "{raw}");
        }
        for raw in ["ttl_s=1", "return_body", "r=1"] {
            let got = PutParams::read(Some(raw), &no_headers, &props, &DELETE_PARAMETERS);
            assert_eq!(got.unwrap_err().code(), ErrorCode::UnknownParameter, "{raw}");
        }
    }

    #[test]
    fn two_timeouts_must_agree() {
        let mut headers = HeaderMap::new();
        headers.insert("x-atoll-timeout-ms", "500".parse().unwrap());
        let props = BucketProps::default();
        let read = |raw| GetParams::read(raw, &headers, &props).map(|p| p.timeout.as_millis());
        assert_eq!(read(None), Ok(500));
        assert_eq!(read(Some("timeout_ms=500")), Ok(500));
        assert_eq!(read(Some("timeout_ms=501")).unwrap_err().code(), ErrorCode::BadParameter);
    }
}
