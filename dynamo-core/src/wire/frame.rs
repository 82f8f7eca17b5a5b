//! The body of messages that carry object bytes: a JSON header, then the bytes as they are.
//!
//! ```text
//! "ATF1" │ header length u32 big-endian │ header: JSON │ object bytes, back to back
//! ```
//! Values never travel as base64 or number arrays between processes; the header says how long each
//! of them is. Content type: [`FRAME_CONTENT_TYPE`].

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::FRAME_HEADER_BYTES_MAX;

/// Media type of a frame.
pub const FRAME_CONTENT_TYPE: &str = "application/vnd.atoll.frame";

/// Version mark of the form that this build reads and writes.
const MAGIC: [u8; 4] = *b"ATF1";

/// Bytes in front of the header.
const PREFIX: usize = 8;

/// A message that is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not the mark of a frame of this version.
    #[error("not a frame of version 1")]
    Magic,
    /// Shorter than its lengths say.
    #[error("truncated frame")]
    Truncated,
    /// A header larger than [`FRAME_HEADER_BYTES_MAX`].
    #[error("frame header too long")]
    HeaderTooLong,
    /// A header that is not the expected JSON.
    #[error("bad frame header")]
    Header(#[from] serde_json::Error),
    /// Object bytes that the header does not account for, or the reverse.
    #[error("frame body does not match its header")]
    Body,
}

/// Encodes `header` and the object bytes in one buffer.
///
/// # Errors
/// [`FrameError::Header`] where the header cannot be JSON, [`FrameError::HeaderTooLong`].
pub fn encode_frame<'a>(
    header: &impl Serialize,
    parts: impl IntoIterator<Item = &'a Bytes> + Clone,
) -> Result<Bytes, FrameError> {
    let json = serde_json::to_vec(header)?;
    if json.len() > FRAME_HEADER_BYTES_MAX {
        return Err(FrameError::HeaderTooLong);
    }
    let length = u32::try_from(json.len()).map_err(|_| FrameError::HeaderTooLong)?;
    let body: usize = parts.clone().into_iter().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(PREFIX + json.len() + body);
    out.put_slice(&MAGIC);
    out.put_u32(length);
    out.put_slice(&json);
    for part in parts {
        out.put_slice(part);
    }
    Ok(out.freeze())
}

/// Splits a frame into its header and its object bytes, which share the message's memory.
///
/// # Errors
/// [`FrameError`].
pub fn decode_frame<H: DeserializeOwned>(mut message: Bytes) -> Result<(H, Parts), FrameError> {
    if message.len() < PREFIX {
        return Err(FrameError::Truncated);
    }
    let prefix = message.split_to(PREFIX);
    let (magic, length) = prefix.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(FrameError::Magic);
    }
    let length = length.try_into().map(u32::from_be_bytes).map_err(|_| FrameError::Truncated)?;
    let length = usize::try_from(length).map_err(|_| FrameError::HeaderTooLong)?;
    if length > FRAME_HEADER_BYTES_MAX {
        return Err(FrameError::HeaderTooLong);
    }
    if length > message.len() {
        return Err(FrameError::Truncated);
    }
    let header = serde_json::from_slice(&message.split_to(length))?;
    Ok((header, Parts { rest: message }))
}

/// The object bytes of a frame, taken off the front by their lengths.
#[derive(Debug)]
pub struct Parts {
    rest: Bytes,
}

impl Parts {
    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`FrameError::Body`] where fewer are left.
    pub fn take(&mut self, length: usize) -> Result<Bytes, FrameError> {
        if length > self.rest.len() {
            return Err(FrameError::Body);
        }
        Ok(self.rest.split_to(length))
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// [`FrameError::Body`] where bytes are left.
    pub fn finish(self) -> Result<(), FrameError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FrameError::Body) }
    }
}
