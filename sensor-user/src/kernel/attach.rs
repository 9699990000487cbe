//! Attaching: native XDP or TC at ingress, TC at egress; never generic XDP.
//!
//! Generic XDP sees super-packets as one frame and has no segment count, so where native XDP can't
//! be had, uploads are counted at TC ingress, and that is said everywhere.

use std::{
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, XdpMode,
    links::{FdLink, PinnedLink},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};

use super::{
    held::Held,
    interface::InterfaceError,
    owner::Owner,
    pins::{self, Hook},
    sensor::{EGRESS_PROGRAM, INGRESS_PROGRAM, LoadError, Sensor, XdpBuffers},
};
use nix::net::if_::if_nametoindex;

use crate::{
    config::{AttachMode, InterfaceConfig, TcAttach, WhenXdpIsTaken},
    host::Link,
};

/// Where the clsact filters sit, fixed, so that a restart replaces them and never adds a second.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 0x1ab);

/// How uploads are counted on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngressMode {
    /// Native XDP, in the driver.
    Xdp,
    /// TC ingress.
    Tc,
}

impl IngressMode {
    /// The word of the common JSON form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

/// How TC programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressMode {
    /// A TCX link (Linux 6.6).
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl EgressMode {
    /// The word of the common JSON form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Why the programs can't be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such interface, or no Ethernet on it.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Another XDP program sits there.
    #[error(
        "the XDP slot of {interface} is taken {owner}; detach that program, or count the interface's \
         uploads at TC ingress with `attach: tc` or `when_xdp_is_taken: tc`"
    )]
    XdpTaken {
        /// Which interface.
        interface: String,
        /// By which program, as far as can be known.
        owner: String,
    },
    /// Native XDP was asked for and can't be had.
    #[error(
        "{interface} has no native XDP ({reason}); write `attach: auto` or `attach: tc` to count \
         its uploads at TC ingress"
    )]
    NoNativeXdp {
        /// Which interface.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// TC refuses the program.
    #[error("can't attach to TC {hook} of {interface}: {reason}")]
    Tc {
        /// Which interface.
        interface: String,
        /// `ingress` or `egress`.
        hook: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// Its frames would be counted twice.
    #[error(
        "the frames of {interface} pass {other} as well, which is watched too, and would count twice; \
         remove one of them from `interfaces`"
    )]
    Covered {
        /// Which interface.
        interface: String,
        /// The one that shows its frames.
        other: String,
    },
    /// The object lacks a program.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The programs on one interface. Dropping it detaches them.
pub struct Attached {
    /// Index of the interface, as keys carry it.
    pub ifindex: u32,
    /// How uploads are counted.
    pub ingress: IngressMode,
    /// How TC programs are attached.
    pub egress: EgressMode,
    /// Why it is not native XDP although that was wanted; empty otherwise.
    pub fallback_reason: String,
    /// Whether an earlier process' links go on, so that no packet was missed in between.
    pub taken_over: bool,
    xdp: Option<Xdp>,
    tc: Vec<Held>,
}

/// The program in the XDP slot.
struct Xdp {
    link: Held,
    buffers: XdpBuffers,
}

