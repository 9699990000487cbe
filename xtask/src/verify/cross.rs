//! Building for another architecture, with Debian's cross compiler and rustup's standard library.

use std::path::PathBuf;

use anyhow::Result;

use super::arch::Arch;
use crate::{
    build::{self, Profile},
    setup::{self, Consent, Group},
};

/// What the machine's system is made of: the bench's programs, and the libraries of ours.
pub(super) const PACKAGES: [&str; 5] = ["coreutils", "ethtool", "iproute2", "libc6", "libgcc-s1"];

/// Builds the sensor and what runs beside it; installs what that takes.
///
/// # Errors
/// When something is missing and can't be installed, or the build fails.
pub(super) fn programs(arch: Arch, profile: Profile, consent: Consent) -> Result<[PathBuf; 2]> {
    setup::ensure(&[Group::Cross], consent)?;
    // C sources are compiled by the compiler of this name without being told.
    let linker = format!("target.{}.linker=\"{}-gcc\"", arch.target(), arch.gnu());
    let arguments = ["--target", arch.target(), "--config", &linker].map(str::to_owned);
    Ok([
        build::program("labgate", profile, &arguments)?,
        build::program("xtask", profile, &arguments)?,
    ])
}
