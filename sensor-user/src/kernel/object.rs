//! The programs' object file, with the constants put in that only the daemon knows.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use sensor_common::layout::{Constant, Control};

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

/// The object for programs that write this state. The loader could do it with references to variables
/// only: that would take an instruction and a register more each, and it would write over the state
/// when it loads programs anew.
pub(super) fn with_constants(control: &Control, state: BorrowedFd<'_>) -> Vec<u8> {
    put_constants(PROGRAMS, control, state.as_raw_fd())
}

fn put_constants(object: &[u8], control: &Control, map: i32) -> Vec<u8> {
    let mut object = object.to_vec();
    let pairs = object.len().saturating_sub(INSTRUCTION);
    for at in (0..pairs).step_by(INSTRUCTION) {
        let Some(pair) = object[at..].first_chunk_mut::<{ 2 * INSTRUCTION }>() else { break };
        if pair[0] != LOAD_64 {
            continue;
        }
        let is_in_pair = |constant: &&Constant| {
            let number = constant.placeholder().to_le_bytes();
            pair[4..8] == number[..4] && pair[12..] == number[4..]
        };
        let Some(constant) = Constant::ALL.iter().find(is_in_pair) else { continue };
        let value = constant.value(control).unwrap_or_else(|| {
            pair[1] |= PSEUDO_MAP_VALUE;
            u64::from(map.cast_unsigned())
        });
        pair[4..8].copy_from_slice(&value.to_le_bytes()[..4]);
        pair[12..].copy_from_slice(&value.to_le_bytes()[4..]);
    }
    object
}

#[cfg(test)]
mod tests {
    use sensor_common::layout::Geometry;

    use super::*;

    fn load(register: u8, value: u64) -> Vec<u8> {
        let (low, high) = (&value.to_le_bytes()[..4], &value.to_le_bytes()[4..]);
        [&[LOAD_64, register, 0, 0], low, &[0, 0, 0, 0], high].concat()
    }

    fn control() -> Control {
        let geometry = Geometry { cpus: 1, slots: 1024 };
        Control { seed: [u64::MAX - 2, 3, 5, 7], geometry, ..Control::default() }
    }

    #[test]
    fn placeholders_become_values_and_the_address_a_reference() {
        let other = load(1, Constant::State.placeholder() ^ 1 << 40);
        let exit = vec![0x95, 0, 0, 0, 0, 0, 0, 0];
        let before = [
            load(3, Constant::State.placeholder()),
            other.clone(),
            exit.clone(),
            load(8, Constant::SeedMac.placeholder()),
            load(9, Constant::SeedRest.placeholder()),
        ]
        .concat();
        let after = [load(0x23, 7), other, exit, load(8, u64::MAX - 2), load(9, 7)].concat();
        assert_eq!(put_constants(&before, &control(), 7), after);
        assert_eq!(put_constants(&before[..12], &control(), 7), before[..12]);
    }

    #[test]
    fn no_placeholder_stays_in_the_programs() {
        let low = |constant: Constant| constant.placeholder().to_le_bytes();
        let found = |object: &[u8]| {
            let is_half = |at: usize| {
                let half = object.get(at..at + 4);
                Constant::ALL.iter().any(|constant| half == Some(&low(*constant)[..4]))
            };
            (0..object.len()).filter(|at| is_half(*at)).count()
        };
        assert!(found(PROGRAMS) > 0);
        assert_eq!(found(&put_constants(PROGRAMS, &control(), 3)), 0);
    }
}
