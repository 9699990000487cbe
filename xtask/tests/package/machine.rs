//! The gateway of a bench as a machine with systemd, on which packages are installed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use xtask::bench::{Namespace, Process};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/machine.sh");
const PATIENCE: Duration = Duration::from_secs(30);

/// It ends when this is dropped, or its owner dies; nothing of it is left on disk.
pub(crate) struct Machine<'a> {
    gateway: &'a Namespace,
    mount_point: PathBuf,
    /// Process 1 there, by its number here.
    systemd: String,
    process: Option<Process>,
}

impl<'a> Machine<'a> {
    /// Boots it; the directory of packages is its `/mnt`.
    pub(crate) fn boot(gateway: &'a Namespace, packages: &Path) -> Self {
        let mount_point = packages.join("machine");
        fs::create_dir(&mount_point).unwrap();
        let [script, point, packages] =
            [Path::new(SCRIPT), &mount_point, packages].map(|path| path.to_str().unwrap());
        let unshare = ["unshare", "--mount", script, "outer", point, packages];
        let process = gateway.spawn(&unshare).unwrap();
        let pid = process.pid();
        let mut machine = Self { gateway, mount_point, systemd: String::new(), process: None };
        machine.process = Some(process);
        machine.wait("boot", |machine| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            machine.systemd = children.unwrap_or_default().trim().to_owned();
            machine.run("systemctl is-active basic.target").is_ok()
        });
        machine
    }

    /// Runs a line of shell there, and returns what it prints.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        // Until it has its own root a process of the machine still sees this one's.
        let line = format!("test -e /labgate-machine || exit 1\n{line}");
        let target = ["nsenter", "--target", &self.systemd, "--mount", "--root"];
        let others = ["--uts", "--ipc", "--pid", "--cgroup", "env", "-i"];
        let path = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"];
        self.gateway
            .run(&[&target[..], &others, &path, &["sh", "-c", &line]].concat())
            .with_context(|| self.log())
    }

    /// The same for a line that must succeed.
    #[track_caller]
    pub(crate) fn must(&self, line: &str) -> String {
        match self.run(line) {
            Ok(said) => said.trim().to_owned(),
            Err(error) => {
                let log = self.run("journalctl --unit=labgate --output=cat --no-pager --lines=30");
                panic!("{error:#}\nthe service's log: {}", log.unwrap_or_default())
            }
        }
    }

    /// Waits until something has become true.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "no {what}: {}", self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Its processes first, then the control groups that they were in.
        self.process = None;
        let point = self.mount_point.to_str().unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while Path::new("/proc").join(&self.systemd).exists() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let swept = self.gateway.run(&["unshare", "--mount", SCRIPT, "sweep", point]);
        if let (Err(error), false) = (swept, thread::panicking()) {
            panic!("{error:#}");
        }
    }
}
