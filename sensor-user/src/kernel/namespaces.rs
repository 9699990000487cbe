//! Network namespaces that somebody can still enter.

use std::{
    collections::HashSet,
    fs::{self, DirEntry},
    io,
    path::Path,
};

/// `/proc/self/ns/pid` where all processes of the machine are visible (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: &str = "pid:[4026531836]";

/// The inode numbers of the network namespaces that a thread is in, has open, or sees mounted; nothing where
/// not all processes can be looked at.
pub(super) fn enterable() -> Option<HashSet<u64>> {
    let root = fs::read_link("/proc/self/ns/pid").ok()?;
    if root.as_os_str() != ALL_PROCESSES {
        return None;
    }
    let mut found = HashSet::new();
    for process in entries(Path::new("/proc")).ok()? {
        let is_process = process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if is_process {
            match look_at(&process.path(), &mut found) {
                Err(error) if !is_gone(&error) => return None,
                _ => {}
            }
        }
    }
    Some(found)
}

fn look_at(process: &Path, found: &mut HashSet<u64>) -> io::Result<()> {
    for thread in entries(&process.join("task"))? {
        // That of a thread that has ended can't be read any more.
        found
            .extend(fs::read_link(thread.path().join("ns/net")).ok().and_then(|link| inode(&link)));
    }
    for file in entries(&process.join("fd"))? {
        found.extend(fs::read_link(file.path()).ok().and_then(|link| inode(&link)));
    }
    // A zombie has none.
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    found.extend(mounts.split_whitespace().filter_map(|word| inode(Path::new(word))));
    Ok(())
}

fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(directory)?.collect()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// As the kernel writes it: `net:[4026531840]`.
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
