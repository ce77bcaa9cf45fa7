//! Public keys: which texts are one, what verifies with them, and what never does.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

use super::*;
use crate::authenticate::signature::public_key::BadKey;
use crate::authenticate::signature::sign::sign_with;
use crate::authenticate::signature::verifier::Decoys;

const P256_JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA","y":"Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0"}"#;
const ED25519_JWK: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"}"#;

fn read(algorithm: Algorithm, text: &str) -> Result<PublicKey, BadKey> {
    PublicKey::read(algorithm, text)
}

#[test]
fn a_key_is_the_same_however_it_is_written() {
    let ed25519 = read(Algorithm::Ed25519, standard::ED25519).unwrap();
    assert_eq!(read(Algorithm::Ed25519, ED25519_JWK).unwrap(), ed25519);
    assert_eq!(
        read(Algorithm::Ed25519, "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=\n").unwrap(),
        ed25519
    );
    let p256 = read(Algorithm::EcdsaP256Sha256, standard::P256).unwrap();
    assert_eq!(read(Algorithm::EcdsaP256Sha256, P256_JWK).unwrap(), p256);
    for (key, bytes) in [(&ed25519, 64), (&p256, 64)] {
        assert_eq!(key.signature_bytes(), bytes);
    }
    for (algorithm, text) in
        [(Algorithm::RsaPssSha512, standard::RSA_PSS), (Algorithm::RsaV1_5Sha256, standard::RSA)]
    {
        let rsa = read(algorithm, text).unwrap();
        assert_eq!(rsa.signature_bytes(), 256);
        // As programs and the store write it.
        let written = serde_json::to_string(&rsa).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&written).unwrap(), rsa);
    }
}

