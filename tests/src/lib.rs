//! Cross-service tests: real processes on loopback, the client API as users meet it, and the
//! architecture of the workspace itself.
//!
//! | folder | what |
//! |---|---|
//! | `src/harness` | a real cluster of child processes in a temporary directory |
//! | `src/history` | what clients saw, and the verdict on it |
//! | `src/workload` | mixed load that leaves a history |
//! | `chaos` | scenarios that need network namespaces, full disks or minutes; `chaos/run` |
//! | `tests/architecture` | the direction of the arrows between crates, the dependencies of the core |
//! | `tests/it` | scenarios against a real cluster |

pub mod harness;
pub mod history;
pub mod workload;
