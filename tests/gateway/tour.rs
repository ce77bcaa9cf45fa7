//! The way of a newcomer, from the first start on.
