//! The OpenAPI description against the answers: every path, every parameter, values that it allows
//! and values that it does not. What is sent is made from the description, so a new path or
//! parameter is tested by being described.

use std::{collections::BTreeSet, ops::Deref};

use jsonschema::Validator;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{sinks::ledger::Ledger, state::Keeping};

/// Values that no client means, for every parameter.
const HOSTILE: [&str; 12] = [
    "",
    " ",
    "0",
    "-1",
    "1e3",
    "4294967296",
    "null",
    "\0",
    "\u{202e}\u{7f}\u{9b}",
    "'; DROP TABLE devices; --",
    "../../../etc/passwd",
    "=1+1",
];

/// xorshift64: the same requests in every run.
struct Generator(u64);

impl Generator {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Letters, digits and signs that mean something somewhere, or anything.
    fn text(&mut self) -> String {
        let signs: Vec<_> = "aZ09:./-+%&=# \0\u{7f}é漢\u{1f4f1}".chars().collect();
        (0..self.below(70)).map(|_| *self.pick(&signs)).collect()
    }
}

/// A path's parameter with values to send.
struct Parameter {
    name: String,
    /// What the description promises to be taken.
    good: Vec<String>,
    validator: Validator,
    is_number: bool,
}

impl Parameter {
    fn new(described: &Value) -> Self {
        assert_eq!(described["in"], "query");
        assert_eq!(described["required"], false);
        assert!(described["description"].as_str().is_some_and(|text| text.len() > 10));
        let schema = &described["schema"];
        let is_number = schema["type"] == "integer";
        let strings = |list: &Value| -> Vec<String> {
            let values = list.as_array().into_iter().flatten();
            values.map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        let mut good = [strings(&schema["examples"]), strings(&schema["enum"])].concat();
        if is_number {
            let bound = |name: &str, default| schema[name].as_u64().unwrap_or(default);
            let (low, high) = (bound("minimum", 0), bound("maximum", u32::MAX.into()));
            good = [low, low + 1, high / 2, high].map(|number| number.to_string()).into();
        }
        let name = described["name"].as_str().unwrap().to_owned();
        assert!(!good.is_empty(), "{name} has neither examples nor an enum");
        let validator =
            jsonschema::draft202012::options().should_validate_formats(true).build(schema).unwrap();
        let parameter = Self { name, good, validator, is_number };
        for value in &parameter.good {
            assert!(parameter.allows(value), "{}: its own example {value}", parameter.name);
        }
        parameter
    }

    /// Whether the description allows a value.
    fn allows(&self, value: &str) -> bool {
        // Digits: JSON's other ways to write a number are none of a URL's.
        let number = || value.parse::<i64>().ok().map(Value::from);
        let instance = if self.is_number { number() } else { None };
        self.validator.is_valid(&instance.unwrap_or_else(|| json!(value)))
    }

    fn with(&self, value: &str) -> String {
        format!("{}={}", self.name, utf8_percent_encode(value, NON_ALPHANUMERIC))
    }
}

/// The description, and what it says of one operation.
struct Operation<'a> {
    document: &'a Value,
    path: &'a str,
    described: &'a Value,
}

impl Operation<'_> {
    fn parameters(&self) -> Vec<Parameter> {
        self.described["parameters"].as_array().into_iter().flatten().map(Parameter::new).collect()
    }

    /// Holds an answer against the description.
    fn check(&self, request: &str, (status, head, body): &(u16, String, String)) {
        let response = &self.described["responses"][status.to_string()];
        assert!(response.is_object(), "{request}: {status} is not described: {body}");
        let (media, content) = response["content"].as_object().unwrap().iter().next().unwrap();
        let line = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
        assert_eq!(line.split(';').next(), Some(media.as_str()), "{request}");
        if media != "application/json" {
            assert_eq!(content["schema"]["type"], "string", "{request}");
            return;
        }
        let answer: Value = serde_json::from_str(body).unwrap();
        let mut schema = content["schema"].clone();
        close(&mut schema, false);
        schema["components"] = self.document["components"].clone();
        schema["components"]["schemas"]
            .as_object_mut()
            .unwrap()
            .values_mut()
            .for_each(close_inside);
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<_> =
            validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{request}: {errors:#?}\n{body}");
    }
}

