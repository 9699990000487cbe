//! `labgate run`: build everything, then spawn, then drain.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::sleep,
};
use tracing_subscriber::EnvFilter;

use super::{check::WAY_OUT, instance::Instance, terminal::is_colored};
use crate::{
    adopted::{Adopted, StateFile},
    cli::RunArgs,
    clock::TrustedClock,
    config::{self, Config},
    epoch::{Absent, Cycle, Epochs, Order, Progress, skip_committed},
    faults,
    files::{Watched, private_directory},
    host::{Host, LinkFollower, LinksError, refuse_overlaps},
    interfaces::{Former, Interfaces, LinkNews},
    join::{Joiner, devices::Inventory, geo},
    kernel::{
        GracePeriod, Pins, PinsError, Resumed, Sensor, Sizes, check_kernel, check_privileges,
        now as both_clocks, possible_cpus,
    },
    reload::{Orders, Reloader, SetLog, open_geo},
    resume::{self, Beginning},
    service::Service,
    sinks::{
        Sinks, http,
        ledger::{Keeper, Ledger},
    },
    state::{Reloaded, Setup, Shared, State},
    whereabouts,
};

/// Overrides the configuration's log level, in tracing's filter syntax.
const LOG_VARIABLE: &str = "LABGATE_LOG";

/// For requests that are being answered when the sensor stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// For threads that read files, when the sensor stops.
const FILE_GRACE: Duration = Duration::from_secs(5);
/// Before the kernel is asked about links again.
const AFTER_LINKS_ERROR: Duration = Duration::from_secs(1);

