//! `Accept` (RFC 9110 section 12.5.1): which representations the client takes. Checked before a
//! write has any effect; a value is offered as the type it was stored with, and nothing is
//! converted. Parameters of media ranges other than `q` are not compared: `charset=utf-8` beside
//! `application/json` is common and means nothing.

use http::HeaderMap;
use http::header::ACCEPT;
use service_kit::http::error::{ErrorCode, Problem};

use super::bad_header;
use crate::limits::ACCEPT_RANGES_MAX;

/// The type of a value that was stored without one.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// The default form of siblings.
pub const JSON: &str = "application/json";
/// The other form of siblings.
pub const MULTIPART: &str = "multipart/mixed";

/// What a client takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accept {
    /// Empty where everything is taken.
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    /// In lower case; `*` for any.
    kind: String,
    /// In lower case; `*` for any.
    subtype: String,
    /// 0 to 1000.
    quality: u16,
}

impl Accept {
    /// Reads all `Accept` headers.
    ///
    /// # Errors
    /// 400 `bad_header` where they do not follow the grammar.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut ranges = Vec::new();
        for value in headers.get_all(ACCEPT) {
            if value.as_bytes() == b"*/*" {
                continue_any(&mut ranges);
                continue;
            }
            let text = value.to_str().map_err(|_| bad_header("Accept", "not ASCII"))?;
            for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                if ranges.len() >= ACCEPT_RANGES_MAX {
                    return Err(bad_header("Accept", "too many media ranges"));
                }
                ranges.push(range(item).ok_or_else(|| bad_header("Accept", "no media range"))?);
            }
        }
        Ok(Self { ranges })
    }

    /// How welcome a representation of this media type is: 0 (not at all) to 1000.
    #[must_use]
    pub fn quality(&self, media_type: &str) -> u16 {
        if self.ranges.is_empty() {
            return 1000;
        }
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let (kind, subtype) = essence.split_once('/').unwrap_or((essence, ""));
        let matches = |range: &&Range| {
            (range.kind == "*" || range.kind.eq_ignore_ascii_case(kind))
                && (range.subtype == "*" || range.subtype.eq_ignore_ascii_case(subtype))
        };
        // The most specific range decides, whatever its quality.
        self.ranges.iter().filter(matches).max_by_key(|r| r.specificity()).map_or(0, |r| r.quality)
    }

    /// Whether a representation of this media type is welcome at all.
    #[must_use]
    pub fn takes(&self, media_type: &str) -> bool {
        self.quality(media_type) > 0
    }

    /// The form in which siblings are welcome; JSON where both are equally.
    #[must_use]
    pub fn sibling_form(&self) -> Option<SiblingForm> {
        let (json, multipart) = (self.quality(JSON), self.quality(MULTIPART));
        match (json, multipart) {
            (0, 0) => None,
            // A range that names multipart is a wish; `*/*` is not.
            (json, multipart) if multipart > json => Some(SiblingForm::Multipart),
            _ => Some(SiblingForm::Json),
        }
    }
}

/// How several siblings are put into one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiblingForm {
    /// One JSON document.
    Json,
    /// One part per sibling, values as they are.
    Multipart,
}

impl Range {
    fn specificity(&self) -> u8 {
        u8::from(self.kind != "*") + u8::from(self.subtype != "*")
    }
}

/// The refusal where no representation is welcome.
#[must_use]
pub fn not_acceptable(offered: &str) -> Problem {
    let shown = service_kit::http::error::escape_echo(offered.as_bytes());
    Problem::new(ErrorCode::NotAcceptable, format!("this is offered as {shown}"))
}

/// `*/*` among other headers is a range like any other; alone it needs none.
fn continue_any(ranges: &mut Vec<Range>) {
    ranges.push(Range { kind: "*".into(), subtype: "*".into(), quality: 1000 });
}

fn range(item: &str) -> Option<Range> {
    let mut pieces = item.split(';').map(str::trim);
    let (kind, subtype) = pieces.next()?.split_once('/')?;
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    if !token(kind) || !token(subtype) || (kind == "*" && subtype != "*") {
        return None;
    }
    let mut quality = 1000;
    for parameter in pieces {
        let (name, value) = parameter.split_once('=')?;
        if !token(name) {
            return None;
        }
        if name.eq_ignore_ascii_case("q") {
            quality = weight(value)?;
        }
    }
    let lower = str::to_ascii_lowercase;
    Some(Range { kind: lower(kind), subtype: lower(subtype), quality })
}

/// `0`, `1`, or a fraction of up to three digits, in thousandths.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(values: &[&str]) -> Result<Accept, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        Accept::parse(&headers)
    }

    #[test]
    fn qualities_by_the_most_specific_range() {
        let cases: [(&[&str], &str, u16); 15] = [
            (&[], "image/png", 1000),
            (&["*/*"], "image/png", 1000),
            (&["image/*"], "image/png", 1000),
            (&["image/*"], "text/plain", 0),
            (&["IMAGE/PNG"], "image/png", 1000),
            (&["image/png"], "Image/PNG; x=y", 1000),
            (&["text/html", "image/png;q=0.5"], "image/png", 500),
            (&["*/*;q=0.1, image/png;q=0"], "image/png", 0),
            (&["*/*;q=0.1, image/png;q=0"], "image/gif", 100),
            (&["image/*;q=0.7, image/png;q=0.25, */*"], "image/png", 250),
            (&["application/json; charset=utf-8"], "application/json", 1000),
            (&["text/html,application/xml;q=0.9,*/*;q=0.8"], OCTET_STREAM, 800),
            (&["application/x-nonsense"], OCTET_STREAM, 0),
            (&["text/plain;q=1.000"], "text/plain", 1000),
            (&[""], "text/plain", 1000),
        ];
        for (values, media_type, expected) in cases {
            let got = accept(values).unwrap().quality(media_type);
            assert_eq!(got, expected, "{values:?} {media_type}");
        }
    }

    #[test]
    fn siblings_are_json_unless_multipart_is_preferred() {
        use SiblingForm::{Json, Multipart};
        let cases: [(&[&str], Option<SiblingForm>); 8] = [
            (&[], Some(Json)),
            (&["*/*"], Some(Json)),
            (&["application/json"], Some(Json)),
            (&["multipart/mixed"], Some(Multipart)),
            (&["multipart/*"], Some(Multipart)),
            (&["multipart/mixed, */*;q=0.5"], Some(Multipart)),
            (&["application/json, multipart/mixed"], Some(Json)),
            (&["image/png"], None),
        ];
        for (values, expected) in cases {
            assert_eq!(accept(values).unwrap().sibling_form(), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_no_media_range_is_refused() {
        for bad in ["text", "text/", "/html", "*/html", "a b/c", "text/html;q", "text/html;q=2"] {
            assert!(accept(&[bad]).is_err(), "{bad}");
        }
        for bad in ["text/html;q=0.1234", "text/html;q=-1", "text/html;q=1.001", "text/html;q=."] {
            assert!(accept(&[bad]).is_err(), "{bad}");
        }
        let many = vec!["a/b"; ACCEPT_RANGES_MAX + 1].join(",");
        assert!(accept(&[&many]).is_err());
    }
}
