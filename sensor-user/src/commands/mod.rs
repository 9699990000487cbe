//! What each command of the command line does.

mod check;
mod client;
mod detach;
mod device;
mod devices;
mod documents;
mod init;
mod instance;
mod ledger;
mod period;
mod query;
mod replay;
mod rows;
mod run;
mod status;
mod terminal;

pub use self::{
    check::check,
    detach::detach,
    device::device,
    devices::devices,
    documents::{completions, man},
    init::init,
    ledger::{audit, ledger},
    query::query,
    replay::replay,
    run::run,
    status::status,
};
