//! The documentation of the error codes is the table of the code, word for word.
//! `UPDATE_GOLDEN=1 cargo test -p service-kit --test it error_docs` rewrites it; review the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use service_kit::http::error::{ErrorCode, Problem};

const INTRODUCTION: &str = "# Errors

Every refusal of every Atoll process has the media type `application/problem+json` (RFC 9457), at most
1 KiB, and one of the codes below. Codes are part of the API: they are never renamed, and never used for
something else.

```json
{
  \"type\": \"https://atoll.example/errors#quorum_unavailable\",
  \"title\": \"Quorum not reached\",
  \"status\": 503,
  \"code\": \"quorum_unavailable\",
  \"detail\": \"1 of 2 acknowledgements\",
  \"outcome\": \"unknown\",
  \"retryable\": true,
  \"required\": 2,
  \"got\": 1,
  \"request_id\": \"7f3c1a09be55d210\"
}
```

- `code` is for programs, `detail` for people. `type` is the code as a name; it is not an address to fetch,
  and its fragment is the anchor of the code on this page.
- `outcome` says whether a refused write may have happened: `not_applied` is a promise that nothing was
  changed and nothing will be, `unknown` that it may be there, in part or in whole, now or later. An answer
  below 500 is always `not_applied`.
- `retryable` says whether the same request may succeed later without change. Outcome and retryability below
  are those of the code; a single answer may know better.
- `request_id` is also in the header `X-Request-Id` and in the logs of every process that took part.
- Refusals that leave in doubt where the next request begins close the connection.

This page is written from the table in `service-kit/src/http/error.rs`, and a test keeps it in step.
";

fn document() -> String {
    let mut classes: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for &code in ErrorCode::ALL {
        classes.entry(code.status_number()).or_default().push(code);
    }
    let mut text = INTRODUCTION.to_owned();
    let header = "\n| code | meaning | outcome | retryable | what to do |\n|---|---|---|---|---|\n";
    for (status, codes) in classes {
        let reason = codes[0].status().canonical_reason().unwrap();
        write!(text, "\n## {status} {reason}\n{header}").unwrap();
        for code in codes {
            let name = code.as_str();
            let retryable = if code.retryable() { "yes" } else { "no" };
            let outcome = code.default_outcome().as_str();
            let (doc, remedy) = (code.doc(), code.remedy());
            writeln!(
                text,
                "| <a id=\"{name}\"></a>`{name}` | {doc} | `{outcome}` | {retryable} | {remedy} |"
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn the_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let expected = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    let differs = expected.lines().zip(found.lines()).find(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "docs/errors.md is out of step");
    assert_eq!(expected, found, "docs/errors.md is out of step");
}

#[test]
fn every_code_is_explained_in_sentences() {
    for &code in ErrorCode::ALL {
        for text in [code.doc(), code.remedy()] {
            assert!(text.ends_with('.') && !text.contains(['|', '\n']), "{code:?}: {text}");
        }
        let json = Problem::new(code, "").to_json();
        let problem: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let anchor = problem["type"].as_str().and_then(|name| name.split_once('#')).unwrap().1;
        assert!(document().contains(&format!("<a id=\"{anchor}\">")), "{code:?}");
    }
}
