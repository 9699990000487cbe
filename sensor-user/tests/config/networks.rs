//! Named networks, and how old databases may be: whole complaints.

use super::refused;

#[test]
fn networks() {
    refused(
        "interfaces: [lan0]\nnetworks:\n  - name: office\n    prefix: 203.0.113.1/24\n    country: Germany\n  - prefix: 10.0.0.0/8\n    asn: AS64500\n  - {name: a, prefix: 10.0.0.0/8, country: ZZ}\n  - {name: b, prefix: 10.0.0.0/8}\n  - {name: c, prefix: 10.0.0.0/8}\n",
        r"
error: `203.0.113.1/24` has bits set after its prefix length
 --> config.yaml:4:13
  |
4 |     prefix: 203.0.113.1/24
  |             ^^^^^^^^^^^^^^ write `203.0.113.0/24`

error: `Germany` is no country code
 --> config.yaml:5:14
  |
5 |     country: Germany
  |              ^^^^^^^ write the two capitals of ISO 3166-1 alpha-2, like IN or SG (ZZ: no entry)

error: a network has no `name`
 --> config.yaml:6:5
  |
6 |   - prefix: 10.0.0.0/8
  |     ^^^^^^ add its name: `name: head-office`

error: `asn` cannot be `AS64500`
 --> config.yaml:7:10
  |
7 |     asn: AS64500
  |          ^^^^^^^ write a whole number from 1 to 4294967295

error: `ZZ` is no country code
 --> config.yaml:8:44
  |
8 |   - {name: a, prefix: 10.0.0.0/8, country: ZZ}
  |                                            ^^ leave the line out where the country is not known

error: network 10.0.0.0/8 is given twice
 --> config.yaml:9:23
  |
9 |   - {name: b, prefix: 10.0.0.0/8}
  |                       ^^^^^^^^^^ remove one of the two
  |
 ::: config.yaml:8:23
  |
8 |   - {name: a, prefix: 10.0.0.0/8, country: ZZ}
  |                       ---------- first given here

error: network 10.0.0.0/8 is given twice
  --> config.yaml:10:23
   |
10 |   - {name: c, prefix: 10.0.0.0/8}
   |                       ^^^^^^^^^^ remove one of the two
   |
  ::: config.yaml:8:23
   |
 8 |   - {name: a, prefix: 10.0.0.0/8, country: ZZ}
   |                       ---------- first given here
",
    );
    refused(
        "interfaces: [lan0]\ndatabases: {max_age: 2 months}\n",
        r"
error: `max_age` cannot be `2 months`
 --> config.yaml:2:22
  |
2 | databases: {max_age: 2 months}
  |                      ^^^^^^^^ write a number of days from 1d to 3650d, like 60d
",
    );
}
