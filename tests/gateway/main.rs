//! Whole gateways, met from outside: real sockets, real TLS, real clients.

mod clients;
mod harness;
mod mistakes;
mod operations;
mod tour;
