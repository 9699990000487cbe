//! Configuration, databases and adopted devices, read anew while the sensor runs: all of it or nothing.
//!
//! What can fail is done here, off the epoch thread: reading, checking, opening. What is left is an
//! exchange between two epochs, so that each epoch is judged by one configuration.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    adopted::{Adopted, StateFile},
    config::{self, Config},
    epoch::Order,
    files::Watched,
    join::geo::{GeoDb, Source},
    service,
    sinks::http::{Names, Settings, Web},
    state::{Reloaded, Shared},
};

/// How often the files are looked at. A change counts once it has held from one look to the next.
const LOOK: Duration = Duration::from_secs(1);

/// What the epoch thread is to exchange, between two epochs.
#[derive(Debug)]
pub struct Exchange {
    /// The configuration from then on.
    pub config: Config,
    /// Databases and watched networks from then on.
    pub geo: GeoDb,
    /// Where it says whether it did; if not, everything is as before.
    pub done: SyncSender<Result<(), String>>,
}

/// Where orders for the epoch thread go, until they are closed: whoever waits for a file must not keep it from ending.
#[derive(Debug, Clone)]
pub struct Orders(Arc<Mutex<Option<Sender<Order>>>>);

impl Orders {
    /// Passes them on.
    pub fn new(orders: Sender<Order>) -> Self {
        Self(Arc::new(Mutex::new(Some(orders))))
    }

    /// From here on there are none.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn send(&self, order: Order) -> Result<(), String> {
        let orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if sent { Ok(()) } else { Err(stopping()) }
    }
}

fn stopping() -> String {
    "the sensor is stopping".to_owned()
}

/// Sets the level of the log.
pub type SetLog = Box<dyn Fn(&Config) -> Result<(), String> + Send>;

/// Reads anew what has changed.
pub struct Reloader {
    /// The configuration's file.
    pub path: PathBuf,
    /// What is in use.
    pub config: Config,
    /// Where exchanges go: the epoch thread.
    pub orders: Orders,
    /// Where outcomes are counted.
    pub shared: Arc<Shared>,
    /// TLS and passwords of the listener.
    pub web: Arc<Web>,
    /// The log.
    pub set_log: SetLog,
    /// The file of adopted devices, watched since before it was read.
    pub adopted_file: Watched,
    /// What stood in it.
    pub adopted: Adopted,
    /// Where other lease files go.
    pub leases: Sender<Vec<PathBuf>>,
}

