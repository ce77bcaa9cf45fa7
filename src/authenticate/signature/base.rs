//! Writes the signature base of a request (RFC 9421, 2.5).
//!
//! Verifying, signing and explaining all go through [`write()`], so the sides cannot differ. The base
//! is gathered before it is hashed: it has some sixty pieces, and each would cost a call of its own.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sfv::{Dictionary, FieldType as _, Item, List, Parser};

use crate::authenticate::signature::component::{
    Component, Derived, Form, identifier, list, quoted,
};
use crate::authenticate::signature::coverage::Coverage;
use crate::authenticate::signature::fields::{Malformed, field_text};
use crate::authenticate::signature::input::Input;
use crate::authenticate::signature::parameter::Said;
use crate::fields::Fields;
use crate::head::Head;

/// A component that the message has not.
const MISSING: Malformed = Malformed("a covered field is missing");

/// What a request says, as far as signatures can cover it: everything as received, before any
/// rewrite.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The method.
    pub method: &'a str,
    /// `https` or `http`.
    pub scheme: &'a str,
    /// The host in lower case, without port.
    pub host: &'a str,
    /// The port, when one is named.
    pub port: Option<u16>,
    /// The request target, byte for byte: `/path?query`, an absolute URI, or `*`.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a Fields,
    /// The trailers; nothing where there are none.
    pub trailers: Option<&'a Fields>,
}

impl<'a> Message<'a> {
    /// What a head says. Its trailers are still to come, if there are any.
    pub fn of(head: &'a Head) -> Self {
        Self {
            method: head.method.as_str(),
            scheme: head.parties.scheme,
            host: head.parties.host(),
            port: head.parties.port,
            target: &head.target,
            headers: &head.headers,
            trailers: None,
        }
    }
}

/// Writes the signature base of `message` for this signature.
///
/// # Errors
/// When a covered component is not in the message, or cannot be told without doubt. `out` then
/// holds a part of the base and must be thrown away.
pub fn write(message: &Message<'_>, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let target = Target::of(message.target)?;
    match &input.coverage {
        Coverage::Demanded(demanded) => {
            for (lead, component) in demanded.led() {
                out.extend_from_slice(lead);
                value(component, message, &target, out)?;
            }
            // A policy that demands nothing is refused when it is compiled.
            out.push(b'\n');
        }
        Coverage::Listed(components) => {
            for component in components {
                identifier(component, out);
                out.extend_from_slice(b": ");
                value(component, message, &target, out)?;
                out.push(b'\n');
            }
        }
    }
    out.extend_from_slice(b"\"@signature-params\": ");
    parameters(input, out);
    Ok(())
}

/// Whether what a signature covers of a head is all there, as far as that can be told before the
/// trailers have come.
///
/// # Errors
/// As [`write()`].
pub fn check_head(message: &Message<'_>, input: &Input<'_>) -> Result<(), Malformed> {
    let target = Target::of(message.target)?;
    let mut unused = Vec::new();
    let mut of_head = input.coverage.iter().filter(|component| !component.is_trailer());
    of_head.try_for_each(|component| value(component, message, &target, &mut unused))
}

/// Writes what a component is in this message.
fn value(
    component: &Component<'_>,
    message: &Message<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    match component {
        Component::Derived(derived) => self::derived(*derived, message, target, out),
        Component::QueryParameter(name) => query_parameter(name, target.query, out)?,
        Component::Field(name, form) => field(name, form, message.headers, out)?,
        Component::Trailer(name, form, _) => {
            let trailers = message.trailers.ok_or(Malformed("a covered trailer is missing"))?;
            field(name, form, trailers, out)?;
        }
    }
    Ok(())
}

/// Writes the value of `Signature-Input` under its label: the covered components and the
/// parameters, strictly serialised (RFC 9651, 4.1) whatever spaces the sender used.
pub fn parameters(input: &Input<'_>, out: &mut Vec<u8>) {
    if let Some(strict) = input.strict {
        out.extend_from_slice(strict.as_bytes());
        return;
    }
    list(&input.coverage, out);
    for (key, said) in input.parameters.iter() {
        out.push(b';');
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        match said {
            Said::Time(seconds) => number(seconds, out),
            Said::Text(text) => quoted(text, out),
        }
    }
}

