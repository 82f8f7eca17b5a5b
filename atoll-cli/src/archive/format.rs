//! One archive file: the records of one partition. All numbers are big-endian.
//!
//! ```text
//! header  "ATAR" │ version u16 │ 0 u16 │ cluster u128 │ partitions u32 │ partition u32 │ crc32c u32
//! block   length u32 │ crc32c u32 │ a page of records as it travels between processes
//! …
//! end     0 u32 │ records u64 │ blocks u32 │ crc32c u32
//! ```
//! Every part carries the CRC32C of its own bytes; that of the end covers the checksums of the
//! header and of all blocks, so that no block can be missing, doubled or moved. Nothing follows the
//! end. A reader believes no length before it has checked it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use dynamo_core::id::{ClusterId, PartitionId};
use dynamo_core::limits::PEER_MESSAGE_BYTES_MAX;
use dynamo_core::wire::frame::FrameError;
use dynamo_core::wire::partition::{Page, decode_page, encode_page};

/// The version that this build writes, and reads.
pub const VERSION: u16 = 1;

/// Bytes of one block: what processes send each other in one message. Larger ones are refused.
pub const BLOCK_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX;

const MAGIC: [u8; 4] = *b"ATAR";
const HEADER_BYTES: usize = 36;
const END_BYTES: usize = 16;

/// An archive that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system says no; an early end is [`ArchiveError::Truncated`].
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not an archive at all.
    #[error("not an archive of a partition")]
    Magic,
    /// Written by another version.
    #[error("archive version {0} is not known to this build (it reads {VERSION})")]
    Version(u16),
    /// The file ends before its end.
    #[error("the archive is cut off")]
    Truncated,
    /// There is something behind the end.
    #[error("there are bytes behind the end of the archive")]
    Trailing,
    /// A checksum does not match.
    #[error("the checksum of the {0} does not match")]
    Checksum(&'static str),
    /// A block larger than [`BLOCK_BYTES_MAX`].
    #[error("a block of {0} bytes is larger than any block")]
    BlockTooLarge(u64),
    /// The numbers of records or blocks do not match those of the end.
    #[error("the archive does not have as many records as it says")]
    Count,
    /// The content of a block is no page of records.
    #[error("a block is no page of records: {0}")]
    Page(#[from] FrameError),
}

/// Which partition a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cluster that it was read from.
    pub cluster: ClusterId,
    /// The number of its partitions.
    pub partitions: u32,
    /// The partition.
    pub partition: PartitionId,
}

/// What a whole file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// CRC32C of the whole file.
    pub crc32c: u32,
}

/// Writes one file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    records: u64,
    blocks: u32,
    /// Checksum over the checksums of what was written.
    chain: u32,
    bytes: u64,
    whole: u32,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn new(out: W, header: Header) -> Result<Self, ArchiveError> {
        let mut writer = Self { out, records: 0, blocks: 0, chain: 0, bytes: 0, whole: 0 };
        let mut form = Vec::with_capacity(HEADER_BYTES);
        form.extend(MAGIC);
        form.extend(VERSION.to_be_bytes());
        form.extend(0u16.to_be_bytes());
        form.extend(header.cluster.0.to_be_bytes());
        form.extend(header.partitions.to_be_bytes());
        form.extend(header.partition.0.to_be_bytes());
        let checksum = crc32c(&form).to_be_bytes();
        form.extend(checksum);
        writer.chain = crc32c(&checksum);
        writer.put(&form)?;
        Ok(writer)
    }

    /// Adds the records of a page.
    ///
    /// # Errors
    /// [`ArchiveError`]; the file is of no use after it.
    pub fn page(&mut self, page: &Page) -> Result<(), ArchiveError> {
        if page.records.is_empty() {
            return Ok(());
        }
        let payload = encode_page(page)?;
        if payload.len() > BLOCK_BYTES_MAX {
            return Err(ArchiveError::BlockTooLarge(payload.len() as u64));
        }
        let length = u32::try_from(payload.len())
            .map_err(|_| ArchiveError::BlockTooLarge(payload.len() as u64))?;
        let checksum = crc32c(&payload).to_be_bytes();
        self.chain = crc32c_append(self.chain, &checksum);
        self.put(&length.to_be_bytes())?;
        self.put(&checksum)?;
        self.put(&payload)?;
        self.records += page.records.len() as u64;
        self.blocks = self.blocks.checked_add(1).ok_or(ArchiveError::Count)?;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn finish(mut self) -> Result<(W, Summary), ArchiveError> {
        self.put(&0u32.to_be_bytes())?;
        let (records, blocks) = (self.records.to_be_bytes(), self.blocks.to_be_bytes());
        let checksum = crc32c_append(crc32c_append(self.chain, &records), &blocks);
        self.put(&records)?;
        self.put(&blocks)?;
        self.put(&checksum.to_be_bytes())?;
        self.out.flush()?;
        let summary = Summary { records: self.records, bytes: self.bytes, crc32c: self.whole };
        Ok((self.out, summary))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.whole = crc32c_append(self.whole, bytes);
        Ok(())
    }
}

