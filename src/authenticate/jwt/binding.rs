//! Holds tokens that are bound to their holder against what the holder shows.

use http::HeaderValue;

use crate::authenticate::bearer::Presented;
use crate::authenticate::jwt::claims::Verified;
use crate::authenticate::jwt::dpop;
use crate::authenticate::jwt::dpop_nonce::DpopNonces;
use crate::authenticate::nonce::Nonces;
use crate::clock::Now;
use crate::head::Head;
use crate::refusal::{Reason, Refusal};
use crate::secret;

/// What is demanded of bindings.
#[derive(Clone, Copy)]
pub(in crate::authenticate) struct Demand<'a> {
    /// Whether every token must be bound.
    pub(in crate::authenticate) is_bound: bool,
    /// How far clocks may differ, in seconds.
    pub(in crate::authenticate) skew_s: u64,
    /// The names of proofs that were seen.
    pub(in crate::authenticate) nonces: &'a Nonces,
    /// The nonces of ours that proofs must have; nothing when they need none.
    pub(in crate::authenticate) dpop_nonces: Option<&'a DpopNonces>,
}

/// A token that is bound is nothing without its certificate or key, and one that comes with
/// `DPoP` must be bound to a key (RFC 9449, section 7.1). Gives the nonce for the next proof, where the
/// caller has to know another.
pub(in crate::authenticate) fn check(
    verified: &Verified,
    (how, token): (Presented, &str),
    head: &Head,
    now: Now,
    demand: Demand<'_>,
) -> Result<Option<Box<HeaderValue>>, Refusal> {
    let binding = &verified.binding;
    let unbound = |says: &'static str| Err(Refusal::new(Reason::TokenUnbound).because(says));
    if demand.is_bound && binding.is_none() {
        return unbound("the policy demands tokens that are bound to their holder");
    }
    if let Some(certificate) = &binding.certificate {
        let shown = head.peer.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        match shown {
            Some(shown) if secret::equal(&shown.sha256, certificate) => {
                if shown.still_holds(now).is_err() {
                    return unbound("bound to a client certificate that no longer holds");
                }
            }
            Some(_) => return unbound("bound to another client certificate"),
            None => return unbound("bound to a client certificate, and none was shown"),
        }
    }
    match (&binding.key, how) {
        (None, Presented::Bearer) => Ok(None),
        (None, Presented::Dpop) => unbound("shown with `DPoP`, and bound to no key"),
        (Some(_), Presented::Bearer) => unbound("bound to a key, and shown with `Bearer`"),
        (Some(key), Presented::Dpop) => {
            let seen = (demand.nonces, &verified.proofs);
            dpop::check(head, token, key, (seen, demand.dpop_nonces), (demand.skew_s, now))
        }
    }
}
