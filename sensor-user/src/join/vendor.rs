//! Who made a network interface, by the block of MAC addresses that IEEE assigned.

use crate::model::Mac;

/// Owners that make no devices: the registry itself holds the blocks that are divided into smaller
/// ones, and who wants to stay unknown is listed as private.
const NOBODY: [&str; 3] = ["", "IEEE Registration Authority", "Private"];

/// The vendor of a MAC address by its block (MA-S, MA-M, MA-L); `None` where none is registered.
///
/// Locally administered addresses (the random ones of phones) and group addresses belong to nobody,
/// even where the registry lists the same digits, and so does the address of zeros, which is no station's.
pub fn vendor(mac: Mac) -> Option<&'static str> {
    if mac.is_local() || mac.is_group() || mac == Mac::ZERO {
        return None;
    }
    let [a, b, c, d, e, f] = mac.0;
    let entry = oui_data::lookup(&format!("{a:02X}{b:02X}{c:02X}{d:02X}{e:02X}{f:02X}"))?;
    Some(entry.organization().trim()).filter(|name| !NOBODY.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mac: &str) -> Option<&'static str> {
        vendor(mac.parse().unwrap())
    }

    #[test]
    fn registered_blocks_of_each_size() {
        assert_eq!(of("00:00:00:12:34:56"), Some("XEROX CORPORATION"));
        assert_eq!(of("28:6c:07:00:00:01"), Some("XIAOMI Electronics,CO.,LTD"));
        assert_eq!(of("c8:5c:e2:71:23:45"), Some("SYNERGY SYSTEMS AND SOLUTIONS"));
        assert_eq!(of("8c:1f:64:af:a1:23"), Some("DATA ELECTRONIC DEVICES, INC"));
    }

    #[test]
    fn the_registry_is_no_vendor() {
        // 8C-1F-64 is divided into MA-S blocks; this one is not assigned.
        assert_eq!(of("8c:1f:64:ff:ff:ff"), None);
        assert_eq!(of("00:50:79:00:00:00"), None);
    }

    #[test]
    fn nobody_owns_random_or_group_addresses() {
        // The same digits without the bit are a vendor's.
        assert!(of("28:6c:07:00:00:01").is_some());
        assert_eq!(of("2a:6c:07:00:00:01"), None);
        assert_eq!(of("29:6c:07:00:00:01"), None);
        assert_eq!(of("ff:ff:ff:ff:ff:ff"), None);
        assert_eq!(of("00:00:00:00:00:00"), None);
        // Listed among the company identifiers (CID), yet locally administered.
        assert_eq!(of("ea:27:01:00:00:00"), None);
    }
}
