//! The list of components that a signature covers, and the lists that policies demand.

use std::ops::Deref;

use crate::authenticate::signature::component::{Component, identifier, list};

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
    /// What stands before the value of each in a signature base, from the end of the line before on.
    leads: Box<[Box<[u8]>]>,
    written: Box<str>,
    covers_digest: bool,
    covers_trailers: bool,
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
        let end = |number| if number > 0 { "\n" } else { "" };
        let leads = once.iter().enumerate().map(|(number, one)| lead(end(number), one)).collect();
        let (covers_digest, covers_trailers) = (covers_digest(&once), covers_trailers(&once));
        Self { components: once.into(), leads, written, covers_digest, covers_trailers }
    }

    /// The components.
    pub fn components(&self) -> &[Component<'static>] {
        &self.components
    }

    /// The components, each with what stands before its value in a signature base: but for the first
    /// that begins with the end of the line before.
    pub fn led(&self) -> impl Iterator<Item = (&[u8], &Component<'static>)> {
        self.leads.iter().map(|lead| &**lead).zip(&self.components)
    }

    /// The list, strictly written: `("@method" "@path")`.
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl Coverage<'_> {
    /// Whether the `Content-Digest` of the head is covered, in whatever form.
    pub fn covers_digest(&self) -> bool {
        match self {
            Self::Demanded(demanded) => demanded.covers_digest,
            Self::Listed(components) => covers_digest(components),
        }
    }

    /// Whether a trailer is covered.
    pub fn covers_trailers(&self) -> bool {
        match self {
            Self::Demanded(demanded) => demanded.covers_trailers,
            Self::Listed(components) => covers_trailers(components),
        }
    }
}

fn covers_trailers(components: &[Component<'_>]) -> bool {
    components.iter().any(Component::is_trailer)
}

fn covers_digest(components: &[Component<'_>]) -> bool {
    components.iter().any(|component| component.is_field("content-digest"))
}

/// What stands before the value of a component in a signature base.
fn lead(end: &str, component: &Component<'_>) -> Box<[u8]> {
    let mut lead = end.as_bytes().to_vec();
    identifier(component, &mut lead);
    lead.extend_from_slice(b": ");
    lead.into()
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
