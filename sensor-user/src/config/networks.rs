//! Networks that the lab knows better than a database does.

use std::collections::HashMap;

use super::{
    country,
    diagnostic::quote,
    reader::{Field, Fields, Reader, Text},
    values,
};
use crate::join::geo::NamedNetwork;

/// They may lie within one another, the smaller one wins; the same one twice is a mistake.
pub(super) fn networks<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Vec<NamedNetwork> {
    let Some(field) = root.get("networks") else { return Vec::new() };
    let mut prefixes = HashMap::new();
    let mut networks = Vec::new();
    for item in &reader.items(field) {
        let Some((typed, network)) = network(reader, item) else { continue };
        let what = format!("network {}", network.prefix);
        if reader.unique(&mut prefixes, network.prefix, &typed.at, &what) {
            networks.push(network);
        }
    }
    networks
}

fn network<'a>(reader: &mut Reader<'a>, item: &Field<'a>) -> Option<(Text<'a>, NamedNetwork)> {
    let fields = reader.fields(item, &["name", "prefix", "country", "asn"])?;
    let name = reader.required(&fields, "name", "a network", "add its name: `name: head-office`");
    let name = name.and_then(|typed| values::name(reader, &typed));
    let example = "add its addresses: `prefix: 203.0.113.0/24`";
    let typed = reader.required(&fields, "prefix", "a network", example);
    let prefix = typed.as_ref().and_then(|typed| values::prefix(reader, typed));
    let country = fields.get("country").and_then(|field| {
        let typed = reader.text(field, "write a country code, like IN, or remove the line")?;
        let refused = match country::parse(typed.text) {
            Ok(code) if code != *b"ZZ" => return Some(code),
            Ok(_) => "leave the line out where the country is not known".to_owned(),
            Err(label) => label,
        };
        reader.refuse(&typed.at, format!("{} is no country code", quote(typed.text)), refused);
        None
    });
    let asn = fields.get("asn").and_then(|field| values::number(reader, field, &(1..=u32::MAX)));
    let network = NamedNetwork { name: name?.into(), prefix: prefix?, country, asn };
    Some((typed?, network))
}
