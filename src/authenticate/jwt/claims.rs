//! Reads the claims of a verified token: who it is of, for whom, since when and until when.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authenticate::Grant;
use crate::authenticate::assurance::{Assurance, Wanted};
use crate::authenticate::jwt::json::{Json, Object};
use crate::authenticate::jwt::jws::malformed;
use crate::authenticate::nonce::Share;
use crate::clock::Now;
use crate::name::{Name, Names};
use crate::refusal::{Reason, Refusal};

/// The longest text that is taken of a claim, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Where a value stands among the claims: its name, or the names from the outside to the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// `scope`, or `/realm_access/roles` for a claim inside another (RFC 6901, without escapes).
    pub fn read(text: &str) -> Option<Self> {
        let names: Vec<&str> = match text.strip_prefix('/') {
            Some(inner) => inner.split('/').collect(),
            None => vec![text],
        };
        let is_good = |name: &&str| !name.is_empty() && name.len() <= 128 && !name.contains('~');
        let fits = names.len() <= 8 && names.iter().all(is_good);
        fits.then(|| Self(names.into_iter().map(Into::into).collect()))
    }

    /// The names, from the outside to the inside.
    pub fn names(&self) -> &[Box<str>] {
        &self.0
    }

    fn find<'c>(&self, claims: &'c Object) -> Option<&'c Json> {
        let (last, outer) = self.0.split_last()?;
        let mut object = claims;
        for name in outer {
            object = object.get(name)?.object()?;
        }
        object.get(last)
    }
}

/// The names that the policy defines. No others are ever made of a token.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Roles.
    pub roles: Names,
    /// Scopes.
    pub scopes: Names,
    /// Tiers.
    pub tiers: Names,
}

/// Which claims say what of the caller.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The claim with the subject.
    pub subject: ClaimPath,
    /// The claims with scopes.
    pub scopes: Box<[ClaimPath]>,
    /// The claims with roles.
    pub roles: Box<[ClaimPath]>,
    /// The claim with the tier.
    pub tier: Option<ClaimPath>,
    /// The names of the policy.
    pub known: Known,
    /// The claims that doors ask for.
    pub wanted: Wanted,
}

impl Mapping {
    /// What the claims give. Names that the policy does not know are left out.
    ///
    /// # Errors
    /// When the token names nobody.
    pub fn grant(&self, claims: &Object, credential: Arc<str>) -> Result<Grant, Refusal> {
        let subject = self.subject.find(claims).and_then(Json::text);
        let subject = subject
            .filter(|subject| (1..=TEXT_BYTES_MAX).contains(&subject.len()))
            .filter(|subject| !subject.chars().any(char::is_control))
            .ok_or_else(|| malformed("the token names no subject"))?;
        let tier = self.tier.as_ref().and_then(|path| path.find(claims)).and_then(Json::text);
        Ok(Grant {
            credential: credential.into(),
            subject: subject.into(),
            roles: names(&self.roles, claims, &self.known.roles),
            scopes: names(&self.scopes, claims, &self.known.scopes),
            tier: tier.and_then(|tier| self.known.tiers.iter().find(|name| name.text() == tier)),
            ..Grant::default()
        })
    }
}

/// The names in these claims that are known: each claim a list, or one text with spaces between.
fn names(paths: &[ClaimPath], claims: &Object, known: &Names) -> Names {
    let values = paths.iter().filter_map(|path| path.find(claims)).flat_map(Json::each);
    let texts: Vec<&str> = values.filter_map(Json::text).flat_map(|text| text.split(' ')).collect();
    known
        .iter()
        .filter(|name| texts.contains(&name.text()))
        .collect::<Vec<Name>>()
        .into_iter()
        .collect()
}

/// When a token holds, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// It holds before this second.
    pub expires_s: u64,
    /// It holds from this second on.
    pub not_before_s: Option<u64>,
    /// It was issued in this second.
    pub issued_s: Option<u64>,
    /// Its holder was authenticated in this second.
    pub authenticated_s: Option<u64>,
}

