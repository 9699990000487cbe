//! Every input of the corpora goes through the check that fuzzing makes, here without a fuzzer; and then, for as
//! many seconds as `LABGATE_FUZZ_SECONDS` says (1), the same inputs with random changes.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use labgate_fuzz::CHECKS;
use xtask::fuzz::corpus;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Names each input that breaks a check, with the comment above it.
fn run(name: &str) {
    let (_, check) = CHECKS.into_iter().find(|(known, _)| *known == name).unwrap();
    let text = fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap();
    let groups = corpus::read(&text).unwrap();
    assert!(groups.iter().any(|group| !group.inputs.is_empty()), "{name} has no inputs");
    let breaks = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| check(input))).is_err();
    let mut broken = Vec::new();
    for group in &groups {
        for input in group.inputs.iter().filter(|input| breaks(input)) {
            broken.push(format!("# {}\n{}", group.comment, corpus::encode(input)));
        }
    }
    assert!(broken.is_empty(), "{} inputs break {name}:\n{}", broken.len(), broken.join("\n"));

    let seconds = env::var("LABGATE_FUZZ_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let inputs: Vec<_> = groups.into_iter().flat_map(|group| group.inputs).collect();
    let mut roll = dice();
    let mut tried = 0_u64;
    while Instant::now() < until {
        let input = changed(&inputs, &mut roll);
        assert!(!breaks(&input), "a changed input breaks {name}:\n{}", corpus::encode(&input));
        tried += 1;
    }
    println!("{name}: {tried} changed inputs");
}

/// Numbers that look random and are always the same.
fn dice() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |sides| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % sides.max(1) as u64).unwrap()
    }
}

/// One of the inputs with up to four changes: an octet, a number at its end, a part that is missing, doubled or
/// another's.
fn changed(inputs: &[Vec<u8>], roll: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    const NUMBERS: [u64; 8] =
        [0, 1, 0x7f, 0xff, 0x7fff_ffff, u32::MAX as u64, i64::MAX as u64, u64::MAX];
    let mut input = inputs[roll(inputs.len())].clone();
    for _ in 0..=roll(4) {
        let at = roll(input.len() + 1);
        let end = (at + roll(32)).min(input.len());
        match roll(6) {
            0 => input.drain(at..end).for_each(drop),
            1 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            2 => {
                let other = &inputs[roll(inputs.len())];
                let from = roll(other.len() + 1);
                let to = (from + roll(64)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            3 => {
                let number = NUMBERS[roll(NUMBERS.len())].to_be_bytes();
                let width = [1, 2, 4, 8][roll(4)];
                for (there, octet) in input[at..].iter_mut().zip(&number[8 - width..]) {
                    *there = *octet;
                }
            }
            _ => {
                if let Some(octet) = input.get_mut(at) {
                    *octet = u8::try_from(roll(256)).unwrap();
                }
            }
        }
    }
    input
}

#[test]
fn config() {
    run("config");
}

#[test]
fn frame() {
    run("frame");
}

#[test]
fn ledger() {
    run("ledger");
}

#[test]
fn mmdb() {
    run("mmdb");
}

#[test]
fn replay() {
    run("replay");
}

#[test]
fn web() {
    run("web");
}

#[test]
fn every_check_has_a_corpus_and_a_target() {
    let checks: BTreeSet<_> = CHECKS.map(|(name, _)| name.to_owned()).into();
    for directory in [directory(), directory().with_file_name("fuzz_targets")] {
        let files = fs::read_dir(directory).unwrap();
        let names = files
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
        assert_eq!(names.collect::<BTreeSet<_>>(), checks);
    }
}

/// Whoever looks at a change of a corpus wants to read it.
#[test]
fn corpora_are_small_and_every_group_says_what_it_is() {
    for (name, _) in CHECKS {
        let text = fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap();
        assert!(text.len() < 64 << 10, "{name}: {} bytes", text.len());
        for group in corpus::read(&text).unwrap() {
            assert!(!group.comment.is_empty(), "{name}: {} inputs", group.inputs.len());
        }
    }
}
