//! Finds the compiler and linker for the eBPF programs and builds the programs with them.
//!
//! rustc ships no `core` for the eBPF targets, so `core` is built from the library source: the
//! compiler's sysroot must contain it (component `rust-src` with rustup, package `rust-web-src` on
//! Debian). `sensor-user/build.rs` includes this file, so it uses nothing but `std`.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target the programs are built for: eBPF, little endian, no operating system.
pub const TARGET: &str = "bpfel-unknown-none";

/// Names a sysroot (a directory with `bin/rustc`, `bin/cargo` and the library source) to use
/// instead of those looked for.
pub const SYSROOT_VARIABLE: &str = "LABGATE_BPF_SYSROOT";

/// Where Debian's packages `rustc-web`, `cargo-web` and `rust-web-src` put the compiler.
const DEBIAN_SYSROOT: &str = "/usr";

/// The library source below a sysroot.
const LIBRARY: &str = "lib/rustlib/src/rust/library";

/// A compiler that can build `core` for the eBPF target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// The directory that holds `bin/rustc`, `bin/cargo` and the library source.
    pub sysroot: PathBuf,
    /// Version as (major, minor).
    pub version: (u32, u32),
    /// Major version of the LLVM inside. The linker reads bitcode of its own LLVM and older.
    pub llvm: u32,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "rustc {major}.{minor} (LLVM {}) in {}", self.llvm, self.sysroot.display())
    }
}

/// Everything needed to build the programs.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The program `bpf-linker`.
    pub linker: PathBuf,
}

/// Finds a compiler and `bpf-linker`.
///
/// # Errors
/// One sentence that says what is missing and how to install it.
pub fn find() -> Result<Toolchain, String> {
    let sentence = |why: String| {
        format!(
            "the eBPF programs can't be built: {why}; run `cargo xtask setup` to install what is \
             missing"
        )
    };
    let compiler = compiler().map_err(sentence)?;
    let linker = linker().ok_or_else(|| sentence("no working bpf-linker was found".to_owned()))?;
    Ok(Toolchain { compiler, linker })
}

/// Finds a compiler whose sysroot has the library source: the one named by [`SYSROOT_VARIABLE`],
/// else rustup's nightly or the system's own, whichever has the older LLVM, because that is the
/// one any `bpf-linker` can read.
///
/// # Errors
/// Why each of those looked at is unusable.
pub fn compiler() -> Result<Compiler, String> {
    if let Some(sysroot) = env::var_os(SYSROOT_VARIABLE) {
        return inspect(Path::new(&sysroot))
            .map_err(|why| format!("{SYSROOT_VARIABLE} is set, but {why}"));
    }
    let nightly = nightly_sysroot().and_then(|sysroot| inspect(&sysroot));
    let system = inspect(Path::new(DEBIAN_SYSROOT));
    match (nightly, system) {
        (Ok(nightly), Ok(system)) if system.llvm < nightly.llvm => Ok(system),
        (Ok(compiler), _) | (Err(_), Ok(compiler)) => Ok(compiler),
        (Err(nightly), Err(system)) => {
            Err(format!("no compiler with its library source was found ({nightly}; {system})"))
        }
    }
}

/// Finds a `bpf-linker` that runs, in `PATH` or where `cargo install` puts it.
pub fn linker() -> Option<PathBuf> {
    let linker = find_program("bpf-linker", &[cargo_home()?.join("bin")])?;
    // One that was linked against an LLVM no longer installed does not even start.
    output(Command::new(&linker).arg("--version")).map(|_| linker)
}

/// Finds a program in `PATH` or in the directories given.
pub fn find_program(name: &str, also_in: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(also_in.iter().cloned())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Builds a binary of package `sensor-ebpf` in release mode and returns the path of the ELF object.
///
/// `target_dir` must not be the directory of a cargo that waits for this one: cargo locks it.
/// `arch` is the architecture the daemon is built for, as in `target_arch`; register names and
/// `struct pt_regs` depend on it. Each line the compiler prints goes to `line`.
///
/// # Errors
/// One sentence; what the compiler had to say has gone to `line` by then.
pub fn build(
    toolchain: &Toolchain,
    workspace: &Path,
    target_dir: &Path,
    binary: &str,
    arch: &str,
    mut line: impl FnMut(&str),
) -> Result<PathBuf, String> {
    let cargo = toolchain.compiler.sysroot.join("bin/cargo");
    let failed = |why: &dyn fmt::Display| format!("{} {why}", cargo.display());

    let mut command = Command::new(&cargo);
    command
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--package", "sensor-ebpf"])
        .args(["--bin", binary])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(target_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    clean_environment(&mut command);
    command
        .env("RUSTC", toolchain.compiler.sysroot.join("bin/rustc"))
        // `-Z build-std` on a stable compiler, which is what Debian has.
        .env("RUSTC_BOOTSTRAP", "1")
        // Wins over any rustflags of the user's own cargo configuration.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            [
                &format!("--cfg=bpf_target_arch=\"{arch}\""),
                // BTF is made from the full debug information.
                "-Cdebuginfo=2",
                "-Clink-arg=--btf",
            ]
            .join("\u{1f}"),
        )
        .env("PATH", path_with(toolchain.linker.parent()));

    let mut child = command.spawn().map_err(|error| failed(&format!("didn't start: {error}")))?;
    if let Some(stderr) = child.stderr.take() {
        for text in BufReader::new(stderr).lines().map_while(Result::ok) {
            line(&text);
        }
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(format!(
            "the eBPF programs in sensor-ebpf don't build with {} and {}: see the messages above",
            toolchain.compiler,
            toolchain.linker.display()
        ));
    }
    let object = target_dir.join(TARGET).join("release").join(binary);
    if object.is_file() { Ok(object) } else { Err(failed(&"built no object file")) }
}

