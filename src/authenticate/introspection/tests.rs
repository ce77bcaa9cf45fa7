//! Protects what is asked of issuers, and what their answers are believed for.
