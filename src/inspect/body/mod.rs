//! What a route's body may be, and the checks that need no byte of it.

pub mod rule;

use std::ops::Range;

use http::Method;

use crate::head::Head;
use crate::inspect::body::rule::{BodyChoice, BodyRule, DigestChoice};
use crate::inspect::content::{self, Kind, Media};
use crate::inspect::json::rule::Limits;
use crate::inspect::json::{self, Fields};
use crate::inspect::schema::{ExtraFields, Files, Schema};
use crate::listen::Length;
use crate::listen::gather::too_large;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::refusal::{Reason, Refusal};
use crate::units::Size;

/// What a route's body may be.
#[derive(Debug)]
pub struct BodyFilter {
    /// Where the rule stands; nothing for a route without one.
    origin: Option<Origin>,
    /// Whether a body is accepted at all.
    accepted: bool,
    bytes_max: u64,
    types: Box<[Box<str>]>,
    encodings: Box<[Box<str>]>,
    required: bool,
    digest_required: bool,
    stream: bool,
    on_get: bool,
    /// The limits that JSON is held to; nothing where JSON is not looked at.
    json: Option<Limits>,
    schema: Option<Schema>,
}

/// How large a body may be where nothing is written.
const BYTES_USUAL: u64 = 1 << 20;

impl Default for BodyFilter {
    /// What holds where policy writes nothing: at most 1 MiB of anything, uncoded, unread, and not on
    /// GET or HEAD.
    fn default() -> Self {
        Self {
            origin: None,
            accepted: true,
            bytes_max: BYTES_USUAL,
            types: Box::default(),
            encodings: Box::default(),
            required: false,
            digest_required: false,
            stream: false,
            on_get: false,
            json: None,
            schema: None,
        }
    }
}

impl BodyFilter {
    /// The filter that a rule describes; `address` is what it refuses under.
    pub fn compile(
        choice: &At<BodyChoice>,
        address: &str,
        files: &Files<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let origin = Some(reading.origin(address, &choice.span));
        let rule = match &choice.value {
            BodyChoice::None => return Some(Self { origin, accepted: false, ..Self::default() }),
            BodyChoice::Rule(rule) => &**rule,
        };
        let fits = sense(rule, reading);
        // Types and codings are read below.
        let BodyRule { max, types: _, encodings: _, schema, extra_fields, .. } = rule;
        let BodyRule { required, json, digest, stream, on_get, .. } = rule;
        let extra = extra_fields.as_ref().map_or(ExtraFields::Allow, |extra| extra.value);
        let form = schema.as_ref().map(|file| Schema::compile(file, extra, files, reading));
        let limits = match json {
            Some(json) => Limits::compile(json, reading),
            None => Some(Limits::default()),
        };
        let (types, encodings) = (accepted_types(rule, reading), codings(rule, reading));
        let strict = json.is_some()
            || schema.is_some()
            || (!stream && types.iter().flatten().any(|kind| may_be_json(kind)));
        if types.is_none() || matches!(form, Some(None)) || !fits {
            return None;
        }
        Some(Self {
            origin,
            accepted: true,
            bytes_max: max.as_ref().map_or(BYTES_USUAL, |max| max.value.0),
            types: types?,
            encodings: encodings?,
            required: required.unwrap_or(schema.is_some()),
            digest_required: digest.as_ref().is_some_and(|d| d.value == DigestChoice::Required),
            stream: *stream,
            on_get: *on_get,
            json: strict.then_some(limits?),
            schema: form.flatten(),
        })
    }

    /// What a body may be, in words: `body up to 16KiB of application/json, schema`.
    pub fn describe(&self) -> String {
        if !self.accepted {
            return "no body".to_owned();
        }
        let types = self.types.iter().map(|kind| &**kind).collect::<Vec<_>>().join(", ");
        let types = if types.is_empty() { String::new() } else { format!(" of {types}") };
        let schema = if self.schema.is_some() { ", schema" } else { "" };
        let stream = if self.stream { ", streamed" } else { "" };
        format!("body up to {}{types}{schema}{stream}", Size(self.bytes_max))
    }

