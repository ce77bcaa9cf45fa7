//! Checks proofs of possession: a small token that the caller signs for this one request (RFC 9449).

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};

use crate::authenticate::jwt::algorithm::Algorithm;
use crate::authenticate::jwt::dpop_nonce::DpopNonces;
use crate::authenticate::jwt::json::{Json, Object};
use crate::authenticate::jwt::jwk::{Key, thumbprint};
use crate::authenticate::jwt::jws::Jws;
use crate::authenticate::nonce::{Claim, Nonces, Share};
use crate::clock::Now;
use crate::head::host::{Authority, port_default};
use crate::head::{Head, path};
use crate::refusal::{Reason, Refusal};
use crate::secret;

/// The header that carries a proof.
pub const DPOP: HeaderName = HeaderName::from_static("dpop");

macro_rules! algorithms {
    () => {
        "ES256 ES384 EdDSA RS256 RS384 RS512 PS256 PS384 PS512"
    };
}

/// The algorithms of proofs, as challenges name them (RFC 9449, section 7.1).
pub const ALGORITHMS: &str = algorithms!();

/// The challenge of a 401 for a proof without the nonce that it needs (RFC 9449, section 9).
pub const WANTS_NONCE: HeaderValue = HeaderValue::from_static(concat!(
    "DPoP error=\"use_dpop_nonce\", algs=\"",
    algorithms!(),
    "\""
));

/// How old a proof may be, in seconds.
const AGE_S_MAX: u64 = 60;

/// How long the name of a proof may be, in bytes.
const JTI_BYTES: RangeInclusive<usize> = 8..=256;

/// Checks the proof of a request that shows `token`, which is bound to the key with this
/// thumbprint. Gives the nonce for the next proof, where the caller has to know another.
///
/// # Errors
/// [`Reason::ProofMalformed`] when there is not exactly one proof, [`Reason::ProofWrong`] when it is
/// of another key, token, request or time, [`Reason::ProofNonce`] when it has no nonce of ours and
/// needs one, [`Reason::ProofReplayed`] when it was used, and
/// [`Reason::NonceStoreFull`] when that cannot be known any more.
pub(in crate::authenticate) fn check(
    head: &Head,
    token: &str,
    bound_to: &str,
    (seen, nonces): ((&Nonces, &Share), Option<&DpopNonces>),
    (skew_s, now): (u64, Now),
) -> Result<Option<Box<HeaderValue>>, Refusal> {
    let mut proofs = head.headers.get_all(DPOP);
    let (Some(proof), None) = (proofs.next(), proofs.next()) else {
        return Err(malformed("there is not exactly one proof"));
    };
    let proof = proof.to_str().map_err(|_| malformed("the proof is no token"))?;
    let jws = Jws::read(proof).map_err(|_| malformed("the proof is no signed token"))?;
    let (key, holder) = key_of(&jws)?;
    if !secret::equal(holder.as_bytes(), bound_to.as_bytes()) {
        return Err(wrong("signed by another key than the token is bound to"));
    }
    let claims = jws.payload(&key).map_err(|_| wrong("not signed by the key that it brings"))?;

    let is_of_token = claims.text("ath").is_some_and(|hash| {
        let own = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
        secret::equal(hash.as_bytes(), own.as_bytes())
    });
    if !is_of_token {
        return Err(wrong("made for another token"));
    }
    if claims.text("htm") != Some(head.method.as_str()) {
        return Err(wrong("made for another method"));
    }
    if !claims.text("htu").is_some_and(|target| is_target(target, head)) {
        return Err(wrong("made for another target"));
    }
    let made_s = check_age(&claims, skew_s, now)?;
    let name = claims.text("jti").filter(|name| JTI_BYTES.contains(&name.len()));
    let name = name.ok_or_else(|| malformed("the proof has no `jti` of 8 to 256 bytes"))?;
    let fresh = match nonces {
        Some(nonces) => nonces.check(claims.text("nonce"), now)?,
        None => None,
    };
    claim(seen, (bound_to, name), made_s, skew_s, now)?;
    Ok(fresh)
}

