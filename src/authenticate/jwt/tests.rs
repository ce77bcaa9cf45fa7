//! Holds the verifier of tokens against the vectors of Project Wycheproof.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::authenticate::jwt::json::Object;
use crate::authenticate::jwt::jwk::Key;
use crate::secret::Secret;

const VECTORS: &str = include_str!("../../../tests/corpus/wycheproof-jws.txt");

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

#[test]
fn signatures_are_judged_as_project_wycheproof_demands() {
    let (mut current, mut judged, mut wrong) = (None, 0, Vec::new());
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(jwk) = line.strip_prefix("key ") {
            current = key(jwk);
            continue;
        }
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let [number, result, comment, token] = parts[..] else { panic!("{line}") };
        let verified = current.as_ref().is_some_and(|key| {
            Jws::read(token).is_ok_and(|jws| {
                jws.kid().is_ok_and(|kid| key.answers_to(kid)) && jws.verify(key).is_ok()
            })
        });
        judged += 1;
        if verified != (result == "valid") {
            wrong.push(format!("{number} {comment}: {result}"));
        }
    }
    assert!(judged > 150, "{judged}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
