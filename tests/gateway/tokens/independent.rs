//! Tokens that others minted: PyJWT with its own cryptography, every algorithm, and proofs.

use crate::clients::{run, tool};
use crate::harness::{Plan, Service};

use super::{POLICY, SECRET};

/// Makes keys, prints a key set; then, when told the secret, tokens for every algorithm.
const MINT: &str = r#"
import base64, hashlib, json, os, time, uuid, jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
b64 = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
now = int(time.time())
claims = {"iss": "https://id.example.com/", "aud": "https://api.example.com", "sub": "alice", "iat": now, "exp": now + 300,
          "auth_time": now, "scope": "things:read", "roles": ["member"], "tier": "pro"}
keys, tokens = [], {}
big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
makers = {"ES256": lambda: ec.generate_private_key(ec.SECP256R1()), "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
          "EdDSA": ed25519.Ed25519PrivateKey.generate}
for alg in ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]:
    key = makers.get(alg, lambda: big)()
    jwk = json.loads(get_default_algorithms()[alg].to_jwk(key.public_key()))
    for member in ("key_ops", "kid"):
        jwk.pop(member, None)
    keys.append(dict(jwk, kid=alg, alg=alg, use="sig"))
    tokens[alg] = jwt.encode(claims, key, algorithm=alg, headers={"kid": alg})
access = dict(claims, iss="https://shared.example.com", client_id="app", jti=str(uuid.uuid4()))
tokens["HS256"] = jwt.encode(access, os.environ["SHARED"], algorithm="HS256", headers={"typ": "at+jwt"})
holder = ec.generate_private_key(ec.SECP256R1())
jwk = json.loads(get_default_algorithms()["ES256"].to_jwk(holder.public_key()))
jwk = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
print_of = b64(hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest())
signer = makers["ES256"]()
keys.append(dict(json.loads(get_default_algorithms()["ES256"].to_jwk(signer.public_key())), kid="bound", alg="ES256"))
bound = jwt.encode(dict(claims, cnf={"jkt": print_of}), signer, algorithm="ES256", headers={"kid": "bound"})
proof = jwt.encode({"jti": str(uuid.uuid4()), "htm": "GET", "htu": "https://localhost/v1/token", "iat": now + 2,
                    "ath": b64(hashlib.sha256(bound.encode()).digest())}, holder, algorithm="ES256",
                   headers={"typ": "dpop+jwt", "jwk": jwk})
print(json.dumps({"keys": {"keys": keys}, "tokens": tokens, "bound": bound, "proof": proof}))
"#;

#[test]
fn tokens_and_proofs_of_another_implementation_are_accepted_with_every_algorithm() {
    let minted = run(&tool("venv/bin/python"), &["-c", MINT], &[("SHARED", SECRET)]);
    let minted: serde_json::Value = serde_json::from_str(&minted).unwrap();
    let gate = Plan::new(Service::ok().address, &POLICY.replace("ISSUER", "9"))
        .file("keys.json", &minted["keys"].to_string())
        .secret("shared.secret", SECRET)
        .real_time()
        .start();
    let tokens = minted["tokens"].as_object().unwrap();
    assert_eq!(tokens.len(), 10);
    for (algorithm, token) in tokens {
        let path = if algorithm == "HS256" { "/v1/shared" } else { "/v1/token" };
        let reply = gate.get(path, token.as_str().unwrap());
        assert_eq!(reply.status, 200, "{algorithm}: {reply:?}");
    }
    let (bound, proof) = (minted["bound"].as_str().unwrap(), minted["proof"].as_str().unwrap());
    let ask = |proof: &str| {
        gate.send(&format!(
            "GET /v1/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: DPoP {bound}\r\nDPoP: {proof}\r\n\r\n"
        ))
        .status
    };
    assert_eq!((ask(proof), ask(proof)), (200, 401));
}
