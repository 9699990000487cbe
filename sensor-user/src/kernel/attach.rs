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
    XdpMode,
    links::{FdLink, PinnedLink},
};
use nix::net::if_::if_nametoindex;

use super::{
    held::Held,
    interface::InterfaceError,
    owner::Owner,
    pins::{self, Hook},
    sensor::{LoadError, Sensor, XdpBuffers},
    tc::{self, Standing},
};
use crate::{
    config::{AttachMode, InterfaceConfig, TcAttach, WhenXdpIsTaken},
    host::{Link, TcHook},
};

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
    /// The qdisc that is there has one hook for both directions.
    #[error(
        "{interface} has a qdisc of kind `{kind}`, which has no hook for what goes out, and a filter is to be \
         attached there; write `tc_attach: auto` where the kernel has TCX (Linux 6.6), which needs no qdisc, or \
         replace it (`tc qdisc del dev {interface} {kind}`, `tc qdisc add dev {interface} clsact`) and add its \
         filters to `clsact` as they were: there they work the same"
    )]
    Qdisc {
        /// Which interface.
        interface: String,
        /// What the kernel calls it.
        kind: String,
    },
    /// A filter of somebody else is where ours would be.
    #[error(
        "{filter} sits at TC {hook} of {interface} where LabGate's has to be to see every packet; give it another \
         priority (`tc filter show dev {interface} {hook}` lists it), or write `tc_attach: auto` where the kernel \
         has TCX (Linux 6.6), which comes before all filters"
    )]
    Filter {
        /// Which interface.
        interface: String,
        /// `ingress` or `egress`.
        hook: &'static str,
        /// Which filter.
        filter: String,
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
            tc::attach(sensor, link, TcHook::Egress, tc, at_egress.as_deref())?;
        let mut links = vec![egress_link];
        let ingress = if xdp.is_some() {
            IngressMode::Xdp
        } else {
            links.push(tc::attach(sensor, link, TcHook::Ingress, tc, at_ingress.as_deref())?.0);
            IngressMode::Tc
        };
        let taken_over = xdp.iter().map(|xdp| &xdp.link).chain(&links).all(|link| link.taken_over);
        // Filters of a killed daemon that were not replaced, since this one attaches otherwise.
        if !matches!((ingress, egress), (IngressMode::Tc, EgressMode::Clsact)) {
            tc::remove_leftover(interface, ifindex, TcHook::Ingress)?;
        }
        if egress != EgressMode::Clsact {
            tc::remove_leftover(interface, ifindex, TcHook::Egress)?;
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

    /// How the kernel lists the programs on the interface: it takes them off one that is deleted, an operator
    /// may, and another program may have come before them.
    pub fn standing(&self, sensor: &mut Sensor, link: &Link) -> Standing {
        if let Some(xdp) = &self.xdp {
            let program = sensor.xdp(xdp.buffers).ok().and_then(|program| program.info().ok());
            if program.is_none_or(|program| link.native_program() != Some(program.id())) {
                return Standing::Missing;
            }
        }
        let ingress = (self.ingress == IngressMode::Tc).then_some(TcHook::Ingress);
        let hooks = ingress.into_iter().chain([TcHook::Egress]);
        hooks
            .map(|hook| tc::standing(sensor, link, hook, self.egress))
            .find(|standing| *standing != Standing::Listed)
            .unwrap_or(Standing::Listed)
    }
}

/// What the kernel said.
pub(super) fn reason(error: &(dyn StdError + 'static)) -> String {
    match errno(error) {
        Some(errno) => io::Error::from_raw_os_error(errno).to_string(),
        None => error.to_string(),
    }
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

/// The system's error number, wherever it is in the chain.
pub(super) fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(errno);
        }
        cause = error.source();
    }
    None
}
