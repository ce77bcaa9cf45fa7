//! Clients that the documentation shows, run as they stand there.
