//! How an epoch lies in the ledger until it is folded: a version octet, then postcard.
//!
//! Self-contained but for devices and databases, which are numbers of their tables: what is attributed and
//! over what is named once in the record, and rows name it by place.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::LedgerError;
use crate::{
    model::{Attribution, Country, EpochBooks, InterfaceCounters, Protocol},
    state::{FarEnd, Traffic},
};

/// Of this form; it grows with every change.
const VERSION: u8 = 1;

/// One epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) ended: u64,
    pub(super) books: EpochBooks,
    pub(super) events: Vec<(String, u64)>,
    /// Cumulative.
    pub(super) interfaces: Vec<InterfaceCounters>,
    pub(super) databases: Databases,
    pub(super) places: Vec<Place>,
    pub(super) protocols: Vec<String>,
    pub(super) rows: Vec<RecordRow>,
}

/// Numbers in the table of databases; 0 for none.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Databases {
    pub(super) country: i64,
    pub(super) operators: i64,
}

/// An [`Attribution`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    country: Country,
    asn: u32,
    operator: String,
    prefix: Option<IpNet>,
    network: String,
    watched: bool,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordRow {
    pub(super) device: i64,
    pub(super) place: u32,
    pub(super) protocol: u16,
    pub(super) far: Option<(Option<IpAddr>, u16, Option<u16>)>,
    pub(super) traffic: Traffic,
    pub(super) first: u64,
}

impl Record {
    pub(super) fn encode(&self) -> Result<Vec<u8>, LedgerError> {
        let mut octets = Vec::with_capacity(64 * self.rows.len() + 256);
        octets.push(VERSION);
        Ok(postcard::to_extend(self, octets)?)
    }

    pub(super) fn decode(octets: &[u8]) -> Result<Self, LedgerError> {
        match octets.split_first() {
            Some((&VERSION, rest)) => Ok(postcard::from_bytes(rest)?),
            _ => Err(LedgerError::Record(postcard::Error::DeserializeBadEncoding)),
        }
    }
}

impl From<&Attribution> for Place {
    fn from(attribution: &Attribution) -> Self {
        Self {
            country: attribution.country,
            asn: attribution.asn,
            operator: attribution.operator.to_string(),
            prefix: attribution.prefix,
            network: attribution.network.to_string(),
            watched: attribution.watched,
        }
    }
}

impl From<&Place> for Attribution {
    fn from(place: &Place) -> Self {
        Self {
            country: place.country,
            asn: place.asn,
            operator: place.operator.as_str().into(),
            prefix: place.prefix,
            network: place.network.as_str().into(),
            watched: place.watched,
        }
    }
}

impl RecordRow {
    pub(super) fn far(&self) -> Option<FarEnd> {
        self.far.map(|(address, port, vlan)| FarEnd { address, port, vlan })
    }
}

/// A protocol by its label in a record.
pub(super) fn protocol(label: &str) -> Result<Protocol, LedgerError> {
    Protocol::from_label(label).ok_or(LedgerError::Record(postcard::Error::DeserializeBadEncoding))
}
