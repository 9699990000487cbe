//! Whose data it is: what the licences of geo databases ask to be shown with every result.

/// The source of a database that is part of the program.
pub(super) const BUILT_IN: &str = "built-in";

/// A sentence for each of these databases, each once; empty where nothing is known about their licences. They
/// are given by their own name for their type and by their source, as a [`Status`](super::Status) has them.
pub fn attribution<'a>(databases: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut sentences: Vec<_> =
        databases.into_iter().map(|(kind, source)| sentence(kind, source)).collect();
    sentences.dedup();
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(" ")
}

fn sentence(kind: &str, source: &str) -> &'static str {
    let kind = kind.to_ascii_lowercase();
    match (source, kind.as_str()) {
        (BUILT_IN, kind) if kind.contains("asn") => {
            "AS numbers: RouteViews (https://www.routeviews.org), NRO (https://www.nro.net) \
             and DB-IP (https://db-ip.com), merged by ip-location-db, CC BY 4.0."
        }
        (BUILT_IN, _) => "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0.",
        (_, kind) if kind.contains("geolite") => {
            "This product includes GeoLite Data created by MaxMind, available from \
             https://www.maxmind.com."
        }
        (_, kind) if kind.starts_with("dbip") => "IP Geolocation by DB-IP (https://db-ip.com).",
        (_, kind) if kind.contains("ipinfo") => {
            "IP address data is powered by IPinfo (https://ipinfo.io)."
        }
        _ => "",
    }
}
