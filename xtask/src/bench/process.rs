//! Child processes that cannot outlive their owner.
//!
//! Every child gets `PR_SET_PDEATHSIG = SIGKILL`, so the kernel ends it even after `kill -9` of
//! its owner. The kernel takes the *thread* that called `spawn` for the parent (prctl(2)): spawn
//! from the thread that holds the bench, not from one that ends sooner.

use std::{
    fs,
    io::{self, Error, ErrorKind},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill, killpg},
    },
    unistd::{Pid, getppid},
};

const POLL: Duration = Duration::from_millis(5);

/// Makes `command` die with the thread that spawns it and leaves its terminal's signals to us.
///
/// `enter` runs in the child before the program starts, to change its namespaces.
pub(crate) fn bind_to_owner<F>(command: &mut Command, enter: F)
where
    F: Fn() -> nix::Result<()> + Send + Sync + 'static,
{
    let owner = std::process::id();
    command.stdin(Stdio::null()).process_group(0);
    let prepare = move || {
        enter()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // An owner that ended before the line above would never send the signal.
        if getppid().as_raw().cast_unsigned() == owner {
            Ok(())
        } else {
            Err(Error::from(ErrorKind::BrokenPipe))
        }
    };
    // SAFETY: between fork and exec only system calls are made; nothing allocates or locks.
    unsafe { command.pre_exec(prepare) };
}

/// A running program. It is killed, with its process group, and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard output and error in the new file `log`.
    pub(crate) fn spawn(mut command: Command, name: String, log: PathBuf) -> Result<Self> {
        let file = fs::File::create_new(&log)
            .with_context(|| format!("cannot create the log file {}", log.display()))?;
        let copy = file.try_clone().context("cannot share a log file")?;
        let child = command.stdout(file).stderr(copy).spawn().with_context(|| {
            format!("cannot start {name}: is {} installed?", command.get_program().display())
        })?;
        Ok(Self { child, name, log })
    }

    /// Its process ID.
    pub fn pid(&self) -> Pid {
        // The kernel's pid_t is an i32; std shows it as u32.
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What was started, and where.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with everything it wrote.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it wrote so far; bytes that are not UTF-8 are replaced.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The status if it has ended, `None` while it runs.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it still runs after `patience`; it is left running.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {patience:?}; it wrote: {}", self.name, self.output());
            }
            thread::sleep(POLL);
        }
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it has ended before, or does not end within `patience`.
    pub fn stop(&mut self, signal: Signal, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            bail!("{} had ended already ({status}); it wrote: {}", self.name, self.output());
        }
        kill(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))?;
        self.wait(patience)
    }

    /// Waits until its output contains `text`.
    ///
    /// # Errors
    /// When it ends first, or `patience` runs out.
    pub fn wait_for_output(&mut self, text: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            // Asked before reading, so that last words are not missed.
            let ended = self.ended()?;
            if self.output().contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}); it wrote: {}", self.name, self.output());
            }
            if Instant::now() >= deadline {
                bail!("{} did not write `{text}` but: {}", self.name, self.output());
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once reaped, the number may belong to somebody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone: nix::Result<()> = killpg(self.pid(), Signal::SIGKILL);
            let _reaped: io::Result<ExitStatus> = self.child.wait();
        }
    }
}
