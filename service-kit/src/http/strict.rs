//! The rules of a request that hyper does not enforce (it takes no Host, two Hosts, `%zz`, and
//! `Transfer-Encoding: gzip, chunked`): one meaning for every message, or none. Runs before any
//! route is looked up, on every listener.
//!
//! Not here: rules that depend on the route (empty keys, parameters, media types), and what hyper
//! settles before a request is visible ([`super::framing`]: lengths, fragments, versions). Framing
//! that is visible is checked all the same.

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName,
    IF_MATCH, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

use super::error::{ErrorCode, Problem, escape_echo};
use crate::limits::HEADERS_MAX;

/// Methods that some route may have.
const METHODS: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

/// Headers that only our own processes set behind the front door; dropped from every request.
const INTERNAL_PREFIX: &str = "x-atoll-internal-";

/// Headers of which a second one would leave open which of both is meant.
const SINGLETONS: [HeaderName; 17] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    TRANSFER_ENCODING,
    AUTHORIZATION,
    EXPECT,
    IF_MATCH,
    IF_NONE_MATCH,
    RANGE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("origin"),
];

/// Prefix of our own headers: all of them are singletons.
const OWN_PREFIX: &str = "x-atoll-";

/// Checks a request head, drops what a client may not set, and reduces an absolute-form target to
/// its path: the authority in it is never followed.
///
/// # Errors
/// The refusal, which closes the connection where the end of the message is in doubt.
pub fn check(parts: &mut Parts) -> Result<(), Problem> {
    check_version(parts.version)?;
    check_method(&parts.method)?;
    check_headers(&mut parts.headers)?;
    check_framing(&parts.headers)?;
    check_host(parts.version, &parts.headers)?;
    check_expect(&parts.headers)?;
    check_target(&mut parts.uri)
}

fn check_version(version: Version) -> Result<(), Problem> {
    if matches!(version, Version::HTTP_11 | Version::HTTP_10) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::VersionNotSupported, "HTTP/1.1 is spoken here").close())
}

fn check_method(method: &Method) -> Result<(), Problem> {
    if matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::POST | Method::DELETE | Method::OPTIONS
    ) {
        return Ok(());
    }
    let detail = format!("method '{}' is not served", escape_echo(method.as_str().as_bytes()));
    let problem = Problem::new(ErrorCode::MethodNotAllowed, detail).allow(METHODS);
    // After CONNECT a client sends what is no HTTP; what follows must not be read as a request.
    Err(if *method == Method::CONNECT { problem.close() } else { problem })
}

fn check_headers(headers: &mut HeaderMap) -> Result<(), Problem> {
    if headers.len() > HEADERS_MAX {
        let detail = format!("more than {HEADERS_MAX} header lines");
        return Err(Problem::new(ErrorCode::HeaderTooLarge, detail).close());
    }
    // Equal counts mean that no name is repeated: the usual case costs two loads.
    if headers.len() != headers.keys_len() {
        for name in headers.keys() {
            let single = SINGLETONS.contains(name)
                || (name.as_str().starts_with(OWN_PREFIX)
                    && !name.as_str().starts_with(INTERNAL_PREFIX));
            if single && headers.get_all(name).iter().nth(1).is_some() {
                return Err(duplicate(name));
            }
        }
    }
    if headers.keys().any(|name| name.as_str().starts_with(INTERNAL_PREFIX)) {
        let internal: Vec<HeaderName> =
            headers.keys().filter(|n| n.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
        for name in internal {
            headers.remove(name);
        }
    }
    match headers.get(CONTENT_ENCODING) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Problem::new(
            ErrorCode::UnsupportedMediaType,
            "bodies are taken as they are: Content-Encoding is not supported",
        )),
        _ => Ok(()),
    }
}

fn duplicate(name: &HeaderName) -> Problem {
    let detail = format!("header '{}' given twice", escape_echo(name.as_str().as_bytes()));
    if *name == HOST {
        return Problem::new(ErrorCode::BadHost, detail).close();
    }
    if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
        return Problem::new(ErrorCode::BadFraming, detail).close();
    }
    Problem::new(ErrorCode::DuplicateHeader, detail)
}

fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(coding) = headers.get(TRANSFER_ENCODING) else { return Ok(()) };
    if headers.contains_key(CONTENT_LENGTH) {
        let detail = "Content-Length and Transfer-Encoding together";
        return Err(Problem::new(ErrorCode::BadFraming, detail).close());
    }
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        let detail = "the only Transfer-Encoding is 'chunked', given once";
        return Err(Problem::new(ErrorCode::BadFraming, detail).close());
    }
    Ok(())
}

fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(ErrorCode::BadHost, detail).close());
    match headers.get(HOST) {
        Some(host) if is_host(host.as_bytes()) => Ok(()),
        Some(_) => refuse("Host is not 'name' or 'name:port'"),
        None if version == Version::HTTP_11 => refuse("Host is missing"),
        None => Ok(()),
    }
}

/// `name[:port]` or `[IPv6][:port]`, RFC 3986 section 3.2 without user information.
fn is_host(host: &[u8]) -> bool {
    let (name_ok, rest) = if let Some(inner) = host.strip_prefix(b"[") {
        let Some(end) = inner.iter().position(|&b| b == b']') else { return false };
        let literal = std::str::from_utf8(&inner[..end]).unwrap_or_default();
        (literal.parse::<std::net::Ipv6Addr>().is_ok(), &inner[end + 1..])
    } else {
        let end = host.iter().position(|&b| b == b':').unwrap_or(host.len());
        let name = &host[..end];
        (!name.is_empty() && name.iter().all(|&b| is_name_byte(b)), &host[end..])
    };
    let port_ok = match rest {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0')) <= 65_535
        }
        _ => false,
    };
    name_ok && port_ok
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

fn check_expect(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(Problem::new(ErrorCode::ExpectationFailed, "Expect knows 100-continue only")
                .close())
        }
        _ => Ok(()),
    }
}

fn check_target(uri: &mut Uri) -> Result<(), Problem> {
    let Some(target) = uri.path_and_query() else {
        return Err(Problem::new(ErrorCode::BadRequest, "the request target has no path").close());
    };
    if target.as_str() == "*" {
        let detail = "the server as a whole has no methods";
        return Err(Problem::new(ErrorCode::MethodNotAllowed, detail).allow(METHODS));
    }
    check_percent(target.as_str().as_bytes())?;
    if uri.authority().is_some() {
        *uri = Uri::from(target.clone());
    }
    Ok(())
}

