//! Tokens for one upstream: short-lived JWTs that say who calls, kept for a part of their life.
//!
//! A token that says nothing of the request is the same for every request of one caller, so it is
//! signed once and used for half of its lifetime. Signing costs some 15 µs; finding a token that
//! was signed costs a hash over a name and a few numbers. One that holds for its request alone is
//! signed each time.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authenticate::Grant;
use crate::clock::Now;
use crate::forward::identity::issuer::Issuer;
use crate::forward::identity::{Facts, header_value};
use crate::name::{Name, Names};

/// The longest that a token may hold.
pub const LIFETIME_MAX: Duration = Duration::from_secs(60);

/// What the header of a token calls it, so that it is taken for no other (RFC 8725, section 3.11).
pub const TYPE: &str = "portcullis-identity+jwt";

/// How many tokens one upstream keeps. A caller whose place is taken by another costs a signature.
const PLACES: usize = 4096;

/// What a token holds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bind {
    /// Every request of its caller: it tells subject, roles, scopes and tier.
    #[default]
    Caller,
    /// One request: it tells method, path, query and the request's id, too.
    Request,
}

/// Makes and keeps the tokens of one upstream.
pub struct Tokens {
    issuer: Arc<Issuer>,
    audience: Box<str>,
    lifetime_s: u64,
    bind: Bind,
    kept: Box<[ArcSwapOption<Kept>]>,
    hasher: RandomState,
    signed: AtomicU64,
}

/// A token, and whom it is for.
struct Kept {
    caller: Option<Caller>,
    value: HeaderValue,
    from_ms: u64,
    until_ms: u64,
}

/// What of a grant a token tells.
#[derive(PartialEq, Eq)]
struct Caller {
    subject: Arc<str>,
    roles: Names,
    scopes: Names,
    tier: Option<Name>,
}

impl Caller {
    fn of(grant: &Grant) -> Self {
        let Grant { subject, roles, scopes, tier, .. } = grant.clone();
        Self { subject, roles, scopes, tier }
    }

    fn is(&self, grant: &Grant) -> bool {
        self.subject == grant.subject
            && self.roles == grant.roles
            && self.scopes == grant.scopes
            && self.tier == grant.tier
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    iat: u64,
    exp: u64,
    roles: Vec<&'static str>,
    /// Separated by spaces (RFC 9068, section 2.2.3).
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<&'static str>,
    #[serde(flatten)]
    request: Option<RequestClaims<'a>>,
}

#[derive(Serialize)]
struct RequestClaims<'a> {
    jti: &'a str,
    method: &'a str,
    path: &'a str,
    query: &'a str,
}

impl Tokens {
    /// Tokens that `issuer` signs for `audience`, each of which holds for so long.
    pub(in crate::forward) fn new(
        issuer: Arc<Issuer>,
        audience: &str,
        lifetime: Duration,
        bind: Bind,
    ) -> Self {
        let places = if bind == Bind::Caller { PLACES } else { 0 };
        Self {
            issuer,
            audience: audience.into(),
            lifetime_s: lifetime.min(LIFETIME_MAX).as_secs().max(1),
            bind,
            kept: std::iter::repeat_with(ArcSwapOption::empty).take(places).collect(),
            hasher: RandomState::new(),
            signed: AtomicU64::new(0),
        }
    }

    /// Whether each token holds for one request alone.
    pub fn binds_request(&self) -> bool {
        self.bind == Bind::Request
    }

    /// How many tokens were signed.
    pub fn signed(&self) -> u64 {
        self.signed.load(Ordering::Relaxed)
    }

