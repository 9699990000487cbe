//! The sensor on Debian's kernels, in virtual machines: the fast part of `cargo xtask verify`.

#![expect(clippy::unwrap_used, reason = "a test panics, which keeps the backtrace")]

use std::sync::{Mutex, MutexGuard};

use xtask::{
    build::Profile,
    setup::Consent,
    verify::{self, Arch, Kernel, Outcome, Verifier, Wanted},
};

/// A machine takes both CPUs and much memory.
static SERIALLY: Mutex<()> = Mutex::new(());

fn serially() -> MutexGuard<'static, ()> {
    SERIALLY.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What came of a kernel, unless that can't be tried here.
fn examine(test: &str, examine: impl FnOnce(&Verifier) -> Kernel) -> Option<Kernel> {
    if let Some(obstacle) = verify::obstacle() {
        xtask::skip(test, &obstacle);
        return None;
    }
    let verifier = Verifier::new(Arch::native(), Profile::Dev, Consent::Given).unwrap();
    let kernel = examine(&verifier);
    if kernel.outcome == Outcome::Skipped {
        xtask::skip(test, &kernel.reason);
        return None;
    }
    Some(kernel)
}

fn wanted(name: &str) -> Wanted {
    verify::KERNELS.into_iter().find(|kernel| kernel.name == name).unwrap()
}

#[test]
fn the_oldest_supported_kernel_counts_right() {
    let _serially = serially();
    let quick = |verifier: &Verifier| verifier.examine(wanted("6.1"), true);
    let Some(kernel) = examine("the_oldest_supported_kernel_counts_right", quick) else { return };
    assert_eq!(kernel.outcome, Outcome::Passed, "{kernel:#?}");
    assert_eq!(kernel.mode, "xdp+clsact");
    assert!(kernel.counted_equal && kernel.restart_equal);
    // Near a million the verifier of another kernel may give up.
    assert_eq!(kernel.instructions.len(), 4);
    for (program, instructions) in &kernel.instructions {
        assert!((1..700_000).contains(&instructions.unwrap()), "{program}: {instructions:?}");
    }
}

#[test]
fn an_older_kernel_is_refused_in_a_sentence() {
    let _serially = serially();
    let look = |verifier: &Verifier| verifier.examine(wanted("5.10"), true);
    let Some(kernel) = examine("an_older_kernel_is_refused_in_a_sentence", look) else { return };
    assert_eq!(kernel.outcome, Outcome::Refused, "{kernel:#?}");
    assert!(kernel.reason.contains("5.10") && kernel.reason.contains("is too old"), "{kernel:#?}");
}

#[test]
fn a_kernel_without_the_barrier_is_refused_in_a_sentence() {
    let _serially = serially();
    let test = "a_kernel_without_the_barrier_is_refused_in_a_sentence";
    let look = |verifier: &Verifier| verifier.refusal(wanted("6.1"), "nohz_full=1");
    let Some(kernel) = examine(test, look) else { return };
    assert_eq!(kernel.outcome, Outcome::Refused, "{kernel:#?}");
    assert!(kernel.reason.contains("nohz_full"), "{kernel:#?}");
}
