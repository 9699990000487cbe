//! Country codes that a policy may name.

/// ISO 3166-1 alpha-2, officially assigned codes (ISO 3166 Maintenance Agency; 249 of them).
const ISO_3166: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI \
    BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN \
    CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK \
    FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM \
    HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN \
    KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK \
    ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP \
    NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF \
    TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI \
    VN VU WF WS YE YT ZA ZM ZW";

/// User-assigned codes that stand in the databases: Kosovo, and "no entry".
const USER_ASSIGNED: [&str; 2] = ["XK", "ZZ"];

/// Codes that people write for others.
const MISTAKEN: [(&str, &str); 2] = [("UK", "GB"), ("EL", "GR")];

/// The code as two ASCII capitals, or what to write instead.
pub(crate) fn parse(text: &str) -> Result<[u8; 2], String> {
    if let Some(code) = known(text) {
        return Ok(code);
    }
    let upper = text.to_ascii_uppercase();
    let meant = MISTAKEN.iter().find(|(typed, _)| *typed == upper).map(|(_, meant)| *meant);
    if let Some(code) = meant.or_else(|| known(&upper).map(|_| upper.as_str())) {
        return Err(format!("write `{code}`"));
    }
    Err("write the two capitals of ISO 3166-1 alpha-2, like IN or SG (ZZ: no entry)".into())
}

/// Every code that is taken.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    ISO_3166.split(' ').chain(USER_ASSIGNED)
}

fn known(text: &str) -> Option<[u8; 2]> {
    codes().find(|code| *code == text)?.as_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{ISO_3166, known, parse};

    #[test]
    fn the_table_is_whole_and_sorted() {
        let codes: Vec<_> = ISO_3166.split(' ').collect();
        assert_eq!(codes.len(), 249);
        assert!(codes.is_sorted_by(|a, b| a < b));
        assert!(codes.iter().all(|c| c.len() == 2 && c.bytes().all(|b| b.is_ascii_uppercase())));
    }

    #[test]
    fn known_codes_and_advice() {
        assert_eq!(parse("IN"), Ok(*b"IN"));
        assert_eq!(parse("ZZ"), Ok(*b"ZZ"));
        assert_eq!(parse("sg"), Err("write `SG`".into()));
        assert_eq!(parse("uk"), Err("write `GB`".into()));
        assert_eq!(known("EU"), None);
        assert!(parse("IND").is_err_and(|advice| advice.contains("alpha-2")));
        assert!(parse("").is_err());
    }
}
