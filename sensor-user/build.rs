//! Builds the eBPF programs from source, so that the daemon can carry them inside.
//!
//! The object lands at `OUT_DIR/sensor-ebpf`.

#[expect(unreachable_pub, reason = "the file is shared with xtask, where these are public")]
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The binary of package `sensor-ebpf` that the daemon carries.
const PROGRAMS: &str = "sensor-ebpf";

/// What the object is made from, relative to the workspace.
const SOURCES: [&str; 8] = [
    "Cargo.lock",
    "Cargo.toml",
    "sensor-common/Cargo.toml",
    "sensor-common/src",
    "sensor-ebpf/Cargo.toml",
    "sensor-ebpf/src",
    "sensor-user/build.rs",
    "xtask/src/toolchain.rs",
];

fn main() -> ExitCode {
    match find_toolchain_and_build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { sentence, show_output }) => {
            println!("cargo::error={sentence}");
            // Cargo shows what a build script printed only if it fails outright; otherwise the
            // sentence stands alone.
            if show_output { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

/// Why the programs weren't built.
struct Failure {
    sentence: String,
    /// Whether the compiler has printed messages that explain it.
    show_output: bool,
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self { sentence, show_output: false }
    }
}

fn find_toolchain_and_build() -> Result<(), Failure> {
    let variable = |name: &str| env::var(name).map_err(|error| format!("{name}: {error}"));
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let workspace = manifest_dir.parent().unwrap_or(&manifest_dir);

    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo::rerun-if-env-changed={}", toolchain::SYSROOT_VARIABLE);

    let toolchain = toolchain::find()?;
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let target = target_dir(&out_dir);
    let mut in_warning = false;
    let object = toolchain::build(&toolchain, workspace, &target, PROGRAMS, &arch, |line| {
        eprintln!("{line}");
        if line.starts_with("warning") {
            // The last one only counts those before it.
            in_warning = !line.contains(" generated ");
        } else if line.is_empty() {
            in_warning = false;
        }
        if in_warning {
            println!("cargo::warning={line}");
        }
    })
    .map_err(|sentence| Failure { sentence, show_output: true })?;

    let copy = out_dir.join(PROGRAMS);
    fs::copy(&object, &copy).map_err(|error| {
        format!("{} can't be copied to {}: {error}", object.display(), copy.display())
    })?;
    Ok(())
}

/// The programs' own target directory: `target/ebpf`, shared by all profiles of the daemon (which
/// differ in `OUT_DIR`), so that `core` is built once.
fn target_dir(out_dir: &Path) -> PathBuf {
    // OUT_DIR is target/<profile>/build/<package>-<hash>/out.
    out_dir.ancestors().nth(4).unwrap_or(out_dir).join("ebpf")
}
