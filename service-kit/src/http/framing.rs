//! Where the messages of one connection begin and end, followed beside hyper on the same bytes.
//!
//! hyper settles some doubts before anybody sees the request: of two equal Content-Length lines it
//! keeps one, beside Transfer-Encoding it drops Content-Length, of a target it cuts the fragment.
//! Another server on the way may settle them otherwise, and then both disagree about where the next
//! request begins. So the bytes are looked at before hyper has them:
//!
//! | checked here, on the bytes | checked by hyper | checked in [`super::strict`] |
//! |---|---|---|
//! | one Content-Length, none beside Transfer-Encoding | lengths are digits and fit 64 bits, codings end in chunked | the coding is exactly `chunked` |
//! | no `#` in the target | characters of lines and fields | Host, escapes, repeated fields, Expect |
//! | major version 1, size of a chunk | syntax of chunks, size of the head | |
//!
//! Invariants: bounded state and no allocation; every doubt ends the connection, so a message that
//! is followed here has one meaning only; a request that hyper finds where none was seen to begin is
//! refused. What hyper refuses by itself need not be right here: nothing follows it.

use super::error::{ErrorCode, Problem};
use crate::limits::CHUNK_BYTES_MAX;

/// Bytes kept of a line that comes in pieces: more than any Content-Length line that is taken.
const LINE_START_BYTES: usize = 64;

/// Bytes of `HTTP/1.1`.
const VERSION_BYTES: usize = 8;

/// Why a request is refused although hyper takes it, or how hyper's refusal is to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Content-Length is there twice, also with the same value.
    TwoLengths,
    /// Content-Length is there beside Transfer-Encoding.
    LengthAndCoding,
    /// Content-Length is not plain digits, or longer than any that makes sense.
    BadLength,
    /// The target has a fragment.
    Fragment,
    /// The major version is not 1.
    Version,
    /// hyper has found a request where none begins.
    Unseen,
}

impl Fault {
    /// The refusal. All of them end the connection.
    pub(super) fn problem(self) -> Problem {
        let (code, detail) = match self {
            Self::TwoLengths => (ErrorCode::BadFraming, "Content-Length is given twice"),
            Self::LengthAndCoding => {
                (ErrorCode::BadFraming, "Content-Length and Transfer-Encoding together")
            }
            Self::BadLength => (ErrorCode::BadFraming, "Content-Length is not a plain number"),
            Self::Fragment => (ErrorCode::BadRequest, "a request target has no '#'; escape it"),
            Self::Version => (ErrorCode::VersionNotSupported, "HTTP/1.1 is spoken here"),
            Self::Unseen => (ErrorCode::BadFraming, "it is in doubt where this request begins"),
        };
        Problem::new(code, detail).close()
    }
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    RequestLine,
    Fields,
    /// So many bytes of a body of known length.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk and its line end.
    Chunk(u64),
    Trailers,
    /// Nothing more is looked at: the connection ends here.
    Lost,
}

/// The request line so far.
#[derive(Debug, Clone, Copy, Default)]
struct RequestLine {
    bytes: usize,
    spaces: usize,
    fragment: bool,
    /// The beginning of the last word, and its whole length.
    word: [u8; VERSION_BYTES],
    word_bytes: usize,
}

/// The beginning of a line that is not whole yet.
#[derive(Debug, Clone, Copy)]
struct LineStart {
    bytes: [u8; LINE_START_BYTES],
    /// Of the whole line so far, which may be more than is kept.
    seen: usize,
}

/// The size of a chunk so far.
#[derive(Debug, Clone, Copy, Default)]
struct ChunkSize {
    bytes: u64,
    /// The digits are over; what follows is an extension.
    extended: bool,
}

