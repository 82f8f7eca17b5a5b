//! How the store fails, and what is then known of the write.

/// A failure of the file below the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The operating system refused a read, write or sync. The file may be fine.
    #[error("input or output failed: {0}")]
    Io(String),
    /// There is no space on the disk. The file is fine.
    #[error("no space is left: {0}")]
    Full(String),
    /// The disk does not give the bytes of the file.
    #[error("unreadable file: {0}")]
    Unreadable(String),
    /// The file's own structure is damaged.
    #[error("damaged file: {0}")]
    Damaged(String),
    /// Another process has the file open.
    #[error("the file is open in another process")]
    Locked,
    /// A version of the file format that this build does not read.
    #[error("file format {0} is not known to this build")]
    Format(u8),
    /// Between two openings of the file.
    #[error("the file is being reopened")]
    Closed,
}

/// Why an operation of the store did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store takes no writes now (read-only after a failure), or cannot be read at all.
    /// Nothing was changed.
    #[error("the store does not take this operation now")]
    Unavailable,
    /// The disk has no room for it. Nothing was changed.
    #[error("the disk is full")]
    Full,
    /// The writer's queue is full. Nothing was changed.
    #[error("the store's queue is full")]
    Overloaded,
    /// The deadline had passed when the writer came to it. Nothing was changed.
    #[error("the deadline passed before the write began")]
    Expired,
    /// The stored record of this key is unreadable. Nothing was changed.
    #[error("the stored record is unreadable")]
    Corrupt,
    /// The write began and its commit failed: it may or may not be there after a restart.
    #[error("the commit failed")]
    CommitFailed,
    /// The hint file is at its cap and the hint was dropped.
    #[error("the hint file is full")]
    HintsFull,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the write may nevertheless have happened.
    #[must_use]
    pub fn may_have_happened(self) -> bool {
        self == Self::CommitFailed
    }
}
