//! Reads what signatures claim to cover, and on what terms (RFC 9421, 2.3 and 4.1).

use std::borrow::Cow;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser};

use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::fields::{LABELS_MAX, Malformed};

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
    pub components: Vec<Component<'a>>,
    /// Its parameters, in their order, which the signature covers too.
    pub parameters: Vec<Parameter<'a>>,
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

impl Input<'_> {
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

    /// Keeps the first fault and forgets later ones.
    fn object(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }
}

/// Reads the text of `Signature-Input`.
///
/// # Errors
/// When it is no Dictionary, has too many members, or one label twice: of two members with one
/// label RFC 9651 would keep the last, and another reader may not.
pub fn inputs(text: &str) -> Result<Vec<Input<'_>>, Malformed> {
    let mut inputs = Vec::with_capacity(1);
    Parser::new(text)
        .parse_dictionary_with_visitor(Inputs(&mut inputs))
        .map_err(|_| Malformed("Signature-Input is no dictionary with few, distinct labels"))?;
    Ok(inputs)
}

/// Collects the members of `Signature-Input`.
struct Inputs<'v, 'a>(&'v mut Vec<Input<'a>>);

impl<'a> DictionaryVisitor<'a> for Inputs<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Malformed> {
        let label = key.as_str();
        if self.0.len() >= LABELS_MAX {
            return Err(Malformed("too many signatures"));
        }
        if self.0.iter().any(|input| input.label == label) {
            return Err(Malformed("a label twice"));
        }
        let components = Vec::with_capacity(8);
        let parameters = Vec::with_capacity(6);
        self.0.push(Input { label, components, parameters, fault: None });
        self.0.last_mut().map(Member).ok_or(Malformed("no member"))
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Fills one member: its inner list and its parameters.
struct Member<'v, 'a>(&'v mut Input<'a>);

impl<'a> EntryVisitor<'a> for Member<'_, 'a> {
    type Error = Malformed;

    fn item(self) -> Result<impl ItemVisitor<'a>, Malformed> {
        self.0.object(Malformed("a member of Signature-Input is no inner list"));
        Ok(Ignored)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Malformed> {
        Ok(self)
    }
}

impl<'a> InnerListVisitor<'a> for Member<'_, 'a> {
    type Error = Malformed;

    fn item(&mut self) -> Result<impl ItemVisitor<'a>, Malformed> {
        if self.0.components.len() >= COMPONENTS_MAX {
            return Err(Malformed("too many components"));
        }
        Ok(Identifier { input: &mut *self.0, name: None, parameter: None })
    }

    fn finish(self) -> Result<impl ParameterVisitor<'a>, Malformed> {
        Ok(Terms(self.0))
    }
}

/// Reads one component identifier: a string and at most one parameter.
struct Identifier<'v, 'a> {
    input: &'v mut Input<'a>,
    name: Option<Cow<'a, str>>,
    parameter: Option<(&'a str, BareItemFromInput<'a>)>,
}

impl<'a> ItemVisitor<'a> for Identifier<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn bare_item(
        mut self,
        name: BareItemFromInput<'a>,
    ) -> Result<impl ParameterVisitor<'a, Out = ()>, Malformed> {
        self.name = text_of(name);
        if self.name.is_none() {
            self.input.object(Malformed("a component's name is no string"));
        }
        Ok(self)
    }
}

impl<'a> ParameterVisitor<'a> for Identifier<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn parameter(
        &mut self,
        key: &'a KeyRef,
        value: BareItemFromInput<'a>,
    ) -> Result<(), Malformed> {
        match key.as_str() {
            "tr" => {
                self.input.object(Malformed("trailers come after the head that is verified: no tr"))
            }
            "req" => self.input.object(Malformed("req is for signatures of responses")),
            _ => {}
        }
        // `sf`, `key`, `bs` and `name` exclude each other here, so no accepted component has two
        // parameters. (RFC 9421 lets `sf` stand beside `key`, where it says nothing more.)
        if self.parameter.replace((key.as_str(), value)).is_some() {
            self.input.object(Malformed("a component has more than one parameter"));
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Malformed> {
        let Some(name) = self.name else { return Ok(()) };
        let parameter = match self.parameter {
            None => None,
            Some((key, BareItemFromInput::Boolean(true))) => Some((key, None)),
            Some((key, value)) => match text_of(value) {
                Some(text) => Some((key, Some(text))),
                None => {
                    self.input.object(Malformed("a component's parameter has a wrong value"));
                    return Ok(());
                }
            },
        };
        match Component::new(name, parameter) {
            Ok(component) if self.input.components.contains(&component) => {
                self.input.object(Malformed("a component is covered twice"));
            }
            Ok(component) => self.input.components.push(component),
            Err(fault) => self.input.object(fault),
        }
        Ok(())
    }
}

/// Reads the signature parameters.
struct Terms<'v, 'a>(&'v mut Input<'a>);

impl<'a> ParameterVisitor<'a> for Terms<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn parameter(
        &mut self,
        key: &'a KeyRef,
        value: BareItemFromInput<'a>,
    ) -> Result<(), Malformed> {
        match parameter(key.as_str(), value) {
            // RFC 9651 would keep the last of two. Whoever sends two has no honest reason to.
            Ok(parameter) if self.0.parameters.iter().any(|other| same_kind(other, &parameter)) => {
                self.0.object(Malformed("a signature parameter stands twice"));
            }
            Ok(parameter) => self.0.parameters.push(parameter),
            Err(fault) => self.0.object(fault),
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

fn parameter<'a>(key: &str, value: BareItemFromInput<'a>) -> Result<Parameter<'a>, Malformed> {
    let seconds = |value: &BareItemFromInput<'a>| {
        value
            .as_integer()
            .and_then(|seconds| u64::try_from(i64::from(seconds)).ok())
            .ok_or(Malformed("a time is no whole number of seconds"))
    };
    let bounded = |value: BareItemFromInput<'a>, shortest: usize, longest: usize| {
        text_of(value)
            .filter(|text| (shortest..=longest).contains(&text.len()))
            .ok_or(Malformed("keyid, nonce, alg or tag is no string of an accepted length"))
    };
    match key {
        "created" => seconds(&value).map(Parameter::Created),
        "expires" => seconds(&value).map(Parameter::Expires),
        "nonce" => bounded(value, NONCE_BYTES_MIN, NONCE_BYTES_MAX).map(Parameter::Nonce),
        "alg" => bounded(value, 1, TAG_BYTES_MAX).map(Parameter::Algorithm),
        "keyid" => bounded(value, 1, KEYID_BYTES_MAX).map(Parameter::KeyId),
        "tag" => bounded(value, 1, TAG_BYTES_MAX).map(Parameter::Tag),
        _ => Err(Malformed("an unknown signature parameter")),
    }
}

fn same_kind(left: &Parameter<'_>, right: &Parameter<'_>) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right)
}

fn text_of(item: BareItemFromInput<'_>) -> Option<Cow<'_, str>> {
    match item {
        BareItemFromInput::String(Cow::Borrowed(text)) => Some(Cow::Borrowed(text.as_str())),
        BareItemFromInput::String(Cow::Owned(text)) => Some(Cow::Owned(text.into())),
        _ => None,
    }
}
