//! `labgate check`: everything that `run` would need, without attaching.

mod files;
mod interface;
mod listener;
mod memory;

use std::{fmt::Display, path::Path};

use anyhow::{Result, bail};

use super::{instance::Instance, run::sizes, terminal::say};
use crate::{
    adopted::StateFile,
    config::{self, Config, WhenMissing},
    host::{Host, overlaps},
    kernel::{GracePeriod, InterfaceError, Sensor, check_kernel, check_privileges, possible_cpus},
    reload::open_geo,
    sinks::http,
};

/// What is wrong with an interface that the default route leaves by.
pub(super) const WAY_OUT: &str = "the default route leaves by it, so this looks like the side of the internet, where all devices have this \
     gateway's MAC address; watch the LAN interface instead";

/// What was found so far, printed as it comes.
#[derive(Debug, Default)]
struct Findings {
    problems: usize,
    mistakes: usize,
}

impl Findings {
    /// What `run` would fail for.
    fn problem(&mut self, error: impl Display) {
        say!("problem: {error}");
        self.problems += 1;
    }

    /// What `run` would start with, and count something else than is meant.
    fn mistake(&mut self, error: impl Display) {
        say!("problem: {error}");
        self.mistakes += 1;
    }

    /// The error, if there is one.
    fn note<T, E: Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.problem(error)).ok()
    }

    /// What is legal but unwise.
    #[expect(clippy::unused_self, reason = "beside `problem`")]
    fn warning(&self, warning: impl Display) {
        say!("warning: {warning}");
    }
}

/// Checks configuration, databases, interfaces and this machine, and prints what it found.
///
/// # Errors
///
/// When `run` would fail; each reason is printed before.
pub fn check(path: &Path) -> Result<()> {
    let config = config::load(path)?;
    let mut findings = Findings::default();
    for warning in &config.warnings {
        findings.warning(warning);
    }
    adopted(&config, &mut findings);
    // A sensor that runs here has the port, and its own programs at the hooks.
    let running = Instance::is_held();
    interfaces(&config, running, &mut findings);
    if let Some(geo) = findings.note(open_geo(&config)) {
        for database in geo.databases() {
            say!("database: {} ({}), {}", database.role, database.kind, database.source);
        }
    }
    files::report(&config, &mut findings);
    findings.note(http::Settings::load(config.web_config.as_deref(), &http::Names::new(&config)));
    if running {
        say!("running: a labgate counts in this network namespace; its port is not tested");
    } else {
        findings.note(http::bind(config.listen));
    }
    kernel(&config, &mut findings);
    if findings.problems > 0 {
        bail!(
            "{} can't be run here: {} problem(s), listed above",
            path.display(),
            findings.problems
        );
    }
    if findings.mistakes > 0 {
        bail!(
            "{} can be run here, but would not count what is meant: {} problem(s), listed above",
            path.display(),
            findings.mistakes
        );
    }
    say!("{}: ok", path.display());
    Ok(())
}

/// The devices that were adopted; counting goes on without them.
fn adopted(config: &Config, findings: &mut Findings) {
    let file = StateFile::of(&config.state_dir);
    match file.read() {
        Ok(adopted) => {
            for warning in adopted.beside(config).1 {
                findings.warning(warning);
            }
            if !adopted.devices().is_empty() {
                say!("devices: {} adopted, in {}", adopted.devices().len(), file.path().display());
            }
        }
        Err(error) => findings.warning(format!("adopted devices would be unknown: {error}")),
    }
}

/// Each interface, how they are stacked, and who can reach the listener.
fn interfaces(config: &Config, running: bool, findings: &mut Findings) {
    let Some(host) = findings.note(Host::look()) else { return };
    for interface in &config.interfaces {
        let name = || interface.name.clone();
        match host.link(&interface.name) {
            Some(link) if link.ethernet => {
                interface::report(interface, config.tc_attach, link, &host, running, findings);
            }
            Some(_) => findings.problem(InterfaceError::NotEthernet(name())),
            None if interface.when_missing == WhenMissing::Wait => {
                let error = InterfaceError::Missing(name());
                findings.warning(format!("{error}; it will be waited for"));
            }
            None => findings.problem(InterfaceError::Missing(name())),
        }
    }
    let names: Vec<&str> =
        config.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    for overlap in overlaps(&host, &names) {
        findings.problem(overlap);
    }
    for warning in listener::warnings(config.listen, &host, &names) {
        findings.warning(warning);
    }
    for device in &config.devices {
        let own =
            host.links.iter().find(|link| link.mac.is_some_and(|mac| device.macs.contains(&mac)));
        if let Some(link) = own {
            findings.warning(format!(
                "device `{}` has the MAC address of this machine's own {}",
                device.name, link.name
            ));
        }
    }
}

/// Privileges, kernel, memory, and what the verifier says of the programs.
fn kernel(config: &Config, findings: &mut Findings) {
    let privileged = findings.note(check_privileges()).is_some();
    let supported = findings.note(check_kernel()).is_some();
    findings.note(GracePeriod::new());
    let (cpus, sizes) = (possible_cpus(), sizes(config));
    let fits = findings.note(sizes.check(cpus)).is_some();
    let needed = sizes.memory(cpus);
    say!(
        "memory: {} MiB of kernel memory for the tables of {cpus} CPUs, {} flow slots each",
        needed.div_ceil(1 << 20),
        sizes.flow_slots_per_cpu
    );
    let enough = match memory::Memory::of_this_machine() {
        Some(memory) => memory.judge(needed, findings),
        None => true,
    };
    if privileged && supported && fits && enough {
        // Loaded and let go again; nothing is attached.
        if findings.note(Sensor::load(&sizes, &config.device_macs())).is_some() {
            say!("programs: this kernel takes them");
        }
    }
}
