//! Into a ledger, each packet once, however often its capture is replayed.
//!
//! A capture is known by its first packet, its time included; what of it is in the ledger, by the number of packets and
//! the digest of all of them. So it is the same one under another name, in another format or compressed, goes on where a
//! replay was interrupted or the capture has grown since, and needs no second reading. One that begins alike and goes
//! on otherwise (filtered, say, or cut before what is known) is refused: nobody could tell which packets are new.

use std::path::{Path, PathBuf};

use sensor_common::parse::Captured;
use sha2::{Digest as _, Sha256};

use super::ReplayError;
use crate::{
    config::Config,
    join::devices::Inventory,
    model::{DeviceInfo, EpochRecord, InterfaceCounters},
    resume::resume,
    sinks::{
        Sinks,
        ledger::{Commit, Identity, KnownCapture, Ledger, LedgerError},
    },
    state::{Alert, Coverage, End, Span, State},
};

/// How a capture was counted, where a sensor names a hook.
const BY_CAPTURE: &str = "capture";

/// A ledger of captures.
pub(super) struct Archive {
    path: PathBuf,
    ledger: Ledger,
    trail: Trail,
}

/// A capture, as far as it was read.
#[derive(Default)]
struct Trail {
    table: [u64; 2],
    packets: u64,
    digest: Sha256,
    /// What the ledger had of it before.
    known: Option<KnownCapture>,
}

/// Whose packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not yet in the ledger.
    New,
    /// It is.
    Known,
    /// It is another one than the ledger has at its place.
    Other,
}

impl Archive {
    /// Goes on with a ledger, or makes it: inventory and state become what they were after its last epoch.
    pub(super) fn open(
        path: &Path,
        config: &Config,
        state: &mut State,
    ) -> Result<(Self, Inventory), ReplayError> {
        let opened = Ledger::open_for_captures(path).and_then(|(mut ledger, mut restored)| {
            // However long ago a device was captured last, it is told apart.
            restored.ended = 0;
            let inventory = resume(config, &mut ledger, &mut restored, state)?;
            Ok((Self { path: path.to_owned(), ledger, trail: Trail::default() }, inventory))
        });
        opened.map_err(|error| ReplayError::Unusable { path: path.to_owned(), error })
    }

    /// The captures' own counts of all times.
    pub(super) fn captures(&self) -> Vec<InterfaceCounters> {
        self.ledger.interfaces()
    }

    /// Another capture begins.
    pub(super) fn begin(&mut self) {
        self.trail = Trail::default();
    }

    /// Takes note of the next packet.
    pub(super) fn note(
        &mut self,
        frame: &Captured<'_>,
        time: Option<u64>,
    ) -> Result<Standing, ReplayError> {
        // A packet without a time has that of the one before it.
        let head = [time.unwrap_or(0), frame.wire_len as u64, frame.octets.len() as u64];
        let head = head.map(u64::to_be_bytes).concat();
        self.trail.packets += 1;
        self.trail.digest.update(head);
        self.trail.digest.update(frame.octets);
        if self.trail.packets == 1 {
            let table = self.trail.table();
            let known = self.ledger.capture(table).map_err(|error| self.unwritten(error))?;
            (self.trail.table, self.trail.known) = (table, known);
        }
        Ok(self.trail.standing())
    }

    /// Packets that the ledger has of a capture which was read to its end, and which is not that one.
    pub(super) fn lacks(&self) -> Option<u64> {
        let known = self.trail.known.as_ref()?.packets;
        (self.trail.packets < known).then_some(known)
    }

    /// Commits an epoch that ended with the last packet, and once in a minute of the captures tidies up.
    pub(super) fn keep(
        &mut self,
        record: EpochRecord,
        alerts: Vec<(usize, Alert)>,
        known: &[DeviceInfo],
        sinks: &Sinks,
    ) -> Result<(), ReplayError> {
        let identity = self.trail.identity();
        let commit = Commit::new(identity, record, known, sinks.attributed_by());
        let kept = self.ledger.commit(&Commit { alerts, ..commit }).and_then(|()| {
            if self.ledger.wants_fold() { self.ledger.fold(&sinks.snapshot(false)) } else { Ok(()) }
        });
        kept.map_err(|error| self.unwritten(error))
    }

    /// Notes that a capture has ended, and from when to when it was.
    pub(super) fn end(
        &mut self,
        name: &str,
        (from, to): (u64, u64),
        sinks: &Sinks,
    ) -> Result<(), ReplayError> {
        let mut coverage = Coverage::new(name);
        coverage.begin(Span {
            from,
            to: None,
            link: name.into(),
            ingress: BY_CAPTURE,
            egress: BY_CAPTURE,
            fallback_reason: "".into(),
            end: None,
        });
        coverage.end(to, End::Stopped);
        let boot = self.trail.identity().boot;
        let ended = self.ledger.cover(&[coverage], &boot);
        let ended = ended.and_then(|()| self.ledger.fold(&sinks.snapshot(false)));
        ended.map_err(|error| self.unwritten(error))
    }

    fn unwritten(&self, error: LedgerError) -> ReplayError {
        ReplayError::Unwritten { path: self.path.clone(), error }
    }
}

impl Trail {
    /// Of the last packet.
    fn standing(&self) -> Standing {
        match &self.known {
            Some(known) if self.packets < known.packets => Standing::Known,
            Some(known) if self.packets == known.packets => {
                if self.state().digest == known.digest {
                    Standing::Known
                } else {
                    Standing::Other
                }
            }
            _ => Standing::New,
        }
    }

    /// What stands for a flow table's number, after the first packet.
    fn table(&self) -> [u64; 2] {
        let digest = self.digest.clone().finalize();
        let word =
            |at: usize| digest[at..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word));
        [word(0), word(8)]
    }

    fn identity(&self) -> Identity {
        Identity::of_capture(self.table, &self.state())
    }

    fn state(&self) -> KnownCapture {
        let digest = self.digest.clone().finalize();
        let digest = digest.iter().map(|octet| format!("{octet:02x}")).collect();
        KnownCapture { packets: self.packets, digest }
    }
}
