//! Attaching to TC: a TCX link where the kernel has it, else a filter of the clsact qdisc.

use std::path::Path;

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};

use super::{
    attach::{AttachError, EgressMode, errno, reason},
    held::Held,
    owner, pins,
    sensor::{EGRESS_PROGRAM, INGRESS_PROGRAM, Sensor},
    tcx,
};
use crate::{
    config::TcAttach,
    host::{Link, TcFilter, TcHook, filters, ingress_qdisc, remove_bpf_filter},
};

/// Where the clsact filters sit, fixed, so that a restart replaces them and never adds a second. No
/// priority comes before.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: u16 = 0x1ab;

/// What the kernel says of a program that was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is where it belongs.
    Listed,
    /// It is not there any more.
    Missing,
    /// Another one comes first, and may end the chain with its verdict: which one.
    Preceded(String),
}

/// Our program at a hook.
const fn program_name(hook: TcHook) -> &'static str {
    match hook {
        TcHook::Ingress => INGRESS_PROGRAM,
        TcHook::Egress => EGRESS_PROGRAM,
    }
}

const fn attach_type(hook: TcHook) -> TcAttachType {
    match hook {
        TcHook::Ingress => TcAttachType::Ingress,
        TcHook::Egress => TcAttachType::Egress,
    }
}

/// Attaches our program to a hook, before all others.
pub(super) fn attach(
    sensor: &mut Sensor,
    link: &Link,
    hook: TcHook,
    tc: TcAttach,
    pin: Option<&Path>,
) -> Result<(Held, EgressMode), AttachError> {
    let interface = link.name.as_str();
    let program = sensor.classifier(program_name(hook))?;
    if let Some(pin) = pin {
        if tc != TcAttach::Clsact
            && let Some(taken_over) = take_tcx_over(program, pin)
        {
            return Ok((taken_over, EgressMode::Tcx));
        }
        pins::remove(pin);
    }
    let refused = |error: ProgramError| refusal(interface, hook, reason(&error));
    if tc != TcAttach::Clsact {
        // First in the chain: a program before ours could end it with a verdict.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(interface, attach_type(hook), options) {
            Ok(id) => {
                let link = program.take_link(id).map_err(refused)?;
                let held = FdLink::try_from(link).map_err(|error| error.to_string());
                let held =
                    held.and_then(|link| Held::new(link, pin).map_err(|error| error.to_string()));
                let held = held.map_err(|reason| refusal(interface, hook, reason))?;
                return Ok((held, EgressMode::Tcx));
            }
            // A kernel without TCX does not know the attach type.
            Err(error) if tc == TcAttach::Auto && errno(&error) == Some(libc::EINVAL) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    attach_clsact(program, link, hook).map(|held| (held, EgressMode::Clsact))
}

fn refusal(interface: &str, hook: TcHook, reason: String) -> AttachError {
    AttachError::Tc { interface: interface.to_owned(), hook: hook.as_str(), reason }
}

/// Puts our program into the link of an earlier process, in one step.
fn take_tcx_over(program: &mut SchedClassifier, pin: &Path) -> Option<Held> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let id = program.attach_to_link(link.try_into().ok()?).ok()?;
    let link = FdLink::try_from(program.take_link(id).ok()?).ok()?;
    Some(Held::taken_over(link, pin))
}

fn attach_clsact(
    program: &mut SchedClassifier,
    link: &Link,
    hook: TcHook,
) -> Result<Held, AttachError> {
    let interface = link.name.as_str();
    let refused = |error: ProgramError| refusal(interface, hook, reason(&error));
    match aya::programs::tc::qdisc_add_clsact(interface) {
        Ok(()) => {}
        // That it is there says not which it is.
        Err(error) if errno(&error) == Some(libc::EEXIST) => {}
        Err(error) => return Err(refused(error.into())),
    }
    let leftover = place(link, hook)?;
    let handle = TcHandle::new(0, CLSACT_HANDLE);
    let hook_of_aya = attach_type(hook);
    let id = if leftover {
        // In place, so that no packet is missed.
        let leftover =
            SchedClassifierLink::attached(interface, hook_of_aya, CLSACT_PRIORITY, handle, None)
                .map_err(|error| refused(TcError::IoError(error).into()))?;
        program.attach_to_link(leftover).map_err(refused)?
    } else {
        let options = NlOptions { priority: CLSACT_PRIORITY, handle, ..NlOptions::default() };
        let options = TcAttachOptions::Netlink(options);
        program.attach_with_options(interface, hook_of_aya, options).map_err(refused)?
    };
    // It would remove by place whatever sits there at its end.
    std::mem::forget(program.take_link(id).map_err(refused)?);
    let program = program.info().map_err(refused)?.id();
    Ok(Held::filter(Filter { ifindex: link.index, hook, program }))
}

