//! One program at one hook: pinned or not, of this process or an earlier one.

use std::{
    mem,
    path::{Path, PathBuf},
    thread,
};

use aya::{
    pin::PinError,
    programs::{links::FdLink, tc::SchedClassifierLink},
};

use super::pins;

/// One program at one hook, which ends with this unless it is to stay.
pub(super) struct Held {
    link: Option<AnyLink>,
    pub(super) pin: Option<PathBuf>,
    pub(super) taken_over: bool,
    pub(super) stays: bool,
}

enum AnyLink {
    Fd(#[expect(dead_code, reason = "held for its drop")] FdLink),
    /// A filter of the clsact qdisc, which outlives its process by itself.
    Filter(SchedClassifierLink),
}

impl Held {
    /// A new link, pinned where it can be.
    pub(super) fn new(link: FdLink, pin: Option<&Path>) -> Result<Self, PinError> {
        let link = match pin {
            Some(pin) => link.pin(pin)?.into(),
            None => link,
        };
        let link = Some(AnyLink::Fd(link));
        Ok(Self { link, pin: pin.map(Path::to_owned), taken_over: false, stays: false })
    }

    pub(super) fn taken_over(link: FdLink, pin: &Path) -> Self {
        let link = Some(AnyLink::Fd(link));
        Self { link, pin: Some(pin.to_owned()), taken_over: true, stays: false }
    }

    pub(super) fn filter(link: SchedClassifierLink) -> Self {
        Self { link: Some(AnyLink::Filter(link)), pin: None, taken_over: false, stays: false }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that crashes leaves them to the next, as one that is killed does.
        if self.stays || thread::panicking() {
            if let Some(AnyLink::Filter(filter)) = self.link.take() {
                mem::forget(filter);
            }
        } else if let Some(pin) = &self.pin {
            pins::remove(pin);
        }
    }
}