/// Reads one file, checking everything on the way.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    records: u64,
    blocks: u32,
    chain: u32,
    bytes: u64,
    whole: u32,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(input: R) -> Result<Self, ArchiveError> {
        let header = Header { cluster: ClusterId(0), partitions: 0, partition: PartitionId(0) };
        let (records, blocks, chain, bytes, whole) = (0, 0, 0, 0, 0);
        let mut reader = Self { input, header, records, blocks, chain, bytes, whole, ended: false };
        let magic: [u8; 4] = reader.take()?;
        if magic != MAGIC {
            return Err(ArchiveError::Magic);
        }
        let version: [u8; 2] = reader.take()?;
        let reserved: [u8; 2] = reader.take()?;
        let cluster: [u8; 16] = reader.take()?;
        let (partitions, partition): ([u8; 4], [u8; 4]) = (reader.take()?, reader.take()?);
        let seen = reader.whole;
        let checksum: [u8; 4] = reader.take()?;
        let version = u16::from_be_bytes(version);
        if version != VERSION {
            return Err(ArchiveError::Version(version));
        }
        if u32::from_be_bytes(checksum) != seen || reserved != [0, 0] {
            return Err(ArchiveError::Checksum("header"));
        }
        reader.chain = crc32c(&checksum);
        reader.header = Header {
            cluster: ClusterId(u128::from_be_bytes(cluster)),
            partitions: u32::from_be_bytes(partitions),
            partition: PartitionId(u32::from_be_bytes(partition)),
        };
        Ok(reader)
    }

    /// Which partition it has.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The next page of records; `None` at the end, which then has been checked.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn page(&mut self) -> Result<Option<Page>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let length = u32::from_be_bytes(self.take()?);
        if length == 0 {
            self.end()?;
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > BLOCK_BYTES_MAX {
            return Err(ArchiveError::BlockTooLarge(length as u64));
        }
        let checksum: [u8; 4] = self.take()?;
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        if crc32c(&payload) != u32::from_be_bytes(checksum) {
            return Err(ArchiveError::Checksum("block"));
        }
        self.chain = crc32c_append(self.chain, &checksum);
        let page = decode_page(Bytes::from(payload))?;
        self.records += page.records.len() as u64;
        self.blocks = self.blocks.checked_add(1).ok_or(ArchiveError::Count)?;
        Ok(Some(page))
    }

    /// Reads what is left, and says what the whole file has.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn summary(mut self) -> Result<Summary, ArchiveError> {
        while self.page()?.is_some() {}
        Ok(Summary { records: self.records, bytes: self.bytes, crc32c: self.whole })
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let form: [u8; END_BYTES] = self.take()?;
        let (counts, checksum) = form.split_at(END_BYTES - 4);
        let expected = crc32c_append(self.chain, counts).to_be_bytes();
        if checksum != expected {
            return Err(ArchiveError::Checksum("end"));
        }
        let mut own = [0; END_BYTES - 4];
        let (records, blocks) = own.split_at_mut(8);
        records.copy_from_slice(&self.records.to_be_bytes());
        blocks.copy_from_slice(&self.blocks.to_be_bytes());
        if counts != own {
            return Err(ArchiveError::Count);
        }
        if self.input.read(&mut [0])? > 0 {
            return Err(ArchiveError::Trailing);
        }
        self.ended = true;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
            _ => ArchiveError::Io(error),
        })?;
        self.bytes += bytes.len() as u64;
        self.whole = crc32c_append(self.whole, bytes);
        Ok(())
    }
}