/// The public key that a proof brings, which must have signed it, and its thumbprint.
fn key_of(jws: &Jws<'_>) -> Result<(Key, String), Refusal> {
    if jws.header.text("typ") != Some("dpop+jwt") {
        return Err(malformed("the proof's `typ` is not dpop+jwt"));
    }
    if jws.algorithm.is_shared() {
        return Err(malformed("the proof is signed with a shared secret"));
    }
    let jwk = jws.header.get("jwk").and_then(Json::object);
    let jwk = jwk.ok_or_else(|| malformed("the proof brings no key"))?;
    let rsa = if jws.algorithm.is_rsa() { jws.algorithm } else { Algorithm::Rs256 };
    let key = Key::read(jwk, rsa).map_err(|_| malformed("the proof's key cannot be used"))?;
    let print = thumbprint(jwk).ok_or_else(|| malformed("the proof's key has no thumbprint"))?;
    Ok((key, print))
}

/// When the proof was made, in Unix seconds: a moment ago.
fn check_age(claims: &Object, skew_s: u64, now: Now) -> Result<u64, Refusal> {
    let made_s = match claims.get("iat") {
        Some(Json::Number(number)) => number.as_u64(),
        Some(_) | None => None,
    };
    let made_s = made_s.ok_or_else(|| malformed("the proof's `iat` is no whole number"))?;
    let now_s = now.unix_s();
    let is_fresh =
        made_s <= now_s.saturating_add(skew_s) && made_s.saturating_add(AGE_S_MAX) >= now_s;
    if !is_fresh {
        let off_s = i128::from(now_s) - i128::from(made_s);
        return Err(Refusal::new(Reason::ProofWrong)
            .because(format!("made {off_s} s ago, {AGE_S_MAX} s are allowed")));
    }
    Ok(made_s)
}

/// Claims the proof's name, last of all: who holds no key can use up nobody's.
fn claim(
    (nonces, share): (&Nonces, &Share),
    (holder, name): (&str, &str),
    made_s: u64,
    skew_s: u64,
    now: Now,
) -> Result<(), Refusal> {
    let window_s = AGE_S_MAX.saturating_add(skew_s);
    let Some(until_ms) = nonces.until_ms(made_s, window_s, now) else {
        return Err(Refusal::new(Reason::ProofReplayed)
            .because("made at a time of which the gateway knows no proofs"));
    };
    // The keys of signatures have ids without a colon, so theirs never meet those of proofs.
    let holder = format!("dpop:{holder}");
    match nonces.claim(&holder, share, name, until_ms, now) {
        Claim::Claimed => Ok(()),
        Claim::Seen => Err(Reason::ProofReplayed.into()),
        Claim::Full => Err(Reason::NonceStoreFull.into()),
        Claim::OverShare => Err(Refusal::new(Reason::NonceStoreFull)
            .because("the token holds its whole share of the proofs that can be remembered")),
    }
}

/// Whether `htu` is the request's own target without query and fragment, however either of them
/// writes scheme, host, port and path (RFC 9449, section 4.3).
fn is_target(target: &str, head: &Head) -> bool {
    let Some((scheme, rest)) = target.split_once("://") else { return false };
    if !scheme.eq_ignore_ascii_case(head.parties.scheme) {
        return false;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let Ok(authority) = Authority::read(authority, port_default(head.parties.scheme)) else {
        return false;
    };
    *authority.host == *head.parties.host()
        && authority.port.unwrap_or_else(|| port_default(head.parties.scheme))
            == head.effective_port()
        && path::canonical(path).is_ok_and(|path| path == head.path)
}

fn malformed(says: &'static str) -> Refusal {
    Refusal::new(Reason::ProofMalformed).because(says)
}

fn wrong(says: &'static str) -> Refusal {
    Refusal::new(Reason::ProofWrong).because(says)
}
