//! One MaxMind DB file: opened, checked, looked up.
//!
//! Format: MaxMind DB 2.0 (<https://maxmind.github.io/MaxMind-DB/>).

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    io::Read as _,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};

use crate::files;

use super::{
    Source,
    attribution::BUILT_IN,
    record::{Fields, Record},
};

/// DB-IP Lite: networks to countries. Both are made by `cargo xtask geodata`.
const DEFAULT_COUNTRY: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/country.mmdb.zst"));
/// RouteViews, NRO and DB-IP Lite: networks to autonomous systems.
const DEFAULT_OPERATORS: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/operators.mmdb.zst"));

/// A larger file is no geo database.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Decoded records kept; forgotten together when there are more.
const MAX_CACHED_RECORDS: usize = 1 << 16;
/// First bytes of a gzip file (RFC 1952), the form in which vendors hand out their databases.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What a database is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Networks to countries.
    Country,
    /// Networks to autonomous systems.
    Operators,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Country => "country",
            Self::Operators => "operators",
        })
    }
}

/// A database that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the {role} database {name} {problem}")]
pub struct Error {
    /// What it was to be used for.
    pub role: Role,
    /// Its path, or which default it is.
    pub name: String,
    /// What is wrong, and what to do.
    pub problem: Problem,
}

/// What is wrong with a database, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file can't be read.
    #[error(
        "can't be read ({0}); check the path in the configuration, or leave it out to use the \
         built-in database"
    )]
    Read(#[source] io::Error),
    /// The file is an archive.
    #[error("is compressed; unpack it first (`gunzip`, or `tar xf` for a .tar.gz file)")]
    Compressed,
    /// The content is damaged, truncated or something else altogether.
    #[error("is damaged or no MaxMind DB file ({0}); download it again")]
    Damaged(String),
    /// The records are about something else.
    #[error(
        "is sound but has no {role} in its records (its type is `{kind}`); put a database of the \
         right kind there"
    )]
    WrongKind {
        /// What was looked for.
        role: Role,
        /// The type in the file's metadata.
        kind: String,
    },
}

/// A database in use, for metrics and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it is used for.
    pub role: Role,
    /// Its own name for its type.
    pub kind: String,
    /// When it was built, Unix time in seconds.
    pub build_time: u64,
    /// The file it was read from, or `built-in`.
    pub source: String,
    /// SHA-256 of the (decompressed) file, lower-case hex.
    pub sha256: String,
}

/// What a lookup found.
#[derive(Debug)]
pub(super) struct Match {
    /// The network that the database keeps together, with or without a record; `None` where the
    /// database does not cover the address family.
    pub(super) network: Option<IpNet>,
    /// The record, if there is one.
    pub(super) record: Option<Record>,
}

pub(super) struct Database {
    reader: Reader<Vec<u8>>,
    source: Source,
    sha256: String,
    has_countries: bool,
    has_operators: bool,
    /// By offset in the data section: many networks share a record, and so share its text.
    records: Mutex<HashMap<usize, Record>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.reader.metadata().database_type;
        f.debug_struct("Database").field("source", &self.source).field("kind", kind).finish()
    }
}

impl Database {
    /// Reads the whole database and walks it once, so that damage shows now and not at a lookup.
    ///
    /// A file is read into memory, not mapped: an update in place of a mapped file would end the
    /// daemon with SIGBUS.
    pub(super) fn open(role: Role, source: &Source) -> Result<Self, Error> {
        let error = |problem| Error { role, name: name(source), problem };
        let bytes = match (source, role) {
            (Source::File(path), _) => read(path).map_err(|e| error(Problem::Read(e)))?,
            (Source::Default, Role::Country) => unpack(DEFAULT_COUNTRY).map_err(error)?,
            (Source::Default, Role::Operators) => unpack(DEFAULT_OPERATORS).map_err(error)?,
        };
        let database = Self::from_bytes(bytes, source.clone()).map_err(error)?;
        database.check_role(role, source)?;
        Ok(database)
    }

