//! Which label sets the metrics have: what enters, what counts where, what expires.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Contact, DeviceState, Series, State,
    series::{When, grow},
};
use crate::model::{Attribution, DeviceKind, Flow};

/// How often in the time of an expiry is looked for what is idle. A label that expired is given again
/// after the next look at the earliest, so that there are scrapes without it in between: nobody sees its
/// counter go back to 0.
const LOOKS: u64 = 4;

impl State {
    /// Gives labels to prefixes that are new: those with the most bytes first, where there is not room
    /// for all.
    pub(super) fn enter_prefixes<'a>(&mut self, flows: impl Iterator<Item = &'a Flow>, now: u64) {
        let limit = self.setup.limits.prefixes_per_device;
        let mut new = HashMap::<_, u64>::new();
        for flow in flows {
            let Attribution { prefix: Some(prefix), watched, .. } = flow.attribution else {
                continue;
            };
            let series = self.devices.get(&flow.device).and_then(DeviceState::series);
            if series.unwrap_or(&self.others).wants(&prefix, watched, limit) {
                grow(new.entry((flow.device, prefix, watched)).or_default(), flow.tally.bytes);
            }
        }
        let mut new: Vec<_> = new.into_iter().collect();
        new.sort_unstable_by_key(|(key, bytes)| (Reverse(*bytes), *key));
        for ((device, prefix, watched), _) in new {
            let device = self.devices.get_mut(&device);
            let series = device.and_then(|device| device.series_mut(now, &mut self.budget));
            let series = series.unwrap_or(&mut self.others);
            if series.wants(&prefix, watched, limit) {
                series.enter(prefix, now, &mut self.budget);
            }
        }
    }

    /// Adds a flow to the metrics.
    pub(super) fn count(&mut self, flow: &Flow, contact: &Contact) {
        // What the metrics had told until then did not have it.
        let when = When { created: contact.first.max(self.ended), ended: contact.last };
        let device = self.devices.get_mut(&flow.device);
        let is_pool = device.as_ref().is_some_and(|d| d.info().kind == DeviceKind::Pool);
        if is_pool {
            self.pooled.add(flow.direction, &flow.tally);
        }
        let own = device.and_then(|device| device.series_mut(contact.last, &mut self.budget));
        let has_own = own.is_some();
        let series = own.unwrap_or(&mut self.others);
        if !has_own && !is_pool {
            series.count_folded_device(flow.tally.packets);
        }
        series.add(flow, contact, &when, &mut self.budget);
        // An operator is named once it has a label set of its own, which bounds the names too.
        let Attribution { country, asn, operator, network, .. } = &flow.attribution;
        // A network that the configuration names is a part of its autonomous system, which has another name.
        let is_named =
            operator.is_empty() || operator == network || self.operators.contains_key(asn);
        if !is_named && series.has_label_set(*country, *asn) && self.budget.take_info() {
            self.operators.insert(*asn, Arc::clone(operator));
        }
    }

    /// Gives up label sets that are idle, and devices that nobody named.
    pub(super) fn expire(&mut self, now: u64) {
        let Some(expiration) = self.setup.limits.series_expiration else { return };
        let expiration = u64::try_from(expiration.as_nanos()).unwrap_or(u64::MAX);
        if now.abs_diff(self.looked) < expiration / LOOKS {
            return;
        }
        self.looked = now;
        let before = now.saturating_sub(expiration);
        let Self { devices, others, budget, expirations, operators, .. } = self;
        for device in devices.values_mut() {
            if let Some(ended) = device.end_idle(before) {
                others.absorb(&ended, now, budget);
                grow(&mut expirations.devices, 1);
            } else if let Some(series) = device.held_series_mut()
                && series.expire(before, now, budget, expirations)
            {
                device.note_change();
            }
        }
        others.expire(before, now, budget, expirations);
        let live = devices.values().filter_map(DeviceState::series).chain([&*others]);
        let named: HashSet<u32> = live.flat_map(Series::systems).collect();
        let all = operators.len();
        operators.retain(|asn, _| named.contains(asn));
        budget.release_infos(all - operators.len());
    }
}