impl Attached {
    /// Attaches to one interface, to both directions or none. What is most likely refused comes first.
    ///
    /// # Errors
    ///
    /// When the interface is missing or the kernel refuses; nothing stays attached then.
    pub fn new(
        sensor: &mut Sensor,
        link: &Link,
        config: &InterfaceConfig,
        tc: TcAttach,
    ) -> Result<Self, AttachError> {
        let (interface, ifindex) = (link.name.as_str(), link.index);
        if !link.ethernet {
            return Err(InterfaceError::NotEthernet(interface.to_owned()).into());
        }
        let (mut xdp, mut fallback_reason) = (None, String::new());
        let pin = |hook| sensor.pins().map(|pins| pins.link(ifindex, hook));
        let (at_xdp, at_ingress, at_egress) =
            (pin(Hook::Xdp), pin(Hook::Ingress), pin(Hook::Egress));
        if config.attach != AttachMode::Tc {
            match attach_native(sensor, ifindex, config.jumbo_frames, at_xdp.as_deref())? {
                Ok(attached) => xdp = Some(attached),
                Err(refusal) => fallback_reason = refusal.accept(link, config)?,
            }
        }
        // What an earlier process attached otherwise would count a second time.
        let other = if xdp.is_some() { &at_ingress } else { &at_xdp };
        if let Some(other) = other {
            pins::remove(other);
        }
        let (egress_link, egress) =
            attach_tc(sensor, interface, TcAttachType::Egress, tc, at_egress.as_deref())?;
        let mut links = vec![egress_link];
        let ingress = if xdp.is_some() {
            IngressMode::Xdp
        } else {
            let hook = TcAttachType::Ingress;
            links.push(attach_tc(sensor, interface, hook, tc, at_ingress.as_deref())?.0);
            IngressMode::Tc
        };
        let taken_over = xdp.iter().map(|xdp| &xdp.link).chain(&links).all(|link| link.taken_over);
        // Filters of a killed daemon that were not replaced, since this one attaches otherwise.
        if !matches!((ingress, egress), (IngressMode::Tc, EgressMode::Clsact)) {
            remove_leftover(interface, TcAttachType::Ingress)?;
        }
        if egress != EgressMode::Clsact {
            remove_leftover(interface, TcAttachType::Egress)?;
        }
        // TC goes by names, which can change hands meanwhile.
        if if_nametoindex(interface) == Ok(ifindex) {
            Ok(Self { ifindex, ingress, egress, fallback_reason, taken_over, xdp, tc: links })
        } else {
            Err(InterfaceError::Missing(interface.to_owned()).into())
        }
    }

    /// Where its links are pinned.
    pub fn pins(&self) -> Vec<PathBuf> {
        let links = self.xdp.iter().map(|xdp| &xdp.link).chain(&self.tc);
        links.filter_map(|link| link.pin.clone()).collect()
    }

    /// Lets its programs go on when this process ends, as far as their links are pinned.
    pub fn leave(&mut self) {
        for link in self.xdp.iter_mut().map(|xdp| &mut xdp.link).chain(&mut self.tc) {
            link.stays = true;
        }
    }

    /// Whether the kernel still lists the programs on the interface: it takes them off one that is
    /// deleted, and an operator may. (Filters of the clsact qdisc are believed to be there.)
    pub fn is_listed(&self, sensor: &mut Sensor, link: &Link) -> bool {
        let at_xdp = self.xdp.as_ref().is_none_or(|xdp| {
            let program = sensor.xdp(xdp.buffers).ok().and_then(|program| program.info().ok());
            program.is_some_and(|program| link.native_program() == Some(program.id()))
        });
        let ingress = (self.ingress == IngressMode::Tc).then_some(TcAttachType::Ingress);
        at_xdp
            && (self.egress == EgressMode::Clsact
                || ingress
                    .into_iter()
                    .chain([TcAttachType::Egress])
                    .all(|hook| is_at_tcx(sensor, link, hook)))
    }
}

