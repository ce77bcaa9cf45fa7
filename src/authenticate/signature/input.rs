//! Reads what signatures claim to cover, and on what terms (RFC 9421, 2.3 and 4.1).

use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::coverage::Coverage;
use crate::authenticate::signature::fields::Malformed;
use crate::authenticate::signature::parameter::Parameters;

/// The most components that one signature may cover.
pub const COMPONENTS_MAX: usize = 20;

/// One member of `Signature-Input`: what one signature claims to cover, and on what terms.
#[derive(Debug, PartialEq, Eq)]
pub struct Input<'a> {
    /// The label that ties it to its member of `Signature`.
    pub label: &'a str,
    /// What it covers, in its order.
    pub coverage: Coverage<'a>,
    /// Its parameters, in their order, which the signature covers too.
    pub parameters: Parameters<'a>,
    /// Its value as received, where that is strictly written already.
    pub strict: Option<&'a str>,
    /// The first thing in it that we do not accept. Only the signature that the policy chooses must
    /// be without one: others may be meant for somebody else, in terms that we need not know.
    pub fault: Option<Malformed>,
}

impl<'a> Input<'a> {
    /// `created`, in Unix seconds.
    pub fn created(&self) -> Option<u64> {
        self.parameters.created
    }

    /// `expires`, in Unix seconds.
    pub fn expires(&self) -> Option<u64> {
        self.parameters.expires
    }

    /// `nonce`.
    pub fn nonce(&self) -> Option<&str> {
        self.parameters.nonce.as_deref()
    }

    /// `alg`.
    pub fn algorithm(&self) -> Option<&str> {
        self.parameters.algorithm.as_deref()
    }

    /// `keyid`.
    pub fn keyid(&self) -> Option<&str> {
        self.parameters.keyid.as_deref()
    }

    /// `tag`.
    pub fn tag(&self) -> Option<&str> {
        self.parameters.tag.as_deref()
    }

    /// Adds what it covers also.
    pub(super) fn cover(&mut self, component: Component<'a>) {
        if let Coverage::Listed(components) = &mut self.coverage {
            components.push(component);
        }
    }

    /// Keeps the first fault and forgets later ones.
    pub(super) fn object(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }
}

/// The members of `Signature-Input`. Nearly always there is one, which needs no allocation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inputs<'a> {
    first: Option<Input<'a>>,
    others: Vec<Input<'a>>,
}

impl<'a> Inputs<'a> {
    /// Adds one, and gives it back to be filled.
    pub(super) fn push(&mut self, input: Input<'a>) -> Option<&mut Input<'a>> {
        if self.first.is_none() {
            return Some(self.first.insert(input));
        }
        self.others.push(input);
        self.others.last_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The first one.
    pub fn first(&self) -> Option<&Input<'a>> {
        self.first.as_ref()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Input<'a>> {
        self.first.iter().chain(&self.others)
    }

    /// All of them, to be changed.
    #[cfg(test)]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Input<'a>> {
        self.first.iter_mut().chain(&mut self.others)
    }
}
