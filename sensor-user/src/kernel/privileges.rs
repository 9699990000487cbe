//! What the daemon needs before it starts: a kernel that is new enough, and three capabilities.

use std::fs;

use aya::util::KernelVersion;
use nix::sys::utsname::uname;

/// Oldest supported kernel: the oldest that `cargo xtask verify` passes on. Programs and daemon rely on
/// `bpf_xdp_get_buff_len` and frags-aware XDP (Linux 5.18), and on an array with one value of many
/// megabytes, which 5.10 limits to four.
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(6, 1, 0);

/// Capability numbers, from `linux/capability.h`.
const CAPABILITIES: [(u8, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];

/// Why the daemon can't work here.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Capabilities are missing.
    #[error("missing {0}: run labgate as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Capabilities(String),
    /// The kernel is too old.
    #[error("kernel {0} is too old: LabGate needs Linux 6.1 or newer")]
    Kernel(String),
    /// The kernel's own state can't be read.
    #[error("can't read {path}: {error}")]
    Proc {
        /// Which file.
        path: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
}

/// Checks that the effective capabilities suffice.
///
/// # Errors
///
/// [`PrivilegeError::Capabilities`] names the missing ones.
pub fn check_privileges() -> Result<(), PrivilegeError> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(|error| PrivilegeError::Proc { path, error })?;
    let effective = effective_capabilities(&status).unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & 1 << bit == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(PrivilegeError::Capabilities(missing.join(", "))) }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Checks the kernel's version, and says where it weakens a promise.
///
/// # Errors
///
/// [`PrivilegeError::Kernel`] on a kernel that lacks what the programs need.
pub fn check_kernel() -> Result<(), PrivilegeError> {
    let running = KernelVersion::current().unwrap_or(OLDEST_KERNEL);
    if running < OLDEST_KERNEL {
        let release = uname().map(|name| name.release().to_string_lossy().into_owned());
        return Err(PrivilegeError::Kernel(release.unwrap_or_default()));
    }
    let version = uname().map(|name| name.version().to_string_lossy().into_owned());
    if version.is_ok_and(|version| version.contains("PREEMPT_RT")) {
        tracing::warn!(
            "this is a PREEMPT_RT kernel: programs of one CPU may interrupt each other there, and \
             counts may be short by the packets that were being counted"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_effective_mask() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective_capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