/// The messages of one connection, as far as they have come.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    line: RequestLine,
    start: LineStart,
    chunk: ChunkSize,
    lengths: u32,
    length: u64,
    coded: bool,
    /// Heads that are complete.
    heads: u64,
    /// Requests that hyper has found.
    requests: u64,
    /// The first fault, and how many heads were complete before it.
    fault: Option<(u64, Fault)>,
    absurd_chunk: bool,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            at: At::RequestLine,
            line: RequestLine::default(),
            start: LineStart::new(),
            chunk: ChunkSize::default(),
            lengths: 0,
            length: 0,
            coded: false,
            heads: 0,
            requests: 0,
            fault: None,
            absurd_chunk: false,
        }
    }

    /// Follows `bytes`, which hyper gets next.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::RequestLine => self.request_line(bytes),
                At::Fields => self.field(bytes),
                At::Body(left) => self.skip(bytes, left, At::RequestLine, At::Body),
                At::ChunkSize => self.chunk_size(bytes),
                At::Chunk(left) => self.skip(bytes, left, At::ChunkSize, At::Chunk),
                At::Trailers => self.trailer(bytes),
                At::Lost => return,
            };
        }
    }

    /// hyper has found the next request; what speaks against taking it.
    pub(super) fn request_begins(&mut self) -> Option<Fault> {
        let fault = if self.heads > self.requests {
            self.fault_of_next()
        } else {
            self.at = At::Lost;
            Some(Fault::Unseen)
        };
        self.requests += 1;
        fault
    }

    /// The fault of the request that hyper is about to find or to refuse.
    pub(super) fn fault_of_next(&self) -> Option<Fault> {
        self.fault.filter(|(head, _)| *head == self.requests).map(|(_, fault)| fault)
    }

    /// Whether the request line that hyper is about to find or to refuse is complete.
    pub(super) fn line_done(&self) -> bool {
        self.heads > self.requests || self.at != At::RequestLine
    }

    /// Whether a chunk has announced more than any body may have: nothing more need be read.
    pub(super) fn has_absurd_chunk(&self) -> bool {
        self.absurd_chunk
    }

    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert((self.heads, fault));
    }

    fn request_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let line = &mut self.line;
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' => {
                    // Empty lines before a request are skipped by hyper too.
                    if line.bytes > 0 {
                        self.request_line_ends();
                    }
                    return &bytes[index + 1..];
                }
                // hyper refuses one that does not end a line.
                b'\r' => continue,
                b' ' => {
                    line.spaces += 1;
                    line.word_bytes = 0;
                }
                _ => {
                    line.fragment |= byte == b'#' && line.spaces == 1;
                    if let Some(kept) = line.word.get_mut(line.word_bytes) {
                        *kept = byte;
                    }
                    line.word_bytes += 1;
                }
            }
            line.bytes += 1;
        }
        &[]
    }

    fn request_line_ends(&mut self) {
        let line = std::mem::take(&mut self.line);
        let is_version = line.spaces >= 2 && line.word_bytes == VERSION_BYTES;
        if is_version
            && let [b'H', b'T', b'T', b'P', b'/', major, b'.', _] = line.word
            && major.is_ascii_digit()
            && major != b'1'
        {
            self.blame(Fault::Version);
        }
        if line.fragment {
            self.blame(Fault::Fragment);
        }
        self.at = At::Fields;
    }

    fn field<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.start.push(bytes);
            return &[];
        };
        let (piece, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.start.seen == 0 {
            self.field_line(piece, piece.len());
        } else {
            self.start.push(piece);
            let start = std::mem::replace(&mut self.start, LineStart::new());
            self.field_line(start.kept(), start.seen);
        }
        rest
    }

    /// One line without its LF; `whole` is its length where only the beginning was kept.
    fn field_line(&mut self, line: &[u8], whole: usize) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.first() {
            None => return self.head_ends(),
            Some(b'c' | b'C' | b't' | b'T') => {}
            Some(_) => return,
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            match digits(value.trim_ascii()) {
                Some(length) if whole <= LINE_START_BYTES => self.length = length,
                _ => self.blame(Fault::BadLength),
            }
        }
    }

    fn head_ends(&mut self) {
        if self.lengths > 1 {
            self.blame(Fault::TwoLengths);
        }
        if self.coded && self.lengths > 0 {
            self.blame(Fault::LengthAndCoding);
        }
        self.heads += 1;
        self.at = if self.fault.is_some() {
            At::Lost
        } else if self.coded {
            At::ChunkSize
        } else if self.length > 0 {
            At::Body(self.length)
        } else {
            At::RequestLine
        };
        (self.coded, self.lengths, self.length) = (false, 0, 0);
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        then: At,
        still: impl Fn(u64) -> At,
    ) -> &'a [u8] {
        let came = bytes.len() as u64;
        if came < left {
            self.at = still(left - came);
            return &[];
        }
        self.at = then;
        // `left` is at most the length of a slice here.
        bytes.get(usize::try_from(left).unwrap_or(usize::MAX)..).unwrap_or_default()
    }

    fn chunk_size<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for (index, &byte) in bytes.iter().enumerate() {
            let digit = char::from(byte).to_digit(16).filter(|_| !self.chunk.extended);
            match (byte, digit) {
                (b'\n', _) => {
                    let chunk = std::mem::take(&mut self.chunk);
                    self.at = match chunk.bytes {
                        0 => At::Trailers,
                        // The line end after the data is a part of it here.
                        size => At::Chunk(size + 2),
                    };
                    return &bytes[index + 1..];
                }
                (_, Some(digit)) => {
                    // Bounded below after every digit, so this cannot overflow.
                    self.chunk.bytes = self.chunk.bytes * 16 + u64::from(digit);
                    if self.chunk.bytes > CHUNK_BYTES_MAX {
                        self.absurd_chunk = true;
                        self.at = At::Lost;
                        return &[];
                    }
                }
                (_, None) => self.chunk.extended = true,
            }
        }
        &[]
    }

    fn trailer<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.start.push(bytes);
            return &[];
        };
        self.start.push(&bytes[..end]);
        let start = std::mem::replace(&mut self.start, LineStart::new());
        if matches!(start.kept(), [] | [b'\r']) {
            self.at = At::RequestLine;
        }
        &bytes[end + 1..]
    }
}

impl LineStart {
    const fn new() -> Self {
        Self { bytes: [0; LINE_START_BYTES], seen: 0 }
    }

    fn push(&mut self, piece: &[u8]) {
        let room = self.bytes.get_mut(self.seen..).unwrap_or_default();
        let kept = room.len().min(piece.len());
        room[..kept].copy_from_slice(&piece[..kept]);
        self.seen += piece.len();
    }

    fn kept(&self) -> &[u8] {
        &self.bytes[..self.seen.min(LINE_START_BYTES)]
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
