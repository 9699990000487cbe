//! One interface: what it is, where LabGate would attach and why, and what may spoil the counts.

use super::{super::terminal::say, Findings};
use crate::{
    config::{AttachMode, InterfaceConfig, TcAttach, WhenXdpIsTaken},
    host::{Driver, Host, Kind, Link, TcHook, driver},
    kernel::{AttachError, Owner, check_tc},
};

/// Longest frame that fits into a page beside XDP's headroom and the kernel's own part, as MTU:
/// 4096 - 256 (`XDP_PACKET_HEADROOM`) - 320 (`struct skb_shared_info`) - 14.
const MAX_ONE_BUFFER_MTU: u32 = 3506;

/// A driver's feature that spoils counts, and how.
struct Trap {
    feature: &'static str,
    /// Only where uploads are counted at native XDP.
    xdp_only: bool,
    harm: &'static str,
    remedy: &'static str,
}

const TRAPS: [Trap; 5] = [
    Trap {
        feature: "hw-tc-offload",
        xdp_only: false,
        harm: "packets of flows that the card forwards by itself are not counted",
        remedy: "hw-tc-offload off",
    },
    Trap {
        feature: "rx-lro",
        xdp_only: false,
        harm: "the card melts packets into one before they are counted",
        remedy: "lro off",
    },
    Trap {
        feature: "rx-fcs",
        xdp_only: false,
        harm: "frames keep their checksum, so each counts 4 bytes too many",
        remedy: "rx-fcs off",
    },
    Trap {
        feature: "rx-vlan-hw-parse",
        xdp_only: true,
        harm: "VLAN tags are taken off before XDP sees a frame; where devices send tagged frames the \
               VLAN is missing, and 4 bytes of each",
        remedy: "rxvlan off",
    },
    Trap {
        feature: "rx-gro-hw",
        xdp_only: true,
        harm: "the card melts packets into one, and some drivers refuse native XDP then",
        remedy: "rx-gro-hw off",
    },
];

/// Prints what is found about an interface.
pub(super) fn report(
    config: &InterfaceConfig,
    tc: TcAttach,
    link: &Link,
    host: &Host,
    running: bool,
    findings: &mut Findings,
) {
    let driver = driver(link.index);
    let owner = link.xdp.map(|slot| Owner::of_slot(&link.name, slot));
    // Its own programs are in nobody's way: they go with the sensor that runs. Where their names can't
    // be known it is the likely holder.
    let ours = |owner: &Owner| {
        running && owner.name.as_deref().is_none_or(|name| name.starts_with("labgate_"))
    };
    let owner = owner.filter(|owner| !ours(owner));
    say!("{}", headline(link, host));
    if let Some(stacked) = stacked(link, host) {
        say!("  {stacked}");
    }
    let native = match ingress(config, &driver, owner.as_ref()) {
        Ok(ingress) => {
            say!("  uploads at {}; downloads at TC egress", ingress.sentence);
            ingress.native
        }
        Err(error) => {
            findings.problem(error);
            false
        }
    };
    let hooks = [TcHook::Egress, TcHook::Ingress];
    if let Err(error) = check_tc(link, if native { &hooks[..1] } else { &hooks }, tc) {
        findings.problem(error);
    }
    if host.is_way_out(link) {
        findings.mistake(format!("{}: {}", link.name, super::WAY_OUT));
    }
    for warning in warnings(link, &driver, native) {
        findings.warning(format!("{}: {warning}", link.name));
    }
}

/// Where uploads would be counted.
#[derive(Debug, PartialEq, Eq)]
struct Ingress {
    native: bool,
    sentence: String,
}

