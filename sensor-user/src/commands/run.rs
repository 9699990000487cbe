//! `labgate run`: build everything, then spawn, then drain.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use sensor_common::report::Interface;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};
use tracing_subscriber::EnvFilter;

use super::instance::Instance;
use crate::{
    config::{self, Config},
    epoch::{Epochs, Witness},
    join::{Joiner, devices::Inventory, geo::GeoDb},
    kernel::{
        Attached, GracePeriod, Sensor, Sizes, check_kernel, check_privileges, ethernet_index,
        possible_cpus,
    },
    model::Mac,
    sinks::{Sinks, http},
    state::{Setup, Shared, State},
};

/// Overrides the configuration's log level, in tracing's filter syntax.
const LOG_VARIABLE: &str = "LABGATE_LOG";

/// Counts until SIGINT or SIGTERM.
///
/// # Errors
///
/// When anything that counting needs is missing; nothing stays attached then.
pub fn run(path: &Path) -> Result<()> {
    let config = config::load(path)?;
    let filter = EnvFilter::builder()
        .with_default_directive(config.log.into())
        .with_env_var(LOG_VARIABLE)
        .from_env()
        .with_context(|| format!("{LOG_VARIABLE} is no log filter"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }

    check_privileges()?;
    check_kernel()?;
    for interface in &config.interfaces {
        ethernet_index(&interface.name)?;
    }
    let _instance = Instance::lock()?;
    let grace = GracePeriod::new()?;
    let listener = http::bind(config.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("can't start the HTTP server's threads")?;
    let geo = open_geo(&config)?;
    let (mut sensor, table) = Sensor::load(&sizes(&config), &device_macs(&config))?;
    let names = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
    let witness = Witness::new(names)?;
    let attached = attach(&mut sensor, &config)?;

    let setup = Setup {
        limits: config.limits.into(),
        interfaces: attached.iter().map(describe).collect(),
        databases: geo.databases().into(),
        attribution: geo.attribution(),
    };
    let shared = Arc::new(Shared::new(State::new(setup), config.epoch));
    let app = http::App::new(Arc::clone(&shared))?;
    let inventory = Inventory::new(&config.devices, config.limits.unknown_devices);
    let epochs = Epochs {
        sensor,
        table,
        grace,
        witness,
        joiner: Joiner::new(inventory, geo),
        sinks: Sinks::new(shared, config.policy.clone()),
    };

    let (stop_epochs, stopped) = mpsc::channel();
    let (alive, ended) = oneshot::channel::<()>();
    let epoch_thread = thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(move || {
            let _alive = alive;
            epochs.run(config.epoch, &stopped, attached);
        })
        .context("can't start the epoch thread")?;
    tracing::info!(listen = %config.listen, "counting; metrics are at http://{}/metrics", config.listen);
    let served = runtime.block_on(serve(listener, app, ended));
    tracing::info!("stopping: detaching, then reading what is left");
    drop(stop_epochs);
    if epoch_thread.join().is_err() {
        anyhow::bail!("the epoch thread ended with a panic; see the messages above");
    }
    served
}

/// Serves until a signal says stop, or the epoch thread has ended: without it nothing is counted.
async fn serve(
    listener: std::net::TcpListener,
    app: http::App,
    epochs_ended: oneshot::Receiver<()>,
) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(http::serve(listener, app, stopped));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = epochs_ended => {}
    }
    drop(stop);
    server.await.context("the HTTP server ended with a panic")?.context("the HTTP server failed")
}

/// Opens the databases that the configuration names.
pub(super) fn open_geo(config: &Config) -> Result<GeoDb> {
    let source = |path: &Option<PathBuf>| path.clone().into();
    let (country, operators) =
        (source(&config.databases.country), source(&config.databases.operators));
    Ok(GeoDb::open(&country, &operators, &config.policy.watched_prefixes)?)
}

/// The maps' sizes by the configuration.
pub(super) fn sizes(config: &Config) -> Sizes {
    let macs = device_macs(config).len();
    Sizes {
        flow_slots_per_cpu: config
            .limits
            .flow_slots_per_cpu
            .unwrap_or_else(|| Sizes::default_slots(possible_cpus())),
        coarse_entries: config.limits.coarse_entries,
        device_macs: u32::try_from(macs).unwrap_or(u32::MAX),
        unknown_devices: config.limits.unknown_devices,
    }
}

fn device_macs(config: &Config) -> Vec<Mac> {
    config.devices.iter().flat_map(|device| device.macs.iter().copied()).collect()
}

fn attach(sensor: &mut Sensor, config: &Config) -> Result<Vec<Attached>> {
    let mut all = Vec::with_capacity(config.interfaces.len());
    for interface in &config.interfaces {
        let attached = Attached::new(sensor, interface, config.tc_attach)?;
        let (ingress, egress) = (attached.ingress.as_str(), attached.egress.as_str());
        if attached.fallback_reason.is_empty() {
            tracing::info!(interface = attached.interface, ingress, egress, "attached");
        } else {
            tracing::warn!(
                interface = attached.interface,
                ingress,
                egress,
                reason = attached.fallback_reason,
                "attached without native XDP: uploads are counted at TC ingress"
            );
        }
        all.push(attached);
    }
    Ok(all)
}

fn describe(attached: &Attached) -> Interface {
    Interface {
        name: attached.interface.clone(),
        ingress: attached.ingress.as_str().to_owned(),
        egress: attached.egress.as_str().to_owned(),
        fallback_reason: attached.fallback_reason.clone(),
    }
}
