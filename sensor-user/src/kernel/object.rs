//! The programs' object file, with references to the state map put in.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use sensor_common::layout::STATE_ADDRESS;

/// Built from `sensor-ebpf` by the build script.
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sensor-ebpf"));

/// Length of an instruction (Linux, `Documentation/bpf/standardization/instruction-set.rst`): opcode,
/// registers, offset (2), immediate (4).
const INSTRUCTION: usize = 8;
/// Loads 64 bits: two instructions, each with half of them as its immediate.
const LOAD_64: u8 = 0x18;
/// As source register of that: the address of the value of a map that has one entry; the first
/// immediate is the map's descriptor, the second an offset.
const PSEUDO_MAP_VALUE: u8 = 2 << 4;

/// The object, in which each load of [`STATE_ADDRESS`] has become one of the state's address. The
/// loader knows such references to variables only, and would write over the state when it loads
/// programs anew.
pub(super) fn with_state(state: BorrowedFd<'_>) -> Vec<u8> {
    refer_to(PROGRAMS, state.as_raw_fd())
}

fn refer_to(object: &[u8], map: i32) -> Vec<u8> {
    let address = STATE_ADDRESS.to_le_bytes();
    let mut object = object.to_vec();
    let pairs = object.len().saturating_sub(INSTRUCTION);
    for at in (0..pairs).step_by(INSTRUCTION) {
        let Some(pair) = object[at..].first_chunk_mut::<{ 2 * INSTRUCTION }>() else { break };
        if pair[0] == LOAD_64 && pair[4..8] == address[..4] && pair[12..] == address[4..] {
            pair[1] |= PSEUDO_MAP_VALUE;
            pair[4..8].copy_from_slice(&map.to_le_bytes());
            pair[12..].fill(0);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_becomes_a_reference() {
        let address = STATE_ADDRESS.to_le_bytes();
        let load = |register: u8, low: &[u8], high: &[u8]| {
            [&[LOAD_64, register, 0, 0], low, &[0, 0, 0, 0], high].concat()
        };
        let other = load(1, &[1, 2, 3, 4], &address[4..]);
        let exit = [0x95, 0, 0, 0, 0, 0, 0, 0];
        let loads = |register: u8| load(register, &address[..4], &address[4..]);
        let refers = |register: u8| load(register | 0x20, &[7, 0, 0, 0], &[0; 4]);
        let before = [&loads(3)[..], &other, &exit, &loads(8)].concat();
        let after = [&refers(3)[..], &other, &exit, &refers(8)].concat();
        assert_eq!(refer_to(&before, 7), after);
        assert_eq!(refer_to(&before[..20], 7)[16..], before[16..20]);
    }

    #[test]
    fn no_address_stays_in_the_programs() {
        let address = STATE_ADDRESS.to_le_bytes();
        let found = |object: &[u8]| {
            let is_half = |at: usize| object.get(at..at + 4) == Some(&address[..4]);
            (0..object.len()).filter(|at| is_half(*at)).count()
        };
        assert!(found(PROGRAMS) > 0);
        assert_eq!(found(&refer_to(PROGRAMS, 3)), 0);
    }
}
