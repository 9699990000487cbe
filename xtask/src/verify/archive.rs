//! Packages from Debian's archive, unpacked and never installed.
//!
//! apt reads the index and checks the signatures, with a configuration, lists and an empty status of its
//! own: what the machine has installed plays no part. Only the mirrors are its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::arch::Arch;

/// The archive's keys, of package `debian-archive-keyring`.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages are looked for anew when they are older.
const FRESH: Duration = Duration::from_hours(7 * 24);

/// Names the packages that were unpacked, in the directory with them; its time says when that was seen
/// to be the newest.
const STAMP: &str = "packages";

/// A release of Debian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    /// Whether there are security updates for it.
    is_secured: bool,
}

pub(super) const BULLSEYE: Suite = Suite { name: "bullseye", is_secured: true };
pub(super) const BOOKWORM: Suite = Suite { name: "bookworm", is_secured: true };
pub(super) const TRIXIE: Suite = Suite { name: "trixie", is_secured: true };
pub(super) const SID: Suite = Suite { name: "sid", is_secured: false };

impl Suite {
    /// Lines of apt's list, with the mirrors that this machine's own list has.
    fn sources(self) -> Result<String> {
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
        let addresses = output(&mut command)?;
        let mirror = |archive: &str| {
            addresses
                .lines()
                .map(|address| address.trim_end_matches('/'))
                .find(|address| address.rsplit('/').next() == Some(archive))
        };
        let line = |mirror: &str, suite: &str| {
            format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")
        };
        let debian = mirror("debian").context("this machine's apt knows no mirror of Debian")?;
        let mut list = line(debian, self.name);
        if self.is_secured {
            let security = mirror("debian-security")
                .context("this machine's apt knows no mirror of Debian's security updates")?;
            list += &line(security, &format!("{}-security", self.name));
        }
        Ok(list)
    }
}

/// One release for one architecture.
pub(super) struct Archive {
    suite: Suite,
    arch: Arch,
    /// For apt's lists and configuration.
    dir: PathBuf,
}

impl Archive {
    /// Keeps what it needs below `cache`.
    pub(super) fn new(suite: Suite, arch: Arch, cache: &Path) -> Result<Self> {
        let dir = cache.join(format!("{}-{}", suite.name, arch.name()));
        fs::create_dir_all(dir.join("lists/partial"))
            .and_then(|()| fs::create_dir_all(dir.join("cache/archives/partial")))
            .with_context(|| format!("can't make {}", dir.display()))?;
        let archive = Self { suite, arch, dir };
        archive.configure().context("can't write apt's configuration")?;
        Ok(archive)
    }

    /// The kernel for virtual machines, unpacked: image, configuration and modules.
    ///
    /// # Errors
    /// When it can't be had, and was not had before.
    pub(super) fn kernel(&self) -> Result<PathBuf> {
        let meta = format!("linux-image-cloud-{}", self.arch.name());
        self.unpacked("kernel", |archive| archive.kernel_packages(&meta))
    }

