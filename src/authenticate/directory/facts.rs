//! What requests need to know of a stored credential, read from its JSON without making anything of the rest.
//!
//! At start each of a million records is read once. Nearly all of them are written by this program,
//! so their members stand in one order and hold nothing that is escaped: such a record is read in one
//! pass that borrows from it. Whatever is not read here goes to the general reader of JSON, which also
//! says what is wrong; the two agree on all that is read here.

use std::borrow::Cow;

use crate::authenticate::directory::record::{Described, Kind};
use crate::authenticate::directory::state::Marks;
use crate::authenticate::key_format::KeyId;
use crate::authenticate::scan;

/// Of one credential, all that requests need. Lists are the texts of JSON lists: credentials that give
/// the same share what is made of them, and the texts tell that they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    pub(super) id: KeyId,
    pub(super) kind: Kind,
    pub(super) subject: &'a str,
    pub(super) roles: Cow<'a, str>,
    pub(super) scopes: Cow<'a, str>,
    pub(super) tier: Option<&'a str>,
    pub(super) networks: Cow<'a, str>,
    pub(super) environment: &'a str,
    pub(super) created_ms: u64,
    pub(super) not_before_ms: Option<u64>,
    pub(super) expires_ms: Option<u64>,
    pub(super) marks: Marks,
    pub(super) canary: bool,
    pub(super) rotating_until_ms: Option<u64>,
}

impl<'a> Facts<'a> {
    /// What is known of a credential.
    pub(super) fn of(described: &'a Described) -> Self {
        let list = |texts: &[String]| serde_json::to_string(texts).unwrap_or_default().into();
        let networks: Vec<String> = described.networks.iter().map(ToString::to_string).collect();
        Self {
            id: described.id,
            kind: described.kind,
            subject: &described.subject,
            roles: list(&described.roles),
            scopes: list(&described.scopes),
            tier: described.tier.as_deref(),
            networks: list(&networks),
            environment: &described.environment,
            created_ms: described.created_ms,
            not_before_ms: described.not_before_ms,
            expires_ms: described.expires_ms,
            marks: described.marks(),
            canary: described.canary,
            rotating_until_ms: described.rotating_until_ms,
        }
    }

    /// The facts of an API key in this JSON, if it is written as [`Described`] is.
    pub(super) fn read(json: &'a [u8]) -> Option<Self> {
        if scan::any(json, |byte| byte < b' ') {
            return None;
        }
        let mut at = Cursor(str::from_utf8(json).ok()?);
        at.pass("{\"id\":\"")?;
        let id = KeyId::parse(at.string()?)?;
        at.pass(",\"kind\":\"")?;
        let kind = match at.string()? {
            "imported" => Kind::Imported,
            "api-key" => Kind::ApiKey,
            _ => return None,
        };
        at.pass(",\"name\":\"")?;
        at.string()?;
        at.pass(",\"subject\":\"")?;
        let subject = at.string()?;
        at.pass(",\"roles\":")?;
        let roles = at.list()?.into();
        at.pass(",\"scopes\":")?;
        let scopes = at.list()?.into();
        let tier = at.string_if(",\"tier\":\"")?;
        at.pass(",\"networks\":")?;
        let networks = at.list()?.into();
        at.pass(",\"environment\":\"")?;
        let environment = at.string()?;
        at.pass(",\"created_ms\":")?;
        let created_ms = at.number()?;
        let not_before_ms = at.number_if(",\"not_before_ms\":")?;
        let expires_ms = at.number_if(",\"expires_ms\":")?;
        let revoked = at.number_if(",\"revoked_ms\":")?.is_some();
        let suspended = at.number_if(",\"suspended_ms\":")?.is_some();
        at.string_if(",\"suspended_why\":\"")?;
        let canary = at.pass(",\"canary\":true").is_some();
        at.string_if(",\"made_by\":\"")?;
        // An id that is none would be no record.
        if let Some(id) = at.string_if(",\"rotated_from\":\"")? {
            KeyId::parse(id)?;
        }
        let successor = at.string_if(",\"rotated_to\":\"")?.map(KeyId::parse);
        if successor == Some(None) {
            return None;
        }
        let rotating_until_ms = at.number_if(",\"rotating_until_ms\":")?;
        at.string_if(",\"note\":\"")?;
        at.pass("}")?;
        let marks = Marks { revoked, suspended, rotating: successor.is_some() };
        at.0.is_empty().then_some(Self {
            id,
            kind,
            subject,
            roles,
            scopes,
            tier,
            networks,
            environment,
            created_ms,
            not_before_ms,
            expires_ms,
            marks,
            canary,
            rotating_until_ms,
        })
    }
}

/// What is still to be read.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    /// Goes on behind this text, if it stands here.
    fn pass(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A string without anything escaped, whose opening quote was passed.
    fn string(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    /// The string under a key that may be left out.
    fn string_if(&mut self, key: &str) -> Option<Option<&'a str>> {
        match self.pass(key) {
            Some(()) => self.string().map(Some),
            None => Some(None),
        }
    }

    /// A list of such strings, as it is written.
    fn list(&mut self) -> Option<&'a str> {
        let from = self.0;
        self.pass("[")?;
        if self.pass("]").is_none() {
            loop {
                self.pass("\"")?;
                self.string()?;
                if self.pass("]").is_some() {
                    break;
                }
                self.pass(",")?;
            }
        }
        let length = from.len() - self.0.len();
        from.get(..length)
    }

    /// A whole number that is not negative.
    fn number(&mut self) -> Option<u64> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at_checked(end)?;
        // What goes on otherwise is a fraction, and a zero in front is no JSON.
        let ends = rest.starts_with(',') || rest.starts_with('}');
        if !ends || (digits.starts_with('0') && digits.len() > 1) {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }

    /// The number under a key that may be left out.
    fn number_if(&mut self, key: &str) -> Option<Option<u64>> {
        match self.pass(key) {
            Some(()) => self.number().map(Some),
            None => Some(None),
        }
    }
}