/// Whether a clsact filter of ours can be at a hook as the first one, as far as can be known without trying; on a
/// kernel with TCX, and where the configuration leaves it the choice, there is nothing in the way.
///
/// # Errors
///
/// What is in the way: the qdisc of another kind, or a filter of somebody else.
pub fn check_tc(link: &Link, hooks: &[TcHook], tc: TcAttach) -> Result<(), AttachError> {
    // A kernel without it does not know the attach type.
    let has_tcx = || {
        let asked = tcx::programs(link.index, TcHook::Egress);
        asked.map_err(|error| error.raw_os_error()) != Err(Some(libc::EINVAL))
    };
    if tc == TcAttach::Tcx || (tc == TcAttach::Auto && has_tcx()) {
        return Ok(());
    }
    hooks.iter().try_for_each(|hook| place(link, *hook).map(drop))
}

/// Whether a filter of an earlier process sits at our place of the clsact qdisc.
fn place(link: &Link, hook: TcHook) -> Result<bool, AttachError> {
    let failed = |error: std::io::Error| refusal(&link.name, hook, error.to_string());
    let interface = || link.name.clone();
    match ingress_qdisc(link.index).map_err(failed)?.as_deref() {
        Some("clsact") => {}
        None => return Ok(false),
        Some(kind) => {
            return Err(AttachError::Qdisc { interface: interface(), kind: kind.to_owned() });
        }
    }
    // A filter behind ours of the same priority is in nobody's way.
    match filters(link.index, hook).map_err(failed)?.first() {
        Some(first) if is_ours(first, hook) => Ok(true),
        Some(first) if first.priority == CLSACT_PRIORITY => Err(AttachError::Filter {
            interface: interface(),
            hook: hook.as_str(),
            filter: first.to_string(),
        }),
        _ => Ok(false),
    }
}

/// Whether a filter is one that a sensor made, of this process or an earlier one.
fn is_ours(filter: &TcFilter, hook: TcHook) -> bool {
    let program = filter.program.as_ref();
    (filter.priority, filter.handle) == (CLSACT_PRIORITY, CLSACT_HANDLE.into())
        && program.is_some_and(|program| program.name == program_name(hook))
}

/// How our program stands at a hook. Where the kernel does not say so it is believed to be there; there will be
/// news of a link that has just gone.
pub(super) fn standing(
    sensor: &mut Sensor,
    link: &Link,
    hook: TcHook,
    mode: EgressMode,
) -> Standing {
    let ours = sensor.classifier(program_name(hook)).ok().and_then(|ours| ours.info().ok());
    let Some(ours) = ours.map(|info| info.id()) else { return Standing::Listed };
    match mode {
        EgressMode::Tcx => tcx::programs(link.index, hook)
            .map_or(Standing::Listed, |there| standing_among(&there, ours, owner::program_name)),
        EgressMode::Clsact => filters(link.index, hook)
            .map_or(Standing::Listed, |there| standing_of_filter(&there, hook, ours)),
    }
}

fn standing_among(there: &[u32], ours: u32, name: impl Fn(u32) -> String) -> Standing {
    match there.iter().position(|program| *program == ours) {
        Some(0) => Standing::Listed,
        Some(_) => Standing::Preceded(name(there[0])),
        None => Standing::Missing,
    }
}

