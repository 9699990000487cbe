//! A virtual machine that boots one kernel, examines it and says what it found.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{arch::Arch, emulator::Emulator, result::Kernel};
use crate::bench::process::{Process, bind_to_owner};

/// Begins the line on the console with the result.
pub(super) const RESULT: &str = "LABGATE-RESULT ";
/// Where the machine's file system and its programs take place, in MiB.
const MEMORY: &str = "1024";
/// The bench has senders, a gateway and receivers.
const CPUS: &str = "2";

/// What to boot.
pub(super) struct Machine<'a> {
    pub(super) arch: Arch,
    pub(super) emulator: &'a Emulator,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Further parameters of the kernel.
    pub(super) parameters: &'a str,
    /// Arguments of the program that examines.
    pub(super) arguments: &'a str,
    /// Takes what the machine says.
    pub(super) console: PathBuf,
    pub(super) patience: Duration,
}

impl Machine<'_> {
    /// Boots it and waits for the end.
    ///
    /// # Errors
    /// When it does not start, does not end, or ends without a result.
    pub(super) fn run(&self) -> Result<Kernel> {
        let start = Instant::now();
        let _none_before: std::io::Result<()> = fs::remove_file(&self.console);
        let mut command = self.emulator.command();
        command
            // Not the processor's own virtualization: where this is a virtual machine itself it may be
            // there and fail, and a result shall not hang on it.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", CPUS, "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-nographic", "-serial", "stdio"])
            .args(["-nic", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!(
                // The words behind `--` are the program's own. A kernel that panics ends at once.
                "console={} loglevel=4 panic=-1 PATH=/bin {} rdinit=/{} -- {}",
                self.arch.console(),
                self.parameters,
                super::image::INIT,
                self.arguments
            ));
        bind_to_owner(&mut command, || Ok(()));
        let mut process = Process::spawn(command, "QEMU".to_owned(), self.console.clone())?;
        let ended = process.wait(self.patience).map(drop);
        let said = process.output();
        let Some(mut kernel) = result(&said) else {
            let last = said.lines().rev().take(15).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            ended.with_context(|| format!("see {}", self.console.display()))?;
            bail!("the machine ended without a result ({}):\n{last}", self.console.display());
        };
        kernel.seconds = start.elapsed().as_secs_f64();
        Ok(kernel)
    }
}

/// Takes the result out of what came over the serial line.
fn result(console: &str) -> Option<Kernel> {
    let (_, text) = console.rsplit_once(RESULT)?;
    serde_json::from_str(text.lines().next()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_result_among_the_kernels_words() {
        let kernel = Kernel { release: "6.1.0-50".to_owned(), ..Kernel::default() };
        let text = serde_json::to_string(&kernel).unwrap();
        let console =
            format!("[    0.1] Linux\r\n[ 9.9] odd {RESULT}{text}\r\nreboot: Power down\r\n");
        assert_eq!(result(&console).unwrap().release, "6.1.0-50");
        assert!(result("[    0.1] Kernel panic").is_none());
        assert!(result(&format!("{RESULT}{}", &text[..20])).is_none());
    }
}
