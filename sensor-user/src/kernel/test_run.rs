//! Frames shown to the programs without any interface: BPF_PROG_TEST_RUN (Linux, `net/bpf/test_run.c`).

use aya::{
    TestRun as _,
    programs::{ProgramError, TestRunOptions},
};

use super::sensor::{EGRESS_PROGRAM, LoadError, Sensor, XdpBuffers};
use crate::model::Direction;

/// What the kernel demands of any frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Longest frame in one buffer at XDP: a page without headroom and the skb's shared part.
const MAX_XDP_LINEAR: usize = 3520;
/// Longest one in fragments: 17 pages more.
const MAX_XDP: usize = 73_152;
/// Longest one at TC hooks.
const MAX_TC: usize = 3712;
/// A `struct __sk_buff` (`linux/bpf.h`). Where that is zero the kernel sets `wire_len` from the frame's length;
/// without any struct it would not set it at all. The frame came by the loopback interface, so that it is not
/// taken for the gateway's own.
const SKB: [u8; 192] = {
    let mut skb = [0; 192];
    skb[INGRESS_IFINDEX] = 1;
    skb
};
/// Offset of the lowest octet on the machines that there are.
const INGRESS_IFINDEX: usize = 36;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The object lacks it.
    #[error(transparent)]
    Missing(#[from] LoadError),
    /// The kernel refuses.
    #[error("the kernel does not run the programs over a frame of {len} octets: {error}")]
    Refused {
        /// Length of the frame.
        len: usize,
        /// What it said.
        error: ProgramError,
    },
}

impl Sensor {
    /// Longest frame that the kernel takes for a test run, in octets.
    pub const LONGEST: usize = MAX_XDP;

    /// Whether the kernel takes such a frame for a test run.
    pub fn takes(frame: &[u8], direction: Direction) -> bool {
        match direction {
            Direction::Tx => (MIN_FRAME..=MAX_XDP).contains(&frame.len()),
            // At TC hooks there has to be the IP header that the EtherType promises, or anything.
            Direction::Rx => {
                let header = match frame.get(12..MIN_FRAME) {
                    Some([0x08, 0x00]) => 20,
                    Some([0x86, 0xdd]) => 40,
                    _ => 1,
                };
                (MIN_FRAME + header..=MAX_TC).contains(&frame.len())
            }
        }
    }

    /// Runs the program of a direction over a frame: at XDP for uploads, at TC egress for downloads. When
    /// this returns the program has ended.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn show(&mut self, frame: &[u8], direction: Direction) -> Result<(), RunError> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let run = match direction {
            Direction::Tx => {
                let fits = frame.len() <= MAX_XDP_LINEAR;
                let buffers = if fits { XdpBuffers::One } else { XdpBuffers::Fragments };
                self.xdp(buffers)?.test_run(options)
            }
            Direction::Rx => {
                let options = TestRunOptions { ctx_in: Some(&SKB), ..options };
                self.classifier(EGRESS_PROGRAM)?.test_run(options)
            }
        };
        run.map(drop).map_err(|error| RunError::Refused { len: frame.len(), error })
    }
}
