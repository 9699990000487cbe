//! Countries as people write them: by their code or their English name, in any case.

use std::borrow::Cow;

use super::classes;
use crate::{config::parse_country, join::special, model::Country};

/// What people call a country that ISO 3166 calls otherwise, in lower case.
const EVERYDAY: [(&str, &str); 22] = [
    ("america", "US"),
    ("bolivia", "BO"),
    ("britain", "GB"),
    ("czech republic", "CZ"),
    ("england", "GB"),
    ("great britain", "GB"),
    ("holland", "NL"),
    ("iran", "IR"),
    ("ivory coast", "CI"),
    ("kosovo", "XK"),
    ("laos", "LA"),
    ("moldova", "MD"),
    ("north korea", "KP"),
    ("russia", "RU"),
    ("south korea", "KR"),
    ("syria", "SY"),
    ("taiwan", "TW"),
    ("tanzania", "TZ"),
    ("turkey", "TR"),
    ("united states", "US"),
    ("usa", "US"),
    ("vietnam", "VN"),
];

/// A country, no country, or a class of special-purpose range.
pub(super) fn place(typed: &str) -> Result<Country, Cow<'static, str>> {
    let upper = typed.to_ascii_uppercase();
    if upper == Country::NoEntry.as_str() {
        return Ok(Country::NoEntry);
    }
    if let Some(class) = special::classes().find(|class| class.eq_ignore_ascii_case(typed)) {
        return Ok(Country::Special(class));
    }
    parse_country(&upper).or_else(|advice| named(typed).ok_or(advice)).map(Country::Iso).map_err(
        |advice| {
            let classes: Vec<_> = classes().into_iter().collect();
            format!("{advice}; or the country's English name; or a class: {}", classes.join(", "))
                .into()
        },
    )
}

/// By its whole name, else by how the name of one country alone begins.
fn named(typed: &str) -> Option<[u8; 2]> {
    let lower = typed.trim().to_lowercase();
    let everyday = EVERYDAY.iter().find(|(name, _)| *name == lower).map(|(_, code)| *code);
    let code = everyday.or_else(|| {
        let names = || {
            rust_iso3166::ALL.iter().map(|country| (country.name.to_lowercase(), country.alpha2))
        };
        let whole = names().find(|(name, _)| *name == lower).map(|(_, code)| code);
        whole.or_else(|| {
            // A word or more: two letters are a code that nobody has.
            let mut begun = names().filter(|(name, _)| lower.len() > 3 && name.starts_with(&lower));
            let (_, code) = begun.next()?;
            begun.next().is_none().then_some(code)
        })
    })?;
    code.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyday_names_are_sorted_and_of_codes_that_there_are() {
        assert!(EVERYDAY.is_sorted());
        for (name, code) in EVERYDAY {
            assert_eq!(place(name), place(code), "{name}");
        }
    }

    #[test]
    fn every_code_has_a_name_that_is_taken_back() {
        for country in rust_iso3166::ALL {
            let expected = Country::Iso(country.alpha2.as_bytes().try_into().unwrap());
            assert_eq!(place(country.name), Ok(expected), "{}", country.name);
            assert_eq!(place(&country.alpha2.to_lowercase()), Ok(expected), "{}", country.alpha2);
        }
    }
}