    pub(super) fn from_bytes(bytes: Vec<u8>, source: Source) -> Result<Self, Problem> {
        if bytes.starts_with(&GZIP_MAGIC) {
            return Err(Problem::Compressed);
        }
        let digest = Sha256::digest(&bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let reader = Reader::from_source(bytes).map_err(|e| damaged(&e))?;
        let (has_countries, has_operators) = walk(&reader)?;
        let records = Mutex::default();
        Ok(Self { reader, source, sha256, has_countries, has_operators, records })
    }

    /// Refuses a database that has nothing to say in this role.
    pub(super) fn check_role(&self, role: Role, source: &Source) -> Result<(), Error> {
        let fits = match role {
            Role::Country => self.has_countries,
            Role::Operators => self.has_operators,
        };
        if fits {
            return Ok(());
        }
        let kind = self.reader.metadata().database_type.escape_debug().take(64).collect();
        Err(Error { role, name: name(source), problem: Problem::WrongKind { role, kind } })
    }

    /// The record of an address, and its network. An IPv4-only database knows no IPv6 address.
    pub(super) fn find(&self, address: IpAddr) -> Match {
        let Ok(found) = self.reader.lookup(address) else {
            return Match { network: None, record: None };
        };
        let network = found.network().ok();
        let network = network.and_then(|n| same_family(n.ip(), n.prefix(), address));
        let record = found.offset().and_then(|offset| {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(record) = records.get(&offset) {
                return Some(record.clone());
            }
            // The walk at opening decoded every record; an error here can't be, and is no entry.
            let record = Record::from(found.decode::<Fields<'_>>().ok()??);
            if records.len() >= MAX_CACHED_RECORDS {
                records.clear();
            }
            records.insert(offset, record.clone());
            Some(record)
        });
        Match { network, record }
    }

    pub(super) fn status(&self, role: Role) -> Status {
        let metadata = self.reader.metadata();
        Status {
            role,
            kind: metadata.database_type.clone(),
            build_time: metadata.build_epoch,
            source: match &self.source {
                Source::Default => BUILT_IN.to_owned(),
                Source::File(path) => path.display().to_string(),
            },
            sha256: self.sha256.clone(),
        }
    }
}

fn name(source: &Source) -> String {
    match source {
        Source::Default => "that is built in".to_owned(),
        Source::File(path) => path.display().to_string(),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    files::read(path, MAX_FILE_BYTES)
}

fn unpack(compressed: &[u8]) -> Result<Vec<u8>, Problem> {
    let damaged = |e: &dyn fmt::Display| Problem::Damaged(e.to_string());
    let mut decoder = StreamingDecoder::new(compressed).map_err(|e| damaged(&e))?;
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn damaged(error: &MaxMindDbError) -> Problem {
    Problem::Damaged(error.to_string())
}

/// Visits every network and decodes every record once; says whether there are countries and
/// operators. `Reader::verify` would also refuse files without a description, as DB-IP's are.
fn walk(reader: &Reader<Vec<u8>>) -> Result<(bool, bool), Problem> {
    // A tree of n nodes has n + 1 leaves; more means that nodes are shared in a loop or a lattice,
    // which would keep us here for ever.
    let most = u64::from(reader.metadata().node_count) * 3;
    let options = WithinOptions::default().include_networks_without_data();
    let (mut has_countries, mut has_operators) = (false, false);
    let mut decoded = HashSet::<_, RandomState>::default();
    for (visited, found) in (0..).zip(reader.networks(options).map_err(|e| damaged(&e))?) {
        if visited > most {
            return Err(Problem::Damaged("its search tree runs in a loop".to_owned()));
        }
        let found = found.map_err(|e| damaged(&e))?;
        if found.offset().is_some_and(|offset| decoded.insert(offset))
            && let Some(fields) = found.decode::<Fields<'_>>().map_err(|e| damaged(&e))?
        {
            let record = Record::from(fields);
            has_countries |= record.country.is_some();
            has_operators |= record.has_operator();
        }
    }
    Ok((has_countries, has_operators))
}

/// The network in the address's family. An IPv4 address can end in a gap of an IPv6 tree that is
/// wider than all of IPv4.
fn same_family(ip: IpAddr, length: u8, address: IpAddr) -> Option<IpNet> {
    match (ip, address) {
        (IpAddr::V6(_), IpAddr::V4(_)) => IpNet::new(address, 0).ok().map(|all| all.trunc()),
        _ => IpNet::new(ip, length).ok(),
    }
}
