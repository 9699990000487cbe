//! Devices, policy and single values: whole complaints.

use super::refused;

#[test]
fn words_for_on_and_off_are_no_paths() {
    refused(
        "interfaces: [lan0]\nledger: Yes\nstate_dir: no\nleases: [off]\nweb_config: false\n",
        r"
error: `ledger` takes a path, not `Yes`
 --> config.yaml:2:9
  |
2 | ledger: Yes
  |         ^^^ write the path of a file, or `off`; for a file of that name `./Yes`

error: `state_dir` takes a path, not `no`
 --> config.yaml:3:12
  |
3 | state_dir: no
  |            ^^ write the path of a directory; for a file of that name `./no`

error: `leases` takes a path, not `off`
 --> config.yaml:4:10
  |
4 | leases: [off]
  |          ^^^ write the path of a lease file, like /var/lib/misc/dnsmasq.leases; for a file of that name `./off`

error: `web_config` takes a path, not `false`
 --> config.yaml:5:13
  |
5 | web_config: false
  |             ^^^^^ write the path of a web configuration; for a file of that name `./false`
",
    );
}

#[test]
fn devices() {
    refused(
        "interfaces: [lan0]\ndevices:\n  - name: a\n    mac: 02:00:00:00:00:01\n  - name: a\n    mac: 02:00:00:00:00:02\n",
        r"
error: device name `a` is given twice
 --> config.yaml:5:11
  |
5 |   - name: a
  |           ^ remove one of the two
  |
 ::: config.yaml:3:11
  |
3 |   - name: a
  |           - first given here
",
    );
    refused(
        "interfaces: [lan0]\ndevices:\n  - name: a\n    mac: 02:00:00:00:00:01\n  - name: b\n    macs: [02:00:00:00:00:02, 02-00-00-00-00-01]\n",
        r"
error: MAC address 02:00:00:00:00:01 is given twice
 --> config.yaml:6:31
  |
6 |     macs: [02:00:00:00:00:02, 02-00-00-00-00-01]
  |                               ^^^^^^^^^^^^^^^^^ remove one of the two
  |
 ::: config.yaml:4:10
  |
4 |     mac: 02:00:00:00:00:01
  |          ----------------- first given here
",
    );
    refused(
        "interfaces: [lan0]\ndevices:\n  - name: a\n    mac: 021a.2b3c.4d5e\n  - name: b\n    mac: 02:1a:2b\n  - name: c\n    mac: 03:00:00:00:00:01\n  - name: d\n    mac: 00:00:00:00:00:00\n",
        r"
error: `021a.2b3c.4d5e` is no MAC address
 --> config.yaml:4:10
  |
4 |     mac: 021a.2b3c.4d5e
  |          ^^^^^^^^^^^^^^ write `02:1a:2b:3c:4d:5e`

error: `02:1a:2b` is no MAC address
 --> config.yaml:6:10
  |
6 |     mac: 02:1a:2b
  |          ^^^^^^^^ write six pairs of hex digits, like 02:1a:2b:3c:4d:5e

error: `03:00:00:00:00:01` is a group address, which no device has
 --> config.yaml:8:10
  |
8 |     mac: 03:00:00:00:00:01
  |          ^^^^^^^^^^^^^^^^^ write the device's own address (the second hex digit is even)

error: `00:00:00:00:00:00` is no device's MAC address
  --> config.yaml:10:10
   |
10 |     mac: 00:00:00:00:00:00
   |          ^^^^^^^^^^^^^^^^^ write the address that the device shows
",
    );
    refused(
        "interfaces: [lan0]\ndevices:\n  - mac: 02:00:00:00:00:01\n  - name: b\n  - name: c\n    macs: []\n  - name: d\n    mac: 02:00:00:00:00:04\n    macs: [02:00:00:00:00:05]\n  - e\n",
        r"
error: a device has no `name`
 --> config.yaml:3:5
  |
3 |   - mac: 02:00:00:00:00:01
  |     ^^^ add the device's name: `name: phone-1`

error: a device has no `mac`
 --> config.yaml:4:5
  |
4 |   - name: b
  |     ^^^^ add its MAC address: `mac: 02:1a:2b:3c:4d:5e`, or several: `macs: [..., ...]`

error: `macs` holds no MAC address
 --> config.yaml:6:11
  |
6 |     macs: []
  |           ^ write at least one

error: a device has both `mac` and `macs`
 --> config.yaml:8:10
  |
8 |     mac: 02:00:00:00:00:04
  |          ^^^^^^^^^^^^^^^^^ move it to `macs`

error: an entry of `devices` is a mere word
  --> config.yaml:10:5
   |
10 |   - e
   |     ^ write name and address: `{ name: phone-1, mac: 02:1a:2b:3c:4d:5e }`
",
    );
    refused(
        "interfaces: [lan0]\ndevices:\n  - name: \"\"\n    mac: 02:00:00:00:00:01\n  - name: \"a\\nb\"\n    mac: 02:00:00:00:00:02\n  - name: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n    mac: 02:00:00:00:00:03\n    group: [a]\n  - name: (multicast)\n    mac: 02:00:00:00:00:04\n  - name: 02:00:00:00:00:05\n    mac: 02:00:00:00:00:06\n",
        r#"
error: `` is no usable name
 --> config.yaml:3:11
  |
3 |   - name: ""
  |           ^^ write a name

error: `a\nb` is no usable name
 --> config.yaml:5:11
  |
5 |   - name: "a\nb"
  |           ^^^^^^ write it without line breaks and other control characters

error: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...` is no usable name
 --> config.yaml:7:11
  |
7 |   - name: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ write at most 64 characters

error: `group` takes one value, not a list
 --> config.yaml:9:12
  |
9 |     group: [a]
  |            ^ write the group's name, or remove the line

error: `(multicast)` is no usable name
  --> config.yaml:10:11
   |
10 |   - name: (multicast)
   |           ^^^^^^^^^^^ write another: MAC addresses and names in parentheses are LabGate's own

error: `02:00:00:00:00:05` is no usable name
  --> config.yaml:12:11
   |
12 |   - name: 02:00:00:00:00:05
   |           ^^^^^^^^^^^^^^^^^ write another: MAC addresses and names in parentheses are LabGate's own
"#,
    );
}

#[test]
fn policy() {
    refused(
        "interfaces: [lan0]\npolicy:\n  groups:\n    phones:\n      allowed_countries: [in, UK, IND, NO, 7]\n",
        r"
error: `in` is no country code
 --> config.yaml:5:27
  |
5 |       allowed_countries: [in, UK, IND, NO, 7]
  |                           ^^ write `IN`

error: `UK` is no country code
 --> config.yaml:5:31
  |
5 |       allowed_countries: [in, UK, IND, NO, 7]
  |                               ^^ write `GB`

error: `IND` is no country code
 --> config.yaml:5:35
  |
5 |       allowed_countries: [in, UK, IND, NO, 7]
  |                                   ^^^ write the two capitals of ISO 3166-1 alpha-2, like IN or SG (ZZ: no entry)

error: `7` is no country code
 --> config.yaml:5:44
  |
5 |       allowed_countries: [in, UK, IND, NO, 7]
  |                                            ^ write the two capitals of ISO 3166-1 alpha-2, like IN or SG (ZZ: no entry)
",
    );
    refused(
        "interfaces: [lan0]\npolicy:\n  groups:\n    phones: {}\n    tvs:\n      allowed_countries:\n    tvs: {allowed_countries: [IN]}\n",
        r"
error: a group has no `allowed_countries`
 --> config.yaml:4:13
  |
4 |     phones: {}
  |             ^ add `allowed_countries: [IN, SG]`; an empty list `[]` allows none

error: `allowed_countries` has no value
 --> config.yaml:6:7
  |
6 |       allowed_countries:
  |       ^^^^^^^^^^^^^^^^^ add `allowed_countries: [IN, SG]`; an empty list `[]` allows none

error: group `tvs` is given twice
 --> config.yaml:7:5
  |
7 |     tvs: {allowed_countries: [IN]}
  |     ^^^ remove one of the two
  |
 ::: config.yaml:5:5
  |
5 |     tvs:
  |     --- first given here
",
    );
    refused(
        "interfaces: [lan0]\npolicy:\n  watched_prefixes:\n    - 42.62.48.1/24\n    - 42.62.48.0/33\n    - 2001:db8::1\n    - \"::ffff:42.62.48.0/120\"\n    - beijing\n",
        r#"
error: `42.62.48.1/24` has bits set after its prefix length
 --> config.yaml:4:7
  |
4 |     - 42.62.48.1/24
  |       ^^^^^^^^^^^^^ write `42.62.48.0/24`

error: `42.62.48.0/33` is no network in CIDR form
 --> config.yaml:5:7
  |
5 |     - 42.62.48.0/33
  |       ^^^^^^^^^^^^^ write address/length, like 42.62.48.0/24

error: `2001:db8::1` is no network in CIDR form
 --> config.yaml:6:7
  |
6 |     - 2001:db8::1
  |       ^^^^^^^^^^^ write `2001:db8::1/128`

error: `::ffff:42.62.48.0/120` is IPv4 written as IPv6, and is counted as IPv4
 --> config.yaml:7:7
  |
7 |     - "::ffff:42.62.48.0/120"
  |       ^^^^^^^^^^^^^^^^^^^^^^^ write `42.62.48.0/24`

error: `beijing` is no network in CIDR form
 --> config.yaml:8:7
  |
8 |     - beijing
  |       ^^^^^^^ write address/length, like 42.62.48.0/24
"#,
    );
}

#[test]
fn a_network_given_twice() {
    refused(
        "interfaces: [lan0]\npolicy:\n  watched_prefixes: [42.62.48.0/24, 42.62.48.0/24]\n",
        r"
error: network 42.62.48.0/24 is given twice
 --> config.yaml:3:37
  |
3 |   watched_prefixes: [42.62.48.0/24, 42.62.48.0/24]
  |                      -------------  ^^^^^^^^^^^^^ remove one of the two
  |                      |
  |                      first given here
",
    );
}

#[test]
fn a_port_that_is_none() {
    refused(
        "interfaces: [lan0]\nlisten: 127.0.0.1:0\n",
        r"
error: `listen` has no port that could be asked: `127.0.0.1:0`
 --> config.yaml:2:9
  |
2 | listen: 127.0.0.1:0
  |         ^^^^^^^^^^^ write `127.0.0.1:9469`
",
    );
}

#[test]
fn values_out_of_range_or_form() {
    refused(
        "interfaces: [lan0]\nepoch: 50ms\n",
        r"
error: `epoch` is out of range: `50ms`
 --> config.yaml:2:8
  |
2 | epoch: 50ms
  |        ^^^^ write a time from 100ms to 60s
",
    );
    refused(
        "interfaces: [lan0]\nepoch: 61s\n",
        r"
error: `epoch` is out of range: `61s`
 --> config.yaml:2:8
  |
2 | epoch: 61s
  |        ^^^ write a time from 100ms to 60s
",
    );
    refused(
        "interfaces: [lan0]\nepoch: 1\n",
        r"
error: `epoch` is no duration: `1`
 --> config.yaml:2:8
  |
2 | epoch: 1
  |        ^ add the unit: `1s` or `1ms`
",
    );
    refused(
        "interfaces: [lan0]\nepoch: soon\n",
        r"
error: `epoch` is no duration: `soon`
 --> config.yaml:2:8
  |
2 | epoch: soon
  |        ^^^^ write a whole number and a unit, ms or s, like 500ms
",
    );
    refused(
        "interfaces: [lan0]\nlimits:\n  series: 1\n  series_expiration: 60\n",
        r"
error: `series` cannot be `1`
 --> config.yaml:3:11
  |
3 |   series: 1
  |           ^ write a whole number from 1000 to 10000000

error: `series_expiration` is no duration: `60`
 --> config.yaml:4:22
  |
4 |   series_expiration: 60
  |                      ^^ add the unit: `60m` or `60s`
",
    );
    refused(
        "interfaces: [lan0]\nlimits: {series_expiration: 31d}\n",
        r"
error: `series_expiration` is out of range: `31d`
 --> config.yaml:2:29
  |
2 | limits: {series_expiration: 31d}
  |                             ^^^ write a time from 1s to 30d, or `never`
",
    );
    refused(
        "interfaces: [lan0]\nlisten: 9469\n",
        r"
error: `listen` is no address and port: `9469`
 --> config.yaml:2:9
  |
2 | listen: 9469
  |         ^^^^ write `127.0.0.1:9469`
",
    );
    refused(
        "interfaces: [lan0]\nlisten: localhost:9000\n",
        r"
error: `listen` is no address and port: `localhost:9000`
 --> config.yaml:2:9
  |
2 | listen: localhost:9000
  |         ^^^^^^^^^^^^^^ write `127.0.0.1:9000`
",
    );
    refused(
        "interfaces: [lan0]\nlisten: \"::1\"\n",
        r#"
error: `listen` is no address and port: `::1`
 --> config.yaml:2:9
  |
2 | listen: "::1"
  |         ^^^^^ write `[::1]:9469`
"#,
    );
    refused(
        "interfaces: [lan0]\nlisten: lab.example:80\n",
        r"
error: `listen` is no address and port: `lab.example:80`
 --> config.yaml:2:9
  |
2 | listen: lab.example:80
  |         ^^^^^^^^^^^^^^ write address:port, like 127.0.0.1:9469
",
    );
    refused(
        "interfaces: [lan0]\nlisten: 127.0.0.1:99999\n",
        r"
error: `listen` is no address and port: `127.0.0.1:99999`
 --> config.yaml:2:9
  |
2 | listen: 127.0.0.1:99999
  |         ^^^^^^^^^^^^^^^ write address:port, like 127.0.0.1:9469
",
    );
    refused(
        "interfaces: [lan0]\ndatabases:\n  country: \"\"\n  operator: x.mmdb\n",
        r#"
error: `country` is no path
 --> config.yaml:3:12
  |
3 |   country: ""
  |            ^^ write the path of an MMDB file, or remove the line

error: unknown key `operator`
 --> config.yaml:4:3
  |
4 |   operator: x.mmdb
  |   ^^^^^^^^ did you mean `operators`?
"#,
    );
    refused(
        "interfaces: [lan0]\nlimits:\n  flow_slots_per_cpu: 5000\n  coarse_entries: 1\n  unknown_devices: many\n  prefixes_per_device: 0\n  destinations_per_device: -1\n",
        r"
error: `flow_slots_per_cpu` is not a power of two: 5000
 --> config.yaml:3:23
  |
3 |   flow_slots_per_cpu: 5000
  |                       ^^^^ write 4096 or 8192

error: `coarse_entries` cannot be `1`
 --> config.yaml:4:19
  |
4 |   coarse_entries: 1
  |                   ^ write a whole number from 1024 to 4194304

error: `unknown_devices` cannot be `many`
 --> config.yaml:5:20
  |
5 |   unknown_devices: many
  |                    ^^^^ write a whole number from 1 to 65536

error: `prefixes_per_device` cannot be `0`
 --> config.yaml:6:24
  |
6 |   prefixes_per_device: 0
  |                        ^ write a whole number from 1 to 10000

error: `destinations_per_device` cannot be `-1`
 --> config.yaml:7:28
  |
7 |   destinations_per_device: -1
  |                            ^^ write a whole number from 16 to 4194304
",
    );
    refused(
        "interfaces: [lan0]\nlimits: {flow_slots_per_cpu: 8388608}\n",
        r"
error: `flow_slots_per_cpu` cannot be `8388608`
 --> config.yaml:2:30
  |
2 | limits: {flow_slots_per_cpu: 8388608}
  |                              ^^^^^^^ write a whole number from 1024 to 2097152
",
    );
}
