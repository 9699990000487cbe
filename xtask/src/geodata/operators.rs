//! Operators: address ranges in CSV become a MaxMind DB.
//!
//! CSV: `first,last,number,name`, both addresses inclusive, names quoted where they contain a comma
//! (RFC 4180). Database: MaxMind DB 2.0, IPv4 under `::/96`, the records as GeoLite2-ASN has them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use maxminddb::Reader;
use mmdb_writer::{Ipv4Aliasing, Value, Writer};
use serde::Deserialize;

/// The type in the metadata. The daemon knows by `ASN` whose attribution to show.
const DATABASE_TYPE: &str = "ip-location-db-ASN";
const DESCRIPTION: &str = "RouteViews, NRO and DB-IP, merged by ip-location-db, CC BY 4.0";

/// Addresses of one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    first: IpAddr,
    last: IpAddr,
    asn: u32,
    name: String,
}

/// A record of the database.
#[derive(Debug, Deserialize)]
struct Record {
    autonomous_system_number: u32,
    autonomous_system_organization: String,
}

/// Reads the ranges of one family. Where a range begins inside the one before it (the source has a
/// few of these), it wins, and the one before it ends there; each is reported on standard output.
///
/// # Errors
/// A line that is malformed, or ranges that are out of order, with the line's number.
pub(super) fn parse(csv: &str) -> Result<Vec<Range>> {
    let mut ranges: Vec<Range> = Vec::new();
    for (number, line) in (1..).zip(csv.lines()) {
        let range = parse_line(line).with_context(|| format!("line {number}: `{line}`"))?;
        let in_order = range.first <= range.last
            && ranges.last().is_none_or(|p| p.first < range.first && p.last < range.last);
        ensure!(in_order, "line {number}: ranges are out of order: `{line}`");
        if let Some(previous) = ranges.last_mut().filter(|p| p.last >= range.first) {
            println!("line {number} cuts the range before it short: `{line}`");
            previous.last = before(range.first)?;
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn parse_line(line: &str) -> Result<Range> {
    let mut fields = line.splitn(4, ',');
    let mut next = || fields.next().context("four fields expected");
    let (first, last) = (next()?.parse()?, next()?.parse()?);
    let asn = next()?.parse()?;
    let name = unquote(next()?).context("stray quote or comma in the name")?;
    Ok(Range { first, last, asn, name })
}

/// The value of the last field of a line.
fn unquote(field: &str) -> Option<String> {
    match field.strip_prefix('"') {
        None => (!field.contains(['"', ','])).then(|| field.to_owned()),
        Some(rest) => {
            let inner = rest.strip_suffix('"')?;
            let alone = inner.replace("\"\"", "").contains('"');
            (!alone).then(|| inner.replace("\"\"", "\""))
        }
    }
}

/// Makes the database; `made` is the time since the Unix epoch that it bears.
pub(super) fn database(ranges: &[Range], made: Duration) -> Result<Vec<u8>> {
    // No aliases: the daemon unmaps addresses itself, and 2001::/32 has an operator of its own.
    let mut writer = Writer::builder(DATABASE_TYPE)
        .description(&[("en", DESCRIPTION)])
        .ipv4_aliasing(Ipv4Aliasing::Disabled)
        .build_epoch(UNIX_EPOCH + made)
        .build();
    for Range { first, last, asn, name } in ranges {
        let record = Value::map([
            ("autonomous_system_number", Value::from(*asn)),
            ("autonomous_system_organization", Value::from(name.as_str())),
        ]);
        writer.insert_range(*first, *last, &record)?;
    }
    Ok(writer.to_bytes()?)
}

/// Reads the whole database back and compares it with the ranges, both ways.
pub(super) fn verify(database: &[u8], ranges: &[Range]) -> Result<()> {
    let reader = Reader::from_source(database)?;
    reader.verify()?;
    let mut found = Vec::new();
    for network in reader.networks(Default::default())? {
        let network = network?;
        let record: Record = network.decode()?.context("a network without a record")?;
        let (first, last) = bounds(network.network()?.ip(), network.network()?.prefix());
        found.push(Range {
            first,
            last,
            asn: record.autonomous_system_number,
            name: record.autonomous_system_organization,
        });
    }
    let (found, wanted) = (joined(&found), joined(ranges));
    for (found, wanted) in found.iter().zip(&wanted) {
        ensure!(found == wanted, "the database has {found:?} where the source has {wanted:?}");
    }
    ensure!(found.len() == wanted.len(), "the database ends before or after the source");
    Ok(())
}

fn bounds(first: IpAddr, length: u8) -> (IpAddr, IpAddr) {
    let last = match first {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() | host).into()
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() | host).into()
        }
    };
    (first, last)
}

