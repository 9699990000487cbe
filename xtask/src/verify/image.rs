//! The guest's file system: an archive that the kernel unpacks into memory.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{arch::Arch, archive::output, modules::Module};

/// The guest's programs, as they are called there.
pub(super) const INIT: &str = "bin/xtask";
pub(super) const SENSOR: &str = "bin/labgate";
/// What the bench runs.
const TOOLS: [&str; 4] = ["ip", "tc", "ethtool", "sleep"];
/// Modules and the order to load them in, one name a line.
pub(super) const MODULES: &str = "modules";
pub(super) const MODULE_ORDER: &str = "modules/order";

/// Where programs and libraries of an architecture lie.
pub(super) struct System {
    pub(super) arch: Arch,
    /// `/` for this machine's own.
    pub(super) root: PathBuf,
}

impl System {
    /// What all kernels have in common.
    ///
    /// # Errors
    /// When a program or library is missing.
    pub(super) fn image(&self, sensor: &Path, init: &Path) -> Result<Cpio> {
        let stripped = TempDir::new().context("no temporary directory")?;
        let strip = |file: &Path| -> Result<PathBuf> {
            let to = stripped.path().join(file.file_name().unwrap_or_default());
            output(Command::new(self.binutil("strip")).arg("-o").arg(&to).arg(file))?;
            Ok(to)
        };
        let mut files = vec![
            (SENSOR.to_owned(), strip(sensor)?), //
            (INIT.to_owned(), strip(init)?),
        ];
        for tool in TOOLS {
            files.push((format!("bin/{tool}"), self.program(tool)?));
        }
        let mut cpio = Cpio::default();
        for directory in ["dev", "proc", "sys", "tmp", "run", "lib", "lib64", MODULES] {
            cpio.directory(directory);
        }
        cpio.directory("bin");
        // Before there is a file system for devices, the kernel looks for this one.
        cpio.console();
        let mut libraries = BTreeSet::new();
        while let Some((name, file)) = files.pop() {
            for library in self.needs(&file)? {
                if libraries.insert(library.clone()) {
                    let found = self.library(&library)?;
                    // The loader is called by its path, all others by their names.
                    let name = library.strip_prefix('/').map_or_else(
                        || format!("lib/{library}"), //
                        str::to_owned,
                    );
                    files.push((name, found));
                }
            }
            let content =
                fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
            cpio.file(&name, &content);
        }
        Ok(cpio)
    }

    fn binutil(&self, name: &str) -> String {
        if self.arch == Arch::native() {
            name.to_owned()
        } else {
            format!("{}-{name}", self.arch.gnu())
        }
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        let places = ["usr/bin", "bin", "usr/sbin", "sbin"];
        let found = places.map(|place| self.root.join(place).join(name));
        let found = found.into_iter().find(|path| path.is_file());
        found.with_context(|| format!("{} has no program {name}", self.root.display()))
    }

    fn library(&self, name: &str) -> Result<PathBuf> {
        // A file of that path, or of that name where the loader looks for it.
        let gnu = self.arch.gnu();
        let places = [
            String::new(),
            format!("usr/lib/{gnu}"),
            format!("lib/{gnu}"),
            "usr/lib64".to_owned(),
            "lib64".to_owned(),
            "usr/lib".to_owned(),
            "lib".to_owned(),
        ];
        let base = name.strip_prefix('/').unwrap_or(name);
        let found = places.map(|place| self.root.join(place).join(base));
        let found = found.into_iter().find(|path| path.is_file()).or_else(|| {
            // An unpacked system lacks the link from /lib to /usr/lib.
            let usr = self.root.join("usr").join(base);
            usr.is_file().then_some(usr)
        });
        found.with_context(|| format!("{} has no library {name}", self.root.display()))
    }

    /// The names of the libraries that an ELF file asks for, and the loader's path.
    fn needs(&self, file: &Path) -> Result<Vec<String>> {
        let mut command = Command::new(self.binutil("readelf"));
        let text = output(command.args(["--wide", "-l", "-d"]).arg(file).env("LC_ALL", "C"))?;
        Ok(needs(&text))
    }
}

fn needs(text: &str) -> Vec<String> {
    let quoted = |line: &str, before: &str| {
        let (_, rest) = line.split_once(before)?;
        rest.split(']').next().map(str::to_owned)
    };
    text.lines()
        .filter_map(|line| {
            quoted(line, "Shared library: [")
                .or_else(|| quoted(line, "[Requesting program interpreter: "))
        })
        .collect()
}

/// An archive in the form `newc` (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Debug, Clone, Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

/// Kinds and permissions, from `linux/stat.h`.
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Cpio {
    pub(super) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE, (0, 0), content);
    }

    /// Adds the modules of a kernel.
    pub(super) fn modules(&mut self, modules: &[Module]) {
        let mut order = String::new();
        for Module { name, object } in modules {
            self.file(&format!("{MODULES}/{name}.ko"), object);
            order += &format!("{name}\n");
        }
        self.file(MODULE_ORDER, order.as_bytes());
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn console(&mut self) {
        self.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let fields = [
            self.entries, // Inode
            mode,
            0, // User
            0, // Group
            1, // Links
            0, // Time
            length(content.len()),
            0, // Device, major and minor
            0,
            major,
            minor,
            length(name.len() + 1),
            0, // Checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, process::Stdio};

    use super::*;

    #[test]
    fn reads_what_a_program_asks_for() {
        let text = "      [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n \
                    0x1 (NEEDED)             Shared library: [libc.so.6]\n \
                    0xe (SONAME)             Library soname: [libm.so.6]\n";
        assert_eq!(needs(text), ["/lib64/ld-linux-x86-64.so.2", "libc.so.6"]);
    }

    #[test]
    fn another_program_reads_the_archive() {
        let mut cpio = Cpio::default();
        cpio.directory("bin");
        cpio.file("bin/odd", b"12345");
        cpio.file("empty", b"");
        let mut child = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&cpio.finish()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "bin\nbin/odd\nempty\n");
    }
}
