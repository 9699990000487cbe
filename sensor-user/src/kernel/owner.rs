//! Who holds an interface's XDP slot.

use std::{fmt, fs, io, path::Path, time::SystemTime};

use aya::programs::{ProgramInfo, loaded_links, loaded_programs};

use crate::host::{XdpMode, XdpSlot, xdp_slot};

/// Descriptors that are looked at, of all processes together, to find one that holds a program.
const MAX_DESCRIPTORS: usize = 200_000;

/// What holds a program at its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The interface alone.
    None,
    /// The link of this number.
    Number(u32),
    /// Only CAP_SYS_ADMIN may know.
    Unknown,
}

/// A program at an interface's XDP slot, as far as the caller may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the interface.
    pub interface: String,
    /// In which mode it is attached.
    pub mode: XdpMode,
    /// The kernel's number of the program; 0 where it names none.
    pub program: u32,
    /// The program's name, control characters left out; `None` where only CAP_SYS_ADMIN may know.
    pub name: Option<String>,
    /// When it was loaded, and the user who did.
    loaded: Option<(SystemTime, u32)>,
    /// Whether a BPF link holds it there, and not only the interface.
    link: Link,
    /// Processes that have the program or the link open: name and number.
    processes: Vec<(String, u32)>,
}

impl Owner {
    /// Asks the kernel; `None` where the slot is free or nothing can be found out.
    pub fn of(interface: &str, ifindex: u32) -> Option<Self> {
        xdp_slot(ifindex).ok().flatten().map(|slot| Self::of_slot(interface, slot))
    }

    /// The same for a slot that is known.
    pub fn of_slot(interface: &str, slot: XdpSlot) -> Self {
        let info = loaded_programs().flatten().find(|info| info.id() == slot.program);
        Self {
            interface: interface.to_owned(),
            mode: slot.mode,
            program: slot.program,
            name: info.as_ref().map(|info| printable(info.name())),
            loaded: info.as_ref().and_then(loaded),
            link: Link::of(slot.program),
            processes: holders(Path::new("/proc"), slot.program),
        }
    }

    /// Name and number only, for places where there is little room.
    pub fn short(&self) -> String {
        let Self { program, .. } = self;
        match self.name.as_deref() {
            _ if *program == 0 => "by several programs".to_owned(),
            Some("") | None => format!("by program {program}"),
            Some(name) => format!("by program `{name}` (id {program})"),
        }
    }
}

/// After "is taken": by which program, who loaded it, and what holds it.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, mode, program, .. } = self;
        write!(f, "{}, {}", self.short(), mode.as_str())?;
        if let Some((time, user)) = self.loaded {
            let time = humantime::format_rfc3339_seconds(time);
            write!(f, ", loaded by user {user} at {time}")?;
        } else if *program != 0 {
            write!(f, " (`sudo bpftool prog show id {program}` says more)")?;
        }
        match &self.processes[..] {
            [] if matches!(self.link, Link::Number(_)) => {
                f.write_str(", held by a link that no process shows")?;
            }
            [] => {}
            [(name, number), rest @ ..] => {
                write!(f, ", held by process {name} ({number})")?;
                if !rest.is_empty() {
                    write!(f, " and {} more", rest.len())?;
                }
            }
        }
        // What `ip` attached it also detaches; a link it can't.
        let ip = format!("`ip link set dev {interface} {} off`", mode.keyword());
        match (self.link, self.processes.is_empty()) {
            (Link::None, _) => write!(f, "; {ip} detaches it"),
            (Link::Number(link), true) => {
                write!(f, "; `sudo bpftool link detach id {link}` detaches it")
            }
            (Link::Number(link), false) => write!(
                f,
                "; the end of that process detaches it unless the link is pinned, and \
                 `sudo bpftool link detach id {link}` in any case"
            ),
            (Link::Unknown, _) => write!(
                f,
                "; {ip} detaches it, or where `sudo bpftool link` lists it, \
                 `sudo bpftool link detach id` with the number there"
            ),
        }
    }
}

impl Link {
    fn of(program: u32) -> Self {
        if program == 0 {
            return Self::Unknown;
        }
        let (mut seen, mut failed) = (false, false);
        for link in loaded_links() {
            match link {
                Ok(link) if link.program_id() == program => return Self::Number(link.id()),
                Ok(_) => seen = true,
                // One that has ended meanwhile, or that this process may not list any.
                Err(_) => failed = true,
            }
        }
        if failed && !seen { Self::Unknown } else { Self::None }
    }
}