/// Neighbours of the same operator as one range, in order.
fn joined(ranges: &[Range]) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(previous)
                if after(previous.last) == Some(range.first)
                    && (previous.asn, &previous.name) == (range.asn, &range.name) =>
            {
                previous.last = range.last;
            }
            _ => joined.push(range.clone()),
        }
    }
    joined
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn before(address: IpAddr) -> Result<IpAddr> {
    let before = match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    };
    before.with_context(|| format!("nothing lies before {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "\
1.0.0.0,1.0.0.255,13335,\"Cloudflare, Inc.\"
1.0.4.0,1.0.7.255,38803,Gtelecom Pty Ltd
1.0.128.0,1.0.196.255,23969,\"the \"\"TOT\"\" company\"
1.0.197.0,1.0.197.0,23969,\"the \"\"TOT\"\" company\"
2001::,2001::ffff:ffff:ffff:ffff:ffff:ffff,6939,Hurricane Electric LLC
2001:4:112::,2001:4:112:ffff:ffff:ffff:ffff:ffff,112,DNS-OARC
";

    #[test]
    fn what_is_written_is_read_back() {
        let ranges = parse(CSV).unwrap();
        assert_eq!(ranges[0].name, "Cloudflare, Inc.");
        assert_eq!(ranges[2].name, "the \"TOT\" company");
        let bytes = database(&ranges, Duration::from_secs(1_781_722_800)).unwrap();
        assert_eq!(bytes, database(&ranges, Duration::from_secs(1_781_722_800)).unwrap());
        verify(&bytes, &ranges).unwrap();

        // A range too many, one too few, one address more, another name: each is found.
        assert!(verify(&bytes, &ranges[1..]).is_err());
        assert!(verify(&bytes, &ranges[..ranges.len() - 1]).is_err());
        let mut wider = ranges.clone();
        wider[0].last = "1.0.1.0".parse().unwrap();
        assert!(verify(&bytes, &wider).is_err());
        let mut renamed = ranges;
        renamed[1].name.push('!');
        assert!(verify(&bytes, &renamed).is_err());
    }

    #[test]
    fn an_overlap_goes_to_the_range_that_begins_in_it() {
        let ranges = parse("1.0.0.0,1.0.0.9,1,A\n1.0.0.8,1.0.0.20,2,B").unwrap();
        let found = ranges.iter().map(|r| (r.first.to_string(), r.last.to_string(), r.asn));
        let wanted = [("1.0.0.0", "1.0.0.7", 1), ("1.0.0.8", "1.0.0.20", 2)];
        assert!(found.eq(wanted.map(|(first, last, asn)| (first.into(), last.into(), asn))));
    }

    #[test]
    fn bad_lines_are_named() {
        for (csv, why) in [
            ("1.0.0.0,1.0.0.255,13335", "four fields"),
            ("1.0.0.0,1.0.0.x,13335,A", "address"),
            ("1.0.0.0,1.0.0.255,AS1,A", "digit"),
            ("1.0.0.0,1.0.0.255,1,\"A", "stray"),
            ("1.0.0.0,1.0.0.255,1,\"A\"B\"", "stray"),
            ("1.0.0.0,1.0.0.255,1,A,B", "stray"),
            ("1.0.0.9,1.0.0.1,1,A", "out of order"),
            ("1.0.0.0,1.0.0.9,1,A\n1.0.0.0,1.0.0.10,1,B", "line 2"),
            ("1.0.0.0,1.0.0.9,1,A\n1.0.0.5,1.0.0.9,1,B", "line 2"),
            ("1.0.0.8,1.0.0.9,1,A\n1.0.0.0,1.0.0.5,1,B", "line 2"),
        ] {
            let error = format!("{:#}", parse(csv).unwrap_err());
            assert!(error.contains(why), "{csv}: {error}");
        }
    }
}