/// Counts until SIGINT or SIGTERM.
///
/// # Errors
///
/// When anything that counting needs is missing; nothing stays attached then.
pub fn run(args: &RunArgs) -> Result<()> {
    let path = &*args.config.config;
    share_memory();
    let config = config::load(path)?;
    let set_log = start_log(&config)?;
    faults::announce();
    let adopted_file = Watched::new(StateFile::of(&config.state_dir).path());
    let adopted = StateFile::of(&config.state_dir).read();
    let damaged = adopted.is_err();
    let adopted = adopted.unwrap_or_else(|error| {
        tracing::error!("counting without the adopted devices: {error}");
        Adopted::default()
    });
    let as_configured = config.clone();
    let (devices, warnings) = adopted.beside(&config);
    for warning in config.warnings.iter().chain(&warnings) {
        tracing::warn!("{warning}");
    }
    let config = Config { devices, ..config };

    check_privileges()?;
    check_kernel()?;
    let names: Vec<&str> = config.interfaces.iter().map(|interface| &*interface.name).collect();
    refuse_overlaps(&names)?;
    warn_of_ways_out(&names);
    let _instance = Instance::lock(Some(&config.state_dir))?;
    keep_private(&config, path);
    let grace = GracePeriod::new()?;
    let web = http::Settings::load(config.web_config.as_deref(), &http::Names::new(&config))?;
    let web = Arc::new(http::Web::new(web));
    let listener = http::bind(config.listen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("can't start the HTTP server's threads")?;
    let geo = open_geo(&config)?;
    let boot = boot_id()?;
    let mut state = State::new(Setup::new(&config, &geo));
    let Begun { inventory, mut ledger, former, trusted, spans_end, absent } =
        begin(&config, &mut state, &boot)?;
    let inventory =
        inventory.unwrap_or_else(|| Inventory::new(&config.devices, config.limits.unknown_devices));
    let pins =
        if ledger.is_some() || absent.is_some() { open_pins(&args.pins.pins)? } else { None };
    let is_pinned = pins.is_some();
    let (sizes, macs) = (sizes(&config), config.device_macs());
    let Resumed { mut sensor, mut table, mut behind, discarded } = match pins {
        Some(pins) => Sensor::resume(&sizes, &macs, pins)?,
        None => Sensor::load(&sizes, &macs)?.into(),
    };
    for reason in discarded {
        tracing::error!(
            reason,
            "a table of an earlier sensor can't be read; what it counted is lost"
        );
    }
    let (follower, links) = runtime.block_on(follow_links())?;
    let known = former.clone();
    let interfaces = Interfaces::attach(&mut sensor, config.wanted(), links, former)?;
    if let Some(ledger) = &mut ledger {
        for table in behind.iter_mut().chain([&mut table]) {
            skip_committed(ledger, table, &boot).context("can't read the ledger")?;
        }
        let links = known.lacks(interfaces.links());
        ledger
            .begin(&interfaces.coverage(), spans_end, (&links, &boot))
            .context("can't write the ledger")?;
    }
    let mut keeper =
        ledger.map(Keeper::new).transpose().context("can't start the ledger's thread")?;
    if let Some(keeper) = &mut keeper {
        keeper.retain(config.retention);
    }
    // The last one comes first.
    let mut next = vec![table];
    next.append(&mut behind);
    let table = next.pop().context("there is no table")?;

    let shared = Arc::new(Shared::new(state, config.epoch));
    let (order, given) = mpsc::channel();
    let app = http::App::new(Arc::clone(&shared));
    let cycle = Cycle {
        table,
        next,
        grace,
        joiner: Joiner::new(inventory, geo),
        sinks: Sinks::new(Arc::clone(&shared), config.policy.clone()),
        keeper,
        boot,
        absent,
        progress: Progress::new(trusted),
    };
    let epochs = Epochs { sensor, interfaces, cycle };

    if damaged {
        shared.change(|state| state.reloaded(Reloaded::Devices, false, 0));
    }
    let whereabouts = whereabouts::Follower::new(Arc::clone(&shared), config.leases.clone());
    let (leases, lease_files) = mpsc::channel();
    let orders = Orders::new(order.clone());
    let reloader = Reloader {
        web: Arc::clone(&web),
        path: path.to_owned(),
        config: as_configured,
        orders: orders.clone(),
        shared: Arc::clone(&shared),
        set_log,
        adopted_file,
        adopted,
        leases,
    };
    let (alive, ended) = oneshot::channel::<()>();
    let epoch_thread = spawn("epoch", move || {
        let _alive = alive;
        epochs.run(config.epoch, &given);
    })?;
    let (hangup, hangups) = mpsc::channel();
    let reload_thread = spawn("reload", move || reloader.run(&hangups))?;
    let whereabouts_thread = spawn("whereabouts", move || whereabouts.run(&lease_files))?;
    tracing::info!(listen = %config.listen, "counting; metrics are at {}://{}/metrics", web.scheme(), config.listen);
    let last_order = order.clone();
    runtime.spawn(report_links(follower, order));
    let service = Service::start(&shared);
    let (leaves, served) = runtime.block_on(serve(listener, app, web, ended, hangup));
    service.stop();
    if leaves && is_pinned {
        tracing::info!(
            "stopping; the programs stay attached and go on counting for the next start (`labgate detach` \
             removes them)"
        );
        // Where nobody listens the thread has ended, and has said why.
        let _ended = last_order.send(Order::Leave);
    } else {
        tracing::info!("stopping: detaching, then reading what is left");
    }
    drop(last_order);
    // Both read files, which may be on a file system that does not answer.
    orders.close();
    let reloader_ended = joined_in_time("reload", reload_thread, FILE_GRACE);
    // With the one who could name other lease files it ends.
    let whereabouts_ended = joined_in_time("whereabouts", whereabouts_thread, FILE_GRACE);
    // With the last one who could give orders the epoch thread ends.
    runtime.shutdown_timeout(SHUTDOWN_GRACE);
    joined("epoch", epoch_thread)?;
    reloader_ended?;
    whereabouts_ended?;
    served
}

/// What the sensor keeps is nobody else's business, whoever made it and whatever the umask was.
fn keep_private(config: &Config, file: &Path) {
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    let (state, file) = (canonical(&config.state_dir), canonical(file));
    // Where somebody keeps the configuration beside, others may have to read that.
    let holds_more = state.zip(file).is_some_and(|(state, file)| file.starts_with(state));
    if holds_more {
        return;
    }
    let path = config.state_dir.display();
    match private_directory(&config.state_dir) {
        Ok(true) => {
            tracing::warn!(
                "other users could enter the state directory {path}: no longer (mode 0700)"
            );
        }
        Ok(false) => {}
        // Who needs it says so.
        Err(error) => tracing::debug!(%error, "can't make the state directory {path}"),
    }
}

/// Says which of the interfaces look like the side of the internet, where there is one device: the provider's router.
fn warn_of_ways_out(watched: &[&str]) {
    let Ok(host) = Host::look() else { return };
    for name in watched {
        if host.link(name).is_some_and(|link| host.is_way_out(link)) {
            tracing::warn!(interface = name, "{WAY_OUT}");
        }
    }
}

/// What one thread frees another takes: epochs, ledger and requests each allocate much for a moment, and an arena for
/// each of them would keep half as much again.
fn share_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's, before there is another thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Where links and tables are pinned; nothing where that can't be.
fn open_pins(directory: &Path) -> Result<Option<Pins>> {
    match Pins::open(directory) {
        Ok(pins) => Ok(Some(pins)),
        Err(error @ PinsError::Running) => Err(error.into()),
        Err(error @ PinsError::Unavailable { .. }) => {
            tracing::warn!(
                %error,
                "nothing can be pinned: what is counted since the last epoch is lost when the sensor is killed, \
                 and nothing is counted while it does not run"
            );
            Ok(None)
        }
    }
}

/// What a sensor begins with: what the ledger has, or nothing yet where it can't be opened.
#[derive(Default)]
struct Begun {
    inventory: Option<Inventory>,
    ledger: Option<Ledger>,
    former: Former,
    trusted: TrustedClock,
    spans_end: &'static str,
    absent: Option<Absent>,
}

/// Goes on from the ledger, where there is one.
fn begin(config: &Config, state: &mut State, boot: &str) -> Result<Begun> {
    let Some(path) = &config.ledger else { return Ok(Begun::default()) };
    let now = both_clocks().context("can't read the clocks")?;
    let begun = Ledger::open(path)
        .and_then(|opened| resume::begin(opened, config, state, boot, now))
        .map(|Beginning { inventory, ledger, former, trusted, spans_end }| Begun {
            inventory: Some(inventory),
            ledger: Some(ledger),
            former,
            trusted,
            spans_end,
            absent: None,
        });
    match begun {
        Err(error) if error.may_pass() => {
            let absent = Absent::new(path.clone(), config.clone(), boot.to_owned(), &error);
            Ok(Begun { absent: Some(absent), ..Begun::default() })
        }
        begun => begun.with_context(|| format!("can't use the ledger {}", path.display())),
    }
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).with_context(|| format!("can't read {path}"))?;
    Ok(id.trim_end().to_owned())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(geo::STACK).spawn(work);
    thread.with_context(|| format!("can't start the {name} thread"))
}

