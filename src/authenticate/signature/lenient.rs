//! Reads `Signature-Input` and `Signature` as RFC 9651 lets them be written, whatever spaces and escapes the sender used,
//! and says what is wrong with them.

use std::borrow::Cow;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef, Parser};

use crate::authenticate::signature::component::{Beside, Component};
use crate::authenticate::signature::coverage::Coverage;
use crate::authenticate::signature::fields::{LABELS_MAX, Malformed};
use crate::authenticate::signature::input::{COMPONENTS_MAX, Input, Inputs};
use crate::authenticate::signature::parameter::{Parameters, mismatch};

/// The members.
///
/// # Errors
/// As [`reader::inputs`](crate::authenticate::signature::reader::inputs).
pub(super) fn inputs(text: &str) -> Result<Inputs<'_>, Malformed> {
    let mut inputs = Inputs::default();
    Parser::new(text)
        .parse_dictionary_with_visitor(Members(&mut inputs))
        .map_err(|_| Malformed("Signature-Input is no dictionary with few, distinct labels"))?;
    Ok(inputs)
}

/// Collects the members of `Signature-Input`.
struct Members<'v, 'a>(&'v mut Inputs<'a>);

impl<'a> DictionaryVisitor<'a> for Members<'_, 'a> {
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
        let parameters = Parameters::default();
        let input = Input { label, coverage, parameters, strict: None, fault: None };
        self.0.push(input).map(Member).ok_or(Malformed("no member"))
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
        Ok(Identifier { input: &mut *self.0, name: None, parameter: None, tr: None })
    }

    fn finish(self) -> Result<impl ParameterVisitor<'a>, Malformed> {
        Ok(Terms(self.0))
    }
}

/// Reads one component identifier: a string and at most one parameter, and beside that `tr`.
struct Identifier<'v, 'a> {
    input: &'v mut Input<'a>,
    name: Option<Cow<'a, str>>,
    parameter: Option<(&'a str, BareItemFromInput<'a>)>,
    tr: Option<Beside>,
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
                let is_flag = matches!(value, BareItemFromInput::Boolean(true));
                let tr = if self.parameter.is_some() { Beside::Behind } else { Beside::Before };
                if !is_flag || self.tr.replace(tr).is_some() {
                    self.input.object(Malformed("tr has a value, or stands twice"));
                }
                return Ok(());
            }
            "req" => self.input.object(Malformed("req is for signatures of responses")),
            _ => {}
        }
        // `sf`, `key`, `bs` and `name` exclude each other here, so no accepted component has two of
        // them. (RFC 9421 lets `sf` stand beside `key`, where it says nothing more.)
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
        let component = Component::new(name, parameter);
        let component = component.and_then(|component| match self.tr {
            Some(tr) => component.among_trailers(tr),
            None => Ok(component),
        });
        match component {
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
        if let Err(fault) = parameter(key.as_str(), value, &mut self.0.parameters) {
            self.0.object(fault);
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

fn parameter<'a>(
    key: &str,
    value: BareItemFromInput<'a>,
    into: &mut Parameters<'a>,
) -> Result<(), Malformed> {
    let integer = value.as_integer().map(i64::from);
    match integer.map(u64::try_from) {
        Some(Ok(seconds)) => into.time(key, seconds),
        Some(Err(_)) => Err(mismatch(key)),
        None => into.text(key, text_of(value).ok_or_else(|| mismatch(key))?),
    }
}

fn text_of(item: BareItemFromInput<'_>) -> Option<Cow<'_, str>> {
    match item {
        BareItemFromInput::String(Cow::Borrowed(text)) => Some(Cow::Borrowed(text.as_str())),
        BareItemFromInput::String(Cow::Owned(text)) => Some(Cow::Owned(text.into())),
        _ => None,
    }
}

/// The bytes of the signature with this label.
///
/// # Errors
/// As [`reader::signature`](crate::authenticate::signature::reader::signature).
pub(super) fn signature(text: &str, label: &str) -> Result<Vec<u8>, Malformed> {
    let mut found = Signatures { label, seen: Vec::with_capacity(1), chosen: None };
    Parser::new(text)
        .parse_dictionary_with_visitor(&mut found)
        .map_err(|_| Malformed("Signature is no dictionary with few, distinct labels"))?;
    found.chosen.ok_or(Malformed("Signature has no byte sequence under the label"))
}

/// Finds one member of `Signature`, and sees to it that no label stands twice.
struct Signatures<'l, 'a> {
    label: &'l str,
    seen: Vec<&'a str>,
    chosen: Option<Vec<u8>>,
}

impl<'a> DictionaryVisitor<'a> for &mut Signatures<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Malformed> {
        let label = key.as_str();
        if self.seen.len() >= LABELS_MAX || self.seen.contains(&label) {
            return Err(Malformed("too many signatures, or a label twice"));
        }
        self.seen.push(label);
        Ok((label == self.label).then_some(Chosen(&mut self.chosen)))
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Keeps the bytes of the chosen member.
struct Chosen<'v>(&'v mut Option<Vec<u8>>);

impl<'a> EntryVisitor<'a> for Chosen<'_> {
    type Error = Malformed;

    fn item(self) -> Result<impl ItemVisitor<'a>, Malformed> {
        Ok(|value: BareItemFromInput<'a>| {
            if let BareItemFromInput::ByteSequence(bytes) = value {
                *self.0 = Some(bytes);
            }
            Ok::<_, Malformed>(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Malformed> {
        Ok(Ignored)
    }
}
