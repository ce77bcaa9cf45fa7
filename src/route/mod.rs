//! Finds the one route for a head: host, then path, then method.

pub mod host;
pub mod pattern;
pub mod rewrite;
pub mod table;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

/// What the table says of a head.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The route with this number, and the values of its parameters.
    Route(usize, Parameters),
    /// The path is known, but not with this method; these are the methods it has, for `Allow`.
    OtherMethods(Box<str>),
    /// The path is not known.
    Nothing,
}

/// The values of a route's parameters, as they stand in the canonical path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(pub(crate) Vec<(std::sync::Arc<str>, Box<str>)>);

impl Parameters {
    /// The value of the parameter with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}
