//! A place for a map's pin while programs are loaded: the loader takes maps by their path.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process, ptr,
};

/// From `linux/mount.h`.
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// Where the BPF file system is mounted as a rule.
const BPFFS: &str = "/sys/fs/bpf";

/// A path in a BPF file system; what is pinned there goes with it.
pub(super) struct PinPath {
    path: PathBuf,
    /// A file system of our own, mounted nowhere, which only this process can reach.
    private: Option<OwnedFd>,
}

impl PinPath {
    /// Makes a file system for it, or, where that is not allowed (it takes `CAP_SYS_ADMIN`), finds a
    /// place in the machine's own.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        match mount() {
            Ok(mount) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", mount.as_raw_fd()));
                Ok(Self { path, private: Some(mount) })
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let path = Path::new(BPFFS).join(format!("{name}-{}", process::id()));
                Ok(Self { path, private: None })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PinPath {
    fn drop(&mut self) {
        if self.private.is_none()
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "{} stays behind", self.path.display());
        }
    }
}

/// A BPF file system that is mounted nowhere (Linux 5.2).
fn mount() -> io::Result<OwnedFd> {
    // SAFETY: takes a C string and an integer.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"bpf".as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(context)?;
    let none: *const libc::c_char = ptr::null();
    // SAFETY: the command takes neither key nor value.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0)
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes three integers.
    let mount =
        unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) };
    owned(mount)
}

/// The descriptor that a system call returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: a new descriptor that nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
