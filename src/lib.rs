//! Portcullis, the hardened gate in front of an API.
//!
//! The modules stand in the order of a request, and imports look only back along it:
//!
//! * **ground**, words that everybody uses: `clock` to `store`;
//! * **way**, one stage of a request each: `listen` to `record`;
//! * **whole**, what knows all stages: `policy` to `admin`;
//! * **process**, the program: `cli`, and beside the house `tasks`, reached only over a socket.
//!
//! To see the whole, read `gateway` next.
#![forbid(unsafe_code)]

// ground
pub mod clock;
pub mod name;
pub mod fields;
pub mod text;
pub mod parties;
pub mod units;
pub mod mistake;
pub mod secret;
pub mod refusal;
pub mod store;

// way
pub mod listen;
pub mod head;
pub mod route;
pub mod authenticate;
pub mod authorize;
pub mod limit;
pub mod inspect;
pub mod forward;
pub mod respond;
pub mod record;

// whole
pub mod policy;
pub mod config;
pub mod gateway;
pub mod rehearse;
pub mod admin;

// process
pub mod tasks;
pub mod cli;