/// Allows nothing in an answer that is not described: the description is open by default.
fn close(schema: &mut Value, is_part: bool) {
    let is_object = ["$ref", "properties", "allOf"].iter().any(|key| schema.get(key).is_some());
    if is_object && !is_part {
        schema["unevaluatedProperties"] = json!(false);
    }
    close_inside(schema);
}

/// The same for what a schema consists of; the parts of an `allOf` know nothing of each other.
fn close_inside(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    for (key, inside) in schema {
        match (key.as_str(), inside) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|schema| close(schema, false));
            }
            ("items", schema) => close(schema, false),
            ("allOf", Value::Array(parts)) => parts.iter_mut().for_each(|part| close(part, true)),
            _ => {}
        }
    }
}

/// A server, and the ledger that it asks about periods.
struct Populated {
    server: Server,
    _ledger: TempDir,
}

impl Deref for Populated {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// A server with a device of every name that the description has as an example.
fn populated() -> Populated {
    let server = server(Duration::from_secs(3600));
    let mut devices = fixture::devices();
    devices[0].name = "redmi-1s".into();
    let far = Far {
        country: fixture::country("CN"),
        asn: 4808,
        operator: "<b>\"Net\" & Söhne</b>",
        prefix: Some("42.62.48.0/24".parse().unwrap()),
        address: Some("42.62.48.9".parse().unwrap()),
        port: 443,
        watched: true,
    };
    let flows = [0, 3, 4, 5].map(|device| fixture::flow(device, Direction::Tx, &far, 2, 200));
    let arp = fixture::flow(0, Direction::Rx, &Far::default(), 1, 42);
    let record = fixture::record(1, [&flows[..], &[arp]].concat());
    Sinks::new(Arc::clone(&server.shared), Policy::default()).publish(
        &record,
        &devices,
        EpochTimes::default(),
    );
    server.shared.cover(vec![fixture::coverage("tc", "the driver has no native XDP")]);
    let ledger = tempfile::tempdir().unwrap();
    let path = ledger.path().join("ledger.db");
    drop(Ledger::open(&path).unwrap());
    server.shared.keep(Keeping { path, ..Keeping::default() });
    Populated { server, _ledger: ledger }
}

async fn document(server: &Server) -> Value {
    let (status, head, body) = server.get("/api/v1/openapi.json").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(&body).unwrap()
}

/// Every path with its one operation.
fn operations(document: &Value) -> impl Iterator<Item = Operation<'_>> {
    document["paths"].as_object().unwrap().iter().map(move |(path, item)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().collect();
        assert_eq!(methods, ["get"], "{path}");
        Operation { document, path, described: &item["get"] }
    })
}

#[tokio::test]
async fn it_describes_what_the_landing_page_lists() {
    let server = populated();
    let document = document(&server).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{document:#}");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(!document.to_string().contains("]("), "a link that only rustdoc can follow");
    let described: BTreeSet<_> = operations(&document).map(|operation| operation.path).collect();
    let (_, _, page) = server.get("/").await;
    let listed: BTreeSet<_> =
        page.split_whitespace().filter(|word| word.starts_with('/')).collect();
    assert_eq!(described, listed);
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let server = populated();
    let document = document(&server).await;
    let mut sent = 0;
    for operation in operations(&document) {
        let path = operation.path;
        let answer = server.get(path).await;
        assert_eq!(answer.0, 200, "{path}");
        operation.check(path, &answer);
        let (status, head, body) = server.ask("HEAD", path).await;
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
        assert!(head.contains("content-length: "), "{head}");

        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let answer = server.ask(method, path).await;
            assert_eq!(answer.0, 405, "{method} {path}");
            operation.check(path, &answer);
        }
        for (query, code) in [
            ("no_such_parameter=1", ErrorCode::UnknownParameter),
            ("a=%f", ErrorCode::MalformedRequest),
        ] {
            let answer = server.get(&format!("{path}?{query}")).await;
            operation.check(query, &answer);
            assert_eq!(problem(&answer.2).code, code, "{path}?{query}");
        }
        sent += 1;
    }
    assert!(sent >= 9, "{sent}");
}

