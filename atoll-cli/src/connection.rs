//! The client that commands use.

use std::time::Duration;

use atoll_client::Client;

use crate::args::Global;
use crate::exit;
use crate::output::Failure;

/// A client of the endpoints on the command line. Must be called within the runtime.
///
/// # Errors
/// Where an endpoint is no URL or the timeout is out of range.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .endpoints(&global.endpoints)
        .mode(global.mode.into())
        .timeout(Duration::from_millis(global.timeout_ms));
    if let Some(key) = &global.api_key {
        builder = builder.api_key(key);
    }
    if let Some(file) = &global.ca {
        let pem = std::fs::read(file).map_err(|error| {
            Failure::new(exit::USAGE, format!("--ca: {}: {error}", file.display()))
        })?;
        builder = builder.ca_pem(pem);
    }
    Ok(builder.build()?)
}
