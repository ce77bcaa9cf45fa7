//! Nonces of ours that proofs of possession have to hold, so that none can be made in advance (RFC
//! 9449, sections 8 and 9). Nothing is kept of them: a nonce is the keyed hash of its span of time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use ring::hmac;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::outside::{Surroundings, seconds};
use crate::clock::Now;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::secret::{self, Secret};
use crate::units::Span;

/// The header that tells callers the nonce for their next proof.
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

const SECRET_BYTES_MIN: usize = 32;
const EVERY_USUAL_S: u64 = 300;
/// Of the hash, so many bytes make a nonce: nobody guesses them within an hour.
const NONCE_BYTES: usize = 18;

/// Demands a nonce of ours in every proof: `dpop_nonce = { every = "5m" }`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DpopNonceRule {
    /// How often the nonce changes, `10s` to `1h`. The one before it is good for as long again.
    /// Default: `5m`.
    pub every: Option<At<Span>>,
    /// A secret that all instances share, so that each accepts the nonces of the others:
    /// "env:NAME", "file:PATH" or "credential:NAME". Default: a random one, which every reload of
    /// the policy renews; callers then have to try again once.
    pub secret: Option<At<String>>,
}

impl DpopNonceRule {
    /// Compiles what was written, if anything was.
    pub(in crate::authenticate) fn compile(
        written: Option<&Self>,
        surroundings: &Surroundings<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Option<DpopNonces>> {
        let Some(Self { every, secret }) = written else { return Some(None) };
        let every_s = seconds(every.as_ref(), EVERY_USUAL_S, 10..=3600, reading);
        let secret = match secret {
            Some(reference) => surroundings.secret(reference, SECRET_BYTES_MIN, reading)?,
            None => match Secret::random(SECRET_BYTES_MIN) {
                Ok(secret) => secret,
                Err(fault) => {
                    let help = "name a `secret`, or see why the system has no randomness";
                    reading.wrong(Code::Unreadable, &(0..0), fault.to_string(), help);
                    return None;
                }
            },
        };
        Some(Some(DpopNonces::new(&secret, every_s?)))
    }
}

/// Makes nonces, and knows its own again.
pub(in crate::authenticate) struct DpopNonces {
    key: hmac::Key,
    every_s: u64,
}

impl DpopNonces {
    fn new(secret: &Secret, every_s: u64) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), every_s }
    }

    /// Holds the nonce of a proof against the current one and the one before. Gives the nonce for
    /// the next proof when this one will soon be too old.
    ///
    /// # Errors
    /// [`Reason::ProofNonce`] with the nonce that would do, when there is none or it is another.
    pub(in crate::authenticate) fn check(
        &self,
        shown: Option<&str>,
        now: Now,
    ) -> Result<Option<Box<HeaderValue>>, Refusal> {
        let turn = now.unix_s() / self.every_s;
        let current = self.of(turn);
        let is = |nonce: &str| {
            shown.is_some_and(|shown| secret::equal(shown.as_bytes(), nonce.as_bytes()))
        };
        if is(&current) {
            return Ok(None);
        }
        let fresh = HeaderValue::try_from(current).map_err(|_| Reason::GatewayFault)?;
        if is(&self.of(turn.saturating_sub(1))) {
            return Ok(Some(Box::new(fresh)));
        }
        let says = match shown {
            None => "the proof has no `nonce`",
            Some(_) => "the proof's `nonce` is too old or none of ours",
        };
        Err(Refusal::new(Reason::ProofNonce).with(Extra::DpopNonce(fresh)).because(says))
    }

    fn of(&self, turn: u64) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"dpop nonce ");
        context.update(&turn.to_be_bytes());
        let tag = context.sign();
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..NONCE_BYTES).unwrap_or_default())
    }
}
