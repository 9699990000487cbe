//! A file system that is soon full.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A small file system of its own (tmpfs), gone when this is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at a directory that is made for it; its size is written as `mount -t tmpfs` has it (`8m`).
    ///
    /// # Errors
    /// When there is something already, or the kernel refuses.
    pub fn new(at: &Path, size: &str) -> Result<Self> {
        fs::create_dir(at).with_context(|| format!("can't make {}", at.display()))?;
        let options = format!("size={size}");
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .context("can't mount a tmpfs")?;
        Ok(Self(at.to_owned()))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room there is left.
    ///
    /// # Errors
    /// When not even an empty file can be made.
    pub fn fill(&self) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(self.filler())?;
        // In large pieces, then down to the last page.
        for piece in [1 << 16, 1 << 12] {
            let zeroes = vec![0; piece];
            while file.write_all(&zeroes).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When the file is there and can't be removed.
    pub fn free(&self) -> Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("can't unmount {}: {error}", self.0.display());
        }
    }
}
