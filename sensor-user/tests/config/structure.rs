//! Keys, structure, YAML and carets: whole complaints.

use super::refused;

#[test]
fn keys_and_structure() {
    refused(
        "interfaces: [lan0]\nepocj: 2s\n",
        r"
error: unknown key `epocj`
 --> config.yaml:2:1
  |
2 | epocj: 2s
  | ^^^^^ did you mean `epoch`?
",
    );
    refused(
        "interfaces: [lan0]\ncolour: red\n",
        r"
error: unknown key `colour`
 --> config.yaml:2:1
  |
2 | colour: red
  | ^^^^^^ known keys here: interfaces, tc_attach, devices, networks, databases, policy, epoch, listen, allowed_hosts, web_config, limits, state_dir, ledger, retention, leases, log
",
    );
    refused(
        "interfaces: [lan0]\nepoch: 1s\nlog: info\nepoch: 2s\n",
        r"
error: key `epoch` is given twice
 --> config.yaml:4:1
  |
4 | epoch: 2s
  | ^^^^^ remove one of the two
  |
 ::: config.yaml:2:1
  |
2 | epoch: 1s
  | ----- first given here
",
    );
    refused(
        "interfaces: [lan0]\npolicy:\n  groups:\n    phones:\n        alowed_countries: [IN]\n",
        r"
error: unknown key `alowed_countries`
 --> config.yaml:5:9
  |
5 |         alowed_countries: [IN]
  |         ^^^^^^^^^^^^^^^^ did you mean `allowed_countries`?
",
    );
    refused(
        "interfaces: [lan0]\nbase: &b {name: x}\ndevices:\n  - <<: *b\n    mac: 02:00:00:00:00:01\n",
        r"
error: unknown key `base`
 --> config.yaml:2:1
  |
2 | base: &b {name: x}
  | ^^^^ known keys here: interfaces, tc_attach, devices, networks, databases, policy, epoch, listen, allowed_hosts, web_config, limits, state_dir, ledger, retention, leases, log

error: unknown key `<<`
 --> config.yaml:4:5
  |
4 |   - <<: *b
  |     ^^ known keys here: name, mac, macs, group

error: a device has no `name`
 --> config.yaml:4:5
  |
4 |   - <<: *b
  |     ^^ add the device's name: `name: phone-1`
",
    );
    refused(
        "- lan0\n",
        r"
error: the file is not a mapping
 --> config.yaml:1:1
  |
1 | - lan0
  | ^ write `key: value` pairs (mind the space)
",
    );
    refused(
        "log: info\n",
        r"
error: no `interfaces` given
--> config.yaml
 = help: name at least one: `interfaces: [lan0]`
",
    );
    refused(
        "interfaces:\n",
        r"
error: `interfaces` names no interface
 --> config.yaml:1:1
  |
1 | interfaces:
  | ^^^^^^^^^^ name at least one: `interfaces: [lan0]`
",
    );
    refused(
        "interfaces: lan0\n",
        r"
error: `interfaces` is not a list
 --> config.yaml:1:13
  |
1 | interfaces: lan0
  |             ^^^^ write a list: `[lan0]`, or one item a line after `- `
",
    );
    refused(
        "interfaces: [lan0]\nepoch: [1s]\n",
        r"
error: `epoch` takes one value, not a list
 --> config.yaml:2:8
  |
2 | epoch: [1s]
  |        ^ write a time from 100ms to 60s, like 1s
",
    );
    refused(
        "interfaces: [lan0]\nlisten:\n",
        r"
error: `listen` has no value
 --> config.yaml:2:1
  |
2 | listen:
  | ^^^^^^ write address:port, like 127.0.0.1:9469
",
    );
    refused(
        "interfaces: [lan0]\nlimits: 5\n",
        r"
error: `limits` is not a mapping
 --> config.yaml:2:9
  |
2 | limits: 5
  |         ^ write `key: value` pairs (mind the space)
",
    );
    refused(
        "interfaces: [lan0]\ntc_attach: tcxx\n",
        r"
error: `tc_attach` cannot be `tcxx`
 --> config.yaml:2:12
  |
2 | tc_attach: tcxx
  |            ^^^^ did you mean `tcx`?
",
    );
    refused(
        "interfaces: [lan0]\nlog: verbose\n",
        r"
error: `log` cannot be `verbose`
 --> config.yaml:2:6
  |
2 | log: verbose
  |      ^^^^^^^ write one of `off`, `error`, `warn`, `info`, `debug`, `trace`
",
    );
}

