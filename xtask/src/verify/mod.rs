//! `cargo xtask verify`: Debian's kernels in virtual machines, the sensor in each of them.
//!
//! Every kernel loads the programs, attaches them in each way that it has, and counts traffic of which
//! it is known how much there is; then the sensor is killed under traffic and started again. A machine has
//! its file system in memory and no way out. Kernels and QEMU are unpacked and not installed, and no privilege is
//! needed.

mod arch;
mod archive;
mod cross;
mod emulator;
pub mod guest;
mod image;
mod machine;
mod modules;
mod result;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
pub use arch::Arch;
pub(crate) use archive::KEYRING;
pub use result::{Kernel, Mode, Outcome};

use crate::{
    build::{self, Profile, target_dir},
    setup::{self, Consent, Group},
    toolchain::find_program,
};
use archive::{Archive, BOOKWORM, BULLSEYE, SID, Suite, TRIXIE};
use emulator::Emulator;
use image::System;
use machine::Machine;

/// Arguments of `cargo xtask verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only this kernel: 5.10, 6.1, 6.12 or sid (may be repeated)
    #[arg(long, value_name = "RELEASE")]
    kernel: Vec<String>,
    /// Only this architecture (may be repeated)
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Only the way that the sensor chooses to attach
    #[arg(long)]
    quick: bool,
    /// Print the result as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Compile the sensor for debugging, as the tests do
    #[arg(long)]
    debug: bool,
    /// Install what is missing without asking
    #[arg(long)]
    yes: bool,
}

/// A kernel that Debian has.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// What it is called here.
    pub name: &'static str,
    suite: Suite,
    /// Whether LabGate is to run there; an older one is to be refused.
    supported: bool,
}

/// All of them, oldest first.
pub const KERNELS: [Wanted; 4] = [
    Wanted { name: "5.10", suite: BULLSEYE, supported: false },
    Wanted { name: "6.1", suite: BOOKWORM, supported: true },
    Wanted { name: "6.12", suite: TRIXIE, supported: true },
    Wanted { name: "sid", suite: SID, supported: true },
];

/// The one that stands for all on a foreign architecture, where emulation is slowest.
const FOREIGN: &str = "6.12";

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Answer {
    kernels: Vec<Kernel>,
}

/// Examines the kernels and prints what was found out.
///
/// # Errors
/// When a kernel that is to be supported can't be had or does not pass, or an older one is neither
/// counted on nor refused in a sentence.
pub fn run(args: &Args) -> Result<()> {
    let all =
        [Arch::native()].into_iter().chain((Arch::native() != Arch::Arm64).then_some(Arch::Arm64));
    let archs: Vec<_> = if args.arch.is_empty() { all.collect() } else { args.arch.clone() };
    for name in &args.kernel {
        ensure!(
            KERNELS.iter().any(|kernel| kernel.name == name),
            "there is no kernel {name} here: choose of {}",
            KERNELS.map(|kernel| kernel.name).join(", ")
        );
    }
    let consent = Consent::new(args.yes);
    setup::ensure(&[Group::Build, Group::Bench, Group::Verify], consent)?;
    let profile = if args.debug { Profile::Dev } else { Profile::Release };

    let mut kernels = Vec::new();
    let mut failed = Vec::new();
    for arch in archs {
        let is_wanted = |kernel: &Wanted| {
            if args.kernel.is_empty() {
                arch == Arch::native() || kernel.name == FOREIGN
            } else {
                args.kernel.iter().any(|name| kernel.name == name)
            }
        };
        let wanted: Vec<_> = KERNELS.into_iter().filter(is_wanted).collect();
        let verifier = match Verifier::new(arch, profile, consent) {
            Ok(verifier) => verifier,
            Err(error) if arch != Arch::native() => {
                let reason = format!("{error:#}");
                eprintln!("SKIPPED {}: {reason}", arch.name());
                kernels.extend(wanted.iter().map(|kernel| {
                    let reason = reason.clone();
                    Kernel::without(Outcome::Skipped, kernel.name, arch.name(), reason)
                }));
                continue;
            }
            Err(error) => return Err(error),
        };
        for kernel in wanted {
            let result = verifier.examine(kernel, args.quick);
            let is_well = match result.outcome {
                Outcome::Passed => true,
                Outcome::Refused | Outcome::Skipped => !kernel.supported,
                Outcome::Failed => false,
            };
            if !is_well {
                failed.push(format!("{} {}", result.release, arch.name()));
            }
            eprint!("{}", result::table(std::slice::from_ref(&result)));
            kernels.push(result);
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Answer { kernels })?);
    } else {
        print!("{}", result::table(&kernels));
    }
    ensure!(failed.is_empty(), "not as it should be: {}", failed.join(", "));
    Ok(())
}

