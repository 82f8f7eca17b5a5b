//! `atoll version`.

use serde_json::json;

use crate::exit;
use crate::output::{Done, Output};

pub(crate) fn run(output: Output) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    if output.is_json() {
        output.document(&json!({ "version": version }))?;
    } else {
        output.line(format!("atoll {version}"))?;
    }
    Ok(exit::OK)
}
