//! Files as somebody else puts them there: read within bounds, and watched for changes.

use std::{
    fs::{self, DirBuilder, File, FileType, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{
        DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
        PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

/// Of directories and files that are nobody else's business.
pub const PRIVATE_DIRECTORY: u32 = 0o700;
/// Of files in them.
pub const PRIVATE_FILE: u32 = 0o600;
/// What everybody but the owner may do.
const OTHERS: u32 = 0o077;
/// Only owners may remove what lies in such a directory: it is everybody's (`S_ISVTX`).
const STICKY: u32 = 0o1000;

/// Opens a regular file to read it. Anything else is refused: a FIFO that nobody writes to would be waited for without an
/// end, and a device may do something when it is opened.
///
/// # Errors
///
/// What the system says, or what it is instead.
pub fn open(path: &Path) -> io::Result<File> {
    require_regular(fs::metadata(path)?.file_type())?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // It may be another one by now.
    require_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file of at most `most` octets.
///
/// # Errors
///
/// As [`open`], and for one that is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let octets = read_start(path, most.saturating_add(1))?;
    if octets.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(octets)
}

/// Reads the first octets of a regular file, at most `most`.
///
/// # Errors
///
/// As [`open`].
pub fn read_start(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    open(path)?.take(most).read_to_end(&mut octets)?;
    Ok(octets)
}

/// Says what something is that should be a regular file.
///
/// # Errors
///
/// When it is none.
pub fn require_regular(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("it is {what}, not a regular file")))
}

/// Takes from a file what others may do with it. Says whether there was anything.
///
/// # Errors
///
/// When it is another user's.
pub fn make_private(file: &File) -> io::Result<bool> {
    let mode = file.metadata()?.permissions().mode();
    let is_open = mode & OTHERS != 0;
    if is_open {
        file.set_permissions(Permissions::from_mode(mode & !OTHERS & 0o7777))?;
    }
    Ok(is_open)
}

/// Makes a directory that only its owner may enter, or makes one such that is this user's own already. Others' stay as they
/// are, as do those that everybody shares. Says whether something was taken from others.
///
/// # Errors
///
/// When it can't be made.
pub fn private_directory(path: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)?;
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let Ok(directory) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return Ok(false);
    };
    let metadata = directory.metadata()?;
    let is_own = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !is_own || metadata.mode() & STICKY != 0 {
        return Ok(false);
    }
    make_private(&directory)
}

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
    use std::{sync::mpsc, thread, time::Duration};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;
    use crate::{adopted::StateFile, config, join::geo, pem::Part, sinks::ledger};

    /// Each reader of the sensor gets one as its file.
    #[test]
    fn a_fifo_is_named_and_never_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("devices.json");
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let state = directory.path().to_owned();
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            let pem = config::Pem::File(fifo.clone());
            let part = Part::new("the certificate", &pem);
            let database = || {
                let source = geo::Source::from(Some(fifo.clone()));
                geo::GeoDb::open(&source, &geo::Source::from(None), &[], &[])
            };
            let errors = [
                config::load(&fifo).unwrap_err().to_string(),
                config::load_web(&fifo).unwrap_err().to_string(),
                part.certificates().unwrap_err().to_string(),
                part.private_key().unwrap_err().to_string(),
                database().unwrap_err().to_string(),
                StateFile::of(&state).read().unwrap_err().to_string(),
                ledger::Ledger::open(&fifo).unwrap_err().to_string(),
                ledger::Ledger::open_for_captures(&fifo).unwrap_err().to_string(),
                ledger::audit(&fifo, 0, 1).unwrap_err().to_string(),
                ledger::purge(&fifo, "redmi").unwrap_err().to_string(),
            ];
            said.send(errors).unwrap();
        });
        let errors = heard.recv_timeout(Duration::from_secs(30)).expect("none is waited for");
        for error in errors {
            assert!(error.contains("it is a FIFO, not a regular file"), "{error}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path()).unwrap_err().to_string();
        assert_eq!(error, "it is a directory, not a regular file");
        let error = open(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(error, "it is a device, not a regular file");
        let path = directory.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read_start(&path, 4).unwrap(), b"1234");
        assert_eq!(read(&path, 4).unwrap_err().to_string(), "it is larger than 4 bytes");
    }

    #[test]
    fn a_directory_becomes_private_unless_it_is_shared() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let path = directory.path().join("state/labgate");
        assert!(!private_directory(&path).unwrap(), "a new one was never open");
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(private_directory(&path).unwrap());
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
        assert!(!private_directory(&path).unwrap());
        assert_eq!(mode(&path), 0o1777);
    }

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
