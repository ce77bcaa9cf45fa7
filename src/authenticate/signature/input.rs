//! Reads what signatures claim to cover, and on what terms (RFC 9421, 2.3 and 4.1).

use std::borrow::Cow;

use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::coverage::Coverage;
use crate::authenticate::signature::fields::Malformed;

/// The most components that one signature may cover.
pub const COMPONENTS_MAX: usize = 20;
/// The most bytes of a `keyid`.
pub const KEYID_BYTES_MAX: usize = 64;
/// The most bytes of a `tag`.
pub const TAG_BYTES_MAX: usize = 64;
/// The fewest bytes of a `nonce`: shorter ones repeat by accident.
pub const NONCE_BYTES_MIN: usize = 8;
/// The most bytes of a `nonce`.
pub const NONCE_BYTES_MAX: usize = 128;

/// One member of `Signature-Input`: what one signature claims to cover, and on what terms.
#[derive(Debug, PartialEq, Eq)]
pub struct Input<'a> {
    /// The label that ties it to its member of `Signature`.
    pub label: &'a str,
    /// What it covers, in its order.
    pub coverage: Coverage<'a>,
    /// Its parameters, in their order, which the signature covers too.
    pub parameters: Vec<Parameter<'a>>,
    /// Its value as received, where that is strictly written already.
    pub strict: Option<&'a str>,
    /// The first thing in it that we do not accept. Only the signature that the policy chooses must
    /// be without one: others may be meant for somebody else, in terms that we need not know.
    pub fault: Option<Malformed>,
}

/// A signature parameter (RFC 9421, 2.3). Others are not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// When it was made, in Unix seconds.
    Created(u64),
    /// When it ceases to hold, in Unix seconds.
    Expires(u64),
    /// What makes it unique.
    Nonce(Cow<'a, str>),
    /// The algorithm that the signer says it used.
    Algorithm(Cow<'a, str>),
    /// The key.
    KeyId(Cow<'a, str>),
    /// The application that it is meant for.
    Tag(Cow<'a, str>),
}

impl<'a> Parameter<'a> {
    /// How many there are.
    pub(super) const KINDS: usize = 6;

    /// The parameter with this key and this number of seconds.
    ///
    /// # Errors
    /// When it is none, or takes a text.
    pub(super) fn time(key: &str, seconds: u64) -> Result<Self, Malformed> {
        match key {
            "created" => Ok(Self::Created(seconds)),
            "expires" => Ok(Self::Expires(seconds)),
            _ => Err(Self::mismatch(key)),
        }
    }

    /// The parameter with this key and this text.
    ///
    /// # Errors
    /// When it is none or takes a number, or when the text is too short or too long for it.
    pub(super) fn text(key: &str, text: Cow<'a, str>) -> Result<Self, Malformed> {
        let (bounds, parameter): (_, fn(Cow<'a, str>) -> Self) = match key {
            "nonce" => (NONCE_BYTES_MIN..=NONCE_BYTES_MAX, Self::Nonce),
            "alg" => (1..=TAG_BYTES_MAX, Self::Algorithm),
            "keyid" => (1..=KEYID_BYTES_MAX, Self::KeyId),
            "tag" => (1..=TAG_BYTES_MAX, Self::Tag),
            _ => return Err(Self::mismatch(key)),
        };
        if bounds.contains(&text.len()) { Ok(parameter(text)) } else { Err(Self::mismatch(key)) }
    }

    /// What is wrong with the value under this key, whatever it is.
    pub(super) fn mismatch(key: &str) -> Malformed {
        Malformed(match key {
            "created" | "expires" => "a time is no whole number of seconds",
            "nonce" | "alg" | "keyid" | "tag" => {
                "keyid, nonce, alg or tag is no string of an accepted length"
            }
            _ => "an unknown signature parameter",
        })
    }

    /// Whether the other is the same parameter, with whatever value.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl<'a> Input<'a> {
    /// `created`, in Unix seconds.
    pub fn created(&self) -> Option<u64> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Created(seconds) => Some(*seconds),
            _ => None,
        })
    }

    /// `expires`, in Unix seconds.
    pub fn expires(&self) -> Option<u64> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Expires(seconds) => Some(*seconds),
            _ => None,
        })
    }

    /// `nonce`.
    pub fn nonce(&self) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Nonce(text) => Some(text.as_ref()),
            _ => None,
        })
    }

    /// `alg`.
    pub fn algorithm(&self) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Algorithm(text) => Some(text.as_ref()),
            _ => None,
        })
    }

    /// `keyid`.
    pub fn keyid(&self) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::KeyId(text) => Some(text.as_ref()),
            _ => None,
        })
    }

    /// `tag`.
    pub fn tag(&self) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Tag(text) => Some(text.as_ref()),
            _ => None,
        })
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
