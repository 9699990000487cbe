//! Compressed captures: gzip, zstd, xz and lz4, of as many parts as there are.
//!
//! Whatever a file says, its decompression takes a bounded amount of memory, and one octet after the other is handed
//! out: how much a small file becomes is bounded by who reads it.

use std::{
    fmt,
    io::{self, BufRead, BufReader, ErrorKind, Read},
};

use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Octets that tell all formats apart.
pub(super) const START: usize = 6;

/// What files begin with: RFC 1952, RFC 8878, the .xz file format 1.2, the LZ4 frame format 1.6.
const MAGIC: [(Compression, &[u8]); 4] = [
    (Compression::Gzip, &[0x1f, 0x8b]),
    (Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd]),
    (Compression::Xz, &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    (Compression::Lz4, &[0x04, 0x22, 0x4d, 0x18]),
];
/// Archives, and formats that are not read.
const OTHERS: [(&str, &[u8]); 5] = [
    ("bzip2", b"BZh"),
    ("compress", &[0x1f, 0x9d]),
    ("7-Zip", &[b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c]),
    ("RAR", b"Rar!"),
    ("ZIP", b"PK\x03\x04"),
];
/// The last three octets of what begins a frame to be passed over, in zstd as in lz4; the first is 0x50 to 0x5f.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Largest window of zstd in octets: what `zstd --long` uses, and what zstd itself takes unless told otherwise.
const MAX_ZSTD_WINDOW: u64 = 128 << 20;
/// Most memory for xz in KiB; `xz -9` needs 65 MiB.
const MAX_XZ_KIB: u32 = 128 << 10;
/// Octets that are asked of the file at once.
const CHUNK: usize = 64 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Xz,
    Lz4,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
        })
    }
}

impl Compression {
    /// By the first octets of a file.
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        let is_skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == SKIPPABLE;
        // Both formats have them; pzstd begins files with one.
        let found = MAGIC.iter().find(|(_, magic)| start.starts_with(magic));
        found.map(|(kind, _)| *kind).or(is_skippable.then_some(Self::Zstd))
    }

    /// The name of a format that is not read, by the first octets of a file.
    pub(super) fn unread(start: &[u8]) -> Option<&'static str> {
        OTHERS.iter().find(|(_, magic)| start.starts_with(magic)).map(|(name, _)| *name)
    }
}

/// The octets of a compressed file.
pub(super) struct Decompressed {
    kind: Compression,
    state: State,
    /// Whether a part has been read.
    is_begun: bool,
}

/// Where in the file.
enum State {
    Between(Source),
    Within(Decoder),
    End,
}

enum Decoder {
    Gzip(Box<GzDecoder<Source>>),
    Zstd(Box<StreamingDecoder<Source, FrameDecoder>>),
    Xz(Box<XzReader<Source>>),
    Lz4(Box<Lz4Decoder<Source>>),
}

impl Decompressed {
    pub(super) fn new(kind: Compression, reader: Box<dyn Read>) -> Self {
        let reader = BufReader::with_capacity(CHUNK, reader);
        let source = Source { head: Vec::new(), reader, has_ended: false };
        Self { kind, state: State::Between(source), is_begun: false }
    }

    /// The decoder of the next part; `None` at the end of the file.
    fn next(&mut self, mut source: Source) -> io::Result<State> {
        if self.is_begun {
            source.skip_zeros()?;
        }
        let mut start = source.peek(START)?;
        while start.len() >= 4 && start[1..4] == SKIPPABLE && start[0] & 0xf0 == 0x50 {
            let mut header = [0; 8];
            source.read_exact(&mut header)?;
            let [.., a, b, c, d] = header;
            let len = u64::from(u32::from_le_bytes([a, b, c, d]));
            if io::copy(&mut source.by_ref().take(len), &mut io::sink())? < len {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            start = source.peek(START)?;
        }
        if start.is_empty() {
            return Ok(State::End);
        }
        if Compression::of(&start) != Some(self.kind) && self.is_begun {
            let what = format!("behind what {} compressed lies something else", self.kind);
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        self.is_begun = true;
        Ok(State::Within(match self.kind {
            Compression::Gzip => Decoder::Gzip(Box::new(GzDecoder::new(source))),
            Compression::Zstd => {
                let decoder = StreamingDecoder::new_with_max_window_size(source, MAX_ZSTD_WINDOW);
                Decoder::Zstd(Box::new(decoder.map_err(io::Error::other)?))
            }
            Compression::Xz => {
                Decoder::Xz(Box::new(XzReader::new_mem_limit(source, false, MAX_XZ_KIB)))
            }
            Compression::Lz4 => Decoder::Lz4(Box::new(Lz4Decoder::new(source))),
        }))
    }
}

impl Read for Decompressed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::End) {
                State::End => return Ok(0),
                State::Between(source) => self.next(source)?,
                State::Within(mut decoder) => {
                    let read = decoder.read(into);
                    let has_ended = decoder.source().has_ended;
                    match read {
                        // Not each decoder says that its input ended too early.
                        Ok(0) if has_ended => return Err(ErrorKind::UnexpectedEof.into()),
                        Err(_) if has_ended => return Err(ErrorKind::UnexpectedEof.into()),
                        Err(error) => return Err(error),
                        Ok(0) if into.is_empty() => return Ok(0),
                        Ok(0) => State::Between(decoder.finish()?),
                        Ok(read) => {
                            self.state = State::Within(decoder);
                            return Ok(read);
                        }
                    }
                }
            }
        }
    }
}

impl Decoder {
    fn source(&self) -> &Source {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
            Self::Xz(decoder) => decoder.inner(),
            Self::Lz4(decoder) => decoder.get_ref(),
        }
    }

    /// What lies behind the part, which has been read to its end.
    fn finish(self) -> io::Result<Source> {
        Ok(match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => {
                let (source, decoder) = decoder.into_parts();
                // The only one that leaves it to others.
                let written = decoder.get_checksum_from_data();
                if written.is_some() && written != decoder.get_calculated_checksum() {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the checksum is wrong"));
                }
                source
            }
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Lz4(decoder) => decoder.into_inner(),
        })
    }
}

impl Read for Decoder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
            Self::Xz(decoder) => decoder.read(into),
            Self::Lz4(decoder) => decoder.read(into),
        }
    }
}

/// The compressed octets.
struct Source {
    /// Those that were looked at beforehand.
    head: Vec<u8>,
    reader: BufReader<Box<dyn Read>>,
    /// Whether more was asked for than there is.
    has_ended: bool,
}

impl Source {
    /// The next octets, which stay where they are; fewer at the end.
    fn peek(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        self.take(len as u64).read_to_end(&mut octets)?;
        self.head.splice(..0, octets.iter().copied());
        self.has_ended = false;
        Ok(octets)
    }

    /// Passes over zeros, with which tapes and block devices fill up.
    fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let octets = self.fill_buf()?;
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            let is_over = zeros == 0 || zeros < octets.len();
            self.consume(zeros);
            if is_over {
                return Ok(());
            }
        }
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.head.is_empty() {
            return Ok(&self.head);
        }
        let octets = self.reader.fill_buf()?;
        self.has_ended = octets.is_empty();
        Ok(octets)
    }

    fn consume(&mut self, len: usize) {
        if self.head.is_empty() {
            self.reader.consume(len);
        } else {
            self.head.drain(..len);
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}
