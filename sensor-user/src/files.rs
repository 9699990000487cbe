//! Files that may be replaced while the sensor runs.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// A file that is looked at again and again. Looking, unlike waiting for the kernel's events, also
/// sees what comes by a rename, over a symbolic link or on a network file system.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    /// As it was when it was last read.
    known: Option<Stamp>,
    /// As it was at the last look.
    last: Option<Stamp>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Watched {
    /// Watches a file that is about to be read.
    pub fn new(path: &Path) -> Self {
        let known = Stamp::of(path);
        Self { path: path.to_owned(), known, last: known }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is another than it was when this last said so, and has stayed as it is since
    /// the last look: one that is still being written is left alone.
    pub fn changed(&mut self) -> bool {
        let now = Stamp::of(&self.path);
        let settled = now == self.last;
        self.last = now;
        if !settled || now == self.known {
            return false;
        }
        self.known = now;
        true
    }
}

impl Stamp {
    /// `None` where there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_only_when_the_writer_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "a").unwrap();
        let mut watched = Watched::new(&path);
        assert!(!watched.changed());
        fs::write(&path, "ab").unwrap();
        assert!(!watched.changed(), "it may still be written");
        fs::write(&path, "abc").unwrap();
        assert!(!watched.changed(), "and was");
        assert!(watched.changed());
        assert!(!watched.changed());
    }

    #[test]
    fn replaced_by_one_of_the_same_size_or_removed() {
        let directory = tempfile::tempdir().unwrap();
        let [path, new] = ["file", "new"].map(|name| directory.path().join(name));
        fs::write(&path, "a").unwrap();
        fs::write(&new, "b").unwrap();
        let mut watched = Watched::new(&path);
        fs::rename(&new, &path).unwrap();
        assert_eq!([watched.changed(), watched.changed(), watched.changed()], [false, true, false]);
        fs::remove_file(&path).unwrap();
        assert_eq!([watched.changed(), watched.changed(), watched.changed()], [false, true, false]);
        fs::write(&path, "a").unwrap();
        assert_eq!([watched.changed(), watched.changed()], [false, true]);
    }
}
