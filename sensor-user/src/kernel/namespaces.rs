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
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    if root.as_os_str() != ALL_PROCESSES || !shows_everything(&mounts) || !may_look_at_init() {
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

/// Whether `/proc` is mounted as it shows all processes to everybody: a service's may show its own alone
/// (`ProtectProc=` of systemd), and what is missing there is not gone.
///
/// `mounts` is in the form of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)); of mounts at one place the last is on top.
fn shows_everything(mounts: &str) -> bool {
    let mut at_proc = mounts.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut words = mount.split(' ');
        let (root, place) = (words.nth(3)?, words.next()?);
        (place == "/proc").then_some((root, rest))
    });
    let Some((root, rest)) = at_proc.next_back() else { return false };
    let mut words = rest.split(' ');
    let (kind, options) = (words.next(), words.nth(1).unwrap_or("hidepid"));
    let hides = |option: &str| match option.split_once('=') {
        Some(("hidepid", how)) => how != "0" && how != "off",
        _ => option.starts_with("hidepid") || option.starts_with("subset"),
    };
    kind == Some("proc") && root == "/" && !options.split(',').any(hides)
}

/// Whether this process may see what the first process has: then it may see what all have.
fn may_look_at_init() -> bool {
    fs::read_link("/proc/1/ns/net").is_ok() && fs::read_dir("/proc/1/fd").is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw";

    fn shows(proc: &[&str]) -> bool {
        let lines: Vec<_> = [ROOT].iter().chain(proc).copied().collect();
        shows_everything(&lines.join("\n"))
    }

    #[test]
    fn a_proc_that_hides_processes_is_recognized() {
        let plain = "23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw";
        let with = |options: &str| format!("{plain},{options}");
        assert!(shows(&[plain]));
        assert!(shows(&[&with("gid=0")]));
        assert!(shows(&[&with("hidepid=0")]) && shows(&[&with("hidepid=off")]));
        for options in [
            "hidepid=invisible",
            "hidepid=2",
            "hidepid=1,gid=4",
            "hidepid=noaccess",
            "hidepid=ptraceable",
            "hidepid=4",
            "subset=pid",
            "gid=4,subset=pid",
            "hidepid",
        ] {
            assert!(!shows(&[&with(options)]), "{options}");
            // What lies on top counts.
            assert!(!shows(&[plain, &with(options)]), "{options}");
            assert!(shows(&[&with(options), plain]), "{options}");
        }
        assert!(!shows(&[]));
        assert!(!shows(&["23 22 0:21 / /proc rw - tmpfs tmpfs rw"]));
        assert!(!shows(&["23 22 0:21 /1 /proc rw - proc proc rw"]), "a part of one");
        assert!(!shows(&["23 22 0:21 / /other/proc rw - proc proc rw"]));
        assert!(!shows(&["23 22 0:21 / /proc rw - proc"]), "cut");
    }
}