    /// The token for a request; nothing when it cannot be made.
    pub(in crate::forward) fn token(&self, facts: &Facts<'_>, now: Now) -> Option<HeaderValue> {
        let Some(place) = self.place(facts.grant) else { return self.fresh(facts, now) };
        if let Some(kept) = &*place.load()
            && (kept.from_ms..kept.until_ms).contains(&now.unix_ms)
            && match (&kept.caller, facts.grant) {
                (Some(caller), Some(grant)) => caller.is(grant),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
        {
            return Some(kept.value.clone());
        }
        let value = self.fresh(facts, now)?;
        place.store(Some(Arc::new(Kept {
            caller: facts.grant.map(Caller::of),
            value: value.clone(),
            from_ms: now.unix_ms,
            until_ms: now.unix_ms + self.lifetime_s * 500,
        })));
        Some(value)
    }

    /// Where the token of a caller is kept; nowhere when each request has its own.
    fn place(&self, grant: Option<&Grant>) -> Option<&ArcSwapOption<Kept>> {
        let hash = match grant {
            None => 0,
            Some(grant) => self.hasher.hash_one((&grant.subject, Several(grant), grant.tier)),
        };
        // Nothing is found where there are no places.
        let places = self.kept.len().max(1) as u64;
        self.kept.get(usize::try_from(hash % places).ok()?)
    }

    fn fresh(&self, facts: &Facts<'_>, now: Now) -> Option<HeaderValue> {
        let iat = now.unix_s();
        let texts = |names: &Names| names.iter().map(Name::text).collect::<Vec<_>>();
        let claims = Claims {
            iss: self.issuer.name(),
            aud: &self.audience,
            sub: facts.grant.map(|grant| &*grant.subject),
            iat,
            exp: iat + self.lifetime_s,
            roles: facts.grant.map(|grant| texts(&grant.roles)).unwrap_or_default(),
            scope: facts.grant.map(|grant| texts(&grant.scopes).join(" ")).unwrap_or_default(),
            tier: facts.grant.and_then(|grant| grant.tier).map(Name::text),
            request: self.binds_request().then_some(RequestClaims {
                jti: facts.request_id,
                method: facts.method,
                path: facts.path,
                query: facts.query,
            }),
        };
        let token = self.issuer.sign(&serde_json::to_vec(&claims).ok()?, now)?;
        self.signed.fetch_add(1, Ordering::Relaxed);
        header_value(token)
    }
}

/// Hashes the roles and scopes of a grant.
struct Several<'a>(&'a Grant);