/// A request target in its parts, all as received.
struct Target<'a> {
    /// The whole.
    raw: &'a str,
    /// The path: empty for `*`, and for an absolute URI that names none.
    path: &'a str,
    /// The query without its `?`.
    query: Option<&'a str>,
    /// Path and query together, as they follow the authority in the target URI.
    after_authority: &'a str,
}

impl<'a> Target<'a> {
    fn of(raw: &'a str) -> Result<Self, Malformed> {
        // No parser lets these pass. Were one to, a line end in a target could pose as a component.
        if raw.bytes().fold(false, |any, byte| any | (byte <= b' ') | (byte == 0x7f)) {
            return Err(Malformed("the target holds a control character"));
        }
        let after_authority = if raw.starts_with('/') {
            raw
        } else if raw == "*" {
            // RFC 9110, 7.1: path and query of the target URI are then empty.
            ""
        } else {
            let (_, rest) = raw.split_once("://").ok_or(Malformed("an unknown form of target"))?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            rest.get(end..).unwrap_or_default()
        };
        let (path, query) = match memchr::memchr(b'?', after_authority.as_bytes()) {
            Some(at) => {
                (after_authority.get(..at).unwrap_or_default(), after_authority.get(at + 1..))
            }
            None => (after_authority, None),
        };
        Ok(Self { raw, path, query, after_authority })
    }
}

fn derived(derived: Derived, message: &Message<'_>, target: &Target<'_>, out: &mut Vec<u8>) {
    match derived {
        Derived::Method => out.extend_from_slice(message.method.as_bytes()),
        Derived::Authority => authority(message, out),
        Derived::Scheme => out.extend_from_slice(message.scheme.as_bytes()),
        Derived::RequestTarget => out.extend_from_slice(target.raw.as_bytes()),
        Derived::Path if target.path.is_empty() => out.push(b'/'),
        Derived::Path => out.extend_from_slice(target.path.as_bytes()),
        Derived::Query => {
            out.push(b'?');
            out.extend_from_slice(target.query.unwrap_or_default().as_bytes());
        }
        Derived::TargetUri => {
            out.extend_from_slice(message.scheme.as_bytes());
            out.extend_from_slice(b"://");
            authority(message, out);
            out.extend_from_slice(target.after_authority.as_bytes());
        }
    }
}

/// The host, and the port unless it is the scheme's own (RFC 9421, 2.2.3).
fn authority(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(message.host.as_bytes());
    let own = if message.scheme == "https" { 443 } else { 80 };
    if let Some(port) = message.port.filter(|port| *port != own) {
        out.push(b':');
        number(u64::from(port), out);
    }
}

/// The one parameter of the query with this name, decoded and encoded anew (RFC 9421, 2.2.8).
fn query_parameter(name: &str, query: Option<&str>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut found = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(own, _)| !own.is_empty() && encoded(own).eq(name.bytes()));
    let Some((_, value)) = found.next() else {
        return Err(Malformed("a covered query parameter is missing"));
    };
    if found.next().is_some() {
        return Err(Malformed("a covered query parameter stands more than once"));
    }
    out.extend(encoded(value));
    Ok(())
}

/// A name or value of a query, decoded as a form and percent-encoded anew. Bytes that are no UTF-8
/// are kept apart instead of being replaced, so that no two queries become one.
fn encoded(raw: &str) -> impl Iterator<Item = u8> + '_ {
    let form_decoded = raw.bytes().map(|byte| if byte == b'+' { b' ' } else { byte });
    let mut rest = form_decoded;
    let decoded = std::iter::from_fn(move || {
        let byte = rest.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut ahead = rest.clone();
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(ahead.next()), digit(ahead.next())) else {
            return Some(byte);
        };
        rest = ahead;
        u8::try_from(high * 16 + low).ok()
    });
    decoded.flat_map(|byte| {
        let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
        let plain = byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
        let written = if plain { [byte, 0, 0] } else { [b'%', hex(byte >> 4), hex(byte & 15)] };
        written.into_iter().take(if plain { 1 } else { 3 })
    })
}

