//! Programs that take turns within one stream of frames.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use crate::{generator::Generator, plan::CHUNK_BITS, traffic::Workload};

/// What was measured of one program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Nanoseconds per packet over the empty program: the median.
    pub(crate) ns: f64,
    /// How far that is uncertain, in nanoseconds.
    pub(crate) spread: f64,
    /// Million packets per second, generator, veth and all: the median.
    pub(crate) mpps: f64,
    /// Turns.
    pub(crate) turns: usize,
}

/// For each workload a sample of each program.
pub(crate) type Samples = Vec<Vec<Sample>>;

/// Chunks of a long turn, as a power of two: half of it are more cache lines than a CPU's own caches
/// have.
const FULL_CACHES: u32 = 5;

/// How often each key comes in the half turn that fills the caches, as a power of two: a key that is
/// drawn at random is still missing once in 3,000 times.
const VISITS: u32 = 3;

/// Chunks of one run, about a second.
const RUN: usize = 1024;

/// Fewest turns from which a median is taken.
const MIN_TURNS: usize = 15;

/// Runs `programs` programs in turns for so long, the empty one first, on each of the workloads, which
/// take turns by the second. Returns for each workload a sample of each program, whose spread is half
/// the width of the median's 95 % confidence interval.
///
/// Of each turn the first half is for the caches to become the program's own.
pub(crate) fn measure(
    generator: &mut Generator,
    workloads: &[Workload],
    keys: u32,
    programs: usize,
    time: Duration,
) -> Result<Samples, Box<dyn Error>> {
    let count = u32::try_from(programs)?;
    // Every program meets every key before it counts.
    let all_keys = (keys >> CHUNK_BITS).max(1).ilog2() + 1;
    for workload in workloads {
        generator.run(*workload, count, all_keys, count << all_keys)?;
    }

    // Half a turn fills a CPU's caches with what is the program's own.
    let turn_bits = ((keys << VISITS >> CHUNK_BITS).max(1).ilog2() + 1).min(FULL_CACHES);
    let turn = 1_usize << turn_bits;
    let round = programs * turn;
    let rounds = (RUN / round).clamp(1, 64);
    let chunks = u32::try_from(rounds * round)?;
    let mut turns: Vec<Vec<Vec<f64>>> = vec![vec![Vec::new(); programs]; workloads.len()];
    let start = Instant::now();
    while start.elapsed() < time || turns[0][0].len() < MIN_TURNS {
        for (workload, turns) in workloads.iter().zip(&mut turns) {
            let run = generator.run(*workload, count, turn_bits, chunks)?;
            for (number, turn) in run.chunks_exact(turn).enumerate() {
                turns[number % programs].push(median(&turn[turn.len() / 2..]));
            }
        }
    }
    let samples = |turns: &Vec<Vec<f64>>| turns.iter().map(|own| sample(own, &turns[0])).collect();
    Ok(turns.iter().map(samples).collect())
}

/// A turn is compared with the empty program's turns before and after it. With each for itself: the
/// disturbances are lopsided, and the median of a mean would be too high.
fn sample(own: &[f64], empty: &[f64]) -> Sample {
    let before = own.iter().zip(empty);
    let after = own.iter().zip(&empty[1..]);
    let mut over: Vec<f64> = before.chain(after).map(|(own, empty)| own - empty).collect();
    over.sort_by(f64::total_cmp);
    // Ranks of the median's confidence interval: the binomial distribution, approximated. Each turn
    // is in there twice, and counts once.
    let reach = over.len() * 98 / 100 / own.len().isqrt();
    let middle = over.len() / 2;
    let (low, high) = (middle.saturating_sub(reach), (middle + reach).min(over.len() - 1));
    Sample {
        ns: median(&over),
        spread: (over[high] - over[low]) / 2.0,
        mpps: 1e3 / median(own),
        turns: own.len(),
    }
}

/// Samples of one program that was loaded anew each time: it lies elsewhere in memory then, which
/// can cost or save some nanoseconds. The spread is half the range of the samples, or what they say
/// themselves if that is more.
pub(crate) fn combine(samples: &[Sample]) -> Sample {
    let values = |field: fn(&Sample) -> f64| samples.iter().map(field).collect::<Vec<_>>();
    let ns = values(|sample| sample.ns);
    let most = ns.iter().copied().fold(f64::MIN, f64::max);
    let least = ns.iter().copied().fold(f64::MAX, f64::min);
    Sample {
        ns: median(&ns),
        spread: f64::midpoint(most, -least).max(median(&values(|sample| sample.spread))),
        mpps: median(&values(|sample| sample.mpps)),
        turns: samples.iter().map(|sample| sample.turns).sum(),
    }
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
