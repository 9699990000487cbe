//! `labgate init`: a first configuration from what this machine shows.

mod choose;
mod devices;
mod render;

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::terminal::say;
use crate::{
    cli::{DEFAULT_CONFIG, InitArgs},
    config,
    host::{Host, Link, leases},
};

/// Of files that were replaced, beside the one that replaced them.
const MAX_COPIES: u32 = 1000;

/// Writes a commented configuration, and prints what it holds and why.
///
/// # Errors
///
/// When the file exists and may not be replaced, when no interface looks like a LAN's, or when the
/// file can't be written.
pub fn init(args: &InitArgs) -> Result<()> {
    let output = args.output.as_path();
    if !args.force && output.symlink_metadata().is_ok() {
        return Err(exists(output));
    }
    let host = Host::look().context("can't see this machine's interfaces")?;
    let decisions = choose::choose(&host);
    for decision in &decisions {
        let (verdict, why) = match &decision.verdict {
            Ok(why) => ("watch", why),
            Err(why) => ("leave", why),
        };
        say!("{verdict} {}: {why}", decision.link.name.escape_default());
    }
    let chosen: Vec<&Link> = decisions
        .iter()
        .filter_map(|decision| decision.verdict.is_ok().then_some(decision.link))
        .collect();
    if chosen.is_empty() {
        bail!(
            "no interface of this machine looks like a LAN's; bring the LAN interface up with its \
             address, or write a configuration by hand from the config.yaml that comes with LabGate"
        );
    }
    if host.ways_out.is_empty() {
        say!("note: there is no default route; one of these may be the side of the internet");
    }

    let (leases, files) = leases(Path::new("/"));
    for file in files {
        say!("names from the leases in {}", file.display());
    }
    let devices = devices::propose(&host, &leases, &chosen);
    say!("devices: {} seen, written as comments: take away the `#` of yours", devices.len());
    let text = render::render(&chosen, &devices);
    // Whatever the names were, nobody gets a file that does not load.
    config::parse(&text, &output.display().to_string())?;
    write(output, &text, args.force)?;
    say!("written: {}", output.display());
    let option = match output == Path::new(DEFAULT_CONFIG) {
        true => String::new(),
        false => format!(" --config {}", output.display()),
    };
    say!("next: `sudo labgate check{option}`, then `sudo labgate run{option}`");
    Ok(())
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} exists already; replace it with --force, or name another file with --output",
        path.display()
    )
}

/// Copies a file that is about to be replaced to a name beside it that nothing has; says to which.
fn keep_copy(path: &Path) -> io::Result<Option<PathBuf>> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for number in 1..=MAX_COPIES {
        let copy = path.with_file_name(format!("{name}.old-{number}"));
        match fs::OpenOptions::new().write(true).create_new(true).open(&copy) {
            Ok(_) => return fs::copy(path, &copy).map(|_octets| Some(copy)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("there are {MAX_COPIES} copies of it already; remove some")))
}

/// All of it or nothing, and never over a file that came in between.
fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    let cannot = || format!("can't write {}", path.display());
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).with_context(cannot)?;
    let mut file = tempfile::Builder::new()
        .prefix(".labgate-init-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    if force {
        if let Some(copy) = keep_copy(path).with_context(cannot)? {
            say!("kept: the file that was there, as {}", copy.display());
        }
        file.persist(path).with_context(cannot)?;
        return Ok(());
    }
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(error).with_context(cannot),
    }
}

#[cfg(test)]
mod tests;
