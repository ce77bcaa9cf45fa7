//! Reads what signatures claim to cover, and on what terms (RFC 9421, 2.3 and 4.1).

use std::borrow::Cow;
use std::ops::Deref;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser};

use crate::authenticate::signature::base;
use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::fields::{LABELS_MAX, Malformed};
use crate::authenticate::signature::strict;

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
        base::list(&once, &mut written);
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
    fn mismatch(key: &str) -> Malformed {
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
    fn cover(&mut self, component: Component<'a>) {
        if let Coverage::Listed(components) = &mut self.coverage {
            components.push(component);
        }
    }

    /// Keeps the first fault and forgets later ones.
    fn object(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }
}

/// Reads the text of `Signature-Input`. A signature that covers just one of `demanded`, as it is
/// written, is not read component by component.
///
/// # Errors
/// When it is no Dictionary, has too many members, or one label twice: of two members with one
/// label RFC 9651 would keep the last, and another reader may not.
pub fn inputs<'a>(text: &'a str, demanded: &'a [Demanded]) -> Result<Vec<Input<'a>>, Malformed> {
    strict::inputs(text, demanded).map_or_else(|| lenient(text), Ok)
}

/// As [`inputs`], whatever spaces and escapes the sender used.
pub(super) fn lenient(text: &str) -> Result<Vec<Input<'_>>, Malformed> {
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
        let coverage = Coverage::Listed(Vec::with_capacity(8));
        let parameters = Vec::with_capacity(Parameter::KINDS);
        self.0.push(Input { label, coverage, parameters, strict: None, fault: None });
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
        if self.0.coverage.len() >= COMPONENTS_MAX {
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
            Ok(component) if self.input.coverage.contains(&component) => {
                self.input.object(Malformed("a component is covered twice"));
            }
            Ok(component) => self.input.cover(component),
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
            Ok(parameter) if self.0.parameters.iter().any(|other| other.is_like(&parameter)) => {
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
    let integer = value.as_integer().map(i64::from);
    match integer.map(u64::try_from) {
        Some(Ok(seconds)) => Parameter::time(key, seconds),
        Some(Err(_)) => Err(Parameter::mismatch(key)),
        None => text_of(value)
            .ok_or(Parameter::mismatch(key))
            .and_then(|text| Parameter::text(key, text)),
    }
}

fn text_of(item: BareItemFromInput<'_>) -> Option<Cow<'_, str>> {
    match item {
        BareItemFromInput::String(Cow::Borrowed(text)) => Some(Cow::Borrowed(text.as_str())),
        BareItemFromInput::String(Cow::Owned(text)) => Some(Cow::Owned(text.into())),
        _ => None,
    }
}
