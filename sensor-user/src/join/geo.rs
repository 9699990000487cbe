//! Country, operator and prefix of a far address.
//!
//! In this order: IPv4 inside IPv6 is taken out, special-purpose ranges get their class, and only
//! then are the databases asked.

mod database;
mod record;

use std::{cmp::Reverse, net::IpAddr, path::PathBuf, sync::Arc};

use ipnet::{IpNet, Ipv6Net};

use self::database::{Database, Match};
pub use self::database::{Error, Problem, Role, Status};
use super::special;
use crate::model::{Attribution, Country};

/// Where a database comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The one that comes with LabGate.
    #[default]
    Default,
    /// A MaxMind DB file: GeoLite2, DB-IP, IPinfo or the like.
    File(PathBuf),
}

impl From<Option<PathBuf>> for Source {
    fn from(path: Option<PathBuf>) -> Self {
        path.map_or(Self::Default, Self::File)
    }
}

/// The two geo databases and the watched networks.
#[derive(Debug)]
pub struct GeoDb {
    country: Arc<Database>,
    operators: Arc<Database>,
    /// Longest first.
    watched: Vec<IpNet>,
    no_operator: Arc<str>,
}

impl GeoDb {
    /// Opens and checks both databases; where both sources name the same file it is held once.
    ///
    /// # Errors
    /// The first database that is missing, damaged or of the wrong kind, in one sentence.
    pub fn open(country: &Source, operators: &Source, watched: &[IpNet]) -> Result<Self, Error> {
        let country_db = Arc::new(Database::open(Role::Country, country)?);
        let operators_db = match operators {
            Source::File(_) if operators == country => {
                country_db.check_role(Role::Operators, operators)?;
                Arc::clone(&country_db)
            }
            _ => Arc::new(Database::open(Role::Operators, operators)?),
        };
        let mut watched: Vec<IpNet> = watched.iter().map(IpNet::trunc).collect();
        watched.sort_by_key(|network| Reverse(network.prefix_len()));
        Ok(Self { country: country_db, operators: operators_db, watched, no_operator: "".into() })
    }

    /// Country, operator and prefix of an address. Never fails: what no database knows is
    /// [`Country::NoEntry`], with the smallest network known to be without an entry as its prefix.
    ///
    /// `watched` in the result says that the address lies in a watched network; the prefix is then
    /// that network or a more specific one inside.
    pub fn lookup(&self, address: IpAddr) -> Attribution {
        let far = Far::new(address);
        let watched = self.watched.iter().find_map(|network| far.inside(*network));
        let attribution = |country, asn, operator, prefix| Attribution {
            country,
            asn,
            operator,
            prefix,
            watched: watched.is_some(),
        };

        if let Some((class, range)) = special::classify(far.lookup) {
            let prefix = longest([watched, Some(far.outer(range))]);
            return attribution(Country::Special(class), 0, Arc::clone(&self.no_operator), prefix);
        }

        let country = self.country.find(far.lookup);
        let operators = self.operators.find(far.lookup);
        let code = country.record.as_ref().and_then(|record| record.country);
        let operator = operators.record.as_ref().filter(|record| record.has_operator());

        let entry = |found: &Match, known: bool| {
            found.network.filter(|_| known).map(|network| far.outer(network))
        };
        let prefix = longest([
            watched,
            entry(&country, code.is_some()),
            entry(&operators, operator.is_some()),
        ])
        .or_else(|| longest([entry(&country, true), entry(&operators, true)]))
        .unwrap_or_else(|| far.everything());

        attribution(
            code.map_or(Country::NoEntry, Country::Iso),
            operator.map_or(0, |record| record.asn),
            operator.map_or_else(|| Arc::clone(&self.no_operator), |r| Arc::clone(&r.operator)),
            Some(prefix),
        )
    }

    /// What holds for all addresses of a network: as [`GeoDb::lookup`] of its first, unless that
    /// speaks of a smaller network; then no country is known, and the prefix is the network.
    pub fn lookup_network(&self, network: IpNet) -> Attribution {
        let first = self.lookup(network.network());
        if first.prefix.is_some_and(|prefix| prefix.prefix_len() <= network.prefix_len()) {
            return first;
        }
        Attribution {
            country: Country::NoEntry,
            asn: 0,
            operator: Arc::clone(&self.no_operator),
            prefix: Some(network),
            watched: false,
        }
    }

    /// The databases in use: countries first, then operators.
    pub fn databases(&self) -> [Status; 2] {
        [self.country.status(Role::Country), self.operators.status(Role::Operators)]
    }

    /// The attribution that the licences of the databases in use ask for, one sentence each; to be
    /// shown with every result. Empty where nothing is known about the files' licences.
    pub fn attribution(&self) -> String {
        let mut sentences = vec![self.country.attribution(), self.operators.attribution()];
        sentences.dedup();
        sentences.retain(|sentence| !sentence.is_empty());
        sentences.join(" ")
    }
}

fn longest<const N: usize>(networks: [Option<IpNet>; N]) -> Option<IpNet> {
    networks.into_iter().flatten().max_by_key(IpNet::prefix_len)
}

/// A far address as it was on the wire and as the databases know it.
struct Far {
    /// The address to look up.
    lookup: IpAddr,
    /// As on the wire; IPv4-mapped IPv6 is just another notation of an IPv4 address.
    wire: IpAddr,
    /// The prefix in front of an IPv4 address embedded in an IPv6 address.
    embedded_in: Option<Ipv6Net>,
}

impl Far {
    fn new(address: IpAddr) -> Self {
        let wire = address.to_canonical();
        let embedded = match wire {
            IpAddr::V6(address) => special::embedded_ipv4(address),
            IpAddr::V4(_) => None,
        };
        match embedded {
            Some((inside, prefix)) => {
                Self { lookup: inside.into(), wire, embedded_in: Some(prefix) }
            }
            None => Self { lookup: wire, wire, embedded_in: None },
        }
    }

    /// A network of the address looked up, as the network of the address on the wire.
    fn outer(&self, network: IpNet) -> IpNet {
        match (network, self.embedded_in) {
            (IpNet::V4(network), Some(prefix)) => special::embed(network, prefix).into(),
            _ => network,
        }
    }

    /// The network as one of the address on the wire, if the address lies in it.
    fn inside(&self, network: IpNet) -> Option<IpNet> {
        if network.contains(&self.wire) {
            Some(network)
        } else {
            network.contains(&self.lookup).then(|| self.outer(network))
        }
    }

    /// All addresses of the family.
    fn everything(&self) -> IpNet {
        IpNet::new_assert(self.wire, 0).trunc()
    }
}

#[cfg(test)]
mod tests;
