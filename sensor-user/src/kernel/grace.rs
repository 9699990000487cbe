//! Waiting until no program can still be writing the old half.

use std::io;

/// Commands of membarrier(2), from `linux/membarrier.h`.
const MEMBARRIER_CMD_QUERY: libc::c_int = 0;
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Why the grace period can't be had.
#[derive(Debug, thiserror::Error)]
pub enum GraceError {
    /// The kernel refuses the global barrier, as it does with `nohz_full` CPUs.
    #[error(
        "this kernel offers no global membarrier (is it booted with nohz_full=?), without which an \
         epoch can't be read exactly; boot without nohz_full"
    )]
    Unavailable,
    /// The system call failed.
    #[error("membarrier failed: {0}")]
    Failed(#[source] io::Error),
}

/// The right to wait for a grace period, checked once.
///
/// XDP and TC programs run inside RCU read-side sections with bottom halves disabled;
/// `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu()`, so it returns only after every program that was
/// running when it was called has ended. It takes 6 to 16 ms as a rule, up to 130 ms under flood.
#[derive(Debug, Clone, Copy)]
pub struct GracePeriod(());

impl GracePeriod {
    /// Asks the kernel whether it offers the barrier.
    ///
    /// # Errors
    ///
    /// [`GraceError::Unavailable`] where it does not.
    pub fn new() -> Result<Self, GraceError> {
        if membarrier(MEMBARRIER_CMD_QUERY).is_ok_and(|mask| mask & MEMBARRIER_CMD_GLOBAL != 0) {
            Ok(Self(()))
        } else {
            Err(GraceError::Unavailable)
        }
    }

    /// Blocks until every program that runs now has ended.
    ///
    /// # Errors
    ///
    /// [`GraceError::Failed`] with the system call's error.
    pub fn wait(self) -> Result<(), GraceError> {
        membarrier(MEMBARRIER_CMD_GLOBAL).map(drop).map_err(GraceError::Failed)
    }
}

fn membarrier(command: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    match libc::c_int::try_from(result) {
        Ok(mask) if mask >= 0 => Ok(mask),
        _ => Err(io::Error::last_os_error()),
    }
}
