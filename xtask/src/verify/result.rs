//! What was found out about a kernel. The guest prints it, and `--json` does.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What became of a kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything was loaded and attached, and every count was right.
    Passed,
    /// The sensor says in one sentence that it does not run there.
    Refused,
    /// It could not be had.
    Skipped,
    /// Anything else.
    #[default]
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
            Self::Failed => "FAILED",
        })
    }
}

/// One kernel.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// What `uname -r` says, or what was wanted where it could not be had.
    pub release: String,
    /// Debian's name of the architecture.
    pub arch: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it took every program.
    pub loaded: bool,
    /// Whether the programs could be attached in every way of [`modes`](Self::modes).
    pub attached: bool,
    /// What the sensor chooses by itself, uploads and downloads: `xdp+tcx` or `xdp+clsact`.
    pub mode: String,
    /// Whether everything was counted as it was sent, in every way.
    pub counted_equal: bool,
    /// Whether that held after the sensor was killed under traffic and started again, in every way.
    pub restart_equal: bool,
    /// Instructions that the verifier walked, by program; none before Linux 5.16, which does not tell.
    pub instructions: BTreeMap<String, Option<u64>>,
    /// The ways in which the programs were attached.
    pub modes: Vec<Mode>,
    /// Why it did not pass; empty where it did.
    pub reason: String,
    /// How long all of it took, the start of the machine included.
    pub seconds: f64,
}

/// One way to attach.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Mode {
    /// Uploads and downloads, such as `tc+tcx`.
    pub mode: String,
    /// Frames as on a wire: as the interfaces count them, and as they were sent.
    pub frames_equal: bool,
    /// Super-packets: as what they become, seen where they are split.
    pub segments_equal: bool,
    /// Whether the counts held after the sensor was killed under traffic and started again.
    pub restart_equal: bool,
    /// Packets that were compared.
    pub packets: u64,
    /// What differed.
    pub differences: Vec<String>,
}

impl Kernel {
    /// One that can't be examined.
    pub(super) fn without(outcome: Outcome, release: &str, arch: &str, reason: String) -> Self {
        let (release, arch) = (release.to_owned(), arch.to_owned());
        Self { release, arch, outcome, reason, ..Self::default() }
    }

    /// Draws the conclusions from what is known of the modes.
    pub(super) fn conclude(&mut self) {
        let all = |holds: fn(&Mode) -> bool| !self.modes.is_empty() && self.modes.iter().all(holds);
        self.counted_equal = all(|mode| mode.frames_equal && mode.segments_equal);
        self.restart_equal = all(|mode| mode.restart_equal);
        let is_right = self.loaded && self.attached && self.counted_equal && self.restart_equal;
        if is_right && self.reason.is_empty() {
            self.outcome = Outcome::Passed;
        } else if self.reason.is_empty() {
            let differences = self.modes.iter().flat_map(|mode| &mode.differences);
            self.reason = differences.cloned().collect::<Vec<_>>().join("; ");
        }
    }
}

/// A table for people.
pub(super) fn table(kernels: &[Kernel]) -> String {
    let mut text = format!(
        "{:<7}{:<32}{:<9}{:<12}{:<9}{:<9}{:>8}  instructions\n",
        "arch", "kernel", "result", "mode", "counted", "restart", "time"
    );
    for kernel in kernels {
        let equal = |is: bool| if is { "equal" } else { "-" };
        let instructions: Vec<_> = kernel
            .instructions
            .iter()
            .map(|(program, count)| {
                let program = program.strip_prefix("labgate_").unwrap_or(program);
                count.map_or_else(|| format!("{program} ?"), |count| format!("{program} {count}"))
            })
            .collect();
        text += &format!(
            "{:<7}{:<32}{:<9}{:<12}{:<9}{:<9}{:>6.0} s  {}\n",
            kernel.arch,
            kernel.release,
            kernel.outcome.to_string(),
            kernel.mode,
            equal(kernel.counted_equal),
            equal(kernel.restart_equal),
            kernel.seconds,
            instructions.join(", ")
        );
        if !kernel.reason.is_empty() {
            text += &format!("        {}\n", kernel.reason);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(segments_equal: bool) -> Mode {
        Mode { frames_equal: true, segments_equal, restart_equal: true, ..Mode::default() }
    }

    #[test]
    fn passed_means_everything() {
        let mut kernel = Kernel {
            loaded: true,
            attached: true,
            modes: vec![mode(true), mode(true)],
            ..Kernel::default()
        };
        kernel.conclude();
        assert_eq!(kernel.outcome, Outcome::Passed);
        for spoilt in [
            Kernel { loaded: false, ..kernel.clone() },
            Kernel { attached: false, ..kernel.clone() },
            Kernel { modes: vec![mode(true), mode(false)], ..kernel.clone() },
            Kernel { modes: Vec::new(), ..kernel.clone() },
            Kernel { reason: "odd".to_owned(), ..kernel.clone() },
        ] {
            let mut spoilt = Kernel { outcome: Outcome::Failed, ..spoilt };
            spoilt.conclude();
            assert_eq!(spoilt.outcome, Outcome::Failed, "{spoilt:?}");
        }
    }
}
