//! The limit on all series together: every label set takes its share before it is exported.

use super::Folded;

/// Series of one label set: packets, bytes and payload in two directions, and when they began.
pub(super) const OF_LABEL_SET: usize = 7;
/// Of a prefix: packets and bytes in two directions, and when they began.
pub(super) const OF_PREFIX: usize = 5;
/// Of a country: first and last contact.
pub(super) const OF_CONTACT: usize = 2;
/// Of a breach of the policy: first and last packet.
pub(super) const OF_BREACH: usize = 2;
/// Of an operator: its name.
pub(super) const OF_INFO: usize = 1;
/// What each device has, or can get at any time: its info, what was folded by kind, the prefixes `other`,
/// none and expired, and the label sets without a country of their own, live and expired.
pub(super) const OF_DEVICE: usize = 1 + Folded::KINDS + 3 * OF_PREFIX + 2 * OF_LABEL_SET;
/// What is there without a device: books, levels, tables, stages, outcomes, databases, process.
const FIXED: usize = 192;
/// Of an interface, at most.
const OF_INTERFACE: usize = 8;

/// Series that may still be given away, all devices together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    limit: usize,
    held: usize,
    /// Of these, by devices that the configuration does not name.
    pooled: usize,
    interfaces: usize,
}

impl Budget {
    pub(super) fn new(limit: usize, interfaces: usize) -> Self {
        let held = FIXED + OF_INTERFACE * interfaces + OF_DEVICE;
        Self { limit, held, pooled: 0, interfaces }
    }

    /// From here on this is the limit, with so many interfaces. What is held stays.
    pub(super) const fn change(&mut self, limit: usize, interfaces: usize) {
        self.held = self.held + OF_INTERFACE * interfaces - OF_INTERFACE * self.interfaces;
        self.interfaces = interfaces;
        self.limit = limit;
    }

    /// Most series there may be.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Series given away.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Takes some if there are that many. Devices without a name get at most half of all: made-up MAC
    /// addresses cost no configured device its detail.
    pub(super) fn take(&mut self, series: usize, pooled: bool) -> bool {
        let fits =
            self.held + series <= self.limit && !(pooled && self.pooled + series > self.limit / 2);
        if fits {
            self.move_to(series, pooled);
        }
        fits
    }

    /// For one name of an operator.
    pub(super) fn take_info(&mut self) -> bool {
        self.take(OF_INFO, false)
    }

    pub(super) const fn release_infos(&mut self, infos: usize) {
        self.held -= infos * OF_INFO;
    }

    /// Takes what was released a moment before, or before a restart.
    pub(super) const fn move_to(&mut self, series: usize, pooled: bool) {
        self.held += series;
        if pooled {
            self.pooled += series;
        }
    }

    pub(super) const fn release(&mut self, series: usize, pooled: bool) {
        self.held -= series;
        if pooled {
            self.pooled -= series;
        }
    }
}