#[test]
fn what_is_no_public_key_for_the_algorithm_is_refused() {
    let private =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----";
    let private_jwk = ED25519_JWK.replacen('{', r#"{"d":"n4Ni","#, 1);
    let short_rsa = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, "_".repeat(340));
    for (algorithm, text, says) in [
        (Algorithm::Ed25519, private, "private key"),
        (Algorithm::Ed25519, &private_jwk, "private key"),
        (Algorithm::HmacSha256, standard::ED25519, "no public key"),
        (Algorithm::Ed25519, standard::P256, "for this algorithm"),
        (Algorithm::EcdsaP256Sha256, standard::ED25519, "for this algorithm"),
        (Algorithm::RsaPssSha512, standard::ED25519, "for this algorithm"),
        (Algorithm::Ed25519, P256_JWK, "another algorithm"),
        (Algorithm::RsaV1_5Sha256, &short_rsa, "2048 bits"),
        (Algorithm::Ed25519, "", "for this algorithm"),
        (Algorithm::Ed25519, "{}", "another algorithm"),
        (Algorithm::Ed25519, "{", "no JSON"),
        (Algorithm::Ed25519, "JrQL", "for this algorithm"),
        (
            Algorithm::Ed25519,
            "-----BEGIN PUBLIC KEY-----\n%\n-----END PUBLIC KEY-----",
            "no base64",
        ),
        (Algorithm::Ed25519, "-----BEGIN CERTIFICATE-----", "one public key"),
        (Algorithm::Ed25519, "hunter2!", "no base64"),
    ] {
        let BadKey(told) = read(algorithm, text).unwrap_err();
        assert!(told.contains(says), "{text}: {told}");
    }
    assert!(serde_json::from_str::<PublicKey>(r#"{"algorithm":"ed25519","key":"AAAA"}"#).is_err());
}

/// A draft, signed by whatever makes signatures for an algorithm.
fn signed_by(
    draft: &Draft,
    algorithm: Algorithm,
    by: impl FnOnce(&[u8]) -> Vec<u8>,
) -> (Head, SignedHeaders) {
    let mut head = draft.unsigned();
    let terms = Terms {
        label: draft.label,
        components: &draft.components,
        keyid: draft.keyid,
        created: draft.created,
        expires: draft.expires,
        nonce: draft.nonce,
        tag: draft.tag,
    };
    let request = ToSign { message: Message::of(&head), body: draft.body };
    let signed = sign_with(&request, &terms, algorithm, |base| Ok(by(base))).unwrap();
    put(&mut head, "content-digest", signed.content_digest.as_ref().unwrap());
    put(&mut head, "signature-input", &signed.signature_input);
    put(&mut head, "signature", &signed.signature);
    (head, signed)
}

fn scheme_with(keyid: &str, key: PublicKey, rule: &str) -> SignatureScheme {
    let share = Share::default();
    let key = SigningKey {
        verifier: Verifier::public(key),
        grant: Arc::default(),
        bounds: Bounds::default(),
        share,
    };
    let keys = Arc::new(Keys(vec![(keyid.to_owned(), Arc::new(key))]));
    SignatureScheme { keys, ..scheme(rule) }
}

#[test]
fn what_a_partner_signs_is_accepted_once_and_only_as_it_was_signed() {
    let random = SystemRandom::new();
    let ed25519 = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .unwrap();
    type By<'a> = Box<dyn Fn(&[u8]) -> Vec<u8> + 'a>;
    let signers: [(Algorithm, &[u8], By<'_>); 2] = [
        (
            Algorithm::Ed25519,
            ed25519.public_key().as_ref(),
            Box::new(|base| ed25519.sign(base).as_ref().to_vec()),
        ),
        (
            Algorithm::EcdsaP256Sha256,
            p256.public_key().as_ref(),
            Box::new(|base| p256.sign(&random, base).unwrap().as_ref().to_vec()),
        ),
    ];
    for (algorithm, public, by) in &signers {
        let key = PublicKey::read(*algorithm, &STANDARD.encode(public)).unwrap();
        let scheme = scheme_with(KEYID, key.clone(), "");
        let (good, signed) = signed_by(&Draft::default(), *algorithm, by);
        accepted(scheme.attempt(&good, at(CREATED)));
        let refusal = rejected(scheme.attempt(&good, at(CREATED)));
        assert_eq!(refusal.reason, Reason::SignatureReplayed);

        let wrong = |change: &dyn Fn(&mut Head)| {
            let mut head = signed_by(&Draft::default(), *algorithm, by).0;
            change(&mut head);
            rejected(scheme_with(KEYID, key.clone(), "").attempt(&head, at(CREATED))).reason
        };
        assert_eq!(wrong(&|head| head.method = Method::PUT), Reason::SignatureWrong);
        // A signature of every other length, and none of the right one.
        for length in [0, 1, 32, 63, 64, 65, 70, 256] {
            let value = format!("sig1=:{}:", STANDARD.encode(vec![0; length]));
            assert_eq!(wrong(&|head| put(head, "signature", &value)), Reason::SignatureWrong);
        }
        // A MAC whose secret is the public key: the oldest confusion of algorithms.
        let mac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public);
        let input = signed.signature_input.replace(algorithm.name(), "hmac-sha256");
        let base = signed.base.replace(algorithm.name(), "hmac-sha256");
        let mac = STANDARD.encode(ring::hmac::sign(&mac, base.as_bytes()));
        let confused = wrong(&|head| {
            put(head, "signature-input", &input);
            put(head, "signature", &format!("sig1=:{mac}:"));
        });
        assert_eq!(confused, Reason::SignatureAlgorithm);

        // A policy that takes one algorithm takes no other, however good the signature.
        for demanded in Algorithm::ALL {
            let rule = format!("algorithm = '{}'", demanded.name());
            let attempt = scheme_with(KEYID, key.clone(), &rule).attempt(&good, at(CREATED));
            if demanded == *algorithm {
                accepted(attempt);
            } else {
                assert_eq!(rejected(attempt).reason, Reason::SignatureAlgorithm);
            }
        }
    }
}

#[test]
fn every_algorithm_has_a_decoy_that_does_the_whole_arithmetic() {
    let decoys = Decoys::make();
    for algorithm in Algorithm::ALL {
        assert_eq!(decoys.like(Some(algorithm), &[]).algorithm(), algorithm);
    }
    for (bytes, algorithm) in [
        (0, Algorithm::HmacSha256),
        (32, Algorithm::HmacSha256),
        (64, Algorithm::Ed25519),
        (256, Algorithm::RsaPssSha512),
    ] {
        assert_eq!(decoys.like(None, &vec![0; bytes]).algorithm(), algorithm);
    }
    // An unknown key is told apart from nothing: whatever algorithm is named, it is unknown.
    for algorithm in Algorithm::ALL {
        let draft = Draft { keyid: "nobody", ..Draft::default() };
        let (head, _) = signed_by(&draft, algorithm, |_| vec![1; 64]);
        assert_eq!(reason(&head), Reason::SignatureKeyUnknown, "{}", algorithm.name());
    }
}
