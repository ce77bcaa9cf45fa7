//! The caller of a test: a real key, shown like any other, and a real signature where one is wanted.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Version};

use crate::authenticate::directory::Directory;
use crate::authenticate::directory::change::Created;
use crate::authenticate::directory::record::NewKey;
use crate::authenticate::jwt::mint::Holder;
use crate::authenticate::signature::base::Message;
use crate::authenticate::signature::sign::{Terms, ToSign, sign};
use crate::clock::Now;
use crate::head;
use crate::listen::body::Body;
use crate::listen::{Arrival, Length, Peer, RawHead};
use crate::policy::Policy;
use crate::policy::case::{CaseCaller, CaseRequest};
use crate::secret::Secret;

const NONCE_BYTES: usize = 16;

/// Who sends a test's requests. Nobody has no credential at all.
pub(in crate::rehearse) struct Caller {
    key: Option<HeaderValue>,
    signing: Option<SigningSecret>,
}

struct SigningSecret {
    keyid: String,
    secret: Secret,
}

/// Whether nothing is said of a caller that a key would give: then it shows none.
fn has_only_a_certificate(caller: &CaseCaller) -> bool {
    let says_nothing = caller.roles.is_empty() && caller.scopes.is_empty() && caller.tier.is_none();
    caller.certificate.is_some() && says_nothing && !caller.signed && caller.jwt.is_none()
}

impl Caller {
    /// Makes the keys that this caller holds.
    pub(in crate::rehearse) fn new(
        caller: Option<&CaseCaller>,
        (policy, directory): (&Policy, &Directory),
        now: Now,
    ) -> Result<Self, String> {
        let Some(caller) = caller.filter(|caller| !has_only_a_certificate(caller)) else {
            return Ok(Self { key: None, signing: None });
        };
        let token = caller.jwt.as_ref().map(|name| token(name, caller, policy, now)).transpose()?;
        let wish = || NewKey {
            name: "the caller of a test".to_owned(),
            subject: caller.sub.clone(),
            roles: caller.roles.clone(),
            scopes: caller.scopes.clone(),
            tier: caller.tier.clone(),
            ..NewKey::default()
        };
        let no_key =
            |fault: &dyn std::fmt::Display| format!("the caller cannot have a key: {fault}");
        let created = directory.create(wish(), now).map_err(|fault| no_key(&fault))?;
        let shown = token.as_deref().map_or_else(|| created.secret.expose(), str::as_bytes);
        let mut value =
            HeaderValue::try_from([b"Bearer ", shown].concat()).map_err(|error| no_key(&error))?;
        value.set_sensitive(true);
        let signing = if caller.signed {
            let created = directory.create_signing(wish(), now).map_err(|fault| no_key(&fault))?;
            Some(SigningSecret::of(&created)?)
        } else {
            None
        };
        Ok(Self { key: Some(value), signing })
    }

    /// The request as it arrives from this caller.
    pub(in crate::rehearse) fn arrival(
        &self,
        request: &CaseRequest,
        policy: &Policy,
        peer: &Arc<Peer>,
        now: Now,
    ) -> Result<Arrival, String> {
        let raw = self.raw(request, policy, peer, now)?;
        let body = match &request.body {
            Some(body) if !body.is_empty() => Body::Whole(Bytes::copy_from_slice(body.as_bytes())),
            Some(_) | None => Body::Empty,
        };
        Ok(Arrival::Request(Box::new(raw), body))
    }

    /// The first part of the request, signed if the caller signs.
    pub(in crate::rehearse) fn raw(
        &self,
        request: &CaseRequest,
        policy: &Policy,
        peer: &Arc<Peer>,
        now: Now,
    ) -> Result<RawHead, String> {
        let mut raw = self.unsigned(request)?;
        let Some(signing) = &self.signing else { return Ok(raw) };
        // What a head refuses needs no signature: it never gets so far.
        let Ok(head) = head::read(self.unsigned(request)?, peer, &peer.trusted, now) else {
            return Ok(raw);
        };
        let body = request.body.as_deref().unwrap_or_default();
        let Some(scheme) = policy.signature_for(&head) else { return Ok(raw) };
        let components: Vec<String> = scheme
            .demanded(!body.is_empty())
            .components()
            .iter()
            .map(ToString::to_string)
            .collect();
        let components: Vec<&str> = components.iter().map(String::as_str).collect();
        let nonce = Secret::random(NONCE_BYTES).map_err(|fault| fault.to_string())?;
        let nonce: String = nonce.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        let terms = Terms {
            label: scheme.choice().label.as_deref().unwrap_or("sig1"),
            components: &components,
            keyid: &signing.keyid,
            created: now.unix_s(),
            expires: None,
            nonce: Some(&nonce),
            tag: scheme.choice().tag.as_deref(),
        };
        let to_sign = ToSign { message: Message::of(&head), body: body.as_bytes() };
        let signed = sign(&to_sign, &terms, &signing.secret)
            .map_err(|fault| format!("the request cannot be signed: {fault}"))?;
        let mut put = |name: &'static str, text: &str| {
            let value = HeaderValue::from_str(text).map_err(|error| error.to_string())?;
            raw.headers.insert(HeaderName::from_static(name), value);
            Ok::<(), String>(())
        };
        if let Some(digest) = &signed.content_digest {
            put("content-digest", digest)?;
        }
        put("signature-input", &signed.signature_input)?;
        put("signature", &signed.signature)?;
        Ok(raw)
    }

    fn unsigned(&self, request: &CaseRequest) -> Result<RawHead, String> {
        let mut headers = request.headers.clone();
        let host = HeaderValue::from_str(&request.host).map_err(|error| error.to_string())?;
        if !headers.contains_key(HOST) {
            headers.insert(HOST, host);
        }
        if let Some(key) = &self.key {
            headers.append(AUTHORIZATION, key.clone());
        }
        let length = request.body.as_ref().map_or(0, |body| body.len() as u64);
        if length > 0 {
            let json = HeaderValue::from_static("application/json");
            if !headers.contains_key(CONTENT_TYPE) {
                headers.insert(CONTENT_TYPE, json);
            }
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(RawHead {
            method: request.method.clone(),
            target: request.target.as_str().into(),
            version: Version::HTTP_11,
            authority: None,
            headers,
            length: if length > 0 { Length::Exactly(length) } else { Length::None },
        })
    }
}

/// The token that an issuer of the policy would give to this caller.
fn token(name: &str, caller: &CaseCaller, policy: &Policy, now: Now) -> Result<String, String> {
    let name = format!("jwt.{name}");
    let verifier = policy.verifiers().iter().find(|verifier| verifier.name() == name);
    let verifier = verifier.ok_or_else(|| format!("the policy has no `{name}`"))?;
    let holder = Holder {
        subject: &caller.sub,
        roles: &caller.roles,
        scopes: &caller.scopes,
        tier: caller.tier.as_deref(),
        claims: &caller.claims,
    };
    verifier.mint(&holder, now).map_err(|says| format!("the caller cannot have a token: {says}"))
}

impl SigningSecret {
    fn of(created: &Created) -> Result<Self, String> {
        let bytes = BASE64.decode(created.secret.expose()).map_err(|error| error.to_string())?;
        Ok(Self { keyid: created.id.to_string(), secret: Secret::new(bytes) })
    }
}
