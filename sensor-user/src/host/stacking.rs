//! Interfaces on top of one another: a packet passes the hooks of each.

use std::fmt::Write as _;

use super::{Host, Kind, Link};

/// Two watched interfaces that the same packets pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{lower} and {upper} are both watched, but {lower} {relation} {upper}: each packet would be \
     counted twice. Remove one of the two from `interfaces`: {advice}"
)]
pub struct Overlap {
    /// The one above: a bridge, a bond, a VLAN.
    pub upper: String,
    /// The one below: a port, a member, the VLAN's parent.
    pub lower: String,
    relation: String,
    advice: String,
}

/// All pairs of watched interfaces of which one carries the other's packets, directly or through
/// others between them.
pub fn overlaps(host: &Host, watched: &[&str]) -> Vec<Overlap> {
    let links: Vec<&Link> = watched.iter().filter_map(|name| host.link(name)).collect();
    let mut found = Vec::new();
    for lower in &links {
        for upper in &links {
            let Some(way) = way_up(host, lower, upper.index) else { continue };
            found.push(describe(lower, upper, &way));
        }
    }
    found
}

/// Refuses a set of interfaces that would count packets twice.
///
/// # Errors
///
/// The first pair. Where the kernel does not answer nothing is refused: it answers on every machine
/// that has networks, and counting is worth more than a check of it.
pub fn refuse_overlaps(watched: &[&str]) -> Result<(), Overlap> {
    match Host::interfaces() {
        Ok(host) => overlaps(&host, watched).into_iter().next().map_or(Ok(()), Err),
        Err(error) => {
            tracing::warn!("can't see how the interfaces are stacked: {error}");
            Ok(())
        }
    }
}

impl Host {
    /// Where frames pass two interfaces on their way, which of the two is to count them: a bridge or bond
    /// rather than its ports, an interface rather than what lies on top of it. By their indexes.
    pub fn counting(&self, a: u32, b: u32) -> Option<u32> {
        let upwards = |from: u32, to: u32| {
            let way = way_up(self, self.by_index(from)?, to)?;
            let before = way.len().checked_sub(2).map_or(from, |at| way[at].index);
            let is_port = self.by_index(before)?.master == Some(to);
            Some(if is_port { to } else { from })
        };
        upwards(a, b).or_else(|| upwards(b, a))
    }
}

/// The interfaces from one up to another, without the first; `None` where there is no way.
fn way_up<'a>(host: &'a Host, from: &Link, to: u32) -> Option<Vec<&'a Link>> {
    // Indexes seen, so that a loop, which the kernel forbids, would not hold us.
    let mut ways = vec![vec![from.index]];
    while let Some(way) = ways.pop() {
        let last = *way.last()?;
        let master = host.by_index(last)?.master;
        let above = host.links.iter().filter(|link| {
            let is_above = master == Some(link.index) || link.carried_by == Some(last);
            is_above && !way.contains(&link.index)
        });
        for link in above {
            let mut longer = way.clone();
            longer.push(link.index);
            if link.index == to {
                return longer[1..].iter().map(|index| host.by_index(*index)).collect();
            }
            ways.push(longer);
        }
    }
    None
}

fn describe(lower: &Link, upper: &Link, way: &[&Link]) -> Overlap {
    let mut relation = match (&upper.kind, way) {
        (Kind::Bridge, [_]) => "is a port of the bridge".to_owned(),
        (Kind::Bond, [_]) => "is a member of the bond".to_owned(),
        (kind, [_]) => format!("carries the {kind}"),
        _ => "carries, by way of".to_owned(),
    };
    for between in way.iter().take(way.len().saturating_sub(1)) {
        // Writing to a String cannot fail.
        let _ok = write!(relation, " {},", between.name);
    }
    let advice = match upper.kind {
        Kind::Bridge => {
            "the bridge sees what passes this gateway, its ports also what the devices exchange \
             with each other"
        }
        Kind::Bond => "the bond sees what all its members carry",
        _ => "the one below sees all that the one above carries, and its own packets besides",
    };
    Overlap {
        upper: upper.name.clone(),
        lower: lower.name.clone(),
        relation,
        advice: advice.to_owned(),
    }
}