#[test]
fn yaml_syntax() {
    refused(
        "interfaces: [lan0]\nepoch: 1s: 2s\n",
        r"
error: not valid YAML: mapping values are not allowed in this context
 --> config.yaml:2:10
  |
2 | epoch: 1s: 2s
  |          ^ a value takes no key beside or below it; one that holds `: ` needs quotes
",
    );
    refused(
        "interfaces: [lan0]\ndevices:\n\t- name: a\n",
        r"
error: not valid YAML: tabs disallowed within this context (block indentation)
 --> config.yaml:3:2
  |
3 |     - name: a
  |     ^ indent with spaces
",
    );
    refused(
        "interfaces: [lan0\n",
        r"
error: not valid YAML: unclosed bracket '['
 --> config.yaml:1:13
  |
1 | interfaces: [lan0
  |             ^ close it, with `]` after `[` and with `}` after `{`
",
    );
    refused(
        "interfaces: [lan0]\nlog: \"info\n",
        r"
error: not valid YAML: invalid indentation in multiline quoted scalar
 --> config.yaml:3:1
  |
3 |
  | ^ close the quotes that were opened before
",
    );
    refused(
        "interfaces: [lan0]\nlog: *level\n",
        r"
error: not valid YAML: reference to unknown value
 --> config.yaml:2:6
  |
2 | log: *level
  |      ^ a value that begins with `*` needs quotes
",
    );
    refused(
        "interfaces: [lan0]\n---\nlog: info\n",
        r"
error: not valid YAML: only single YAML document expected but multiple found
 --> config.yaml:3:1
  |
3 | log: info
  | ^ remove the line `---` and what belongs to another file
",
    );
    refused(
        "[[[[[[[[[[[[[[[[[[[[lan0\n",
        r"
error: not valid YAML: unclosed bracket '['
 --> config.yaml:1:20
  |
1 | [[[[[[[[[[[[[[[[[[[[lan0
  |                    ^ close it, with `]` after `[` and with `}` after `{`
",
    );
}

#[test]
fn interfaces() {
    refused(
        "interfaces: [lan0, {name: wan0}, lan0]\n",
        r"
error: interface `lan0` is given twice
 --> config.yaml:1:34
  |
1 | interfaces: [lan0, {name: wan0}, lan0]
  |              ----                ^^^^ remove one of the two
  |              |
  |              first given here
",
    );
    // An alternative name is longer than 15 bytes.
    let long = |bytes: usize| format!("interfaces: [{}]\n", "x".repeat(bytes));
    assert!(labgate::config::parse(&long(127), "config.yaml").is_ok());
    let error = labgate::config::parse(&long(128), "config.yaml").unwrap_err().to_string();
    assert!(error.contains("at most 15 bytes, alternative ones 127"), "{error}");
    refused(
        "interfaces: [lan0]\nstate_dir: ~/x\n",
        r"
error: `state_dir` begins with `~`, which only shells know
 --> config.yaml:2:12
  |
2 | state_dir: ~/x
  |            ^^^ write the whole path, like /var/lib/labgate
",
    );
    refused(
        "interfaces:\n  - name: lan/0\n  - ..\n  - attach: tc\n  -\n",
        r"
error: `lan/0` is no interface name
 --> config.yaml:2:11
  |
2 |   - name: lan/0
  |           ^^^^^ interface names have no `/`, no `:` and no white space; `ip link` shows them

error: `..` is no interface name
 --> config.yaml:3:5
  |
3 |   - ..
  |     ^^ write the name that `ip link` shows, like lan0

error: an interface has no `name`
 --> config.yaml:4:5
  |
4 |   - attach: tc
  |     ^^^^^^ write the interface's name, like `name: lan0`

error: an entry of `interfaces` has no value
 --> config.yaml:5:4
  |
5 |   -
  |    ^ write the interface's name, like `name: lan0`
",
    );
    refused(
        "interfaces:\n  - name: lan0\n    atach: tcp\n    when_xdp_is_taken: ignore\n",
        r"
error: unknown key `atach`
 --> config.yaml:3:5
  |
3 |     atach: tcp
  |     ^^^^^ did you mean `attach`?

error: `attach` cannot be `tcp`
 --> config.yaml:3:12
  |
3 |     atach: tcp
  |            ^^^ did you mean `tc`?

error: `when_xdp_is_taken` cannot be `ignore`
 --> config.yaml:4:24
  |
4 |     when_xdp_is_taken: ignore
  |                        ^^^^^^ write one of `fail`, `tc`
",
    );
}

#[test]
fn caret_under_wide_long_and_hidden_characters() {
    refused(
        "interfaces: [\"世界世界世界\", \"e\u{301}/0\", lan/0]\n",
        r#"
error: `é/0` is no interface name
 --> config.yaml:1:24
  |
1 | interfaces: ["世界世界世界", "é/0", lan/0]
  |                              ^^^^^ interface names have no `/`, no `:` and no white space; `ip link` shows them

error: `lan/0` is no interface name
 --> config.yaml:1:32
  |
1 | interfaces: ["世界世界世界", "é/0", lan/0]
  |                                     ^^^^^ interface names have no `/`, no `:` and no white space; `ip link` shows them
"#,
    );
    refused(
        "interfaces: [\tlan/0]\r\n",
        r"
error: `lan/0` is no interface name
 --> config.yaml:1:15
  |
1 | interfaces: [    lan/0]
  |                  ^^^^^ interface names have no `/`, no `:` and no white space; `ip link` shows them
",
    );
    refused(
        "\u{feff}interfaces: [lan/0]\n",
        r"
error: `lan/0` is no interface name
 --> config.yaml:1:14
  |
1 | interfaces: [lan/0]
  |              ^^^^^ interface names have no `/`, no `:` and no white space; `ip link` shows them
",
    );
    refused(
        "interfaces: [lan0000000, eth0, eth1, eth2, eth3, eth4, eth5, eth6, eth7, eth8, eth9, eth10, eth11, eth12, eth13, eth14, eth15, eth16, eth17, eth18, eth19, eth20, eth21, eth22, eth23, eth24, eth25, eth26, eth27, eth28, eth29, eth30, eth31, eth32, eth33, eth34, eth35, eth36, eth37, eth38, eth39, eth40, eth41, eth42, eth43, eth44, eth45, eth46, eth47, eth48, eth49, eth50, eth51, eth52, eth53, eth54, eth55, eth56, eth57, eth58, eth59, lan/0]\n",
        r"
error: `lan/0` is no interface name
 --> config.yaml:1:436
  |
1 | ...6, eth57, eth58, eth59, lan/0]
  |                            ^^^^^ interface names have no `/`, no `:` and no white space; `ip link` shows them
",
    );
    refused(
        "interfaces: [lan0]\nlog: \"\\u001b[31m\"\n",
        r#"
error: `log` cannot be `\u{1b}[31m`
 --> config.yaml:2:6
  |
2 | log: "\u001b[31m"
  |      ^^^^^^^^^^^^ write one of `off`, `error`, `warn`, `info`, `debug`, `trace`
"#,
    );
}
