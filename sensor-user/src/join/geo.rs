//! Country, operator and prefix of a far address.
//!
//! In this order: IPv4 inside IPv6 is taken out, special-purpose ranges get their class, and only
//! then are the databases asked.

mod attribution;
mod database;
mod record;

use std::{
    cmp::Reverse,
    net::IpAddr,
    panic,
    path::PathBuf,
    sync::Arc,
    thread::{self, ScopedJoinHandle},
};

use ipnet::{IpNet, Ipv6Net};

pub use self::attribution::attribution;
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

/// A network that the lab knows better than a database does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedNetwork {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses, without host bits.
    pub prefix: IpNet,
    /// Where it is; `None` leaves that to the database.
    pub country: Option<[u8; 2]>,
    /// Its autonomous system, which then has the network's name; `None` leaves that to the database.
    pub asn: Option<u32>,
}

/// Bytes of stack for a thread that reads databases. A file may have 512 pointers that lead one to another, or one that
/// leads to itself, and the decoder goes along until it gives up: 3 MiB deep in a build for debugging.
pub const STACK: usize = 8 << 20;

/// The two geo databases, and what the configuration says of networks. Copies share the databases.
#[derive(Debug, Clone)]
pub struct GeoDb {
    country: Arc<Database>,
    operators: Arc<Database>,
    /// Longest first.
    watched: Vec<IpNet>,
    /// Longest first.
    named: Vec<NamedNetwork>,
    nothing: Arc<str>,
}

/// What a lookup found, and for how many of the address's neighbours it holds.
struct Found {
    attribution: Attribution,
    /// The longest of all prefixes that had a say.
    narrowest: u8,
}

impl GeoDb {
    /// Opens and checks both databases; where both sources name the same file it is held once.
    ///
    /// # Errors
    /// The first database that is missing, damaged or of the wrong kind, in one sentence.
    pub fn open(
        country: &Source,
        operators: &Source,
        watched: &[IpNet],
        named: &[NamedNetwork],
    ) -> Result<Self, Error> {
        let is_one = matches!(operators, Source::File(_)) && operators == country;
        // Side by side: each is read and walked as a whole, which takes tenths of a second.
        let (country_db, operators_db) = thread::scope(|scope| {
            let open = || Database::open(Role::Operators, operators);
            let other = (!is_one).then(|| scope.spawn(open));
            let country_db = Database::open(Role::Country, country);
            let joined = |thread: ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|why| panic::resume_unwind(why))
            };
            (country_db, other.map(joined))
        });
        let country_db = Arc::new(country_db?);
        let operators_db = match operators_db {
            Some(operators_db) => Arc::new(operators_db?),
            None => {
                country_db.check_role(Role::Operators, operators)?;
                Arc::clone(&country_db)
            }
        };
        let mut watched: Vec<IpNet> = watched.iter().map(IpNet::trunc).collect();
        watched.sort_by_key(|network| Reverse(network.prefix_len()));
        let mut named = named.to_vec();
        named.sort_by_key(|network| Reverse(network.prefix.prefix_len()));
        let nothing = "".into();
        Ok(Self { country: country_db, operators: operators_db, watched, named, nothing })
    }

    /// Country, operator and prefix of an address. Never fails: what no database knows is
    /// [`Country::NoEntry`], with the smallest network known to be without an entry as its prefix.
    ///
    /// A named network has the last word, and is the prefix, or a watched network inside is. `watched` in the
    /// result says that the address lies in a watched network; without a named one the prefix is then that
    /// network or a more specific one inside.
    pub fn lookup(&self, address: IpAddr) -> Attribution {
        self.find(address).attribution
    }

    fn find(&self, address: IpAddr) -> Found {
        let far = Far::new(address);
        let watched = self.watched.iter().find_map(|network| far.inside(*network));
        let named =
            self.named.iter().find_map(|network| Some((network, far.inside(network.prefix)?)));
        let (named, named_prefix) = named.unzip();
        let configured = longest([watched, named_prefix]).filter(|_| named.is_some());

        let special = special::classify(far.lookup);
        let (country, asn, operator, prefix, narrowest) = if let Some((class, range)) = special {
            let range = Some(far.outer(range));
            let prefix = longest([watched, range]);
            let nothing = Arc::clone(&self.nothing);
            (Country::Special(class), 0, nothing, prefix, longest([prefix, named_prefix]))
        } else {
            let country = self.country.find(far.lookup);
            let operators = self.operators.find(far.lookup);
            let code = country.record.as_ref().and_then(|record| record.country);
            let operator = operators.record.as_ref().filter(|record| record.has_operator());
            let entry = |found: &Match, known: bool| {
                found.network.filter(|_| known).map(|network| far.outer(network))
            };
            let gap = longest([entry(&country, true), entry(&operators, true)]);
            let known =
                [watched, entry(&country, code.is_some()), entry(&operators, operator.is_some())];
            let prefix = longest(known).or(gap).unwrap_or_else(|| far.everything());
            (
                code.map_or(Country::NoEntry, Country::Iso),
                operator.map_or(0, |record| record.asn),
                Arc::clone(operator.map_or(&self.nothing, |record| &record.operator)),
                Some(prefix),
                longest([Some(prefix), named_prefix, gap]),
            )
        };
        // A network that lies in the autonomous system of its surroundings leaves that its name.
        let own_operator = named.and_then(|network| Some((network.asn?, &network.name)));
        let own_operator = own_operator.filter(|(own, _)| asn != *own || operator.is_empty());
        let (asn, operator) =
            own_operator.map_or((asn, operator), |(asn, name)| (asn, Arc::clone(name)));
        Found {
            attribution: Attribution {
                country: named.and_then(|network| network.country).map_or(country, Country::Iso),
                asn,
                operator,
                prefix: configured.or(prefix),
                network: Arc::clone(named.map_or(&self.nothing, |network| &network.name)),
                watched: watched.is_some(),
            },
            narrowest: narrowest.map_or(0, |network| network.prefix_len()),
        }
    }

    /// What holds for all addresses of a network: as [`GeoDb::lookup`] of its first, unless something
    /// is said of a smaller network; then no country is known, and the prefix is the network. It is a watched
    /// one as soon as a part of it is: lost detail is no way around the policy.
    pub fn lookup_network(&self, network: IpNet) -> Attribution {
        let first = self.find(network.network());
        let is_part = |other: &IpNet| *other != network && network.contains(other);
        let watched_part = self.watched.iter().any(is_part);
        let named_part = self.named.iter().any(|named| is_part(&named.prefix));
        if first.narrowest <= network.prefix_len() && !watched_part && !named_part {
            return first.attribution;
        }
        Attribution {
            country: Country::NoEntry,
            asn: 0,
            operator: Arc::clone(&self.nothing),
            prefix: Some(network),
            network: Arc::clone(&self.nothing),
            watched: watched_part || first.attribution.watched,
        }
    }

    /// The networks that have a name of their own, longest first.
    pub fn named(&self) -> &[NamedNetwork] {
        &self.named
    }

    /// The databases in use: countries first, then operators.
    pub fn databases(&self) -> [Status; 2] {
        [self.country.status(Role::Country), self.operators.status(Role::Operators)]
    }

    /// The attribution that the licences of the databases in use ask for, one sentence each; to be
    /// shown with every result. Empty where nothing is known about the files' licences.
    pub fn attribution(&self) -> String {
        let databases = self.databases();
        attribution(databases.iter().map(|status| (&*status.kind, &*status.source)))
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