/// What the kernel said.
fn reason(error: &(dyn StdError + 'static)) -> String {
    match errno(error) {
        Some(errno) => io::Error::from_raw_os_error(errno).to_string(),
        None => error.to_string(),
    }
}

/// Where the link has just gone or changed its name nothing is known; there will be news of that.
fn is_at_tcx(sensor: &mut Sensor, link: &Link, hook: TcAttachType) -> bool {
    let ours = sensor.classifier(names(hook).0).ok().and_then(|program| program.info().ok());
    let there = SchedClassifier::query_tcx(&link.name, hook);
    let (Some(ours), Ok((_, there))) = (ours, there) else { return true };
    there.iter().any(|program| program.id() == ours.id())
        || if_nametoindex(&*link.name) != Ok(link.index)
}

/// Why native XDP was refused.
struct Refusal {
    errno: Option<i32>,
    reason: String,
}

impl Refusal {
    /// EBUSY: another native program; EEXIST: a generic one.
    fn taken(&self) -> bool {
        matches!(self.errno, Some(libc::EBUSY | libc::EEXIST))
    }

    /// The reason, where the configuration is content with TC ingress.
    fn accept(self, link: &Link, config: &InterfaceConfig) -> Result<String, AttachError> {
        let interface = link.name.clone();
        if !self.taken() {
            return match config.attach {
                AttachMode::Xdp => Err(AttachError::NoNativeXdp { interface, reason: self.reason }),
                AttachMode::Auto | AttachMode::Tc => Ok(self.reason),
            };
        }
        let owner = Owner::of(&interface, link.index);
        if config.when_xdp_is_taken == WhenXdpIsTaken::Fail {
            let owner = owner.map_or("by another program".to_owned(), |owner| owner.to_string());
            return Err(AttachError::XdpTaken { interface, owner });
        }
        Ok(match owner {
            Some(owner) => format!("{} {}", self.reason, owner.short()),
            None => self.reason,
        })
    }
}

/// The faster program where the driver takes it and larger frames are not expected.
fn attach_native(
    sensor: &mut Sensor,
    ifindex: u32,
    jumbo_frames: bool,
    pin: Option<&Path>,
) -> Result<Result<Xdp, Refusal>, LoadError> {
    let kinds = [XdpBuffers::One, XdpBuffers::Fragments];
    for buffers in &kinds[usize::from(jumbo_frames)..] {
        if let Some(taken_over) = pin.and_then(|pin| take_xdp_over(sensor, *buffers, pin)) {
            return Ok(Ok(taken_over));
        }
    }
    if let Some(pin) = pin {
        // Its interface is gone, or its driver does not take the new program.
        pins::remove(pin);
    }
    if !jumbo_frames {
        match attach_xdp(sensor, ifindex, XdpBuffers::One, pin)? {
            Err(refusal) if !refusal.taken() => {}
            settled => return Ok(settled),
        }
    }
    attach_xdp(sensor, ifindex, XdpBuffers::Fragments, pin)
}

/// Puts our program into the link of an earlier process, in one step.
fn take_xdp_over(sensor: &mut Sensor, buffers: XdpBuffers, pin: &Path) -> Option<Xdp> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let program = sensor.xdp(buffers).ok()?;
    let id = program.attach_to_link(link.try_into().ok()?).ok()?;
    let link = FdLink::try_from(program.take_link(id).ok()?).ok()?;
    Some(Xdp { link: Held::taken_over(link, pin), buffers })
}

fn attach_xdp(
    sensor: &mut Sensor,
    ifindex: u32,
    buffers: XdpBuffers,
    pin: Option<&Path>,
) -> Result<Result<Xdp, Refusal>, LoadError> {
    let program = sensor.xdp(buffers)?;
    let link =
        program.attach_to_if_index(ifindex, XdpMode::Driver).and_then(|id| program.take_link(id));
    Ok(match link {
        // On EINVAL aya attaches by netlink instead; such a link is not tied to the daemon's life.
        Ok(link) => {
            let held = FdLink::try_from(link).map_err(|error| error.to_string());
            let held =
                held.and_then(|link| Held::new(link, pin).map_err(|error| error.to_string()));
            held.map(|link| Xdp { link, buffers }).map_err(|error| Refusal {
                errno: None,
                reason: format!("no BPF link can be made: {error}"),
            })
        }
        Err(error) => {
            let errno = errno(&error);
            let reason = match errno {
                Some(libc::EOPNOTSUPP) => "its driver does not support it".to_owned(),
                Some(libc::EBUSY | libc::EEXIST) => "the XDP slot is taken".to_owned(),
                _ => reason(&error),
            };
            Err(Refusal { errno, reason })
        }
    })
}

