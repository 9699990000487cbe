//! The pcap format (draft-ietf-opsawg-pcap): a header, then records.

use pcap_parser::{
    LegacyPcapBlock, PcapError,
    nom::{Err, IResult, Needed},
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::{Fault, Found, MAX_FRAME, input::Input, linktype::LinkType};

/// The only major version there is.
const VERSION: u16 = 2;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Of the variant of Linux's first ring buffers, which tells the interface besides.
const MODIFIED_RECORD_HEADER: usize = 24;

/// The part of the network field that is the link type; above it stands the length of the FCS.
const LINK_TYPE: u32 = 0x03ff_ffff;

type ParseRecord = fn(&[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>>;

pub(super) struct Pcap {
    parse: ParseRecord,
    record_header: usize,
    /// What a fraction of a second counts, in nanoseconds.
    resolution: u64,
    link: LinkType,
}

impl Pcap {
    /// Reads the header, whose first four octets are in the input.
    pub(super) fn new(input: &mut Input) -> Result<Self, Fault> {
        let start = input.octets().to_vec();
        if matches!(parse_pcap_header(&start), Err(Err::Error(_) | Err::Failure(_))) {
            return Err(Fault::NoCapture(start));
        }
        input.more(FILE_HEADER - start.len())?;
        let Ok((_, header)) = parse_pcap_header(input.octets()) else {
            return Err(input.damaged("the header can't be read"));
        };
        if header.version_major != VERSION {
            return Err(input.damaged(format!("a header of version {}", header.version_major)));
        }
        let link = LinkType::new(header.network.0.cast_unsigned() & LINK_TYPE);
        if let Some(name) = link.unread() {
            return Err(Fault::LinkType { interface: String::new(), link: name, packets: 0 });
        }
        let (parse, record_header): (ParseRecord, _) = if header.is_modified_format() {
            (parse_pcap_frame_modified, MODIFIED_RECORD_HEADER)
        } else if header.is_bigendian() {
            (parse_pcap_frame_be, RECORD_HEADER)
        } else {
            (parse_pcap_frame, RECORD_HEADER)
        };
        let resolution = if header.is_nanosecond_precision() { 1 } else { 1000 };
        Ok(Self { parse, record_header, resolution, link })
    }

    pub(super) fn read(&mut self, input: &mut Input) -> Result<Option<Found>, Fault> {
        if !input.advance()? {
            return Ok(None);
        }
        input.more(self.record_header)?;
        // The parser says how many octets of the frame it needs.
        let needed = match (self.parse)(input.octets()) {
            Err(Err::Incomplete(Needed::Size(needed))) => needed.get(),
            _ => 0,
        };
        if needed > MAX_FRAME as usize {
            let what = format!("a frame of {needed} octets; none is longer than {MAX_FRAME}");
            return Err(input.damaged(what));
        }
        input.more(needed)?;
        let Ok((_, record)) = (self.parse)(input.octets()) else {
            return Err(input.damaged("the record can't be read"));
        };
        let seconds = u64::from(record.ts_sec) * 1_000_000_000;
        Ok(Some(Found {
            octets: self.record_header..self.record_header + needed,
            wire_len: record.origlen,
            time: Some(seconds + u64::from(record.ts_usec) * self.resolution),
            link: self.link,
        }))
    }
}
