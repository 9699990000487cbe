//! An anonymous network namespace, held by one sleeping process.
//!
//! Nothing lies below /run/netns: the namespace lives as long as a process or a descriptor in it,
//! and all of those die with their owner. Programs enter with setns(2), which leaves /sys and
//! bpffs alone (`ip netns exec` remounts them).

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::Pid,
};

use super::process::{Process, bind_to_owner};

/// Programs in the bench reach its hosts directly, whatever the user's shell says.
const PROXY_VARIABLES: [&str; 6] =
    ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];

/// Where a sensor pins its links and tables.
const PINS: &str = "/sys/fs/bpf/labgate";

/// A network namespace of its own. It vanishes, interfaces included, when this is dropped and
/// everything started inside has ended.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Open for the namespace's whole life, so that its identity cannot be recycled.
    netns: Arc<File>,
    holder: Process,
    logs: PathBuf,
    spawned: AtomicUsize,
}

/// What a sensor that was killed leaves in the BPF file system goes with its namespace.
impl Drop for Namespace {
    fn drop(&mut self) {
        let Ok(inode) = self.inode() else { return };
        let pins = Path::new(PINS).join(format!("net-{inode}"));
        // Few have any.
        let _gone: io::Result<()> = fs::remove_dir_all(pins);
    }
}

impl Namespace {
    /// Makes a namespace with its loopback interface up. Output of its programs goes to files in
    /// `logs`.
    ///
    /// # Errors
    /// When the caller may not make namespaces (CAP_SYS_ADMIN).
    pub fn new(name: &str, logs: &Path) -> Result<Self> {
        let mut command = Command::new("sleep");
        command.arg("infinity");
        bind_to_owner(&mut command, || unshare(CloneFlags::CLONE_NEWNET));
        let holder = Process::spawn(
            command,
            format!("the holder of namespace {name}"),
            logs.join(format!("{name}-holder.log")),
        )
        .context("cannot make a network namespace (root or CAP_SYS_ADMIN is needed)")?;
        let path = format!("/proc/{}/ns/net", holder.pid());
        let netns = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let namespace = Self {
            name: name.to_owned(),
            netns: Arc::new(netns),
            holder,
            logs: logs.to_owned(),
            spawned: AtomicUsize::new(0),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, for messages and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds it; `ip link ... netns PID` takes this number.
    pub fn pid(&self) -> Pid {
        self.holder.pid()
    }

    /// The inode in `/proc/PID/ns/net`, which identifies it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn inode(&self) -> Result<u64> {
        Ok(self.netns.metadata()?.ino())
    }

    /// A command that runs inside, dies with the calling thread and reads nothing.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in PROXY_VARIABLES {
            command.env_remove(variable);
        }
        let netns = Arc::clone(&self.netns);
        bind_to_owner(&mut command, move || setns(&*netns, CloneFlags::CLONE_NEWNET));
        command
    }

    /// Starts a program and leaves it running until the returned guard is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, argv: &[&str]) -> Result<Process> {
        let (program, args) = argv.split_first().context("no program given")?;
        let mut command = self.command(program);
        command.args(args);
        self.start(command)
    }

    /// Like [`spawn`](Self::spawn), for a command made with [`command`](Self::command).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: Command) -> Result<Process> {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        let program = program.to_string_lossy().into_owned();
        let log = self.logs.join(format!("{}-{number}-{program}.log", self.name));
        Process::spawn(command, format!("{program} in {}", self.name), log)
    }

    /// Runs a program to its end and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the error has its standard error.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        let (program, args) = argv.split_first().context("no program given")?;
        let output = self
            .command(program)
            .args(args)
            .output()
            .with_context(|| format!("cannot start {program}: is it installed?"))?;
        self.succeeded(&argv.join(" "), &output)
    }

    /// Runs lines of iproute2's `ip` in one batch, such as `link set lo up`.
    ///
    /// # Errors
    /// When a line is refused; the rest is not run.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip: is iproute2 installed?")?;
        let written = child.stdin.take().map(|mut input| input.write_all(lines.as_bytes()));
        let output = child.wait_with_output()?;
        self.succeeded(&format!("ip -batch:\n{lines}"), &output)?;
        written.transpose().context("cannot write to ip")?;
        Ok(())
    }

    /// Sets kernel parameters below /proc/sys, such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel has no such parameter or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        // /proc/sys/net shows the namespace of the task that opens it.
        self.enter(|| {
            settings.iter().try_for_each(|(key, value)| {
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("cannot set {key} to {value}"))
            })
        })?
    }

    /// Runs `work` on a new thread inside the namespace and returns its value. Sockets opened
    /// there stay inside wherever they are used. Programs started there end with the closure.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let result = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.handle().join()?;
                    Ok(work())
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A handle for a thread that moves in for good.
    pub fn handle(&self) -> Handle {
        Handle { netns: Arc::clone(&self.netns), name: self.name.clone() }
    }

    fn succeeded(&self, what: &str, output: &Output) -> Result<String> {
        if !output.status.success() {
            bail!(
                "in namespace {}, `{what}` failed ({}): {}",
                self.name,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Refers to a namespace from another thread, without keeping its processes alive.
#[derive(Clone)]
pub struct Handle {
    netns: Arc<File>,
    name: String,
}

impl Handle {
    /// Moves the calling thread, and no other, into the namespace.
    ///
    /// # Errors
    /// When the caller may not (CAP_SYS_ADMIN).
    pub fn join(&self) -> Result<()> {
        setns(&*self.netns, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter network namespace {}", self.name))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.name).finish()
    }
}
