//! Proves callers by the signatures on their requests (RFC 9421).

pub mod algorithm;
pub mod fields;
pub mod component;
pub mod coverage;
pub mod parameter;
pub mod input;
pub mod value;
mod lenient;
mod strict;
pub mod reader;
pub mod base;
pub mod public_key;
pub mod verifier;
pub mod rule;
pub mod sign;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ptr;
use std::sync::Arc;

use http::HeaderValue;

use crate::authenticate::nonce::{Claim, Nonces};
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::{Message, check_head};
use crate::authenticate::signature::coverage::{Coverage, Demanded};
use crate::authenticate::signature::fields::{Malformed, Texts};
use crate::authenticate::signature::input::{Input, Inputs};
use crate::authenticate::signature::verifier::Decoys;
use crate::authenticate::standing::{Keeper, Standing};
use crate::authenticate::{Attempt, Evidence, Scheme, SigningKey, SigningKeys, Wanted};
use crate::clock::Now;
use crate::fields::Fields;
use crate::head::Head;
use crate::listen::Length;
use crate::mistake::source::Origin;
use crate::refusal::{Reason, Refusal};

/// Accepts requests that are signed as a policy's `[signatures.NAME]` demands.
pub struct SignatureScheme {
    /// `signature.NAME`.
    name: String,
    origin: Origin,
    keys: Arc<dyn SigningKeys>,
    nonces: Arc<Nonces>,
    choice: Choice,
    /// The only algorithm whose keys are accepted; nothing accepts whatever a key is for.
    algorithm: Option<Algorithm>,
    /// What must be covered: without a body, and with one.
    demanded: [Demanded; 2],
    max_age_s: u64,
    skew_s: u64,
    nonce_required: bool,
    expires_required: bool,
    /// How many bytes of a body may be held for a signature that covers trailers.
    trailers_max: Option<u64>,
    /// What a caller is asked for when it did not sign: without a body, and with one.
    accept: [HeaderValue; 2],
    /// The keys that are used in place of an unknown one, so that both cost the same.
    decoys: Decoys,
}

/// Which of a request's signatures counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The one under this label.
    pub label: Option<Box<str>>,
    /// The one with this tag.
    pub tag: Option<Box<str>>,
}

impl Choice {
    /// The one signature of `inputs` that counts. Without label and tag it is the only one.
    ///
    /// # Errors
    /// When there is none, or more than one and nothing to choose by.
    pub fn of<'i, 'a>(&self, inputs: &'i Inputs<'a>) -> Result<&'i Input<'a>, Refusal> {
        let fits = |input: &&Input<'a>| {
            self.label.as_deref().is_none_or(|label| input.label == label)
                && self.tag.as_deref().is_none_or(|tag| input.tag() == Some(tag))
        };
        let mut fitting = inputs.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(input), None) => Ok(input),
            (None, _) if inputs.is_empty() => Err(Malformed("Signature-Input is empty").into()),
            (None, _) => Err(Refusal::new(Reason::SignatureCoverage)
                .because("no signature has the label and tag that the policy demands")),
            (Some(_), Some(_)) => Err(Refusal::new(Reason::SignatureMalformed)
                .because("more than one signature, and nothing to choose by")),
        }
    }
}

impl Scheme for SignatureScheme {
    fn name(&self) -> &str {
        &self.name
    }

    fn attempt(&self, head: &Head, now: Now) -> Attempt {
        self.attempt_whole(head, None, now)
    }

    fn attempt_whole(&self, head: &Head, trailers: Option<&Fields>, now: Now) -> Attempt {
        self.verify(head, trailers, now)
            .unwrap_or_else(|refusal| Attempt::Rejected(refusal.by(&self.origin)))
    }

    fn challenge(&self, with_body: bool) -> Option<HeaderValue> {
        Some(self.accept_signature(with_body).clone())
    }
}

impl SignatureScheme {
    /// The value of `Accept-Signature` (RFC 9421, 5.1) that asks for what the policy demands of a
    /// request with or without a body. It names only what a caller must send and may choose
    /// itself: a nonce cannot be asked for without giving its value, and the key is the caller's.
    pub fn accept_signature(&self, with_body: bool) -> &HeaderValue {
        let [bare, whole] = &self.accept;
        if with_body { whole } else { bare }
    }

