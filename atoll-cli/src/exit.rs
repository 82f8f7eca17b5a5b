//! Exit codes: the same meaning in every command, so that scripts can rely on them.

use std::process::ExitCode;

use atoll_client::Error;

/// One exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

/// Done.
pub const OK: Exit = Exit(0);
/// Failed, in a way that no other code names.
pub const FAILURE: Exit = Exit(1);
/// The command line, a name or a parameter is not valid.
pub const USAGE: Exit = Exit(2);
/// The object, or whatever was asked for, is not there.
pub const NOT_FOUND: Exit = Exit(3);
/// There are concurrent versions to be merged, or a condition did not hold.
pub const CONFLICT: Exit = Exit(4);
/// Nothing answered, or too little did, or too slowly: try again later (`EX_TEMPFAIL`).
pub const UNAVAILABLE: Exit = Exit(75);
/// A configuration or a data directory is not valid (`EX_CONFIG`).
pub const CONFIG: Exit = Exit(78);

/// The table for `--help`.
pub const HELP: &str = "\
Exit codes:
   0  done
   1  failed
   2  invalid command line, name or parameter
   3  not found
   4  concurrent versions to be merged, or a condition that did not hold
  75  unavailable or overloaded: try again later
  78  invalid configuration or data directory";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// The code that says what `error` says.
#[must_use]
pub fn of(error: &Error) -> Exit {
    match error {
        Error::Config(_) => CONFIG,
        Error::Name(_) | Error::Parameter { .. } => USAGE,
        Error::Siblings { .. } | Error::Merge(_) | Error::Contention { .. } => CONFLICT,
        Error::Unreachable { .. } | Error::Timeout { .. } | Error::NoRing(_) => UNAVAILABLE,
        Error::Refused { problem, .. } => match problem.status {
            400 | 414 | 422 => USAGE,
            404 | 410 => NOT_FOUND,
            409 | 412 => CONFLICT,
            429 | 502..=504 => UNAVAILABLE,
            _ => FAILURE,
        },
        _ => FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use atoll_client::{Outcome, Problem};

    use super::*;

    #[test]
    fn refusals_map_by_their_status() {
        let cases = [
            (400, USAGE),
            (401, FAILURE),
            (404, NOT_FOUND),
            (409, CONFLICT),
            (412, CONFLICT),
            (413, FAILURE),
            (429, UNAVAILABLE),
            (500, FAILURE),
            (503, UNAVAILABLE),
            (504, UNAVAILABLE),
        ];
        for (status, exit) in cases {
            let text = format!(r#"{{"status":{status},"code":"x","outcome":"unknown"}}"#);
            let problem: Problem = serde_json::from_str(&text).unwrap();
            let error = Error::Refused { problem: Box::new(problem), outcome: Outcome::Unknown };
            assert_eq!(of(&error), exit, "{status}");
        }
    }

    #[test]
    fn the_help_names_every_code() {
        for exit in [OK, FAILURE, USAGE, NOT_FOUND, CONFLICT, UNAVAILABLE, CONFIG] {
            assert!(HELP.contains(&format!("{:>4}  ", exit.0)), "{}", exit.0);
        }
    }
}
