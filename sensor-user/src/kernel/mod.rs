//! The kernel side, as the daemon sees it. Only this module knows aya.
//!
//! [`Sensor`] loads the programs and sizes their maps, [`attach`] puts them on interfaces, and
//! [`Table`] flips, reads and clears what they count.

mod attach;
mod counters;
mod grace;
mod hash;
mod held;
mod interface;
mod namespaces;
mod object;
mod owner;
mod pinned;
mod pins;
mod privileges;
mod raw;
mod sensor;
mod sizes;
mod state_memory;
mod table;
mod tc;
mod tcx;
mod test_run;

pub use attach::{AttachError, Attached, EgressMode, IngressMode};
pub use counters::{CountersError, interface_counters};
pub use grace::{GraceError, GracePeriod};
pub use interface::{InterfaceError, ethernet_link};
pub use owner::Owner;
pub use pins::{DEFAULT_PINS, Pins, PinsError};
pub use privileges::{PrivilegeError, check_kernel, check_privileges};
pub use raw::{RawEpoch, SeenPackets};
pub use sensor::{LoadError, Resumed, Sensor, XdpBuffers, possible_cpus};
pub use sizes::Sizes;
pub use table::{DrainError, Table, boot_time, now};
pub use tc::{Standing, check_tc, remove_leftovers};
pub use test_run::RunError;
