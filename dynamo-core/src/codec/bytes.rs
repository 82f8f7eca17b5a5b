//! Reading and writing the length-prefixed binary forms: big-endian fixed integers, LEB128
//! variable ones, byte strings behind their length. The reader never panics and never allocates
//! more than its input is long.

use bytes::{BufMut, Bytes, BytesMut};

/// Input that is not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a field.
    #[error("truncated")]
    Truncated,
    /// Bytes follow where the form ends.
    #[error("trailing bytes")]
    Trailing,
    /// A field has a value that the format does not allow.
    #[error("invalid {0}")]
    Invalid(&'static str),
    /// A version of the format that this build does not know.
    #[error("format version {0} is not known to this build")]
    Version(u8),
    /// The checksum does not match the bytes.
    #[error("checksum mismatch")]
    Checksum,
}

/// Writes fields into a growing buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: BytesMut,
}

impl Writer {
    /// An empty buffer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: BytesMut::with_capacity(capacity) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// A 128-bit integer, big-endian.
    pub fn u128(&mut self, value: u128) {
        self.out.put_u128(value);
    }

    /// An unsigned integer in LEB128, one to ten bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }

    /// A count or length as a varint.
    pub fn len(&mut self, length: usize) {
        self.varint(length as u64);
    }

    /// A byte string behind its length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.raw(bytes);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// What was written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// The finished buffer.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// Reads fields from a buffer, sharing its memory.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// A reader at the start of `input`.
    #[must_use]
    pub fn new(input: Bytes) -> Self {
        Self { rest: input }
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = self.raw(1)?;
        byte.first().copied().ok_or(DecodeError::Truncated)
    }

    /// A 32-bit integer, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.raw(4)?;
        let array = bytes.as_ref().try_into().map_err(|_| DecodeError::Truncated)?;
        Ok(u32::from_be_bytes(array))
    }

    /// A 128-bit integer, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        let bytes = self.raw(16)?;
        let array = bytes.as_ref().try_into().map_err(|_| DecodeError::Truncated)?;
        Ok(u128::from_be_bytes(array))
    }

    /// A LEB128 integer in its shortest form.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end; [`DecodeError::Invalid`] for overlong forms and
    /// values beyond 64 bits.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(DecodeError::Invalid("integer"));
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(DecodeError::Invalid("integer"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::Invalid("integer"))
    }

    /// A number of items that follow, each of at least one byte.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with `what` where the rest is shorter than that.
    pub fn items(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        let left = self.rest.len();
        usize::try_from(count).ok().filter(|n| *n <= left).ok_or(DecodeError::Invalid(what))
    }

    /// A count of at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with `what` where the count is larger.
    pub fn count(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?)
            .ok()
            .filter(|count| *count <= max)
            .ok_or(DecodeError::Invalid(what))
    }

    /// A byte string of at most `max` bytes behind its length.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] with `what` where it is longer, [`DecodeError::Truncated`] where
    /// the input is shorter.
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.count(max, what)?;
        self.raw(length)
    }

    /// A UTF-8 string of at most `max` bytes behind its length.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`DecodeError::Invalid`] where it is not UTF-8.
    pub fn text(&mut self, max: usize, what: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes(max, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Invalid(what))
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where fewer are left.
    pub fn raw(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(length))
    }

    /// Everything that is left.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// Ends the form.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] where input is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