#[tokio::test]
async fn values_are_taken_or_refused_as_described() {
    let server = populated();
    let document = document(&server).await;
    let mut generator = Generator(0x1ab6_a7e5_eed0_0005);
    for operation in operations(&document) {
        for parameter in operation.parameters() {
            let numbers = ["1.5", "65536", "100001", "4294967295", "99999999999999999999"];
            let random: Vec<_> = (0..40).map(|_| generator.text()).collect();
            let others = HOSTILE.iter().chain(&numbers).map(|text| (*text).to_owned());
            for value in parameter.good.iter().cloned().chain(others).chain(random) {
                let target = format!("{}?{}", operation.path, parameter.with(&value));
                let answer = server.get(&target).await;
                operation.check(&target, &answer);
                let is_good = parameter.good.contains(&value);
                match answer.0 {
                    200 => assert!(parameter.allows(&value), "{target} was taken"),
                    400 | 404 => {
                        let error = problem(&answer.2);
                        let is_name = matches!(
                            error.code,
                            ErrorCode::UnknownDevice | ErrorCode::UnknownGroup
                        );
                        assert_eq!(
                            parameter.allows(&value),
                            is_name,
                            "{target}: {}",
                            error.message
                        );
                        assert!(!is_good, "{target}: {}", error.message);
                        assert_eq!(error.parameter.as_deref(), Some(&*parameter.name), "{target}");
                    }
                    status => panic!("{target}: {status}"),
                }
            }
            let value = parameter.with(&parameter.good[0]);
            let twice = format!("{}?{value}&{value}", operation.path);
            let answer = server.get(&twice).await;
            operation.check(&twice, &answer);
            assert_eq!(problem(&answer.2).code, ErrorCode::RepeatedParameter, "{twice}");
        }
    }
}

#[tokio::test]
async fn parameters_go_together_and_one_bad_one_spoils_all() {
    let server = populated();
    let document = document(&server).await;
    let mut generator = Generator(0x1ab6_a7e5_eed0_0006);
    for operation in operations(&document) {
        let parameters = operation.parameters();
        if parameters.is_empty() {
            continue;
        }
        for _ in 0..30 {
            let mut chosen: Vec<_> =
                parameters.iter().filter(|_| generator.below(2) == 0).collect();
            // In any order.
            chosen.sort_by_key(|_| generator.below(100));
            let query: Vec<_> =
                chosen.iter().map(|p| p.with(generator.pick::<String>(&p.good))).collect();
            let target = format!("{}?{}", operation.path, query.join("&"));
            let answer = server.get(&target).await;
            assert_eq!(answer.0, 200, "{target}: {}", answer.2);
            operation.check(&target, &answer);
        }
        let spoilt = &parameters[generator.below(parameters.len())];
        let pairs = parameters
            .iter()
            .map(|p| if p.name == spoilt.name { p.with("\0") } else { p.with(&p.good[0]) });
        let target = format!("{}?{}", operation.path, pairs.collect::<Vec<_>>().join("&"));
        let answer = server.get(&target).await;
        operation.check(&target, &answer);
        assert_eq!(problem(&answer.2).parameter.as_deref(), Some(&*spoilt.name), "{target}");
    }
}

#[tokio::test]
async fn a_sensor_that_is_not_ready_answers_as_described() {
    let server = server(Duration::from_secs(1));
    let document = document(&server).await;
    for operation in operations(&document) {
        let answer = server.get(operation.path).await;
        operation.check(operation.path, &answer);
        assert_eq!(answer.0, if operation.path == "/readyz" { 503 } else { 200 });
    }
}