    /// How many bytes a body may have.
    pub fn bytes_max(&self) -> u64 {
        if self.accepted { self.bytes_max } else { 0 }
    }

    /// Whether bodies pass without being looked into.
    pub fn streams(&self) -> bool {
        self.stream
    }

    /// Whether some body is read whole for this rule's own sake.
    pub fn reads(&self) -> bool {
        self.accepted && (self.json.is_some() || self.schema.is_some() || self.digest_required)
    }

    /// Whether a JSON body is accepted.
    pub fn accepts_json(&self) -> bool {
        self.accepted && (self.types.is_empty() || self.types.iter().any(|kind| may_be_json(kind)))
    }

    /// Whether a schema describes the body.
    pub fn has_schema(&self) -> bool {
        self.schema.is_some()
    }

    /// Whether every body must have `Content-Digest`.
    pub(in crate::inspect) fn demands_digest(&self) -> bool {
        self.digest_required
    }

    /// The limits that JSON is held to; nothing where JSON is not looked at.
    pub(in crate::inspect) fn json(&self) -> Option<&Limits> {
        self.json.as_ref()
    }

    /// What can be said of a body before a byte of it is read. Gives its type, if it has one.
    ///
    /// `examined` is whether a filter wants to look into bodies: then a type that no filter can read
    /// passes only where the rule names it.
    ///
    /// # Errors
    /// `body-unexpected`, `content-type-refused`, `content-encoding-refused`, `body-too-large`.
    pub(in crate::inspect) fn announced(
        &self,
        head: &Head,
        examined: bool,
    ) -> Result<Option<Media>, Refusal> {
        if !self.accepted || (!self.on_get && matches!(head.method, Method::GET | Method::HEAD)) {
            return Err(self.refuse(Reason::BodyUnexpected));
        }
        if matches!(head.length, Length::Exactly(bytes) if bytes > self.bytes_max) {
            return Err(self.by_rule(too_large(self.bytes_max)));
        }
        content::refuse_encodings_but(&head.headers, &self.encodings)
            .map_err(|refusal| self.by_rule(refusal))?;
        let media = content::media(&head.headers).map_err(|refusal| self.by_rule(refusal))?;
        let accepted = match &media {
            _ if self.types.is_empty() && !examined => true,
            None => false,
            Some(media) if self.types.is_empty() => media.kind() != Kind::Opaque,
            Some(media) => self.types.iter().any(|known| matches(known, &media.essence)),
        };
        if !accepted {
            return Err(self.refuse(Reason::ContentTypeRefused));
        }
        Ok(media)
    }

    /// What there is to say to a request without a body.
    ///
    /// # Errors
    /// `body-required`.
    pub(in crate::inspect) fn absent(&self) -> Result<(), Refusal> {
        if self.required { Err(self.refuse(Reason::BodyRequired)) } else { Ok(()) }
    }

    /// Checks a JSON body: its text, showing it to `fields`, and its form where there is a schema.
    ///
    /// # Errors
    /// As [`json::check`], `field-unknown` and `schema-mismatch`.
    pub(in crate::inspect) fn check_json<F: Fields>(
        &self,
        body: &[u8],
        fields: &mut F,
    ) -> Result<(), Refusal> {
        let limits = self.json.unwrap_or_default();
        let checked = match &self.schema {
            None => json::check(body, &limits, fields),
            Some(schema) => {
                json::read(body, &limits, fields).and_then(|value| schema.check(&value))
            }
        };
        checked.map_err(|refusal| self.by_rule(refusal))
    }

    /// A refusal of this rule.
    pub(in crate::inspect) fn refuse(&self, reason: Reason) -> Refusal {
        self.by_rule(Refusal::new(reason))
    }

    /// The refusal with this rule's name, unless it has one already.
    pub(in crate::inspect) fn by_rule(&self, refusal: Refusal) -> Refusal {
        match &self.origin {
            Some(origin) if refusal.rule.is_none() => refusal.by(origin),
            _ => refusal,
        }
    }
}

