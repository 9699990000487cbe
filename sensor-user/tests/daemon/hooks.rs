//! What is attached to an interface, as the kernel tells, whoever attached it.

use std::{
    thread,
    time::{Duration, Instant},
};

use aya::programs::{SchedClassifier, TcAttachType};
use xtask::bench::Namespace;

use crate::sensor::PATIENCE;

/// Everything at an interface's hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hooks {
    /// Mode and program of the XDP slot, as `ip` names the mode: `xdp` is native.
    pub(crate) xdp: Vec<(String, String)>,
    /// Programs at TCX, ingress first.
    pub(crate) tcx: [Vec<String>; 2],
    /// Filters of the clsact qdisc, ingress first: the program's name, or the filter's kind.
    pub(crate) filters: [Vec<String>; 2],
}

impl Hooks {
    pub(crate) fn of(namespace: &Namespace, interface: &str) -> Self {
        let tcx = |hook| {
            let programs = namespace.enter(|| SchedClassifier::query_tcx(interface, hook));
            let (_, programs) = programs.unwrap().unwrap();
            programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
        };
        let filters = |hook| {
            let text = namespace.run(&["tc", "-j", "filter", "show", "dev", interface, hook]);
            let json: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
            // The first entry of each kind and priority only announces them.
            let listed =
                json.as_array().unwrap().iter().filter(|entry| entry["options"].is_object());
            let name = |entry: &serde_json::Value| {
                let program = entry["options"]["bpf_name"].as_str();
                program.or(entry["kind"].as_str()).unwrap().to_owned()
            };
            let mut names: Vec<String> = listed.map(name).collect();
            // A u32 filter comes with its table.
            names.dedup();
            names
        };
        let text = namespace.run(&["ip", "-d", "-j", "link", "show", interface]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let link = json[0].as_object().unwrap();
        let xdp = link.get("xdp").into_iter().map(|xdp| {
            let mode = ["none", "xdp", "xdpgeneric", "xdpoffload", "xdpmulti"];
            let mode = mode[usize::try_from(xdp["mode"].as_u64().unwrap()).unwrap()].to_owned();
            (mode, xdp["prog"]["name"].as_str().unwrap_or_default().to_owned())
        });
        Self {
            xdp: xdp.collect(),
            tcx: [tcx(TcAttachType::Ingress), tcx(TcAttachType::Egress)],
            filters: [filters("ingress"), filters("egress")],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Waits until nothing is attached: after SIGKILL the kernel closes links in its own time.
#[track_caller]
pub(crate) fn assert_nothing_attached(namespace: &Namespace, interfaces: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    for interface in interfaces {
        loop {
            let hooks = Hooks::of(namespace, interface);
            if hooks.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "left at {interface}: {hooks:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