impl Reloader {
    /// Reads anew at each SIGHUP and whenever a file has changed, until there are no more signals to
    /// come.
    pub fn run(mut self, hangups: &Receiver<()>) {
        let mut file = Watched::new(&self.path);
        let mut databases = self.databases();
        loop {
            let (configuration, databases_too) = match hangups.recv_timeout(LOOK) {
                Ok(()) => (true, true),
                Err(RecvTimeoutError::Timeout) => {
                    // Each is asked, or the next look would find the change once more.
                    let changed = databases.iter_mut().filter_map(|database| {
                        database.changed().then(|| database.path().display().to_string())
                    });
                    let changed: Vec<String> = changed.collect();
                    (file.changed(), !changed.is_empty())
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if configuration {
                self.configuration();
                databases = self.databases();
            } else if databases_too {
                self.account(Reloaded::Databases, self.exchange(self.config.clone()));
            }
            if configuration || self.adopted_file.changed() {
                self.devices();
            }
        }
    }

    /// Files of the databases in use, as they are now.
    fn databases(&self) -> Vec<Watched> {
        let files = [&self.config.databases.country, &self.config.databases.operators];
        files.into_iter().flatten().map(|path| Watched::new(path)).collect()
    }

    fn configuration(&mut self) {
        let _told = service::reloading(&self.shared);
        let outcome = config::load(&self.path).map_err(|error| error.to_string()).and_then(|new| {
            may_change(&self.config, &new)?;
            self.adopted.keep_their_groups(&self.config.policy, &new.policy)?;
            let web = Settings::load(new.web_config.as_deref(), &Names::new(&new))
                .map_err(|e| e.to_string())?;
            self.exchange(new.clone())?;
            (self.set_log)(&new)?;
            self.web.exchange(web);
            for warning in &new.warnings {
                tracing::warn!("{warning}");
            }
            // Where nobody listens the sensor is stopping.
            let _stopping = self.leases.send(new.leases.clone());
            let file = StateFile::of(&new.state_dir);
            if file.path() != self.adopted_file.path() {
                self.adopted_file = Watched::new(file.path());
            }
            self.config = new;
            Ok(())
        });
        self.account(Reloaded::Configuration, outcome);
    }

    /// Takes over the adopted devices as they are now, if they are others than before.
    fn devices(&mut self) {
        let read = StateFile::of(&self.config.state_dir).read().map_err(|error| error.to_string());
        let failed_before = self.shared.snapshot().reloads(Reloaded::Devices).last_failed;
        if read.as_ref() == Ok(&self.adopted) && !failed_before {
            return;
        }
        let outcome = read.and_then(|adopted| {
            let (devices, warnings) = adopted.beside(&self.config);
            let (done, outcome) = sync_channel(1);
            self.order(Order::Devices(devices, done), &outcome)?;
            warn_of(&warnings);
            self.adopted = adopted;
            Ok(())
        });
        self.account(Reloaded::Devices, outcome);
    }

    /// Gives the epoch thread an order and waits until it has done it.
    fn order(&self, order: Order, outcome: &Receiver<Result<(), String>>) -> Result<(), String> {
        self.orders.send(order)?;
        outcome.recv().unwrap_or_else(|_ended| Err(stopping()))
    }

    /// Opens the databases, has the epoch thread exchange both, and waits until it has.
    fn exchange(&self, config: Config) -> Result<(), String> {
        let geo = open_geo(&config).map_err(|error| error.to_string())?;
        let (devices, warnings) = self.adopted.beside(&config);
        let config = Config { devices, ..config };
        let (done, outcome) = sync_channel(1);
        self.order(Order::Exchange(Box::new(Exchange { config, geo, done })), &outcome)?;
        warn_of(&warnings);
        Ok(())
    }

    fn account(&self, what: Reloaded, outcome: Result<(), String>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let succeeded = outcome.is_ok();
        match outcome {
            Ok(()) => tracing::info!(what = what.name(), "reloaded"),
            Err(reason) => {
                tracing::error!(
                    what = what.name(),
                    "not reloaded, what was there stays in use: {reason}"
                );
            }
        }
        self.shared.change(|state| state.reloaded(what, succeeded, now));
    }
}

fn warn_of(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Opens the databases that a configuration names.
///
/// # Errors
///
/// The first one that is missing, damaged or of the wrong kind, in one sentence.
pub fn open_geo(config: &Config) -> Result<GeoDb, crate::join::geo::Error> {
    let source = |path: &Option<PathBuf>| Source::from(path.clone());
    let (country, operators) =
        (source(&config.databases.country), source(&config.databases.operators));
    GeoDb::open(&country, &operators, &config.policy.watched_prefixes, &config.networks)
}

/// Says which keys have changed that hold for as long as the sensor runs.
fn may_change(old: &Config, new: &Config) -> Result<(), String> {
    let kernel = |config: &Config| {
        let limits = config.limits;
        (limits.flow_slots_per_cpu, limits.coarse_entries, limits.unknown_devices)
    };
    let changed: Vec<&str> = [
        ("`listen`", old.listen != new.listen),
        ("`flow_slots_per_cpu`, `coarse_entries` or `unknown_devices`", kernel(old) != kernel(new)),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} can't change while the sensor runs; restart it, or take that change back",
        changed.join(" and ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_the_life_of_the_sensor_is_named() {
        let parse = |more: &str| {
            config::parse(&format!("interfaces: [{{ name: lan0 }}]\n{more}"), "test.yaml").unwrap()
        };
        let old = parse("");
        assert_eq!(may_change(&old, &parse("epoch: 2s\nlog: debug")), Ok(()));
        assert_eq!(may_change(&old, &parse("limits: { prefixes_per_device: 9 }")), Ok(()));
        let refused =
            may_change(&old, &parse("listen: 127.0.0.1:1\nlimits: { coarse_entries: 2048 }"))
                .unwrap_err();
        assert!(refused.starts_with("`listen` and `flow_slots_per_cpu`"), "{refused}");
        let refused = may_change(&old, &parse("limits: { unknown_devices: 9 }")).unwrap_err();
        assert!(refused.contains("`unknown_devices`"), "{refused}");
    }
}
