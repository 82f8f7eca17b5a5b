//! The `[auth]` table: whether clients need an API key, and where the keys are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Invalid, Validate};
use crate::launch::Protection;

/// How clients are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// They are not: whoever connects may do everything.
    None,
    /// By API keys.
    Keys,
}

/// The settings. Where nothing is said nobody is known, and only this host may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// `keys`, or `none` for a network that knows its clients itself.
    pub mode: Option<AuthMode>,
    /// The file of API keys, or a directory of such files.
    pub keys_file: Option<PathBuf>,
}

impl AuthConfig {
    /// What a listener that is opened to others is protected by.
    #[must_use]
    pub fn protection(&self) -> Protection {
        Protection { setting: "auth.mode", on: self.mode.map(|mode| mode == AuthMode::Keys) }
    }
}

impl Validate for AuthConfig {
    fn validate(&self) -> Result<(), Invalid> {
        match (self.mode, &self.keys_file) {
            (Some(AuthMode::Keys), None) => {
                Err(Invalid::new("auth.keys_file", "is needed where auth.mode is \"keys\""))
            }
            (Some(AuthMode::None) | None, Some(_)) => Err(Invalid::new(
                "auth.mode",
                "must be \"keys\" where auth.keys_file is given: the keys would protect nothing",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_mode_go_together() {
        let file = || Some(PathBuf::from("keys.json"));
        let cases = [
            (None, None, None, None),
            (None, file(), Some("auth.mode"), None),
            (Some(AuthMode::None), None, None, Some(false)),
            (Some(AuthMode::None), file(), Some("auth.mode"), Some(false)),
            (Some(AuthMode::Keys), None, Some("auth.keys_file"), Some(true)),
            (Some(AuthMode::Keys), file(), None, Some(true)),
        ];
        for (mode, keys_file, refused, on) in cases {
            let config = AuthConfig { mode, keys_file };
            let key = config.validate().err().map(|invalid| invalid.key);
            assert_eq!(key.as_deref(), refused, "{config:?}");
            assert_eq!(config.protection().on, on, "{config:?}");
        }
    }
}
