//! What operators do while the gateway runs.
