//! Holds the verifier of tokens against the vectors of Project Wycheproof.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::authenticate::jwt::json::Object;
use crate::authenticate::jwt::jwk::Key;
use crate::authenticate::nonce::Share;
use crate::listen::{ClientCertificate, TlsFacts};
use crate::secret::Secret;

const VECTORS: &str = include_str!("../../../tests/corpus/wycheproof-jws.txt");

/// Vectors that are judged otherwise here, each for a reason.
const OTHERWISE: [(&str, &str); 6] = [
    ("346", "the token says PS384, and its key PS256: each key has one algorithm (RFC 8725, 3.1)"),
    ("350", "the same"),
    ("367", "byte for byte the good token 357: the padding that it names is not in the file"),
    ("370", "the same"),
    ("372", "a character outside of base64url is not skipped (RFC 7515, section 2)"),
    ("373", "the same"),
];

const SETS: &str = include_str!("../../../tests/corpus/wycheproof-jwk.txt");

/// Vectors of sets that are judged otherwise here.
const SETS_OTHERWISE: [(&str, &str); 1] =
    [("2", "a shared secret comes from the operator, and only one: never from a set")];

fn key(jwk: &str) -> Option<Key> {
    let jwk = Object::read(jwk.as_bytes()).unwrap();
    match jwk.text("k") {
        // Shared secrets come from the operator, never from a set.
        Some(k) => {
            let secret = Secret::new(URL_SAFE_NO_PAD.decode(k).unwrap());
            let algorithm = jwk.text("alg").and_then(Algorithm::by_name)?;
            Some(Key::shared(algorithm, &secret))
        }
        None => Key::read(&jwk, Algorithm::Rs256).ok(),
    }
}

/// The keys of a set, as they are used: a lone shared secret is the operator's.
fn set(text: &str) -> Vec<Key> {
    let set = Object::read(text.as_bytes()).unwrap();
    match set.get("keys").map(|keys| keys.each()).unwrap() {
        [lone] if lone.object().is_some_and(|lone| lone.text("kty") == Some("oct")) => {
            let lone = lone.object().unwrap();
            let secret = URL_SAFE_NO_PAD.decode(lone.text("k").unwrap()).unwrap();
            let algorithm = lone.text("alg").and_then(Algorithm::by_name);
            algorithm
                .filter(|algorithm| secret.len() >= algorithm.secret_bytes_min())
                .map(|algorithm| Key::shared(algorithm, &Secret::new(secret)))
                .into_iter()
                .collect()
        }
        _ => keys::read_set(text.as_bytes(), Algorithm::Rs256)
            .map_or(Vec::new(), |(keys, _)| keys.into_vec()),
    }
}

/// Judges every vector of a file with the keys that `read` makes of the line above it, which begins
/// with `begins`. Those of `otherwise` alone are judged in another way than they demand.
fn judge(vectors: &str, begins: &str, read: impl Fn(&str) -> Vec<Key>, otherwise: &[(&str, &str)]) {
    let (mut current, mut judged, mut wrong) = (Vec::new(), 0, Vec::new());
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        if let Some(text) = line.strip_prefix(begins) {
            current = read(text);
            continue;
        }
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let [number, result, comment, token] = parts[..] else { panic!("{line}") };
        let verified = Jws::read(token).is_ok_and(|jws| {
            jws.kid().is_ok_and(|kid| {
                current.iter().any(|key| key.answers_to(kid) && jws.verify(key).is_ok())
            })
        });
        judged += 1;
        let agrees = verified == (result == "valid");
        if agrees == otherwise.iter().any(|(known, _)| *known == number) {
            wrong.push(format!("{number} {comment}: {result}"));
        }
    }
    assert!(judged > 25, "{judged}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn signatures_are_judged_as_project_wycheproof_demands() {
    judge(VECTORS, "key ", |jwk| key(jwk).into_iter().collect(), &OTHERWISE);
}

#[test]
fn sets_of_keys_are_judged_as_project_wycheproof_demands() {
    judge(SETS, "set ", set, &SETS_OTHERWISE);
}

fn bound_to_certificate() -> Verified {
    let times = crate::authenticate::jwt::claims::Times {
        expires_s: u64::MAX,
        not_before_s: None,
        issued_s: None,
        authenticated_s: None,
    };
    let binding = crate::authenticate::jwt::claims::Binding {
        certificate: Some([7; 32]),
        ..Default::default()
    };
    Verified {
        grant: Arc::default(),
        assurance: Arc::default(),
        times,
        binding,
        jti: None,
        sid: None,
        generation: 0,
        proofs: Share::default(),
    }
}

#[test]
fn a_token_bound_to_a_certificate_needs_that_certificate_rfc_8705() {
    let (verified, nonces) = (bound_to_certificate(), Nonces::with_history(8));
    let demand = Demand { is_bound: true, skew_s: 0, nonces: &nonces, dpop_nonces: None };
    let ever = u64::MAX;
    for (certificate, holds) in [
        (None, false),
        (Some(([8; 32], ever)), false),
        (Some(([7; 32], ever)), true),
        // The connection outlives it.
        (Some(([7; 32], 0)), false),
    ] {
        let mut head = crate::authenticate::tests::head(&[]);
        let certificate = certificate.map(|(sha256, end_s)| {
            let mut shown = ClientCertificate::default();
            shown.sha256 = sha256;
            shown.not_after_unix_s = end_s;
            Arc::new(shown)
        });
        let tls =
            TlsFacts { server_name: None, version: "TLSv1.3", certificate, name_binds: false };
        head.peer = Arc::new(crate::listen::Peer { tls: Some(tls), ..(*head.peer).clone() });
        let shown = (Presented::Bearer, "a.b.c");
        let now = crate::authenticate::tests::NOW;
        let checked = binding::check(&verified, shown, &head, now, demand);
        assert_eq!(
            checked.map_err(|refusal| refusal.reason),
            match holds {
                true => Ok(None),
                false => Err(Reason::TokenUnbound),
            }
        );
    }
}