/// Every `%` must begin an escape of two hexadecimal digits.
fn check_percent(target: &[u8]) -> Result<(), Problem> {
    let mut rest = target;
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        let escape = &rest[at..rest.len().min(at + 3)];
        match escape {
            [_, high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = &rest[at + 3..];
            }
            _ => {
                let detail = format!("'{}' is not an escape", escape_echo(escape));
                return Err(Problem::new(ErrorCode::BadPercentEncoding, detail));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_request(
        method: &str,
        uri: &str,
        version: Version,
        headers: &[(&str, &str)],
    ) -> Result<Parts, Problem> {
        let mut builder = http::Request::builder().method(method).uri(uri).version(version);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        check(&mut parts).map(|()| parts)
    }

    #[test]
    fn each_rule_has_its_code() {
        let h = ("host", "a");
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Result<(), ErrorCode>);
        let cases: [Case<'_>; 28] = [
            ("GET", "/a", &[h], Ok(())),
            ("GET", "/a%2Fb?c=%41", &[h], Ok(())),
            ("GET", "//v1//kv", &[h], Ok(())),
            ("GET", "/a", &[], Err(ErrorCode::BadHost)),
            ("GET", "/a", &[h, ("host", "b")], Err(ErrorCode::BadHost)),
            ("GET", "/a", &[("host", "")], Err(ErrorCode::BadHost)),
            ("GET", "/a", &[("host", "a b")], Err(ErrorCode::BadHost)),
            ("GET", "/a", &[("host", "u@a")], Err(ErrorCode::BadHost)),
            ("GET", "/a", &[("host", "a:99999")], Err(ErrorCode::BadHost)),
            ("GET", "/a", &[("host", "[::1]:80")], Ok(())),
            ("GET", "/a", &[("host", "[::1")], Err(ErrorCode::BadHost)),
            ("GET", "/%zz", &[h], Err(ErrorCode::BadPercentEncoding)),
            ("GET", "/%", &[h], Err(ErrorCode::BadPercentEncoding)),
            ("GET", "/%4", &[h], Err(ErrorCode::BadPercentEncoding)),
            ("GET", "/a?b=%4", &[h], Err(ErrorCode::BadPercentEncoding)),
            ("GET", "/a?b=%%41", &[h], Err(ErrorCode::BadPercentEncoding)),
            ("BREW", "/a", &[h], Err(ErrorCode::MethodNotAllowed)),
            ("get", "/a", &[h], Err(ErrorCode::MethodNotAllowed)),
            ("TRACE", "/a", &[h], Err(ErrorCode::MethodNotAllowed)),
            ("OPTIONS", "*", &[h], Err(ErrorCode::MethodNotAllowed)),
            ("PUT", "/a", &[h, ("expect", "foo")], Err(ErrorCode::ExpectationFailed)),
            ("PUT", "/a", &[h, ("expect", "100-Continue")], Ok(())),
            ("PUT", "/a", &[h, ("content-encoding", "gzip")], Err(ErrorCode::UnsupportedMediaType)),
            ("PUT", "/a", &[h, ("transfer-encoding", "gzip, chunked")], Err(ErrorCode::BadFraming)),
            (
                "PUT",
                "/a",
                &[h, ("transfer-encoding", "chunked"), ("content-length", "3")],
                Err(ErrorCode::BadFraming),
            ),
            (
                "PUT",
                "/a",
                &[h, ("x-atoll-context", "a"), ("x-atoll-context", "a")],
                Err(ErrorCode::DuplicateHeader),
            ),
            (
                "PUT",
                "/a",
                &[h, ("authorization", "a"), ("authorization", "b")],
                Err(ErrorCode::DuplicateHeader),
            ),
            ("GET", "/a", &[h, ("accept", "a/b"), ("accept", "c/d")], Ok(())),
        ];
        for (method, uri, headers, expected) in cases {
            let got = check_request(method, uri, Version::HTTP_11, headers);
            assert_eq!(
                got.map(|_| ()).map_err(|p| p.code()),
                expected,
                "{method} {uri} {headers:?}"
            );
        }
        assert!(check_request("GET", "/a", Version::HTTP_10, &[]).is_ok());
        let http2 = check_request("GET", "/a", Version::HTTP_2, &[h]);
        assert_eq!(http2.unwrap_err().code(), ErrorCode::VersionNotSupported);
    }

    #[test]
    fn foreign_authorities_and_internal_headers_are_dropped() {
        let headers = [("host", "a"), ("x-atoll-internal-x", "1"), ("x-atoll-context", "c")];
        let parts =
            check_request("GET", "http://evil.example/v1/x?y", Version::HTTP_11, &headers).unwrap();
        assert_eq!(parts.uri.to_string(), "/v1/x?y");
        assert!(!parts.headers.contains_key("x-atoll-internal-x"));
        assert!(parts.headers.contains_key("x-atoll-context"));
    }

    #[test]
    fn too_many_headers() {
        let names: Vec<String> = (0..HEADERS_MAX).map(|i| format!("x-h{i}")).collect();
        let mut headers: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "v")).collect();
        headers.push(("host", "a"));
        let got = check_request("GET", "/a", Version::HTTP_11, &headers);
        assert_eq!(got.unwrap_err().code(), ErrorCode::HeaderTooLarge);
        headers.swap_remove(0);
        assert!(check_request("GET", "/a", Version::HTTP_11, &headers).is_ok());
    }

    proptest::proptest! {
        /// Against the definition: removing every whole escape leaves no '%'.
        #[test]
        fn percent_encoding_is_what_it_says(target in "[a%0-9A-Gg]{0,24}") {
            let mut rest = target.as_str();
            let mut valid = true;
            while let Some((_, after)) = rest.split_once('%') {
                let digits = after.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
                valid &= digits == 2;
                rest = if valid { &after[2..] } else { "" };
            }
            assert_eq!(check_percent(target.as_bytes()).is_ok(), valid);
        }
    }
}
