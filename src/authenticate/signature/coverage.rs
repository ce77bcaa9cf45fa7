//! The list of components that a signature covers, and the lists that policies demand.

use std::ops::Deref;

use crate::authenticate::signature::component::{Component, list};

/// What a signature covers.
#[derive(Clone, Debug)]
pub enum Coverage<'a> {
    /// Just what a policy demands, as it asks for it.
    Demanded(&'a Demanded),
    /// What the message lists.
    Listed(Vec<Component<'a>>),
}

/// Components that a policy demands, and the list of them as signers write it who do as asked.
#[derive(Debug)]
pub struct Demanded {
    components: Box<[Component<'static>]>,
    written: Box<str>,
}

impl Demanded {
    /// These components, each once.
    pub fn of<'c>(components: impl Iterator<Item = &'c Component<'static>>) -> Self {
        let mut once: Vec<Component<'static>> = Vec::new();
        for component in components {
            if !once.contains(component) {
                once.push(component.clone());
            }
        }
        let mut written = Vec::new();
        list(&once, &mut written);
        let written = String::from_utf8_lossy(&written).into();
        Self { components: once.into(), written }
    }

    /// The components.
    pub fn components(&self) -> &[Component<'static>] {
        &self.components
    }

    /// The list, strictly written: `("@method" "@path")`.
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl<'a> Deref for Coverage<'a> {
    type Target = [Component<'a>];

    fn deref(&self) -> &[Component<'a>] {
        match self {
            Self::Demanded(demanded) => &demanded.components,
            Self::Listed(components) => components,
        }
    }
}

impl PartialEq for Coverage<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Coverage<'_> {}
