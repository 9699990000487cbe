//! `labgate detach`.

use anyhow::Result;
use nix::net::if_::if_nameindex;

use super::{instance::Instance, terminal::say};
use crate::{
    cli::PinsArg,
    kernel::{Pins, PinsError, check_privileges, remove_leftovers},
};

/// Detaches LabGate's programs from every interface of this network namespace, and removes their tables.
///
/// # Errors
///
/// While a sensor runs, or when the kernel refuses.
pub fn detach(args: &PinsArg) -> Result<()> {
    check_privileges()?;
    let _instance = Instance::lock(None)?;
    let mut removed = 0;
    for interface in &if_nameindex()? {
        let name = interface.name().to_string_lossy();
        let hooks = remove_leftovers(&name, interface.index())?;
        if hooks > 0 {
            say!("{name}: removed {hooks} filter(s)");
        }
        removed += hooks;
    }
    match Pins::open(&args.pins) {
        Ok(pins) => {
            let links = pins.remove_all();
            if links > 0 {
                say!("removed {links} link(s), and what was counted since the sensor ended");
            }
            removed += links;
        }
        Err(error @ PinsError::Running) => return Err(error.into()),
        // Nothing can be pinned there, so nothing is.
        Err(PinsError::Unavailable { .. }) => {}
    }
    if removed == 0 {
        say!("nothing was left attached");
    }
    Ok(())
}
