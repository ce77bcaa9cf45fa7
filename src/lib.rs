//! Portcullis, the hardened gate in front of an API.
#![forbid(unsafe_code)]

pub mod clock;
pub mod mistake;
pub mod name;
pub mod refusal;
pub mod secret;
pub mod units;