/// Why this machine can't boot kernels, in part of a sentence.
pub fn obstacle() -> Option<String> {
    let needed = ["apt-get", "dpkg-deb", KEYRING];
    let missing = needed.into_iter().find(|name| find_program(name, &[]).is_none())?;
    Some(format!("needs {missing}: see `cargo xtask setup`"))
}

/// What all kernels of an architecture have in common.
#[derive(Debug)]
pub struct Verifier {
    arch: Arch,
    /// For packages, machines' file systems and what they say.
    cache: PathBuf,
    system: image::Cpio,
}

impl Verifier {
    /// Builds the sensor and what runs beside it, and packs both.
    ///
    /// # Errors
    /// When something can't be built or had.
    pub fn new(arch: Arch, profile: Profile, consent: Consent) -> Result<Self> {
        let cache = target_dir().join("verify");
        fs::create_dir_all(&cache).with_context(|| format!("can't make {}", cache.display()))?;
        let (root, [sensor, init]) = if arch == Arch::native() {
            let programs = [build::daemon(profile)?, build::program("xtask", profile, &[])?];
            (PathBuf::from("/"), programs)
        } else {
            let programs = cross::programs(arch, profile, consent)?;
            (Archive::new(BOOKWORM, arch, &cache)?.system("system", &cross::PACKAGES)?, programs)
        };
        let system = System { arch, root }.image(&sensor, &init)?;
        Ok(Self { arch, cache, system })
    }

    /// Examines one kernel. Whatever goes wrong is in the result.
    pub fn examine(&self, wanted: Wanted, quick: bool) -> Kernel {
        let arguments = if quick { "verify-guest --quick" } else { "verify-guest" };
        self.boot(wanted, "", arguments)
    }

    /// Boots a kernel with parameters of its own, under which the sensor is to refuse.
    pub fn refusal(&self, wanted: Wanted, parameters: &str) -> Kernel {
        self.boot(wanted, parameters, "verify-guest --refusal")
    }

    fn boot(&self, wanted: Wanted, parameters: &str, arguments: &str) -> Kernel {
        let arch = self.arch.name();
        let without = |outcome, error: anyhow::Error| {
            Kernel::without(outcome, wanted.name, arch, format!("{error:#}"))
        };
        let had = Emulator::unpack(self.arch, &self.cache).and_then(|emulator| {
            Ok((emulator, Archive::new(wanted.suite, self.arch, &self.cache)?.kernel()?))
        });
        let (emulator, unpacked) = match had {
            Ok(had) => had,
            Err(error) => return without(Outcome::Skipped, error),
        };
        self.start(wanted, &emulator, &unpacked, parameters, arguments)
            .unwrap_or_else(|error| without(Outcome::Failed, error))
    }

    fn start(
        &self,
        wanted: Wanted,
        emulator: &Emulator,
        unpacked: &Path,
        parameters: &str,
        arguments: &str,
    ) -> Result<Kernel> {
        let mut system = self.system.clone();
        system.modules(&modules::read(unpacked)?);
        let file = |what| self.cache.join(format!("{}-{}.{what}", wanted.name, self.arch.name()));
        let initramfs = file("cpio");
        fs::write(&initramfs, system.finish()).context("can't write the machine's file system")?;
        eprintln!("booting {} on {}", wanted.name, self.arch.name());
        let native = self.arch == Arch::native();
        Machine {
            arch: self.arch,
            emulator,
            kernel: &image_of(unpacked)?,
            initramfs: &initramfs,
            parameters,
            arguments,
            console: file("log"),
            patience: Duration::from_mins(if native { 15 } else { 30 }),
        }
        .run()
    }
}

/// The kernel itself: in `boot`, or since Linux 7 beside its modules.
fn image_of(unpacked: &Path) -> Result<PathBuf> {
    let modules = fs::read_dir(unpacked.join("usr/lib/modules")).into_iter().flatten().flatten();
    let places = [unpacked.join("boot")].into_iter().chain(modules.map(|entry| entry.path()));
    let mut files = places.flat_map(fs::read_dir).flatten().flatten();
    let kernel = files.find(|file| file.file_name().to_string_lossy().starts_with("vmlinuz"));
    let kernel = kernel.with_context(|| format!("there is no kernel in {}", unpacked.display()))?;
    Ok(kernel.path())
}
