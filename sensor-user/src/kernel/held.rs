//! One program at one hook: pinned or not, of this process or an earlier one.

use std::{
    path::{Path, PathBuf},
    thread,
};

use aya::{pin::PinError, programs::links::FdLink};

use super::{pins, tc::Filter};

/// One program at one hook, which ends with this unless it is to stay.
pub(super) struct Held {
    link: AnyLink,
    pub(super) pin: Option<PathBuf>,
    pub(super) taken_over: bool,
    pub(super) stays: bool,
}

enum AnyLink {
    Fd(#[expect(dead_code, reason = "held for its drop")] FdLink),
    Filter(Filter),
}

impl Held {
    /// A new link, pinned where it can be.
    pub(super) fn new(link: FdLink, pin: Option<&Path>) -> Result<Self, PinError> {
        let link = match pin {
            Some(pin) => link.pin(pin)?.into(),
            None => link,
        };
        let link = AnyLink::Fd(link);
        Ok(Self { link, pin: pin.map(Path::to_owned), taken_over: false, stays: false })
    }

    pub(super) fn taken_over(link: FdLink, pin: &Path) -> Self {
        let link = AnyLink::Fd(link);
        Self { link, pin: Some(pin.to_owned()), taken_over: true, stays: false }
    }

    pub(super) const fn filter(filter: Filter) -> Self {
        Self { link: AnyLink::Filter(filter), pin: None, taken_over: false, stays: false }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that crashes leaves them to the next, as one that is killed does.
        if self.stays || thread::panicking() {
            return;
        }
        if let Some(pin) = &self.pin {
            pins::remove(pin);
        }
        if let AnyLink::Filter(filter) = self.link {
            filter.remove();
        }
    }
}
