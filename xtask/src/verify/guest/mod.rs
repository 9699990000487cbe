//! What runs inside the virtual machine, as its first process: the bench, the sensor, known traffic, and a
//! comparison.

mod sensor;
mod traffic;
mod trial;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        utsname::uname,
    },
    unistd::getpid,
};

use super::{
    arch::Arch,
    image::{MODULE_ORDER, MODULES, SENSOR},
    machine::RESULT,
    result::{Kernel, Outcome},
};
use sensor::Way;

/// Arguments of the program in the virtual machine.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// Only what has to work everywhere: the fast part
    #[arg(long)]
    quick: bool,
    /// Only how the sensor refuses to start
    #[arg(long)]
    refusal: bool,
}

/// Examines the kernel that runs, says what was found out, and switches the machine off.
///
/// # Errors
/// When it is not the first process of a machine.
pub fn run(args: &Args) -> Result<()> {
    ensure!(getpid().as_raw() == 1, "this is for the virtual machines of `cargo xtask verify`");
    let mut kernel = Kernel { arch: Arch::native().name().to_owned(), ..Kernel::default() };
    if let Err(error) = examine(*args, &mut kernel) {
        kernel.reason = format!("{error:#}");
    }
    kernel.conclude();
    // The kernel's own messages would run into the result.
    let _noisy: std::io::Result<()> = fs::write("/proc/sys/kernel/printk", "1");
    println!("{RESULT}{}", serde_json::to_string(&kernel)?);
    reboot(RebootMode::RB_POWER_OFF).context("can't switch the machine off").map(drop)
}

fn examine(args: Args, kernel: &mut Kernel) -> Result<()> {
    mount_all()?;
    kernel.release = uname()?.release().to_string_lossy().into_owned();
    load_modules()?;
    eprintln!("{}: the sensor", kernel.release);
    if let Some(sentence) = refusal()? {
        kernel.outcome = Outcome::Refused;
        kernel.reason = sentence;
        return Ok(());
    }
    ensure!(!args.refusal, "the sensor does not refuse to start");
    for way in ways(args.quick, &kernel.release) {
        eprintln!("{way}");
        trial::run(way, kernel).with_context(|| format!("with {way}"))?;
        eprintln!("{way}: {:?}", kernel.modes.last());
    }
    kernel.attached = true;
    Ok(())
}

/// The ways to attach that a kernel has. The first is the sensor's own choice.
fn ways(quick: bool, release: &str) -> Vec<Way> {
    let by_itself = Way { attach: "auto", tc_attach: "auto" };
    let clsact = Way { attach: "tc", tc_attach: "clsact" };
    let tcx = Way { attach: "tc", tc_attach: "tcx" };
    match (quick, has_tcx(release)) {
        (true, _) => vec![by_itself],
        (false, true) => vec![by_itself, tcx, clsact],
        (false, false) => vec![by_itself, clsact],
    }
}

/// TCX came with Linux 6.6.
fn has_tcx(release: &str) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 6)
}

fn mount_all() -> Result<()> {
    for (kind, at) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("bpf", "/sys/fs/bpf")]
    {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("can't mount {at}"))?;
    }
    Ok(())
}

fn load_modules() -> Result<()> {
    let modules = Path::new("/").join(MODULES);
    let order = fs::read_to_string(Path::new("/").join(MODULE_ORDER))?;
    for name in order.lines() {
        let file = fs::File::open(modules.join(name).with_extension("ko"))?;
        finit_module(file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("can't load module {name}"))?;
    }
    Ok(())
}

/// What the sensor says if it does not run on such a kernel at all.
fn refusal() -> Result<Option<String>> {
    let config = Path::new("/tmp/refusal.yaml");
    // No such database: one that would start ends here, too, for another reason, and soon.
    let text =
        "interfaces: [{ name: lo }]\nstate_dir: state\ndatabases: { country: nowhere.mmdb }\n";
    fs::write(config, text)?;
    let sensor = Path::new("/").join(SENSOR);
    let output =
        Command::new(sensor).args(["run", "--config"]).arg(config).stdin(Stdio::null()).output();
    let said = output.context("can't start the sensor")?.stderr;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let refuses = said.contains("is too old") || said.contains("this kernel offers no");
    let is_sentence = said.starts_with("labgate: ") && !said.contains('\n');
    ensure!(!refuses || is_sentence, "the sensor refuses in more than a sentence: {said}");
    Ok(refuses.then_some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcx_came_with_6_6() {
        assert!(!has_tcx("6.1.0-50-cloud-amd64") && !has_tcx("5.10.0-46-cloud-amd64"));
        assert!(has_tcx("6.6.0") && has_tcx("6.12.107+deb13-cloud-amd64") && has_tcx("7.2.13"));
    }

    #[test]
    fn each_way_is_tried_once() {
        assert_eq!(ways(true, "6.12.0").len(), 1);
        assert_eq!(ways(false, "6.1.0").len(), 2);
        assert_eq!(ways(false, "6.12.0").len(), 3);
    }
}
