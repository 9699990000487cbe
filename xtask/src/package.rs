//! `cargo xtask package`: the Debian package, made by cargo-deb from what stands in
//! `sensor-user/Cargo.toml` under `package.metadata.deb`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use ruzstd::decoding::StreamingDecoder;

use crate::{
    build::{self, Profile, target_dir, workspace},
    setup::{self, Consent, Group},
    tool::tool,
    toolchain::output,
};

/// The cargo-deb that the metadata is written for.
const CARGO_DEB: &str = "3.8.0";
const MAINTAINER: &str = "The LabGate authors <labgate@labgate.invalid>";

/// Completions: the shell's name, and the file's among those of the package.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "labgate"), ("zsh", "_labgate"), ("fish", "labgate.fish")];

/// Arguments of `cargo xtask package`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the package goes
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Revision of the package, to be raised when only the packaging has changed
    #[arg(long, default_value = "1")]
    revision: String,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// Builds the daemon and its package, and says where that is.
///
/// # Errors
/// When something that is needed can't be installed, or a build fails.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build, Group::Package], Consent::new(args.yes))?;
    let out = args.out.clone().unwrap_or_else(|| target_dir().join("debian"));
    println!("{}", make(Profile::Release, &args.revision, &out)?.display());
    Ok(())
}

/// Builds the daemon, packs it, and returns the package's path. One for debugging is packed in less
/// time, not as small.
///
/// # Errors
/// When the daemon doesn't build, or cargo-deb can't be had or refuses.
pub fn make(profile: Profile, revision: &str, out: &Path) -> Result<PathBuf> {
    let daemon = build::daemon(profile)?;
    // Without features it calls the system's xz.
    let cargo_deb = tool("cargo-deb", CARGO_DEB, &["--no-default-features"])?;
    fs::create_dir_all(out).with_context(|| format!("can't make {}", out.display()))?;
    // cargo-deb takes built files from `release` below cargo's target directory. This one is laid
    // out for it, so that the tests can pack a daemon built for debugging.
    let stage = tempfile::tempdir().context("no temporary directory")?;
    let date = commit_date();
    fill(&stage.path().join("release"), &daemon, revision, date.as_deref())?;
    let mut command = Command::new(cargo_deb);
    command.current_dir(workspace()).env("CARGO_TARGET_DIR", stage.path());
    if let (None, Some((seconds, _))) = (env::var_os("SOURCE_DATE_EPOCH"), split(date.as_deref())) {
        command.env("SOURCE_DATE_EPOCH", seconds);
    }
    command.args(["--package", "labgate", "--no-build", "--locked", "--strip", "--quiet"]);
    command.args(["--maintainer", MAINTAINER, "--deb-revision", revision, "--output"]).arg(out);
    if profile == Profile::Dev {
        command.arg("--fast");
    }
    let made = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let made = made.context("cargo-deb didn't start")?;
    ensure!(made.status.success(), "cargo-deb made no package: see its messages above");
    let said = String::from_utf8_lossy(&made.stdout);
    match said.lines().rev().map(PathBuf::from).find(|path| path.is_file()) {
        Some(package) => Ok(package),
        None => bail!("cargo-deb didn't say where it put the package, but: {said}"),
    }
}

/// Lays out everything in the package that isn't in the repository as it is.
fn fill(stage: &Path, daemon: &Path, revision: &str, date: Option<&str>) -> Result<()> {
    let make = |directory: &str| {
        let path = stage.join(directory);
        fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let (pages, completions, databases) = (make("man")?, make("completions")?, make("databases")?);
    fs::copy(daemon, stage.join("labgate"))
        .with_context(|| format!("can't copy {}", daemon.display()))?;

    let ask = |arguments: &[&str]| {
        let answer = output(Command::new(daemon).args(arguments));
        answer.with_context(|| format!("`labgate {}` failed", arguments.join(" ")))
    };
    ask(&["man", &pages.to_string_lossy()])?;
    for (shell, file) in COMPLETIONS {
        fs::write(completions.join(file), ask(&["completions", shell])?)
            .with_context(|| format!("can't write the completions for {shell}"))?;
    }
    for name in ["country", "operators"] {
        let packed = workspace().join(format!("sensor-user/data/{name}.mmdb.zst"));
        unpack(&packed, &databases.join(format!("{name}.mmdb")))
            .with_context(|| format!("can't unpack {}", packed.display()))?;
    }
    let changes = stage.join("changelog.Debian");
    fs::write(&changes, changelog(revision, date)).context("can't write the changelog")?;

    // As Debian wants them; cargo-deb does so only with what isn't built.
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "--no-name"]).arg(changes);
    for page in fs::read_dir(&pages).context("can't list the man pages")? {
        gzip.arg(page.context("can't list the man pages")?.path());
    }
    ensure!(gzip.status().context("gzip didn't start")?.success(), "gzip failed");
    Ok(())
}

fn unpack(packed: &Path, to: &Path) -> Result<()> {
    let mut decoder = StreamingDecoder::new(fs::File::open(packed)?)?;
    std::io::copy(&mut decoder, &mut fs::File::create(to)?)?;
    Ok(())
}

/// Debian's changelog is about the package; ours is beside it.
fn changelog(revision: &str, date: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let date = split(date).map_or("Thu, 01 Jan 1970 00:00:00 +0000", |(_, date)| date);
    format!(
        "labgate ({version}-{revision}) unstable; urgency=medium\n\n  * See \
         /usr/share/doc/labgate/changelog.gz.\n\n -- {MAINTAINER}  {date}\n"
    )
}

/// When the sources were committed, in Unix seconds and as in a mail: with the same sources, the
/// same package.
fn commit_date() -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(workspace()).args(["log", "-1", "--format=%ct %cD"]);
    output(&mut git).map(|line| line.trim().to_owned())
}

fn split(date: Option<&str>) -> Option<(&str, &str)> {
    date?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_is_as_debian_reads_it() {
        let text = changelog("3", Some("1700000000 Tue, 14 Nov 2023 22:13:20 +0000"));
        let first = format!("labgate ({}-3) unstable; ", env!("CARGO_PKG_VERSION"));
        assert!(text.starts_with(&first), "{text}");
        assert!(text.ends_with(">  Tue, 14 Nov 2023 22:13:20 +0000\n"), "{text}");
        assert!(changelog("1", None).ends_with("00:00:00 +0000\n"));
    }
}
