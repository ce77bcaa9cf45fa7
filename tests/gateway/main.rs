//! The gateway as its callers, its operators and its attackers meet it: whole, and over real sockets.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that is surprised may say so and end; its modules have no users but each other"
)]

mod browsers;
mod clients;
mod edges;
mod examples;
mod harness;
mod hostile;
mod http2;
mod keys;
mod lessons;
mod matrix;
mod mistakes;
mod mtls;
mod operations;
mod refusals;
mod review;
mod revocation;
mod secrets;
mod self_service;
mod series;
mod services;
mod signers;
mod silence;
mod tokens;
mod tour;
mod trailers;
