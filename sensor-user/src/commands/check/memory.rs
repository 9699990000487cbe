//! Whether the tables fit into this machine.

use std::fs;

use super::Findings;

/// What `/proc/meminfo` says, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    pub(super) fn of_this_machine() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    /// Lines `Name: number kB` (proc_meminfo(5)).
    fn parse(text: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total: bytes("MemTotal")?, available: bytes("MemAvailable")? })
    }

    /// Says whether it is worth trying to make tables of so many bytes.
    pub(super) fn judge(self, needed: u64, findings: &mut Findings) -> bool {
        let mebibytes = |bytes: u64| bytes >> 20;
        if needed > self.total {
            findings.problem(format!(
                "the tables need more memory than this machine has ({} MiB): make \
                 `flow_slots_per_cpu`, `coarse_entries` or `unknown_devices` smaller",
                mebibytes(self.total)
            ));
        } else if needed > self.available {
            findings.warning(format!(
                "only {} MiB of memory are free; the tables may not fit",
                mebibytes(self.available)
            ));
        }
        needed <= self.available
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_a_problem() {
        let text = "MemTotal:        4096 kB\nMemFree:          100 kB\nMemAvailable:    2048 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!(memory, Memory { total: 4 << 20, available: 2 << 20 });
        assert_eq!(Memory::parse("MemTotal: 1 kB\n"), None);
        let mut findings = Findings::default();
        assert!(memory.judge(2 << 20, &mut findings));
        assert!(!memory.judge(3 << 20, &mut findings));
        assert_eq!(findings.problems, 0);
        assert!(!memory.judge(5 << 20, &mut findings));
        assert_eq!(findings.problems, 1);
    }
}