fn standing_of_filter(there: &[TcFilter], hook: TcHook, ours: u32) -> Standing {
    let is_it = |filter: &TcFilter| {
        is_ours(filter, hook) && filter.program.as_ref().is_some_and(|program| program.id == ours)
    };
    match there.iter().position(is_it) {
        Some(0) => Standing::Listed,
        Some(_) => Standing::Preceded(there[0].to_string()),
        None => Standing::Missing,
    }
}

/// A filter of the clsact qdisc, which outlives its process by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    ifindex: u32,
    hook: TcHook,
    /// The kernel's number of its program.
    program: u32,
}

impl Filter {
    /// Removes it where it is still there; what somebody else put into its place stays.
    pub(super) fn remove(self) {
        let Self { ifindex, hook, program } = self;
        let there = filters(ifindex, hook).unwrap_or_default();
        if standing_of_filter(&there, hook, program) != Standing::Missing
            && let Err(error) =
                remove_bpf_filter(ifindex, hook, CLSACT_PRIORITY, CLSACT_HANDLE.into())
        {
            let hook = hook.as_str();
            tracing::error!(ifindex, hook, %error, "can't remove the TC filter");
        }
    }
}

/// Removes the clsact filters that a killed daemon left on an interface; links of other kinds end
/// with their process. Returns how many hooks had one.
///
/// # Errors
///
/// When the kernel refuses to list or remove a filter.
pub fn remove_leftovers(interface: &str, ifindex: u32) -> Result<usize, AttachError> {
    let hooks = [TcHook::Ingress, TcHook::Egress];
    hooks.into_iter().try_fold(0, |removed, hook| {
        Ok(removed + usize::from(remove_leftover(interface, ifindex, hook)?))
    })
}

/// Says whether there was one.
pub(super) fn remove_leftover(
    interface: &str,
    ifindex: u32,
    hook: TcHook,
) -> Result<bool, AttachError> {
    let failed = |error: std::io::Error| refusal(interface, hook, error.to_string());
    let there = filters(ifindex, hook).map_err(failed)?;
    let was_there = there.iter().any(|filter| is_ours(filter, hook));
    if was_there {
        remove_bpf_filter(ifindex, hook, CLSACT_PRIORITY, CLSACT_HANDLE.into()).map_err(failed)?;
    }
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FilterProgram;

    fn filter(kind: &str, priority: u16, handle: u32, name: &str, id: u32) -> TcFilter {
        let program = (kind == "bpf").then(|| FilterProgram { name: name.to_owned(), id });
        TcFilter { kind: kind.to_owned(), priority, handle, program }
    }

    #[test]
    fn only_our_own_program_at_our_place_is_ours() {
        let hook = TcHook::Egress;
        let ours = filter("bpf", 1, 0x1ab, "labgate_egress", 7);
        let behind = filter("u32", 1, 0x8000_0800, "", 0);
        let standing = |there: &[TcFilter]| standing_of_filter(there, hook, 7);
        assert_eq!(standing(&[ours.clone(), behind.clone()]), Standing::Listed);
        assert_eq!(standing(&[]), Standing::Missing);
        for other in [
            filter("bpf", 1, 0x1ab, "labgate_egress", 8),
            filter("bpf", 1, 0x1ab, "labgate_ingress", 7),
            filter("bpf", 1, 1, "labgate_egress", 7),
            filter("bpf", 2, 0x1ab, "labgate_egress", 7),
            filter("u32", 1, 0x1ab, "", 0),
        ] {
            assert_eq!(standing(std::slice::from_ref(&other)), Standing::Missing, "{other:?}");
        }
        assert_eq!(
            standing(&[behind, ours]),
            Standing::Preceded("the u32 filter of priority 1".to_owned())
        );
    }

    #[test]
    fn at_tcx_the_first_program_decides() {
        let standing = |there: &[u32]| standing_among(there, 7, |id| format!("program {id}"));
        assert_eq!(standing(&[7, 9]), Standing::Listed);
        assert_eq!(standing(&[8, 7]), Standing::Preceded("program 8".to_owned()));
        assert_eq!(standing(&[8]), Standing::Missing);
        assert_eq!(standing(&[]), Standing::Missing);
    }
}