    /// Packages with all that they depend on, unpacked: the root of a small system of this name.
    ///
    /// # Errors
    /// As [`kernel`](Self::kernel).
    pub(super) fn system(&self, name: &str, packages: &[&str]) -> Result<PathBuf> {
        self.unpacked(name, |archive| {
            let mut command = archive.apt("apt-get");
            // What would be installed on a machine that has nothing.
            command.args(["install", "--simulate", "--no-install-recommends", "-qq"]);
            let plan = output(command.args(packages))?;
            let installed = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
            Ok(installed.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
        })
    }

    fn unpacked(
        &self,
        name: &str,
        packages: impl Fn(&Self) -> Result<Vec<String>>,
    ) -> Result<PathBuf> {
        let root = self.dir.join(name);
        if is_fresh(&root.join(STAMP)) {
            return Ok(root);
        }
        match self.refresh(&root, packages) {
            Ok(()) => Ok(root),
            Err(error) if root.join(STAMP).is_file() => {
                eprintln!("going on with the {name} of before: {error:#}");
                Ok(root)
            }
            Err(error) => Err(error),
        }
    }

    fn refresh(&self, root: &Path, packages: impl Fn(&Self) -> Result<Vec<String>>) -> Result<()> {
        output(self.apt("apt-get").args(["update", "-qq", "--error-on=any"]))?;
        let packages = packages(self)?;
        let release = output(self.apt("apt-cache").arg("show").args(&packages))?;
        let versions: Vec<_> =
            release.lines().filter(|line| line.starts_with("Filename: ")).collect();
        let stamp = versions.join("\n");
        let unchanged = fs::read_to_string(root.join(STAMP)).is_ok_and(|known| known == stamp);
        if !unchanged {
            self.download(&packages, root)?;
        }
        fs::write(root.join(STAMP), stamp).context("can't note what was unpacked")
    }

    fn download(&self, packages: &[String], root: &Path) -> Result<()> {
        eprintln!("downloading {} from Debian {}", packages.join(", "), self.suite.name);
        let debs = TempDir::new_in(&self.dir).context("no temporary directory")?;
        output(self.apt("apt-get").current_dir(&debs).args(["download", "-qq"]).args(packages))?;
        // All of it or nothing.
        let new = TempDir::new_in(&self.dir).context("no temporary directory")?;
        for deb in fs::read_dir(&debs)? {
            output(Command::new("dpkg-deb").arg("--extract").arg(deb?.path()).arg(new.path()))?;
        }
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("can't remove {}", root.display()))?;
        }
        fs::rename(new.keep(), root).with_context(|| format!("can't make {}", root.display()))
    }

    /// The packages behind the one that always means the newest kernel. Image and modules may be one
    /// package or several.
    fn kernel_packages(&self, meta: &str) -> Result<Vec<String>> {
        const PARTS: [&str; 4] = ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"];
        let mut found = vec![meta.to_owned()];
        let mut next = 0;
        while let Some(package) = found.get(next) {
            let mut command = self.apt("apt-cache");
            command.args(["depends", "--important", "--no-recommends", package]);
            for line in output(&mut command)?.lines() {
                let Some((_, name)) = line.split_once("Depends: ") else { continue };
                let name = name.trim();
                let is_part = PARTS.iter().any(|part| name.starts_with(part));
                if is_part && !found.iter().any(|known| known == name) {
                    found.push(name.to_owned());
                }
            }
            next += 1;
        }
        // The first one holds nothing.
        found.remove(0);
        ensure!(!found.is_empty(), "Debian {} has no {meta}", self.suite.name);
        Ok(found)
    }

    fn configure(&self) -> Result<()> {
        fs::write(self.dir.join("sources.list"), self.suite.sources()?)?;
        fs::write(self.dir.join("status"), "")?;
        let (dir, arch) = (self.dir.display(), self.arch.name());
        let text = format!(
            "Dir::State \"{dir}\";\n\
             Dir::State::status \"{dir}/status\";\n\
             Dir::State::Lists \"{dir}/lists\";\n\
             Dir::Cache \"{dir}/cache\";\n\
             Dir::Etc::SourceList \"{dir}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::Etc::Preferences \"/dev/null\";\n\
             Dir::Etc::PreferencesParts \"/dev/null\";\n\
             APT::Architecture \"{arch}\";\n\
             APT::Architectures {{ \"{arch}\"; }};\n\
             APT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             // A mirror may be behind: an older index, signed as any other, will do for a test.\n\
             Acquire::Check-Valid-Until \"false\";\n",
        );
        Ok(fs::write(self.dir.join("apt.conf"), text)?)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

fn is_fresh(stamp: &Path) -> bool {
    let modified = fs::metadata(stamp).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < FRESH))
}

/// Runs a command to its end and returns what it prints.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} didn't start: is it installed?"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed ({}): {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
