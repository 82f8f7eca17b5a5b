//! Small values by number, for tests that need many of them and care about none.

use bytes::Bytes;

use crate::clock::context::CausalContext;
use crate::clock::record::{Content, Record, Value};
use crate::id::{NodeId, PutId};
use crate::params::Reconciliation;
use crate::replica::PutCommand;

/// The `number`-th node of a test.
#[must_use]
pub fn node(number: u128) -> NodeId {
    NodeId(0xa000 + number)
}

/// The value whose bytes are `text`.
#[must_use]
pub fn text(text: &str) -> Content {
    Content::Value(Value { bytes: Bytes::copy_from_slice(text.as_bytes()), ..Value::default() })
}

/// The text of a value that [`text`] made; `None` for a tombstone.
#[must_use]
pub fn text_of(content: &Content) -> Option<String> {
    match content {
        Content::Value(value) => Some(String::from_utf8_lossy(&value.bytes).into_owned()),
        Content::Tombstone => None,
    }
}

/// The `id`-th put of a test: it writes its own number, in a bucket that keeps siblings.
#[must_use]
pub fn put(id: u128, context: Option<CausalContext>) -> PutCommand {
    PutCommand {
        put_id: PutId(id),
        context,
        content: text(&id.to_string()),
        reconciliation: Reconciliation::Siblings,
    }
}

/// The context of a client that was shown all of `record`.
#[must_use]
pub fn context_of(record: &Record) -> CausalContext {
    CausalContext { clock: record.clock().clone(), stamp: record.latest_stamp(), fastest: None }
}