fn field(
    name: &str,
    form: &Form<'_>,
    headers: &Fields,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    match form {
        Form::Lines => lines(name, headers, out, |line, out| out.extend_from_slice(line))?,
        Form::Bytes => lines(name, headers, out, |line, out| {
            out.push(b':');
            out.extend_from_slice(STANDARD.encode(line).as_bytes());
            out.push(b':');
        })?,
        Form::Structured => {
            out.extend_from_slice(structured(name, headers)?.as_bytes());
        }
        Form::Member(key) => {
            let mut members = dictionary(name, headers)?;
            let member = members
                .swap_remove(key.as_ref())
                .ok_or(Malformed("a covered member of a field is missing"))?;
            // A list of one member is written as the member alone.
            let text = vec![member].serialize().ok_or(Malformed("a covered member is empty"))?;
            out.extend_from_slice(text.as_bytes());
        }
    }
    Ok(())
}

/// Each line of a field, trimmed, with a comma and a space between (RFC 9421, 2.1).
fn lines(
    name: &str,
    headers: &Fields,
    out: &mut Vec<u8>,
    each: impl Fn(&[u8], &mut Vec<u8>),
) -> Result<(), Malformed> {
    let mut values = headers.get_all(name);
    each(values.next().ok_or(MISSING)?.as_bytes().trim_ascii(), out);
    for line in values {
        out.extend_from_slice(b", ");
        each(line.as_bytes().trim_ascii(), out);
    }
    Ok(())
}

/// The types of structured fields (RFC 9651, section 3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Dictionary,
    List,
    Item,
}

/// The type of a request field that is known to be structured, by its own standard or by the
/// registry that maps older fields to these types. `sf` and `key` are not for others: whoever does
/// not know the type of a field cannot serialise it (RFC 9421, 2.1.1).
fn type_of(name: &str) -> Option<Type> {
    Some(match name {
        "content-digest"
        | "repr-digest"
        | "want-content-digest"
        | "want-repr-digest"
        | "priority"
        | "signature"
        | "signature-input"
        | "accept-signature"
        | "cache-control"
        | "prefer" => Type::Dictionary,
        "accept" | "accept-encoding" | "accept-language" | "client-cert-chain"
        | "content-encoding" | "content-language" | "sec-ch-ua" => Type::List,
        "client-cert" | "content-length" | "content-type" | "idempotency-key"
        | "sec-ch-ua-mobile" | "sec-ch-ua-platform" | "sec-fetch-dest" | "sec-fetch-mode"
        | "sec-fetch-site" => Type::Item,
        _ => return None,
    })
}

/// A field, serialised anew as what it is known to be.
fn structured(name: &str, headers: &Fields) -> Result<String, Malformed> {
    const MALFORMED: Malformed = Malformed("a covered field is not of its structured type");
    let text = field_text(headers, name)?.ok_or(MISSING)?;
    let parser = Parser::new(text.as_ref());
    let written = match type_of(name) {
        None => return Err(Malformed("the structured type of a covered field is not known")),
        Some(Type::Dictionary) => parser.parse::<Dictionary>().map_err(|_| MALFORMED)?.serialize(),
        Some(Type::List) => parser.parse::<List>().map_err(|_| MALFORMED)?.serialize(),
        Some(Type::Item) => Some(parser.parse::<Item>().map_err(|_| MALFORMED)?.serialize()),
    };
    written.ok_or(Malformed("a covered field is empty"))
}

fn dictionary(name: &str, headers: &Fields) -> Result<Dictionary, Malformed> {
    if type_of(name) != Some(Type::Dictionary) {
        return Err(Malformed("a covered field is not known to be a dictionary"));
    }
    let text: Cow<'_, str> = field_text(headers, name)?.ok_or(MISSING)?;
    Parser::new(text.as_ref()).parse().map_err(|_| Malformed("a covered field is no dictionary"))
}

fn number(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
