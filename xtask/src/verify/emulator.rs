//! QEMU from Debian's archive, unpacked like the kernels: the same one on every machine, whatever is installed there
//! or stands in conflict with it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    arch::Arch,
    archive::{Archive, TRIXIE},
};

/// What makes machines of an architecture.
pub(super) struct Emulator {
    arch: Arch,
    /// Of the unpacked packages.
    root: PathBuf,
    /// The loader of dynamic libraries in there: the machine's own may be older than the libraries.
    loader: PathBuf,
}

impl Emulator {
    /// Gets it ready.
    ///
    /// # Errors
    /// When it can't be had, and was not had before.
    pub(super) fn unpack(arch: Arch, cache: &Path) -> Result<Self> {
        let package = match arch {
            Arch::Amd64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm",
        };
        let root = Archive::new(TRIXIE, Arch::native(), cache)?.system(package, &[package])?;
        let libraries = root.join("usr/lib").join(Arch::native().gnu());
        let mut files = libraries.read_dir().into_iter().flatten().flatten();
        let loader = files.find(|file| file.file_name().to_string_lossy().starts_with("ld-linux"));
        let loader = loader.with_context(|| format!("no loader in {}", libraries.display()))?;
        Ok(Self { arch, root, loader: loader.path() })
    }

    /// Starts it, with a machine that it makes.
    pub(super) fn command(&self) -> Command {
        let (program, machine) = match self.arch {
            Arch::Amd64 => ("qemu-system-x86_64", "q35"),
            Arch::Arm64 => ("qemu-system-aarch64", "virt"),
        };
        let libraries = self.root.join("usr/lib").join(Arch::native().gnu());
        let mut command = Command::new(&self.loader);
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command.arg("--library-path").arg(&libraries);
        command.arg(self.root.join("usr/bin").join(program));
        for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.root.join(firmware));
        }
        command.args(["-machine", machine]);
        command
    }
}
