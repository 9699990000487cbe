//! The programs at an interface's TCX hooks, by their numbers.
//!
//! The loader's own query opens each program, which takes CAP_SYS_ADMIN; the numbers take CAP_NET_ADMIN alone, which
//! the service has.

use std::{io, mem::size_of};

use aya_obj::generated::{bpf_attach_type, bpf_cmd};

use crate::host::TcHook;

/// More than a hook takes (Linux, `BPF_MPROG_MAX`: 64).
const MOST: u32 = 128;

/// `union bpf_attr` of `BPF_PROG_QUERY` (linux/bpf.h).
#[derive(Debug, Default)]
#[repr(C)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// Numbers of the programs at a hook, in the order in which they run.
///
/// # Errors
///
/// When the kernel does not say: it has no TCX (before 6.6), or the interface is gone.
pub(super) fn programs(ifindex: u32, hook: TcHook) -> io::Result<Vec<u32>> {
    let mut programs = vec![0_u32; MOST as usize];
    let attach_type = match hook {
        TcHook::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        TcHook::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    };
    let mut query = Query {
        ifindex,
        attach_type: attach_type as u32,
        programs: programs.as_mut_ptr().expose_provenance() as u64,
        count: MOST,
        ..Query::default()
    };
    // SAFETY: reads and writes the given length of our structure, and writes at most `count` numbers into our array.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_QUERY as libc::c_int,
            &raw mut query,
            size_of::<Query>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    programs.truncate(query.count.min(MOST) as usize);
    Ok(programs)
}
