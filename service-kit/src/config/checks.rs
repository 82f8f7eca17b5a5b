//! The checks that the settings of several services share. Each names its setting in the refusal.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use dynamo_core::cluster_view;

use super::Invalid;

/// A number within its bounds.
///
/// # Errors
/// Where `value` is outside of `range`; the refusal states the range.
pub fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Invalid::new(key, format!("must be {} to {}", range.start(), range.end())))
}

/// The address of another process, `host:port`. Names are resolved when a connection is made, so
/// that one that does not resolve yet is no mistake.
///
/// # Errors
/// Where it is no host name or IP address with a port.
pub fn host_port(key: &str, address: &str) -> Result<(), Invalid> {
    cluster_view::check_address(address).map_err(|_| Invalid::new(key, "expected host:port"))
}

/// A directory that a process owns; it need not exist yet.
///
/// # Errors
/// Where it is empty, which would be the current directory of whoever starts the process.
pub fn directory(key: &str, path: &Path) -> Result<(), Invalid> {
    if path.as_os_str().is_empty() {
        return Err(Invalid::new(key, "must name a directory"));
    }
    Ok(())
}
