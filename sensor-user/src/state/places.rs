//! Attributions, each kept once.

use std::collections::HashMap;

use crate::model::Attribution;

/// Attributions, each kept once and named by a number, for the rows to share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    list: Vec<Attribution>,
    index: HashMap<Attribution, PlaceId>,
}

/// An attribution's place in [`Places`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PlaceId(usize);

impl Places {
    pub(crate) fn find(&self, attribution: &Attribution) -> Option<PlaceId> {
        self.index.get(attribution).copied()
    }

    pub(crate) fn intern(&mut self, attribution: &Attribution) -> PlaceId {
        self.find(attribution).unwrap_or_else(|| {
            let place = PlaceId(self.list.len());
            self.list.push(attribution.clone());
            self.index.insert(attribution.clone(), place);
            place
        })
    }

    pub(crate) fn get(&self, place: PlaceId) -> &Attribution {
        &self.list[place.0]
    }
}
