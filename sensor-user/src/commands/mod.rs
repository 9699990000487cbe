//! What each command of the command line does.

mod check;
mod client;
mod detach;
mod devices;
mod documents;
mod init;
mod instance;
mod query;
mod rows;
mod run;
mod status;
mod terminal;

pub use self::{
    check::check,
    detach::detach,
    devices::devices,
    documents::{completions, man},
    init::init,
    query::query,
    run::run,
    status::status,
};
