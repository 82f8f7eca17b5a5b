//! Ready-made merge functions. Of two hundred Voldemort stores ten had merges of their own, and
//! all ten were wrong; these are tested against their laws.
//!
//! | helper | merges | deleted items |
//! |---|---|---|
//! | [`union`] | JSON arrays as sets | come back when a sibling still has them |
//! | [`Cart`] | items with quantities | stay deleted, unless added anew meanwhile |
//! | [`lww`] | nothing: the latest version wins | as in the latest version |

mod cart;
mod seen;

use serde_json::Value;

pub use cart::{Cart, CartActor};

use crate::error::Error;
use crate::kv::version::{Siblings, Version};

/// The union of versions that are JSON arrays: every element that any of them has, once, in the
/// order of first appearance. No version at all is the empty set.
///
/// This is the shopping cart of the paper's section 4.4, with its flaw: an element that one
/// sibling has deleted and another still has is back. Where that matters, use [`Cart`].
///
/// # Errors
/// [`Error::Merge`] where a version is not a JSON array.
pub fn union(versions: &Siblings) -> Result<Vec<Value>, Error> {
    let mut all: Vec<Value> = Vec::new();
    for version in versions {
        let elements: Vec<Value> = version.json()?;
        for element in elements {
            if !all.contains(&element) {
                all.push(element);
            }
        }
    }
    Ok(all)
}

/// The latest version by the time its coordinator accepted it; ties go to the greater value, so
/// that all clients agree. `None` where there is no version.
///
/// The others are lost when the result is written: fit for sessions and caches, not for what
/// people typed. A bucket with `reconciliation: lww` does the same in the store.
#[must_use]
pub fn lww(versions: &Siblings) -> Option<&Version> {
    versions
        .iter()
        .max_by(|a, b| a.last_modified.cmp(&b.last_modified).then_with(|| a.value.cmp(&b.value)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn version(value: &str, second: u64) -> Version {
        Version {
            value: value.to_owned().into(),
            content_type: None,
            meta: Default::default(),
            last_modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second)),
            etag: None,
        }
    }

    #[test]
    fn union_keeps_every_element_once() {
        let cases: [(&[&str], &str); 4] = [
            (&[], "[]"),
            (&["[1,2]"], "[1,2]"),
            (&["[1,2]", "[2,3]", "[]"], "[1,2,3]"),
            (&[r#"[{"a":1},"x"]"#, r#"["x",{"a":1},{"a":2}]"#], r#"[{"a":1},"x",{"a":2}]"#),
        ];
        for (values, expected) in cases {
            let siblings = Siblings::new(values.iter().map(|value| version(value, 1)).collect());
            let merged = serde_json::to_string(&union(&siblings).unwrap()).unwrap();
            assert_eq!(merged, expected);
        }
        let object = Siblings::new(vec![version("{}", 1)]);
        assert!(matches!(union(&object), Err(Error::Merge(_))));
    }

    #[test]
    fn the_latest_wins_and_ties_do_not_depend_on_order() {
        assert_eq!(lww(&Siblings::default()), None);
        let (a, b, c) = (version("a", 5), version("b", 7), version("c", 7));
        for order in [[&a, &b, &c], [&c, &b, &a], [&b, &c, &a]] {
            let siblings = Siblings::new(order.into_iter().cloned().collect());
            assert_eq!(lww(&siblings), Some(&c));
        }
    }
}
