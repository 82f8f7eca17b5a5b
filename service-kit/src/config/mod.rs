//! Settings of a process: defaults < TOML file < `ATOLL_*` environment < flags. Whatever is not
//! understood is refused with one line that names the key and where it came from, and exit code
//! [`EXIT_CONFIG`]: a mistyped setting must not silently be the default.

pub mod checks;
mod layers;
mod secret;

pub use layers::{ConfigError, Override, Sources, load, print_effective};
pub use secret::Secret;
pub(crate) use secret::read_private;

/// Exit code of a process whose settings are refused (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// A setting that has the right type and a wrong value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Invalid {
    /// Dotted path of the setting.
    pub key: String,
    /// What is wrong with it, without its value where that is a secret.
    pub reason: String,
}

impl Invalid {
    /// The setting at `key` is wrong because of `reason`.
    #[must_use]
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

/// Settings that know which of their values make sense together.
pub trait Validate {
    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// The first setting that is wrong.
    fn validate(&self) -> Result<(), Invalid>;
}

#[cfg(test)]
mod tests;
