//! What each command of the command line does.

mod check;
mod detach;
mod instance;
mod run;
mod status;

pub use self::{check::check, detach::detach, run::run, status::status};
