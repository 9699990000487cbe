//! The state as metrics: rendered from the current snapshot.
//!
//! Nothing is counted here, so nothing can drift from the state that the API shows; only the scrapes
//! themselves are.

mod definitions;
mod families;
mod format;
mod writer;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus::{core::Collector as _, process_collector::ProcessCollector, proto::MetricType};

pub use self::format::Format;
use self::{
    definitions as def,
    writer::{Kind, Writer},
};
use crate::state::{Shared, StageTime};

/// The sensor's metrics and those of its process.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    process: ProcessCollector,
    scrapes: Mutex<Scrapes>,
}

/// The scrapes so far.
#[derive(Debug, Clone, Copy, Default)]
struct Scrapes {
    duration: StageTime,
    last_size: usize,
}

impl Metrics {
    /// Metrics of the state that `shared` holds at each scrape.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, process: ProcessCollector::for_self(), scrapes: Mutex::default() }
    }

    /// Everything, in a text format. Takes milliseconds for a state of thousands of series: not for
    /// async threads.
    pub fn render(&self, format: Format) -> String {
        let began = Instant::now();
        let scrapes = *self.scrapes();
        // Some more than last time, so that the text is not moved while it grows.
        let mut writer = Writer::new(format, scrapes.last_size + scrapes.last_size / 8 + 4096);
        families::write(&self.shared.snapshot(), &mut writer);
        write_scrapes(&scrapes, &mut writer);
        self.write_process(&mut writer);
        let text = writer.finish();
        let mut scrapes = self.scrapes();
        scrapes.duration.add(began.elapsed());
        scrapes.last_size = text.len();
        text
    }

    fn scrapes(&self) -> MutexGuard<'_, Scrapes> {
        self.scrapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_process(&self, writer: &mut Writer) {
        for found in self.process.collect() {
            let kind = match found.get_field_type() {
                MetricType::COUNTER => Kind::Counter,
                _ => Kind::Gauge,
            };
            let mut family = writer.named(found.name(), kind, &[], found.help());
            for metric in found.get_metric() {
                family.sample(
                    [],
                    match kind {
                        Kind::Counter => metric.get_counter().get_value(),
                        Kind::Gauge | Kind::Summary => metric.get_gauge().get_value(),
                    },
                );
            }
        }
    }
}

fn write_scrapes(scrapes: &Scrapes, writer: &mut Writer) {
    let StageTime { last, sum, count } = scrapes.duration;
    writer.family(def::SCRAPE_DURATION).summary([], sum.as_secs_f64(), count);
    if count > 0 {
        writer.family(def::SCRAPE_LAST_DURATION).sample([], last.as_secs_f64());
        writer.family(def::SCRAPE_LAST_SIZE).count([], scrapes.last_size as u64);
    }
}

#[cfg(test)]
mod tests;
