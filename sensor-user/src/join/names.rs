//! What a device is called that nobody has named.

use super::vendor::vendor;
use crate::model::Mac;

/// Longest word that stands for a vendor.
const MAX_WORD: usize = 16;

/// Words with which hundreds of makers' names begin.
const COMMON: [&str; 24] = [
    "beijing",
    "chengdu",
    "china",
    "chongqing",
    "dongguan",
    "fujian",
    "guangdong",
    "guangzhou",
    "hangzhou",
    "hunan",
    "jiangsu",
    "nanjing",
    "ningbo",
    "qingdao",
    "shandong",
    "shanghai",
    "shenzhen",
    "sichuan",
    "suzhou",
    "taiwan",
    "the",
    "wuhan",
    "xiamen",
    "zhejiang",
];

/// Names for the device with this address, the best first: vendor and the last three octets, where that
/// is taken the whole address, and where somebody has called a device so, the address alone, which the
/// configuration refuses as a name.
pub(super) fn candidates(mac: Mac) -> [String; 3] {
    let word = word(mac);
    let [.., d, e, f] = mac.0;
    [format!("{word}-{d:02x}:{e:02x}:{f:02x}"), format!("{word}-{mac}"), mac.to_string()]
}

/// The vendor in a word, or why there is none.
fn word(mac: Mac) -> String {
    if mac.is_group() || mac == Mac::ZERO {
        // No station may send with such an address (IEEE 802.3, 3.2.3), nor has one that of zeros.
        return "invalid".to_owned();
    }
    if mac.is_local() {
        return "random".to_owned();
    }
    vendor(mac).and_then(vendor_word).unwrap_or_else(|| "unknown".to_owned())
}

/// The first word that tells makers apart, in lower case, of ASCII letters, digits and hyphens.
fn vendor_word(vendor: &str) -> Option<String> {
    let words = vendor.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(|word| {
        let word = word.trim_matches('-').to_ascii_lowercase();
        word[..word.len().min(MAX_WORD)].trim_end_matches('-').to_owned()
    });
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    let tells = |word: &&String| word.len() > 1 && !COMMON.contains(&word.as_str());
    words.iter().find(tells).or_else(|| words.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(mac: &str) -> String {
        let [best, ..] = candidates(mac.parse().unwrap());
        best
    }

    #[test]
    fn vendor_and_tail() {
        assert_eq!(best("28:6c:07:3c:4d:5e"), "xiaomi-3c:4d:5e");
        assert_eq!(best("64:09:80:00:00:0A"), "xiaomi-00:00:0a");
        assert_eq!(best("8c:77:12:5a:11:04"), "samsung-5a:11:04");
        assert_eq!(best("da:1b:2c:3d:4e:05"), "random-3d:4e:05");
        assert_eq!(best("8c:1f:64:ff:ff:ff"), "unknown-ff:ff:ff");
        assert_eq!(best("ff:ff:ff:ff:ff:ff"), "invalid-ff:ff:ff");
        assert_eq!(best("00:00:00:00:00:00"), "invalid-00:00:00");
        assert_eq!(best("00:00:00:00:00:01"), "xerox-00:00:01");
    }

    #[test]
    fn a_word_for_each_vendor() {
        for (vendor, word) in [
            ("Beijing Xiaomi Mobile Software Co., Ltd", Some("xiaomi")),
            ("TP-LINK TECHNOLOGIES CO.,LTD.", Some("tp-link")),
            ("D-Link International", Some("d-link")),
            ("GUANGDONG OPPO MOBILE TELECOMMUNICATIONS CORP.,LTD", Some("oppo")),
            ("eero inc.", Some("eero")),
            ("Shenzhen", Some("shenzhen")),
            ("A & B", Some("a")),
            ("Télécom \u{1b}[2J", Some("com")),
            ("Internationalization-of-things", Some("internationaliza")),
            ("-.,", None),
            ("", None),
        ] {
            assert_eq!(vendor_word(vendor).as_deref(), word, "{vendor}");
        }
    }

    /// Names go into shells, file names and labels.
    #[test]
    fn every_registered_block_has_a_plain_word() {
        for block in 0..=0xffff_u16 {
            let [a, b] = block.to_be_bytes();
            for c in [0, 0x5a, 0xff] {
                let word = word(Mac([a, b, c, 0, 0, 1]));
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                assert!(!word.is_empty() && word.chars().all(plain), "{word}");
            }
        }
    }
}