    /// The rule that this scheme was compiled from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Which of a request's signatures counts.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// What a signature must cover of a request, with or without a body.
    pub fn demanded(&self, with_body: bool) -> &Demanded {
        let [bare, whole] = &self.demanded;
        if with_body { whole } else { bare }
    }

    /// Verifies the signature of a head, if it has one. The checks stand in an order that makes
    /// refusing cheap and tells a caller who holds no key nothing: an unknown key goes the same way
    /// as a known one, up to the comparison.
    fn verify(&self, head: &Head, trailers: Option<&Fields>, now: Now) -> Result<Attempt, Refusal> {
        let Some(texts) = Texts::of(&head.headers)? else { return Ok(Attempt::Absent) };
        let inputs = reader::inputs(&texts.inputs, &self.demanded)?;
        let input = self.choice.of(&inputs)?;
        let signature = reader::signature(&texts.signatures, input.label)?;
        if let Some(fault) = input.fault {
            return Err(fault.into());
        }

        let keyid = input.keyid().ok_or(Malformed("the signature has no keyid"))?;
        self.check_coverage(input, head)?;
        self.check_times(input, now)?;
        if trailers.is_none() && input.coverage.covers_trailers() {
            return self.ask_for_trailers(head, input, &signature, now);
        }

        // The signature before the nonce: who holds no key can use up nobody's nonce. What cannot
        // be by the key that it names is verified all the same, with a decoy, so that the time
        // tells nobody which keys there are.
        let (key, ticket) = self.keys.find(keyid).unzip();
        let claimed = input.algorithm().map(Algorithm::by_name);
        let agreed = key.as_deref().map(|key| self.check_algorithm(key, claimed));
        let fitting = match (key.as_deref(), &agreed) {
            (Some(key), Some(Ok(()))) if key.verifier.signature_bytes() == signature.len() => {
                Some(&key.verifier)
            }
            _ => None,
        };
        let pretended = claimed.flatten().or(self.algorithm);
        let verifier = fitting.unwrap_or_else(|| self.decoys.like(pretended, &signature));
        let message = Message { trailers, ..Message::of(head) };
        let is_verified = verifier.verify(&message, input, &signature)?;
        let is_good = fitting.is_some() && is_verified;
        let (Some(key), Some(ticket), Some(agreed)) = (&key, ticket, agreed) else {
            return Err(Refusal::new(Reason::SignatureKeyUnknown));
        };
        agreed?;
        if !is_good {
            return Err(Refusal::new(Reason::SignatureWrong));
        }
        // A key that no longer holds must not fill the store of nonces either.
        key.bounds.check(head.parties.client, now)?;
        self.claim_nonce(input, key, now)?;

        let digest_covered = input.coverage.covers_digest();
        let keeper: Arc<dyn Keeper> = Arc::clone(&self.keys) as _;
        let standing = Some(Standing::new(keeper, ticket));
        let grant = Arc::clone(&key.grant);
        let (assurance, dpop_nonce) = (None, None);
        Ok(Attempt::Accepted(Evidence { grant, digest_covered, standing, assurance, dpop_nonce }))
    }

    /// Asks for the trailers that a signature covers, where the policy lets a body be held for them
    /// and nothing is wrong that can be seen without them. So a key that is unknown is refused sooner
    /// than one that is known: to hold bodies for unknown keys alike would be worse.
    #[cold]
    fn ask_for_trailers(
        &self,
        head: &Head,
        input: &Input<'_>,
        signature: &[u8],
        now: Now,
    ) -> Result<Attempt, Refusal> {
        let bytes_max = self.trailers_max.ok_or(Malformed(
            "it covers trailers (tr), for which no body is held: the rule does not set `trailers`",
        ))?;
        check_head(&Message::of(head), input)?;
        let found = input.keyid().and_then(|keyid| self.keys.find(keyid));
        let (key, _) = found.ok_or(Reason::SignatureKeyUnknown)?;
        self.check_algorithm(&key, input.algorithm().map(Algorithm::by_name))?;
        if key.verifier.signature_bytes() != signature.len() {
            return Err(Refusal::new(Reason::SignatureWrong));
        }
        key.bounds.check(head.parties.client, now)?;
        Ok(Attempt::Trailers(Wanted { bytes_max, rule: self.origin.clone() }))
    }

