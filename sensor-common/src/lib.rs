//! What the kernel programs and the daemon share.
//!
//! - [`layout`]: keys and values of the maps, versioned, with their sizes asserted at compile time.
//! - [`parse`]: the one frame parser. The same code runs in the kernel, in the host's tests and
//!   wherever a capture is read.
//! - [`report`] (feature `report`): the common JSON form that `status`, the API and the demo print.
//!
//! Everything but `report` is `no_std` and allocates nothing.
#![cfg_attr(not(feature = "report"), no_std)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "keys are words taken apart and put together; const functions cannot use From"
)]

pub mod layout;
pub mod parse;
#[cfg(feature = "report")]
pub mod report;
pub mod skbuff;
