//! Binary forms: records on disk, clocks inside tokens. Each has a version and limits; golden
//! files in `testdata/golden` hold that what one build wrote, every later build reads.

pub mod bytes;
pub mod clock;
pub mod record;
