//! Whether what passes over a port is encrypted, as far as the port tells.

/// The port is registered for a protocol that encrypts what it carries.
pub const ENCRYPTED: &str = "encrypted";
/// The port is registered for a protocol that carries plain text, readable by everyone on the way.
pub const UNENCRYPTED: &str = "unencrypted";

/// Ports of TCP by IANA's registry, and widely used ones: what their protocols always do. One that may begin in
/// plain text and go on encrypted (STARTTLS: SMTP, IMAP, XMPP) stands in neither list.
const TCP_ENCRYPTED: [u16; 17] =
    [22, 443, 465, 563, 636, 853, 989, 990, 992, 993, 995, 5061, 5223, 5228, 5349, 8443, 8883];
const TCP_UNENCRYPTED: [u16; 12] = [20, 21, 23, 53, 69, 79, 80, 554, 1883, 1935, 8000, 8080];
const UDP_ENCRYPTED: [u16; 8] = [443, 500, 784, 853, 1194, 4500, 5684, 51820];
const UDP_UNENCRYPTED: [u16; 13] = [53, 67, 68, 69, 123, 137, 138, 161, 162, 514, 1900, 5353, 5683];

/// [`ENCRYPTED`], [`UNENCRYPTED`], or nothing where the far port doesn't tell. A hint: any program can speak
/// anything over any port.
pub fn encryption(protocol: &str, port: u16) -> &'static str {
    let (encrypted, unencrypted): (&[u16], &[u16]) = match protocol {
        "tcp" => (&TCP_ENCRYPTED, &TCP_UNENCRYPTED),
        "udp" => (&UDP_ENCRYPTED, &UDP_UNENCRYPTED),
        _ => (&[], &[]),
    };
    match port {
        port if encrypted.contains(&port) => ENCRYPTED,
        port if unencrypted.contains(&port) => UNENCRYPTED,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_tells_one_thing_or_nothing() {
        for (protocol, port, expected) in [
            ("tcp", 80, UNENCRYPTED),
            ("tcp", 443, ENCRYPTED),
            ("udp", 443, ENCRYPTED),
            ("udp", 53, UNENCRYPTED),
            ("udp", 80, ""),
            ("tcp", 587, ""),
            ("icmp", 0, ""),
        ] {
            assert_eq!(encryption(protocol, port), expected, "{protocol}/{port}");
        }
        for (encrypted, unencrypted) in
            [(&TCP_ENCRYPTED[..], &TCP_UNENCRYPTED[..]), (&UDP_ENCRYPTED, &UDP_UNENCRYPTED)]
        {
            assert!(encrypted.is_sorted() && unencrypted.is_sorted());
            assert!(!encrypted.iter().any(|port| unencrypted.contains(port)));
        }
    }
}