/// How long tokens may hold, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far clocks may differ.
    pub skew_s: u64,
    /// From issuance to expiry.
    pub lifetime_s: u64,
    /// From the authentication of the person; nothing when it does not matter.
    pub session_s: Option<u64>,
}

impl Times {
    /// The times among the claims. `exp` must be there; none may be anything but a number.
    ///
    /// # Errors
    /// [`Reason::TokenMalformed`]: a date that is a text is no date that can be left out.
    pub fn read(claims: &Object) -> Result<Self, Refusal> {
        if claims.get("exp").is_none() {
            return Err(malformed("the token has no `exp`"));
        }
        Self::read_or(claims, 0)
    }

    /// The times of a token whose issuer need not say when it ends (RFC 7662, section 2.2).
    ///
    /// # Errors
    /// As [`Times::read`].
    pub fn read_or(claims: &Object, expires_s: u64) -> Result<Self, Refusal> {
        Ok(Self {
            expires_s: seconds(claims, "exp")?.unwrap_or(expires_s),
            not_before_s: seconds(claims, "nbf")?,
            issued_s: seconds(claims, "iat")?,
            authenticated_s: seconds(claims, "auth_time")?,
        })
    }

    /// Whether the token holds now.
    ///
    /// # Errors
    /// [`Reason::TokenExpired`] or [`Reason::TokenFuture`], with the seconds in private.
    pub fn check(&self, limits: &Limits, now: Now) -> Result<(), Refusal> {
        let now_s = now.unix_s();
        let expired = |says: String| Err(Refusal::new(Reason::TokenExpired).because(says));
        if now_s >= self.expires_s.saturating_add(limits.skew_s) {
            return expired(format!("expired {} s ago", now_s - self.expires_s));
        }
        let begins_s = self.not_before_s.max(self.issued_s).max(self.authenticated_s);
        if let Some(ahead_s) = begins_s.and_then(|begins_s| begins_s.checked_sub(now_s))
            && ahead_s > limits.skew_s
        {
            let says = format!("begins in {ahead_s} s, {} s are allowed", limits.skew_s);
            return Err(Refusal::new(Reason::TokenFuture).because(says));
        }
        // Without `iat` the time that is left is what can be held against the limit.
        let since_s = self.issued_s.unwrap_or(now_s);
        let lifetime_s = self.expires_s.saturating_sub(since_s);
        if lifetime_s > limits.lifetime_s {
            let says = format!("holds for {lifetime_s} s, {} s are allowed", limits.lifetime_s);
            return expired(says);
        }
        match (limits.session_s, self.authenticated_s) {
            (None, _) => Ok(()),
            (Some(_), None) => expired("has no `auth_time`, and sessions are limited".to_owned()),
            (Some(limit), Some(since)) if now_s > since.saturating_add(limit) => {
                expired(format!("the session began {} s ago, {limit} s are allowed", now_s - since))
            }
            (Some(_), Some(_)) => Ok(()),
        }
    }
}

/// A NumericDate (RFC 7519, section 2): a number, not before 1970, in whole seconds.
fn seconds(claims: &Object, name: &str) -> Result<Option<u64>, Refusal> {
    let number = match claims.get(name) {
        None => return Ok(None),
        Some(Json::Number(number)) => number,
        Some(_) => return Err(malformed("a date among the claims is no number")),
    };
    let whole = number.as_u64().or_else(|| {
        let date = number.as_f64().filter(|date| (0.0..=9e15).contains(date))?;
        // Rounding down never lets a token hold longer.
        Some(date.floor() as u64)
    });
    let whole = whole.filter(|date| *date <= 9_000_000_000_000_000);
    whole.map(Some).ok_or_else(|| malformed("a date among the claims is out of range"))
}

