//! `labgate detach`.

use anyhow::Result;
use nix::net::if_::if_nameindex;

use super::instance::Instance;
use crate::kernel::{check_privileges, remove_leftovers};

/// Removes LabGate's clsact filters from every interface of this network namespace.
///
/// # Errors
///
/// While a sensor runs, or when the kernel refuses.
pub fn detach() -> Result<()> {
    check_privileges()?;
    let _instance = Instance::lock()?;
    let mut removed = 0;
    for interface in &if_nameindex()? {
        let name = interface.name().to_string_lossy();
        let hooks = remove_leftovers(&name)?;
        if hooks > 0 {
            println!("{name}: removed {hooks} filter(s)");
        }
        removed += hooks;
    }
    if removed == 0 {
        println!("nothing was left attached");
    }
    Ok(())
}