/// What [`Attached::new`](crate::kernel::Attached::new) would do, as far as can be known without
/// trying.
fn ingress(
    config: &InterfaceConfig,
    driver: &Driver,
    owner: Option<&Owner>,
) -> Result<Ingress, AttachError> {
    let interface = config.name.clone();
    let tc = |why: &str| {
        let sentence = format!("TC ingress, {why}");
        Ok(Ingress { native: false, sentence })
    };
    if config.attach == AttachMode::Tc {
        return tc("as `attach: tc` says");
    }
    if let Some(owner) = owner {
        return match config.when_xdp_is_taken {
            WhenXdpIsTaken::Tc => tc(&format!("because the XDP slot is taken {owner}")),
            WhenXdpIsTaken::Fail => {
                Err(AttachError::XdpTaken { interface, owner: owner.to_string() })
            }
        };
    }
    let native = |why: &str| {
        let sentence = format!("native XDP, {why}");
        Ok(Ingress { native: true, sentence })
    };
    match driver.xdp.map(|xdp| xdp.native) {
        Some(true) => native("which its driver has by the kernel's word"),
        None => native("if its driver has it (kernels before 6.3 don't say), else at TC ingress"),
        Some(false) if config.attach == AttachMode::Auto => {
            tc("because by the kernel's word it has no native XDP")
        }
        Some(false) => Err(AttachError::NoNativeXdp {
            interface,
            reason: "by the kernel's word its driver does not support it".to_owned(),
        }),
    }
}

/// `lan0: bridge, up, MTU 1500, 02:1a:b0:00:00:01, 192.168.77.1/24`
fn headline(link: &Link, host: &Host) -> String {
    let state = match (link.up, link.carrier) {
        (true, true) => "up",
        (true, false) => "up without a carrier",
        (false, _) => "down",
    };
    let mut words = vec![link.kind.to_string(), state.to_owned(), format!("MTU {}", link.mtu)];
    words.extend(link.mac.map(|mac| mac.to_string()));
    words.extend(host.addresses(link).map(|net| net.to_string()));
    format!("{}: {}", link.name, words.join(", "))
}

/// What is above or below, and what follows from that for where to attach.
fn stacked(link: &Link, host: &Host) -> Option<String> {
    let ports: Vec<&str> = host.ports(link).map(|port| port.name.as_str()).collect();
    let ports = ports.join(", ");
    let master = link.master.and_then(|index| host.by_index(index));
    let below = link.carried_by.and_then(|index| host.by_index(index));
    match (&link.kind, master, below) {
        (Kind::Bridge, ..) if ports.is_empty() => {
            Some("a bridge without ports: nothing passes it yet".to_owned())
        }
        (Kind::Bridge, ..) => Some(format!(
            "a bridge of {ports}: TC on the bridge counts what passes this gateway; to count also \
             what the devices exchange with each other watch its ports, never both"
        )),
        (Kind::Bond, ..) => {
            Some(format!("a bond of {ports}: watch the bond or its members, never both"))
        }
        (_, Some(master), _) => Some(format!(
            "a port of the {} {}: what is counted here must not be counted there too",
            master.kind, master.name
        )),
        (kind, _, Some(below)) => {
            Some(format!("a {kind} on top of {}: watch one of them, never both", below.name))
        }
        _ => None,
    }
}

/// What is legal here but unwise.
fn warnings(link: &Link, driver: &Driver, native: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !link.up {
        warnings.push(format!("it is down: `ip link set {} up`", link.name));
    }
    for trap in TRAPS.iter().filter(|trap| driver.has(trap.feature) && (native || !trap.xdp_only)) {
        let Trap { feature, harm, remedy, .. } = trap;
        let or_tc = if trap.xdp_only { ", or count at TC with `attach: tc`" } else { "" };
        warnings
            .push(format!("{feature} is on: {harm}; `ethtool -K {} {remedy}`{or_tc}", link.name));
    }
    let one_buffer = driver.xdp.is_some_and(|xdp| !xdp.fragments);
    if native && one_buffer && link.mtu > MAX_ONE_BUFFER_MTU {
        warnings.push(format!(
            "its driver has native XDP only up to an MTU of about {MAX_ONE_BUFFER_MTU}, and it is {}: \
             uploads may be counted at TC ingress after all",
            link.mtu
        ));
    }
    warnings
}

#[cfg(test)]
pub(super) mod tests;
