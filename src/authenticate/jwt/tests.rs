//! Protects what tokens are believed for.
