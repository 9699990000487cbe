//! What the daemon tells a service manager, which is a socket here.

use std::{
    fs, io,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use xtask::bench::{Bench, Options, Process};

use crate::sensor::{Config, LABGATE, PATIENCE, Sensor};

/// A manager that loses patience after half a second.
struct Manager(UnixDatagram);

impl Manager {
    fn start(bench: &Bench) -> (Self, Process) {
        let path = bench.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = bench.gateway().command(LABGATE);
        command.arg("run").arg("--config").arg(Config::default().write(bench.dir()));
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "500000");
        (Self(socket), bench.gateway().start(command).unwrap())
    }

    /// The next message, if one comes within that time.
    fn hears(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        let mut octets = [0; 4096];
        match self.0.recv(&mut octets) {
            Ok(length) => Some(String::from_utf8(octets[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message with this line, and returns it with those that came before.
    #[track_caller]
    fn waits_for(&self, line: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        loop {
            match self.hears(deadline.saturating_duration_since(Instant::now())) {
                Some(message) => heard.push(message),
                None => panic!("no {line} in {heard:#?}"),
            }
            if heard.iter().any(|message| message.lines().any(|found| found == line)) {
                return heard;
            }
        }
    }

    /// How often the daemon calls in during that time.
    fn calls(&self, during: Duration) -> usize {
        let end = Instant::now() + during;
        let mut calls = 0;
        while let Some(message) = self.hears(end.saturating_duration_since(Instant::now())) {
            calls += usize::from(message.lines().any(|line| line == "WATCHDOG=1"));
        }
        calls
    }
}

/// A thread that has stopped in its tracks while the others go on.
struct Halted(Pid);

impl Halted {
    fn thread(process: &Process, name: &str) -> Self {
        let threads = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
        let path = threads
            .map(|thread| thread.unwrap().path())
            .find(|path| fs::read_to_string(path.join("comm")).unwrap().trim() == name)
            .unwrap();
        let pid: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: attaches to a thread of our own child; no memory of ours is touched.
        let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) };
        assert_eq!(attached, 0, "{}", io::Error::last_os_error());
        // SAFETY: without a place for the status, nothing of ours is touched.
        let stopped = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(stopped, pid, "{}", io::Error::last_os_error());
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        // SAFETY: lets go of the thread that `thread` attached to.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0.as_raw(), 0, 0) };
    }
}

#[test]
fn the_service_manager_is_told() {
    if !xtask::require_root("the_service_manager_is_told") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let (manager, process) = Manager::start(&bench);

    let heard = manager.waits_for("READY=1");
    let status = "STATUS=counting on lan0 (xdp, tcx) and lan1 (xdp, tcx): 6 devices, 0 alerts";
    assert!(heard.last().unwrap().lines().any(|line| line == status), "{heard:#?}");
    let mut sensor = Sensor::ready(bench.gateway(), process);

    let second = Duration::from_secs(1);
    assert!(manager.calls(second) >= 3, "twice and more in half a second");
    // Five epochs of 200 ms and a second later it counts as hung, whatever the other threads do.
    let hung = Halted::thread(&sensor.process, "epoch");
    manager.calls(2 * second + second / 2);
    assert_eq!(manager.calls(second), 0, "no epoch, no call");
    drop(hung);
    manager.waits_for("WATCHDOG=1");

    kill(sensor.process.pid(), Signal::SIGHUP).unwrap();
    let heard = manager.waits_for("RELOADING=1");
    let since = heard.last().unwrap().lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0);
    manager.waits_for("READY=1");

    let ended = sensor.process.stop(Signal::SIGINT, PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(0));
    manager.waits_for("STOPPING=1");
}

#[test]
fn a_service_manager_that_is_gone_stops_nothing() {
    if !xtask::require_root("a_service_manager_that_is_gone_stops_nothing") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let (manager, process) = Manager::start(&bench);
    manager.waits_for("READY=1");
    drop(manager);
    let mut sensor = Sensor::ready(bench.gateway(), process);
    sensor.process.wait_for_output("the service manager can't be told", PATIENCE).unwrap();
    sensor.settled();
    sensor.stop();
}
