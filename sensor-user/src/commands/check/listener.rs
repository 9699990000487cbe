//! Who can reach metrics and API.

use std::net::SocketAddr;

use crate::host::Host;

/// The watched interfaces at whose addresses the sensor would listen: the devices behind them are
/// the observed ones.
pub(super) fn warnings(listen: SocketAddr, host: &Host, watched: &[&str]) -> Vec<String> {
    let address = listen.ip().to_canonical();
    let mut warnings = Vec::new();
    for link in watched.iter().filter_map(|name| host.link(name)) {
        let reached = host.addresses(link).map(|net| net.addr()).find(|own| {
            let same_family = address.is_ipv6() || own.is_ipv4();
            *own == address || address.is_unspecified() && same_family
        });
        if let Some(own) = reached {
            warnings.push(format!(
                "the devices behind {} can reach metrics and API at {own}: write `listen: \
                 127.0.0.1:{}`, or keep them out with a firewall",
                link.name,
                listen.port()
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::check::interface::tests::{link, net},
        host::Kind,
    };

    #[test]
    fn addresses_of_watched_interfaces_are_reached() {
        let host = Host {
            links: vec![link(1, "lan0", Kind::Card), link(2, "wan0", Kind::Card)],
            addresses: vec![(1, net("192.168.77.1/24")), (2, net("203.0.113.2/30"))],
            ..Host::default()
        };
        let said = |listen: &str| warnings(listen.parse().unwrap(), &host, &["lan0"]);
        assert_eq!(said("127.0.0.1:9469"), Vec::<String>::new());
        assert_eq!(said("203.0.113.2:9469"), Vec::<String>::new());
        for listen in
            ["192.168.77.1:9469", "0.0.0.0:9469", "[::]:9469", "[::ffff:192.168.77.1]:9469"]
        {
            let said = said(listen);
            assert_eq!(said.len(), 1, "{listen}");
            assert!(said[0].starts_with("the devices behind lan0 can reach"), "{said:?}");
            assert!(
                said[0].contains("at 192.168.77.1: write `listen: 127.0.0.1:9469`"),
                "{said:?}"
            );
        }
    }
}
