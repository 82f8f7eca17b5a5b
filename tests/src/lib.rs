//! Cross-service tests: real processes on loopback, the client API as users meet it, and the
//! architecture of the workspace itself.
//!
//! | folder | what |
//! |---|---|
//! | `src/harness` | a real cluster of child processes in a temporary directory |
//! | `tests/architecture` | the direction of the arrows between crates, the dependencies of the core |
//! | `tests/it` | scenarios against a real cluster |

pub mod harness;