/// A program by its name, where the caller may know it, and by the kernel's number: ``program `x` (id 12)``.
pub(super) fn program_name(id: u32) -> String {
    let info = loaded_programs().flatten().find(|info| info.id() == id);
    match info.map(|info| printable(info.name())) {
        Some(name) if !name.is_empty() => format!("program `{name}` (id {id})"),
        _ => format!("program {id}"),
    }
}

fn loaded(info: &ProgramInfo) -> Option<(SystemTime, u32)> {
    Some((info.loaded_at()?, info.created_by_uid()?))
}

/// A name that somebody chose, for messages and metrics.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().filter(|c| !c.is_control() && *c != '`').collect()
}

/// The processes that have a program open, or a link that holds it: `/proc/PID/fdinfo/N` says
/// `prog_id:` for both (Linux, `bpf_prog_show_fdinfo`, `bpf_link_show_fdinfo`).
fn holders(proc: &Path, program: u32) -> Vec<(String, u32)> {
    let numbered = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    };
    let mut budget = MAX_DESCRIPTORS;
    let mut found = Vec::new();
    for process in numbered(proc) {
        let directory = proc.join(process.to_string());
        let holds = numbered(&directory.join("fd")).any(|descriptor| {
            budget = budget.saturating_sub(1);
            budget > 0 && holds(&directory, descriptor, program).unwrap_or(false)
        });
        if holds {
            let name = fs::read(directory.join("comm")).unwrap_or_default();
            found.push((printable(&name), process));
        }
    }
    found
}

fn holds(process: &Path, descriptor: u32, program: u32) -> io::Result<bool> {
    let target = fs::read_link(process.join("fd").join(descriptor.to_string()))?;
    if !target.to_string_lossy().starts_with("anon_inode:bpf") {
        return Ok(false);
    }
    let info = fs::read_to_string(process.join("fdinfo").join(descriptor.to_string()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    Ok(id == Some(program))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::UNIX_EPOCH};

    use super::*;

    fn owner() -> Owner {
        Owner {
            interface: "lan0".to_owned(),
            mode: XdpMode::Native,
            program: 12,
            name: Some("xdp_dispatcher".to_owned()),
            loaded: Some((UNIX_EPOCH, 0)),
            link: Link::Number(5),
            processes: vec![("xdp-loader".to_owned(), 77)],
        }
    }

    #[test]
    fn the_sentence_names_what_is_known() {
        assert_eq!(
            owner().to_string(),
            "by program `xdp_dispatcher` (id 12), native, loaded by user 0 at \
             1970-01-01T00:00:00Z, held by process xdp-loader (77); the end of that process detaches it unless the \
             link is pinned, and `sudo bpftool link detach id 5` in any case"
        );
        let unknown = Owner { name: None, loaded: None, processes: Vec::new(), ..owner() };
        assert_eq!(
            unknown.to_string(),
            "by program 12, native (`sudo bpftool prog show id 12` says more), held by a link that no \
             process shows; `sudo bpftool link detach id 5` detaches it"
        );
        let several = Owner { mode: XdpMode::Generic, program: 0, link: Link::None, ..unknown };
        assert_eq!(
            several.to_string(),
            "by several programs, generic; `ip link set dev lan0 xdpgeneric off` detaches it"
        );
        let hidden = Owner { link: Link::Unknown, ..several }.to_string();
        assert!(hidden.contains("or where `sudo bpftool link` lists it"), "{hidden}");
    }

    #[test]
    fn names_are_printable() {
        assert_eq!(printable(b"xdp\x1b[2J\n`\xff"), "xdp[2J\u{fffd}");
    }

    #[test]
    fn processes_that_hold_the_program_are_found() {
        let proc = tempfile::tempdir().unwrap();
        let process = |number: u32, target: &str, info: &str| {
            let directory = proc.path().join(number.to_string());
            for part in ["fd", "fdinfo"] {
                fs::create_dir_all(directory.join(part)).unwrap();
            }
            symlink(target, directory.join("fd/5")).unwrap();
            fs::write(directory.join("fdinfo/5"), info).unwrap();
            fs::write(directory.join("comm"), format!("proc{number}\n")).unwrap();
        };
        process(3, "anon_inode:bpf_link", "pos:\t0\nlink_type:\txdp\nprog_id:\t12\nifindex:\t3\n");
        process(4, "anon_inode:bpf-prog", "prog_type:\t6\nprog_id:\t13\n");
        process(5, "/tmp/bpf", "prog_id:\t12\n");
        assert_eq!(holders(proc.path(), 12), [("proc3".to_owned(), 3)]);
        assert_eq!(holders(proc.path(), 1), []);
    }
}