/// The sysroot of rustup's nightly toolchain.
fn nightly_sysroot() -> Result<PathBuf, String> {
    let rustup = cargo_home()
        .and_then(|home| find_program("rustup", &[home.join("bin")]))
        .ok_or("rustup isn't installed")?;
    output(
        Command::new(rustup)
            .args(["run", "nightly", "rustc", "--print", "sysroot"])
            // Looking must not download anything.
            .env("RUSTUP_AUTO_INSTALL", "0"),
    )
    .map(|sysroot| PathBuf::from(sysroot.trim()))
    .ok_or_else(|| "rustup has no nightly toolchain".to_owned())
}

/// Says whether the compiler in a sysroot is usable, and if not, why.
fn inspect(sysroot: &Path) -> Result<Compiler, String> {
    for needed in ["bin/rustc", "bin/cargo"] {
        if !sysroot.join(needed).is_file() {
            return Err(format!("{} has no {needed}", sysroot.display()));
        }
    }
    if !sysroot.join(LIBRARY).join("core/src/lib.rs").exists() {
        return Err(format!("{} has no library source", sysroot.display()));
    }
    let text = output(Command::new(sysroot.join("bin/rustc")).arg("-vV"))
        .ok_or_else(|| format!("{}/bin/rustc doesn't run", sysroot.display()))?;
    let (version, llvm) = parse_versions(&text)
        .ok_or_else(|| format!("{}/bin/rustc doesn't say its version", sysroot.display()))?;
    let oldest = parse_version(env!("CARGO_PKG_RUST_VERSION"));
    if oldest.is_some_and(|oldest| version < oldest) {
        let (major, minor) = version;
        return Err(format!("rustc {major}.{minor} in {} is too old", sysroot.display()));
    }
    Ok(Compiler { sysroot: sysroot.to_owned(), version, llvm })
}

/// Takes the compiler's version and its LLVM's major version from `rustc -vV`.
fn parse_versions(text: &str) -> Option<((u32, u32), u32)> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let version = parse_version(value("release: ")?)?;
    let llvm = value("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((version, llvm))
}

/// Takes major and minor from a version such as `1.96.0-nightly` or `1.96.0+dfsg1-1`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Takes out of a command's environment what an outer cargo or rustup left there for itself, and
/// keeps what says how to reach the package registry.
fn clean_environment(command: &mut Command) {
    const KEPT: [&str; 5] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const REMOVED: [&str; 5] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        // LD_LIBRARY_PATH points to the outer toolchain's libraries; MAKEFLAGS and the like name
        // the outer cargo's job server.
        let of_outer_cargo = text == "LD_LIBRARY_PATH" || text.ends_with("MAKEFLAGS");
        if of_outer_cargo || (starts(&REMOVED) && !starts(&KEPT)) {
            command.env_remove(&name);
        }
    }
}

/// `PATH` with a directory put before the others.
fn path_with(directory: Option<&Path>) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = directory.map(Path::to_owned).into_iter().chain(env::split_paths(&path));
    env::join_paths(all).unwrap_or(path)
}

/// Cargo's own directory, where `cargo install` puts programs.
fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// Runs a command quietly and returns what it prints, if it succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Makes a sysroot with a rustc that reports the versions given.
    fn sysroot(release: &str, llvm: &str, with_source: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        let script = format!("#!/bin/sh\necho 'release: {release}'\necho 'LLVM version: {llvm}'\n");
        for name in ["rustc", "cargo"] {
            let path = dir.path().join("bin").join(name);
            fs::write(&path, &script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if with_source {
            let core = dir.path().join(LIBRARY).join("core/src");
            fs::create_dir_all(&core).unwrap();
            fs::write(core.join("lib.rs"), "").unwrap();
        }
        dir
    }

    #[test]
    fn a_sysroot_with_source_and_a_recent_compiler_is_usable() {
        let dir = sysroot("1.99.0-nightly", "22.1.4", true);
        let compiler = inspect(dir.path()).unwrap();
        assert_eq!((compiler.version, compiler.llvm), ((1, 99), 22));
    }

    #[test]
    fn a_sysroot_without_source_is_not() {
        let dir = sysroot("1.99.0-nightly", "22.1.4", false);
        assert!(inspect(dir.path()).unwrap_err().ends_with("has no library source"));
    }

    #[test]
    fn a_compiler_older_than_the_workspace_asks_for_is_not() {
        let dir = sysroot("1.63.0", "14.0.6", true);
        assert!(inspect(dir.path()).unwrap_err().contains("rustc 1.63"));
        assert!(inspect(Path::new("/nonexistent")).unwrap_err().contains("bin/rustc"));
    }

    #[test]
    fn the_outer_cargo_is_cleaned_away() {
        let mut command = Command::new("true");
        clean_environment(&mut command);
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        // Cargo sets this one for every test it runs.
        assert!(removed.iter().any(|(name, _)| *name == "CARGO_MANIFEST_DIR"));
        assert!(!removed.iter().any(|(name, _)| *name == "CARGO_HOME" || *name == "PATH"));
    }
}