fn joined(name: &str, thread: JoinHandle<()>) -> Result<()> {
    let panicked = |_panic| anyhow!("the {name} thread ended with a panic; see the messages above");
    thread.join().map_err(panicked)
}

/// The same for a thread that may wait for a file: it is left behind, and ends with the process.
fn joined_in_time(name: &str, thread: JoinHandle<()>, grace: Duration) -> Result<()> {
    let deadline = Instant::now() + grace;
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            tracing::error!("the {name} thread still waits for a file; ending without it");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    joined(name, thread)
}

/// Starts the log; the result sets its level anew.
fn start_log(config: &Config) -> Result<SetLog> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(log_filter_of(config)?)
        .with_ansi(is_colored(&io::stderr()))
        .with_writer(io::stderr)
        // It would say so on standard error, and panic if that is gone.
        .log_internal_errors(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Ok(Box::new(move |config| {
        let filter = log_filter_of(config).map_err(|error| format!("{error:#}"))?;
        handle.reload(filter).map_err(|error| error.to_string())
    }))
}

/// What is logged: by the environment, else by the configuration.
fn log_filter_of(config: &Config) -> Result<EnvFilter> {
    EnvFilter::builder()
        .with_default_directive(config.log.into())
        .with_env_var(LOG_VARIABLE)
        .from_env()
        .with_context(|| format!("{LOG_VARIABLE} is no log filter"))
}

/// Serves until a signal says stop, or the epoch thread has ended: without it nothing is counted. Says whether the
/// programs are to stay attached.
async fn serve(
    listener: std::net::TcpListener,
    app: http::App,
    web: Arc<http::Web>,
    epochs_ended: oneshot::Receiver<()>,
    hangup: mpsc::Sender<()>,
) -> (bool, Result<()>) {
    let mut leaves = false;
    let served = serve_until(listener, app, web, epochs_ended, hangup, &mut leaves).await;
    (leaves, served)
}

async fn serve_until(
    listener: std::net::TcpListener,
    app: http::App,
    web: Arc<http::Web>,
    mut epochs_ended: oneshot::Receiver<()>,
    hangup: mpsc::Sender<()>,
    leaves: &mut bool,
) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut hangups = signal(SignalKind::hangup()).context("can't wait for SIGHUP")?;
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(http::serve(listener, app, web, stopped));
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => {
                *leaves = true;
                break;
            }
            _ = &mut epochs_ended => break,
            _ = hangups.recv() => {
                // Where nobody listens the reload thread has ended, and has said why.
                let _nobody = hangup.send(());
            }
        }
    }
    drop(stop);
    server.await.context("the HTTP server ended with a panic")?.context("the HTTP server failed")
}

/// The maps' sizes by the configuration.
pub(super) fn sizes(config: &Config) -> Sizes {
    let macs = config.device_macs().len();
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

/// Follows the links from here on; first what there is.
async fn follow_links() -> Result<(LinkFollower, LinkNews), LinksError> {
    let mut follower = LinkFollower::open()?;
    let asked = Instant::now();
    let links = follower.links().await?;
    Ok((follower, LinkNews { links, asked, gone: Vec::new() }))
}

/// Tells the epoch thread of every change, for as long as it listens.
async fn report_links(mut follower: LinkFollower, order: mpsc::Sender<Order>) {
    loop {
        let news = async {
            let gone = follower.change().await?;
            let asked = Instant::now();
            Ok::<_, LinksError>(LinkNews { links: follower.links().await?, asked, gone })
        };
        match news.await {
            Ok(news) => {
                if order.send(Order::Links(news)).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "links that come or go may be noticed late");
                sleep(AFTER_LINKS_ERROR).await;
                if let Ok(opened) = LinkFollower::open() {
                    follower = opened;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_for_a_file_is_left_behind() {
        let (_never, forever) = mpsc::channel::<()>();
        let waits = spawn("waits", move || {
            let _ended = forever.recv();
        })
        .unwrap();
        let began = Instant::now();
        joined_in_time("waits", waits, Duration::from_millis(50)).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        let ends = spawn("ends", || {}).unwrap();
        joined_in_time("ends", ends, Duration::from_secs(60)).unwrap();
        let panics = spawn("panics", || panic!("as it should")).unwrap();
        assert!(joined_in_time("panics", panics, Duration::from_secs(60)).is_err());
    }
}
