//! The kernel side, as the daemon sees it. Only this module knows aya.
//!
//! [`Sensor`] loads the programs and sizes their maps, [`attach`] puts them on interfaces, and
//! [`Table`] flips, reads and clears what they count.

mod attach;
mod counters;
mod grace;
mod hash;
mod interface;
mod object;
mod owner;
mod privileges;
mod sensor;
mod state_memory;
mod table;

pub use attach::{AttachError, Attached, EgressMode, IngressMode, remove_leftovers};
pub use counters::{CountersError, interface_counters};
pub use grace::{GraceError, GracePeriod};
pub use interface::{InterfaceError, ethernet_link};
pub use owner::Owner;
pub use privileges::{PrivilegeError, check_kernel, check_privileges};
pub use sensor::{LoadError, Sensor, Sizes, XdpBuffers, possible_cpus};
pub use table::{DrainError, RawEpoch, Table};
