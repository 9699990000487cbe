//! `cargo xtask setup`: finds out what is missing, says so, and installs it.

mod programs;
mod system;

use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::build::cargo;
use crate::privilege::is_root;
use crate::toolchain;
use crate::verify::Arch;
use programs::PROGRAMS;
use system::{apt_get, confirm, has_apt, has_program, installed, offers_compiler, show};

/// Debian's compiler for the eBPF programs.
const COMPILER_PACKAGES: &[(&str, &str)] = &[
    ("rustc-web", "compiles the eBPF programs"),
    ("cargo-web", "the cargo that fits it"),
    ("rust-web-src", "the library source, from which `core` is built for eBPF"),
];

/// What `bpf-linker` is built with.
const LINKER_PACKAGES: &[(&str, &str)] = &[
    ("llvm-22-dev", "the LLVM that bpf-linker is made of"),
    ("libpolly-22-dev", "a part of it"),
    ("libzstd-dev", "needed to link LLVM"),
    ("zlib1g-dev", "needed to link LLVM"),
    ("libxml2-dev", "needed to link LLVM"),
];

/// The LLVM of [`LINKER_PACKAGES`]. bpf-linker reads what compilers with it or an older one write.
const LLVM: u32 = 22;
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Install without asking (as under CI, or when there is no terminal to ask on)
    #[arg(long)]
    yes: bool,
}

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Building the daemon and the eBPF programs.
    Build,
    /// The Debian package.
    Package,
    /// The test bench, its traffic and the captures.
    Bench,
    /// What tests need besides.
    Test,
    /// rustfmt and clippy.
    Style,
    /// Kernels in virtual machines.
    Verify,
    /// The same for arm64 on another architecture.
    Cross,
}

/// Whether to ask before something is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Ask on the terminal.
    Ask,
    /// Go ahead.
    Given,
}

impl Consent {
    /// Asks only where somebody is there to answer: not with `--yes`, not under CI, and not when
    /// the standard input is no terminal.
    pub fn new(yes: bool) -> Self {
        if yes || is_ci() || !io::stdin().is_terminal() { Self::Given } else { Self::Ask }
    }
}

/// Says whether this runs under continuous integration: `CI` is set and not `false`.
pub fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Says whether Debian packages can be made and tried here.
pub fn is_debian() -> bool {
    has_program("dpkg")
}

/// Everything that can be made use of here.
pub fn all_groups() -> Vec<Group> {
    let mut groups = vec![Group::Build, Group::Bench, Group::Test, Group::Style];
    if is_debian() {
        groups.extend([Group::Package, Group::Verify]);
    }
    groups
}

/// Installs everything LabGate can make use of.
///
/// # Errors
/// As [`ensure`].
pub fn run(args: &Args) -> Result<()> {
    ensure(&all_groups(), Consent::new(args.yes))?;
    println!("Nothing is missing. Next: `cargo xtask demo`");
    Ok(())
}

/// Sees to it that what the groups need is installed; fast and silent when it is.
///
/// # Errors
/// When something is missing and can't be installed; the commands that would do it have been
/// printed by then.
pub fn ensure(groups: &[Group], consent: Consent) -> Result<()> {
    let missing = Missing::find(groups);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("LabGate needs what is missing on this machine:\n{missing}");

    if let Some(obstacle) = missing.obstacle() {
        eprintln!("{}", missing.commands());
        bail!("{obstacle}: run the commands above, then this one again");
    }
    if consent == Consent::Ask && !confirm()? {
        eprintln!("{}", missing.commands());
        bail!("nothing was installed: run the commands above, then this one again");
    }
    missing.install()?;

    let still = Missing::find(groups);
    ensure!(still.is_empty(), "the installation ended well, yet this is still missing:\n{still}");
    Ok(())
}

/// What has to be installed.
#[derive(Debug, Default)]
struct Missing {
    /// Packages with what each is for.
    packages: Vec<(&'static str, &'static str)>,
    /// Why no compiler could be used, if so; its packages are among the others.
    compiler: Option<String>,
    /// Whether `bpf-linker` has to be built.
    linker: bool,
    /// Whether rustup has to add rustfmt and clippy.
    components: bool,
    /// Whether rustup has to add the standard library for arm64.
    target: bool,
}

impl Missing {
    fn find(groups: &[Group]) -> Self {
        let mut missing = Self::default();
        for &(group, program, package, why) in PROGRAMS {
            let wanted = groups.contains(&group) && !missing.has(package);
            if wanted && !has_program(program) {
                missing.packages.push((package, why));
            }
        }
        if groups.contains(&Group::Build) {
            missing.find_toolchain();
        }
        if groups.contains(&Group::Style) {
            let has = |subcommand| toolchain::output(cargo().args([subcommand, "--version"]));
            missing.components = has("fmt").is_none() || has("clippy").is_none();
        }
        if groups.contains(&Group::Cross) {
            let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
            rustc.args(["--print", "target-libdir", "--target", Arch::Arm64.target()]);
            let directory = toolchain::output(&mut rustc);
            missing.target = !directory.is_some_and(|path| Path::new(path.trim()).is_dir());
        }
        missing
    }

    fn find_toolchain(&mut self) {
        self.linker = toolchain::linker().is_none();
        self.compiler = match toolchain::compiler() {
            Ok(compiler) if self.linker && compiler.llvm > LLVM => {
                Some(format!("{compiler} is too new for the bpf-linker that can be built here"))
            }
            Ok(_) => None,
            Err(why) => Some(why),
        };
        if self.compiler.is_some() {
            self.packages.extend(COMPILER_PACKAGES);
        }
        if self.linker {
            self.packages.extend(LINKER_PACKAGES.iter().filter(|(package, _)| !installed(package)));
        }
    }

    fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.linker && !self.components && !self.target
    }

    fn has(&self, package: &str) -> bool {
        self.packages.iter().any(|&(name, _)| name == package)
    }

    /// Why this can't be installed from here.
    fn obstacle(&self) -> Option<&'static str> {
        if self.components && !has_program("rustup") {
            Some("rustfmt and clippy come with rustup, which isn't installed")
        } else if self.target && !has_program("rustup") {
            Some("Rust's standard library for arm64 comes with rustup, which isn't installed")
        } else if self.packages.is_empty() {
            None
        } else if !has_apt() {
            Some("without apt-get, nothing can be installed automatically")
        } else if !is_root() {
            Some("only root can install packages")
        } else {
            None
        }
    }

    /// The commands a user would type.
    fn commands(&self) -> String {
        let mut lines = Vec::new();
        let names: Vec<_> = self.packages.iter().map(|&(name, _)| name).collect();
        if has_apt() {
            let sudo = if is_root() { "" } else { "sudo " };
            if !names.is_empty() {
                lines.push(format!("{sudo}apt-get update"));
                lines.push(format!("{sudo}apt-get install {}", names.join(" ")));
            }
            if self.linker {
                lines.push(show(&linker_command()));
            }
        } else {
            let of_toolchain = |name: &&str| {
                COMPILER_PACKAGES.iter().chain(LINKER_PACKAGES).any(|(package, _)| package == name)
            };
            let others: Vec<_> = names.iter().filter(|name| !of_toolchain(name)).copied().collect();
            if !others.is_empty() {
                lines.push(format!(
                    "# with the system's package manager (Debian's names): {}",
                    others.join(" ")
                ));
            }
            lines.extend(self.rustup_commands());
        }
        if self.components {
            lines.push(show(&components_command()));
        }
        if self.target {
            lines.push(show(&target_command()));
        }
        lines.iter().map(|line| format!("    {line}\n")).collect()
    }

    /// The commands that install a toolchain where Debian's isn't to be had.
    fn rustup_commands(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.compiler.is_some() {
            lines.push(
                "rustup toolchain install nightly --profile minimal --component rust-src"
                    .to_owned(),
            );
        }
        if self.linker {
            lines.push("cargo install cargo-binstall --locked".to_owned());
            lines.push("cargo binstall bpf-linker".to_owned());
        }
        lines
    }

    fn install(&self) -> Result<()> {
        if !self.packages.is_empty() {
            apt_get(&["update"])?;
            if self.compiler.is_some() && !offers_compiler(COMPILER_PACKAGES[0].0) {
                for line in self.rustup_commands() {
                    eprintln!("    {line}");
                }
                bail!(
                    "this system offers no package rustc-web that is new enough: run the commands \
                     above, then this one again"
                );
            }
            let mut arguments = vec!["install", "--yes", "--no-install-recommends", "--no-remove"];
            arguments.extend(self.packages.iter().map(|&(name, _)| name));
            apt_get(&arguments)?;
        }
        if self.linker {
            system::run(&mut linker_command())?;
        }
        if self.components {
            system::run(&mut components_command())?;
        }
        if self.target {
            system::run(&mut target_command())?;
        }
        Ok(())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (package, why) in &self.packages {
            writeln!(f, "    {package:<16} {why}")?;
        }
        if self.linker {
            writeln!(f, "    {:<16} links the eBPF programs (built by cargo)", "bpf-linker")?;
        }
        if self.components {
            writeln!(f, "    {:<16} check the form of the source", "rustfmt, clippy")?;
        }
        if self.target {
            writeln!(f, "    {:<16} Rust's standard library", Arch::Arm64.target())?;
        }
        if let Some(why) = &self.compiler {
            writeln!(f, "  The compiler is needed because {why}.")?;
        }
        Ok(())
    }
}

fn linker_command() -> Command {
    let mut command = Command::new("cargo");
    // Without both of these, the linker's build takes whatever LLVM it comes across first.
    command.envs([("LLVM_PREFIX", LLVM_PREFIX), ("LLVM_SYS_221_PREFIX", LLVM_PREFIX)]);
    command.args(["install", "bpf-linker", "--locked", "--version", LINKER_VERSION]);
    // One that is there, but doesn't start, is replaced.
    command.args(["--force", "--no-default-features", "--features", "llvm-22"]);
    command
}

fn components_command() -> Command {
    let mut command = Command::new("rustup");
    command.args(["component", "add", "rustfmt", "clippy"]);
    command
}

fn target_command() -> Command {
    let mut command = Command::new("rustup");
    command.args(["target", "add", Arch::Arm64.target()]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing_and_why() {
        let missing = Missing {
            packages: vec![("tshark", "counts")],
            compiler: Some("there is none".to_owned()),
            linker: true,
            components: true,
            target: false,
        };
        assert!(missing.has("tshark") && !missing.has("curl"));
        let text = missing.to_string();
        assert!(text.contains("tshark") && text.contains("bpf-linker") && text.contains("clippy"));
        assert!(text.contains("because there is none."));
        assert!(missing.rustup_commands()[0].contains("rust-src"));
    }

    #[test]
    fn nothing_is_missing_from_no_group() {
        assert!(Missing::find(&[]).is_empty());
    }
}