impl Hash for Several<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for names in [&self.0.roles, &self.0.scopes] {
            names.iter().for_each(|name| name.hash(state));
            state.write_u8(u8::MAX);
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({}, {:?})", self.audience, self.bind)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm,
    };
    use serde_json::Value;

    use super::*;
    use crate::forward::identity::issuer::{Algorithm, IssuerRule};
    use crate::mistake::source::Source;
    use crate::mistake::{Mistakes, Reading};
    use crate::store::Store;

    const NOW: Now = Now { steady_ns: 0, unix_ms: 1_764_000_000_000 };

    fn tokens(algorithm: Algorithm, bind: Bind) -> (Tokens, Arc<Issuer>) {
        let (source, mut mistakes) = (Source::new("gateway.toml", ""), Mistakes::default());
        let rule = IssuerRule { algorithm: Some(algorithm), ..IssuerRule::default() };
        let mut reading = Reading { source: &source, mistakes: &mut mistakes };
        let issuer = Issuer::compile(&rule, &mut reading);
        issuer.open(&Store::in_memory().unwrap(), NOW).unwrap();
        (Tokens::new(Arc::clone(&issuer), "tasks", LIFETIME_MAX, bind), issuer)
    }

    fn grant(subject: &str, role: &str) -> Grant {
        Grant {
            credential: "key-1".into(),
            subject: subject.into(),
            roles: [role].into_iter().collect(),
            scopes: ["tasks:read", "tasks:write"].into_iter().collect(),
            ..Grant::default()
        }
    }

    fn facts(grant: Option<&Grant>) -> Facts<'_> {
        let request_id = "01J00000000000000000000000";
        Facts { grant, method: "GET", path: "/v1/tasks", query: "limit=5", request_id }
    }

    fn later(ms: u64) -> Now {
        Now { unix_ms: NOW.unix_ms + ms, ..NOW }
    }

    fn part(token: &HeaderValue, number: usize) -> Value {
        let text = token.to_str().unwrap().split('.').nth(number).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_verified_with_the_published_key_alone() {
        for (algorithm, verifies) in [
            (Algorithm::EdDsa, &ED25519 as &'static dyn VerificationAlgorithm),
            (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED),
        ] {
            let (tokens, issuer) = tokens(algorithm, Bind::Caller);
            let token = tokens.token(&facts(Some(&grant("user-1", "admin"))), NOW).unwrap();
            let key = issuer.published()["keys"][0].clone();
            let (head, claims) = (part(&token, 0), part(&token, 1));
            assert_eq!((&head["kid"], &head["alg"]), (&key["kid"], &key["alg"]));
            assert_eq!(head["typ"], TYPE);
            assert_eq!(claims["aud"], "tasks");
            assert_eq!(claims["sub"], "user-1");
            assert_eq!(claims["roles"][0], "admin");
            assert_eq!(claims["exp"].as_u64(), Some(NOW.unix_s() + 60));
            assert!(claims["scope"].as_str().unwrap().contains("tasks:write"));
            assert!(claims.get("path").is_none() && claims.get("jti").is_none());
            assert!(!token.to_str().unwrap().contains("key-1"));

            let number = |name: &str| {
                URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default()).unwrap()
            };
            let public = match algorithm {
                Algorithm::EdDsa => number("x"),
                Algorithm::Es256 => [vec![4], number("x"), number("y")].concat(),
            };
            let (text, signature) = token.to_str().unwrap().rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let public = UnparsedPublicKey::new(verifies, public);
            public.verify(text.as_bytes(), &signature).unwrap();
            assert!(public.verify(&text.as_bytes()[1..], &signature).is_err());
        }
    }

    #[test]
    fn a_callers_token_is_used_for_half_of_its_life() {
        let (tokens, _) = tokens(Algorithm::EdDsa, Bind::Caller);
        let grant = grant("user-1", "admin");
        let first = tokens.token(&facts(Some(&grant)), NOW).unwrap();
        assert_eq!(tokens.token(&facts(Some(&grant)), later(29_999)).unwrap(), first);
        assert_eq!(tokens.signed(), 1);
        assert_ne!(tokens.token(&facts(Some(&grant)), later(30_000)).unwrap(), first);
        assert_eq!(tokens.signed(), 2);
        // A calendar that was set back gets a token that holds by it.
        let back = Now { unix_ms: NOW.unix_ms - 3_600_000, ..NOW };
        let token = tokens.token(&facts(Some(&grant)), back).unwrap();
        assert_eq!(part(&token, 1)["iat"].as_u64(), Some(back.unix_s()));
    }

    #[test]
    fn nobody_gets_the_token_of_somebody_else() {
        let (tokens, _) = tokens(Algorithm::EdDsa, Bind::Caller);
        for number in 0..2 * PLACES {
            for role in ["admin", "editor"] {
                let subject = format!("user-{number}");
                let grant = grant(&subject, role);
                let token = tokens.token(&facts(Some(&grant)), NOW).unwrap();
                let claims = part(&token, 1);
                assert_eq!(
                    (claims["sub"].as_str(), &claims["roles"][0]),
                    (Some(&*subject), &role.into())
                );
            }
        }
        let nobody = tokens.token(&facts(None), NOW).unwrap();
        assert!(part(&nobody, 1).get("sub").is_none());
    }

    #[test]
    fn a_token_for_one_request_says_which() {
        let (tokens, _) = tokens(Algorithm::EdDsa, Bind::Request);
        let grant = grant("user-1", "admin");
        let token = tokens.token(&facts(Some(&grant)), NOW).unwrap();
        let claims = part(&token, 1);
        assert_eq!((&claims["method"], &claims["path"]), (&"GET".into(), &"/v1/tasks".into()));
        assert_eq!(
            (&claims["query"], &claims["jti"]),
            (&"limit=5".into(), &facts(None).request_id.into())
        );
        tokens.token(&facts(Some(&grant)), NOW).unwrap();
        assert_eq!(tokens.signed(), 2);
    }
}
