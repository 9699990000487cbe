//! What each command of the command line does.

mod check;
mod detach;
mod documents;
mod instance;
mod run;
mod status;

pub use self::{
    check::check,
    detach::detach,
    documents::{completions, man},
    run::run,
    status::status,
};