/// Whether `known`, in which one `*` may stand, is this media type.
fn matches(known: &str, essence: &str) -> bool {
    match known.split_once('*') {
        None => known == essence,
        Some((begins, ends)) => {
            essence.len() > begins.len() + ends.len()
                && essence.starts_with(begins)
                && essence.ends_with(ends)
        }
    }
}

/// Whether JSON passes as this type, in which one `*` may stand.
fn may_be_json(known: &str) -> bool {
    is_json(known) || matches(known, "application/json")
}

fn is_json(essence: &str) -> bool {
    content::kind(essence) == Kind::Json
}

/// The types that a rule accepts, in lower case; none means any.
fn accepted_types(rule: &BodyRule, reading: &mut Reading<'_>) -> Option<Box<[Box<str>]>> {
    let Some(types) = &rule.types else {
        let usual = rule.schema.is_some() || rule.json.is_some();
        return Some(usual.then(|| "application/json".into()).into_iter().collect());
    };
    let mut wrong =
        |says: String, help: &str| reading.wrong(Code::WrongValue, &types.span, says, help);
    let mut accepted: Vec<Box<str>> = Vec::new();
    for written in &types.value {
        let essence = written.to_ascii_lowercase();
        if !content::is_essence(&essence) || essence.matches('*').count() > 1 {
            wrong(
                format!("`{written}` is not a content type"),
                "write it without parameters: \"application/json\", \"application/*+json\"",
            );
        } else if rule.schema.is_some() && !is_json(&essence) {
            wrong(
                format!("a schema describes JSON, and `{written}` is something else"),
                "take the type out; bodies of that type would pass the schema by",
            );
        } else {
            accepted.push(essence.into());
        }
    }
    if types.value.is_empty() {
        wrong("no content type is accepted".to_owned(), "write `body = \"none\"` if that is meant");
    }
    (!accepted.is_empty() && accepted.len() == types.value.len()).then(|| accepted.into())
}

/// The codings that a rule lets pass, in lower case.
fn codings(rule: &BodyRule, reading: &mut Reading<'_>) -> Option<Box<[Box<str>]>> {
    let Some(encodings) = &rule.encodings else { return Some(Box::default()) };
    if !encodings.value.iter().all(|coding| content::is_token(coding)) {
        reading.wrong(
            Code::WrongValue,
            &encodings.span,
            "a content coding is one word",
            "write for example [\"gzip\", \"br\"]",
        );
        return None;
    }
    Some(encodings.value.iter().map(|coding| coding.to_ascii_lowercase().into()).collect())
}

/// Reports what a rule says that cannot hold together.
fn sense(rule: &BodyRule, reading: &mut Reading<'_>) -> bool {
    let mut fits = true;
    let mut wrong = |span: &Range<usize>, says: &str, help: &str| {
        reading.wrong(Code::WrongValue, span, says, help);
        fits = false;
    };
    if let Some(extra) = rule.extra_fields.as_ref().filter(|_| rule.schema.is_none()) {
        wrong(
            &extra.span,
            "`extra_fields` needs a schema that says which fields there are",
            "add `schema = \"bodies/NAME.json\"`",
        );
    }
    if rule.stream {
        let help = "take out `stream`, or this";
        if let Some(schema) = &rule.schema {
            wrong(&schema.span, "a body that streams is not compared with a schema", help);
        }
        if let Some(json) = &rule.json {
            wrong(&json.span, "a body that streams is not read as JSON", help);
        }
        if let Some(digest) =
            rule.digest.as_ref().filter(|digest| digest.value == DigestChoice::Required)
        {
            wrong(&digest.span, "a body that streams is not compared with its digest", help);
        }
    } else if let Some(encodings) = &rule.encodings {
        wrong(
            &encodings.span,
            "what is compressed cannot be inspected",
            "add `stream = true`, or take `encodings` out",
        );
    }
    if let Some(max) = rule.max.as_ref().filter(|max| max.value.0 == 0) {
        wrong(&max.span, "no body has zero bytes", "write `body = \"none\"` if that is meant");
    }
    fits
}