    /// The algorithm is the key's. What the message says of it may only agree: a caller that could
    /// choose would choose the weakest.
    fn check_algorithm(
        &self,
        key: &SigningKey,
        claimed: Option<Option<Algorithm>>,
    ) -> Result<(), Refusal> {
        let own = key.verifier.algorithm();
        if claimed.is_some_and(|claimed| claimed != Some(own)) {
            return Err(Refusal::new(Reason::SignatureAlgorithm)
                .because("alg names another algorithm than the key's"));
        }
        if self.algorithm.is_some_and(|demanded| demanded != own) {
            return Err(Refusal::new(Reason::SignatureAlgorithm).because(format!(
                "the key is for {}, which the policy does not take",
                own.name()
            )));
        }
        Ok(())
    }

    fn check_coverage(&self, input: &Input<'_>, head: &Head) -> Result<(), Refusal> {
        let demanded = self.demanded(head.length != Length::None);
        let as_asked =
            matches!(input.coverage, Coverage::Demanded(covered) if ptr::eq(covered, demanded));
        let mut missing =
            demanded.components().iter().filter(|part| !input.coverage.contains(part));
        if !as_asked && let Some(missing) = missing.next() {
            return Err(Refusal::new(Reason::SignatureCoverage)
                .because(format!("{missing} is not covered")));
        }
        if self.nonce_required && input.nonce().is_none() {
            return Err(Refusal::new(Reason::SignatureCoverage).because("there is no nonce"));
        }
        if self.expires_required && input.expires().is_none() {
            return Err(Refusal::new(Reason::SignatureCoverage).because("there is no expires"));
        }
        Ok(())
    }

    /// Checks when the signature was made and when it ends.
    fn check_times(&self, input: &Input<'_>, now: Now) -> Result<(), Refusal> {
        let now_s = now.unix_s();
        let created = input.created().ok_or(Malformed("the signature has no created"))?;
        if created > now_s.saturating_add(self.skew_s) {
            let ahead = created - now_s;
            return Err(Refusal::new(Reason::SignatureFuture)
                .because(format!("created lies {ahead} s ahead, {} s are allowed", self.skew_s)));
        }
        if created.saturating_add(self.max_age_s) < now_s {
            let age = now_s - created;
            return Err(Refusal::new(Reason::SignatureExpired)
                .because(format!("created {age} s ago, {} s are allowed", self.max_age_s)));
        }
        if let Some(expires) = input.expires() {
            if expires <= now_s {
                let past = now_s - expires;
                return Err(
                    Refusal::new(Reason::SignatureExpired).because(format!("expired {past} s ago"))
                );
            }
            if !(1..=self.max_age_s).contains(&expires.saturating_sub(created)) {
                return Err(Malformed("expires lies before created or too far behind it").into());
            }
        }
        Ok(())
    }

    /// Claims the nonce, last of all: from here on it is spent, whatever follows.
    fn claim_nonce(&self, input: &Input<'_>, key: &SigningKey, now: Now) -> Result<(), Refusal> {
        let Some(nonce) = input.nonce() else { return Ok(()) };
        let window_s = self.max_age_s.saturating_add(self.skew_s);
        let until_ms =
            input.created().and_then(|created| self.nonces.until_ms(created, window_s, now));
        let Some(until_ms) = until_ms else {
            return Err(Refusal::new(Reason::SignatureReplayed)
                .because("signed at a time of which the gateway knows no nonces"));
        };
        match self.nonces.claim(&key.grant.credential, &key.share, nonce, until_ms, now) {
            Claim::Claimed => Ok(()),
            Claim::Seen => Err(Refusal::new(Reason::SignatureReplayed)),
            Claim::Full => Err(Refusal::new(Reason::NonceStoreFull)),
            Claim::OverShare => Err(Refusal::new(Reason::NonceStoreFull)
                .because("the key holds its whole share of the nonces that can be remembered")),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::new(Reason::SignatureMalformed).because(malformed.0)
    }
}

impl fmt::Debug for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignatureScheme({})", self.origin)
    }
}