fn attach_tc(
    sensor: &mut Sensor,
    interface: &str,
    hook: TcAttachType,
    tc: TcAttach,
    pin: Option<&Path>,
) -> Result<(Held, EgressMode), AttachError> {
    let (name, word) = names(hook);
    let program = sensor.classifier(name)?;
    if let Some(pin) = pin {
        if tc != TcAttach::Clsact
            && let Some(taken_over) = take_tcx_over(program, pin)
        {
            return Ok((taken_over, EgressMode::Tcx));
        }
        pins::remove(pin);
    }
    let refused = |error: ProgramError| AttachError::Tc {
        interface: interface.to_owned(),
        hook: word,
        reason: reason(&error),
    };
    if tc != TcAttach::Clsact {
        // First in the chain: a program before ours could end it with a verdict.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(interface, hook, options) {
            Ok(id) => {
                let link = program.take_link(id).map_err(refused)?;
                let held = FdLink::try_from(link).map_err(|error| error.to_string());
                let held =
                    held.and_then(|link| Held::new(link, pin).map_err(|error| error.to_string()));
                let held = held.map_err(|reason| AttachError::Tc {
                    interface: interface.to_owned(),
                    hook: word,
                    reason,
                });
                return Ok((held?, EgressMode::Tcx));
            }
            // A kernel without TCX does not know the attach type.
            Err(error) if tc == TcAttach::Auto && errno(&error) == Some(libc::EINVAL) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    let link = attach_clsact(program, interface, hook).map_err(refused)?;
    Ok((Held::filter(link), EgressMode::Clsact))
}

/// As [`take_xdp_over`].
fn take_tcx_over(program: &mut SchedClassifier, pin: &Path) -> Option<Held> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let id = program.attach_to_link(link.try_into().ok()?).ok()?;
    let link = FdLink::try_from(program.take_link(id).ok()?).ok()?;
    Some(Held::taken_over(link, pin))
}

/// Our program at a hook, and the hook's name.
const fn names(hook: TcAttachType) -> (&'static str, &'static str) {
    match hook {
        TcAttachType::Ingress => (INGRESS_PROGRAM, "ingress"),
        TcAttachType::Egress | TcAttachType::Custom(_) => (EGRESS_PROGRAM, "egress"),
    }
}

fn attach_clsact(
    program: &mut SchedClassifier,
    interface: &str,
    hook: TcAttachType,
) -> Result<SchedClassifierLink, ProgramError> {
    match aya::programs::tc::qdisc_add_clsact(interface) {
        Ok(()) => {}
        Err(error) if errno(&error) == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // A filter that a killed daemon left is replaced in place; without one this fails.
    let leftover =
        SchedClassifierLink::attached(interface, hook, CLSACT_PRIORITY, CLSACT_HANDLE, None)
            .map_err(TcError::IoError)?;
    let id = match program.attach_to_link(leftover) {
        Ok(id) => id,
        Err(_no_leftover) => {
            let options = NlOptions {
                priority: CLSACT_PRIORITY,
                handle: CLSACT_HANDLE,
                ..NlOptions::default()
            };
            program.attach_with_options(interface, hook, TcAttachOptions::Netlink(options))?
        }
    };
    program.take_link(id)
}

/// Removes the clsact filters that a killed daemon left on an interface; links of other kinds end
/// with their process. Returns how many hooks had one.
///
/// # Errors
///
/// When the kernel refuses to list or remove a filter.
pub fn remove_leftovers(interface: &str) -> Result<usize, AttachError> {
    let hooks = [TcAttachType::Ingress, TcAttachType::Egress];
    hooks
        .into_iter()
        .try_fold(0, |removed, hook| Ok(removed + usize::from(remove_leftover(interface, hook)?)))
}

/// Says whether there was one.
fn remove_leftover(interface: &str, hook: TcAttachType) -> Result<bool, AttachError> {
    let (program, word) = names(hook);
    match aya::programs::tc::qdisc_detach_program(interface, hook, program) {
        Ok(()) => Ok(true),
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // No clsact qdisc, so no filter.
        Err(error) if matches!(errno(&error), Some(libc::EINVAL | libc::ENOENT)) => Ok(false),
        Err(error) => Err(AttachError::Tc {
            interface: interface.to_owned(),
            hook: word,
            reason: error.to_string(),
        }),
    }
}

/// The system's error number, wherever it is in the chain.
fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(errno);
        }
        cause = error.source();
    }
    None
}
