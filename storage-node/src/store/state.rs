//! What a file takes now. The changes from one state to another are made by its writer.

/// The state of one file.
///
/// ```text
/// Healthy <-> Full
///    |         |      a commit failed
///    v         v
///   ReadOnly <-> Reopening -> Healthy or Full
///                    |
///                    v         damaged for good
///                Quarantined -> Healthy or Full, empty
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StoreState {
    /// Reads and writes.
    Healthy = 0,
    /// A write failed: reads go on, writes are refused until the file was opened anew.
    ReadOnly = 1,
    /// The file is being opened anew, and checked where there are doubts: neither reads nor writes.
    Reopening = 2,
    /// The file is damaged. It is set aside, and an empty one takes its place: neither reads nor
    /// writes until then.
    Quarantined = 3,
    /// The disk is full, or nearly: reads go on, and of the writes those that add no values.
    Full = 4,
}

impl StoreState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::ReadOnly, Self::Reopening, Self::Quarantined, Self::Full];

    /// Its name in answers and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::ReadOnly => "read_only",
            Self::Reopening => "reopening",
            Self::Quarantined => "quarantined",
            Self::Full => "full",
        }
    }

    /// Whether the file answers reads. A node that reads has a use, also where it takes no writes.
    #[must_use]
    pub fn serves_reads(self) -> bool {
        matches!(self, Self::Healthy | Self::Full | Self::ReadOnly)
    }

    /// Whether the last write that was tried is on disk.
    #[must_use]
    pub fn takes_writes(self) -> bool {
        matches!(self, Self::Healthy | Self::Full)
    }

    /// The state with this number; the most careful one for a number that is none.
    pub(crate) fn from_number(number: u8) -> Self {
        let found = Self::ALL.into_iter().find(|state| *state as u8 == number);
        found.unwrap_or(Self::Quarantined)
    }
}
