//! Nonces of ours in proofs of possession (RFC 9449, sections 8 and 9).

use std::time::Duration;

use serde_json::json;

use super::issuer::{self, Signer};
use super::{Bed, NOW_S};
use crate::harness::Reply;
use crate::refusals::reason_of;

const TURN: Duration = Duration::from_secs(300);

/// Whoever holds a token that is bound to their key.
struct Holder {
    signer: Signer,
    token: String,
    path: &'static str,
}

impl Holder {
    fn new(bed: &Bed) -> Self {
        let signer = Signer::ecdsa("");
        let token =
            bed.with_claims(json!({"cnf": {"jkt": signer.thumbprint()}, "exp": NOW_S + 3600}));
        Self { signer, token, path: "/v1/fresh" }
    }

    /// Of a token that only its issuer can read.
    fn of_opaque() -> Self {
        let signer = Signer::ecdsa("");
        let token = format!("holder-{}", signer.thumbprint());
        Self { signer, token, path: "/v1/opaque-fresh" }
    }

    /// The header lines of a request at this time, with a proof that has this nonce.
    fn lines(&self, bed: &Bed, made_s: u64, nonce: Option<&str>) -> Vec<(&'static str, String)> {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.signer.jwk()});
        let mut claims = json!({
            "jti": format!("proof-{}", issuer::number()), "htm": "GET", "htu": format!("https://localhost{}", self.path),
            "iat": made_s, "ath": issuer::hash(&self.token),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        let proof = bed.issuer.mint_raw(&self.signer, &header.to_string(), &claims.to_string());
        vec![("authorization", format!("DPoP {}", self.token)), ("dpop", proof)]
    }
}

/// The answer to a proof without a nonce.
pub fn refused(bed: &Bed) -> Reply {
    bed.get("/v1/fresh", &Holder::new(bed).lines(bed, NOW_S, None))
}

fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    reply.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
}

fn a_proof_needs_a_nonce(bed: &Bed, get: impl Fn(&[(&str, String)]) -> Reply) {
    let holder = Holder::new(bed);
    let ask = |made_s, nonce: Option<&str>| get(&holder.lines(bed, made_s, nonce));
    let told = ask(NOW_S, None);
    assert_eq!((told.status, reason_of(&bed.gate, &told)), (401, "proof-nonce".to_owned()));
    assert_eq!(
        header(&told, "www-authenticate"),
        Some(
            "DPoP error=\"use_dpop_nonce\", algs=\"ES256 ES384 EdDSA RS256 RS384 RS512 PS256 PS384 PS512\""
        )
    );
    assert_eq!(header(&told, "cache-control"), Some("no-store"));
    let first = header(&told, "dpop-nonce").unwrap().to_owned();

    let good = ask(NOW_S, Some(&first));
    assert_eq!((good.status, header(&good, "dpop-nonce")), (200, None), "{good:?}");
    for other in ["", "made-up", &first[1..]] {
        let told = ask(NOW_S, Some(other));
        assert_eq!((told.status, reason_of(&bed.gate, &told)), (401, "proof-nonce".to_owned()));
        assert_eq!(header(&told, "dpop-nonce"), Some(first.as_str()));
    }

    // The nonce of the turn before still does, and the answer brings the next one.
    bed.gate.hand.advance(TURN);
    let good = ask(NOW_S + 300, Some(&first));
    assert_eq!((good.status, header(&good, "cache-control")), (200, Some("no-store")));
    let second = header(&good, "dpop-nonce").unwrap().to_owned();
    assert_ne!(second, first);
    bed.gate.hand.advance(TURN);
    assert_eq!(ask(NOW_S + 600, Some(&first)).status, 401);
    assert_eq!(ask(NOW_S + 600, Some(&second)).status, 200);
}

#[test]
fn a_proof_needs_a_nonce_of_ours_that_is_not_too_old() {
    let bed = Bed::new();
    a_proof_needs_a_nonce(&bed, |lines| bed.get("/v1/fresh", lines));
}

#[test]
fn a_proof_needs_a_nonce_of_ours_that_is_not_too_old_over_http_2() {
    let bed = Bed::new();
    a_proof_needs_a_nonce(&bed, |lines| bed.get2("/v1/fresh", lines));
}

#[test]
fn gateways_that_share_a_secret_accept_each_others_nonces() {
    let (one, other) = (Bed::new(), Bed::new());
    let told = refused(&one);
    let nonce = header(&told, "dpop-nonce").unwrap();
    let lines = Holder::new(&other).lines(&other, NOW_S, Some(nonce));
    assert_eq!(other.get("/v1/fresh", &lines).status, 200);
}

#[test]
fn a_request_without_a_proof_is_told_the_usual_challenge() {
    let bed = Bed::new();
    let told = bed.get("/v1/fresh", &[]);
    assert_eq!((told.status, header(&told, "dpop-nonce")), (401, None));
    // A good token says nothing of itself in the body, whatever is wrong with its proof.
    let refused = refused(&bed);
    let face = |reply: &Reply| reply.body.split("requestId").next().unwrap().to_owned();
    assert_eq!(face(&told), face(&refused));
}

#[test]
fn a_proof_for_an_opaque_token_needs_a_nonce_of_this_gateway_alone() {
    let (bed, other) = (Bed::new(), Bed::new());
    let holder = Holder::of_opaque();
    let told = other.get(holder.path, &holder.lines(&other, NOW_S, None));
    let foreign = header(&told, "dpop-nonce").unwrap();
    let told = bed.get(holder.path, &holder.lines(&bed, NOW_S, Some(foreign)));
    assert_eq!((told.status, reason_of(&bed.gate, &told)), (401, "proof-nonce".to_owned()));
    let nonce = header(&told, "dpop-nonce").unwrap();
    assert_ne!(nonce, foreign, "without a secret each gateway has its own");
    let good = bed.get(holder.path, &holder.lines(&bed, NOW_S, Some(nonce)));
    assert_eq!((good.status, header(&good, "dpop-nonce")), (200, None), "{good:?}");
}