/// Whether the token is from this issuer, where one is named, and meant for one of these audiences.
///
/// # Errors
/// [`Reason::TokenIssuer`] and [`Reason::TokenAudience`].
pub fn check_ends(
    claims: &Object,
    issuer: Option<&str>,
    audience: &[Box<str>],
) -> Result<(), Refusal> {
    if issuer.is_some() && claims.text("iss") != issuer {
        return Err(Reason::TokenIssuer.into());
    }
    let meant = claims.get("aud").map(Json::each).unwrap_or_default();
    let texts: Option<Vec<&str>> = meant.iter().map(Json::text).collect();
    let texts = texts.ok_or_else(|| malformed("`aud` holds what is no text"))?;
    let fits = texts.iter().any(|text| audience.iter().any(|own| **own == **text));
    fits.then_some(()).ok_or_else(|| Reason::TokenAudience.into())
}

/// What a token is bound to (RFC 7800): it is nothing without the proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The SHA-256 of a client certificate (RFC 8705, section 3.1).
    pub certificate: Option<[u8; 32]>,
    /// The thumbprint of a key that signs proofs (RFC 9449, section 6).
    pub key: Option<Box<str>>,
}

impl Binding {
    /// What the claims bind the token to.
    ///
    /// # Errors
    /// When it is bound to something that cannot be checked here.
    pub fn read(claims: &Object) -> Result<Self, Refusal> {
        let unknown =
            || Refusal::new(Reason::TokenUnbound).because("bound to what cannot be checked here");
        let Some(confirmation) = claims.get("cnf") else { return Ok(Self::default()) };
        let confirmation = confirmation.object().ok_or_else(unknown)?;
        let mut binding = Self::default();
        for (member, value) in confirmation.members() {
            let text = value.text().ok_or_else(unknown)?;
            match member {
                "x5t#S256" => {
                    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
                    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                    binding.certificate = Some(bytes.ok_or_else(unknown)?);
                }
                "jkt" => binding.key = Some(text.into()),
                _ => return Err(unknown()),
            }
        }
        if binding == Self::default() {
            return Err(unknown());
        }
        Ok(binding)
    }

    /// Whether the token is bound to nothing.
    pub fn is_none(&self) -> bool {
        self.certificate.is_none() && self.key.is_none()
    }
}

/// A token that was verified: everything of it that requests need again.
#[derive(Debug)]
pub struct Verified {
    /// What it gives.
    pub grant: Arc<Grant>,
    /// What it says of its holder's authentication.
    pub assurance: Arc<Assurance>,
    /// When it holds.
    pub times: Times,
    /// What it is bound to.
    pub binding: Binding,
    /// Its own name, for revocation.
    pub jti: Option<Box<str>>,
    /// The name of its session, for revocation.
    pub sid: Option<Box<str>>,
    /// Which keys it was verified with.
    pub generation: u64,
    /// How many proofs of its holder are remembered.
    pub proofs: Share,
}

impl Verified {
    /// What the claims of a token say, when they say all that is needed.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn of(
        claims: &Object,
        mapping: &Mapping,
        credential: impl Fn(Option<&str>) -> Arc<str>,
        generation: u64,
    ) -> Result<Self, Refusal> {
        Self::with(Times::read(claims)?, claims, mapping, credential, generation)
    }

    /// As [`Verified::of`], with times that were read already.
    ///
    /// # Errors
    /// As there.
    pub fn with(
        times: Times,
        claims: &Object,
        mapping: &Mapping,
        credential: impl Fn(Option<&str>) -> Arc<str>,
        generation: u64,
    ) -> Result<Self, Refusal> {
        let binding = Binding::read(claims)?;
        let (jti, sid) = (name(claims, "jti")?, name(claims, "sid")?);
        let grant = mapping.grant(claims, credential(jti.as_deref()))?;
        let assurance = Assurance::of(claims, times.authenticated_s, &mapping.wanted);
        Ok(Self {
            grant: Arc::new(grant),
            assurance: Arc::new(assurance),
            times,
            binding,
            jti,
            sid,
            generation,
            proofs: Share::default(),
        })
    }
}

/// A name that a token may have. One that is no text could not be revoked.
fn name(claims: &Object, member: &str) -> Result<Option<Box<str>>, Refusal> {
    match claims.get(member) {
        None => Ok(None),
        Some(Json::Text(text)) if (1..=TEXT_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(malformed("`jti` or `sid` is no text of a fitting length")),
    }
}
