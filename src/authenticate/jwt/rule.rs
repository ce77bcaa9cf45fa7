//! What policies write under `[jwt.NAME]`, and how it becomes a scheme.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::bearer::Carried;
use crate::authenticate::jwt::algorithm::Algorithm;
use crate::authenticate::jwt::cache::Cache;
use crate::authenticate::jwt::claims::Limits;
use crate::authenticate::jwt::dpop_nonce::DpopNonceRule;
use crate::authenticate::jwt::jwk::Key;
use crate::authenticate::jwt::keys::{KeySet, Place, Source, read_set};
use crate::authenticate::jwt::{Counts, JwtScheme, Kind, Verifier};
use crate::authenticate::outside::{MappingRule, Surroundings, seconds};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::{Network, Span};

/// The longest that tokens may hold, in seconds. Revocations are kept longer than that.
pub const LIFETIME_S_MAX: u64 = 30 * 86_400;
/// How many verified tokens may be remembered.
const CACHE_MAX: u32 = 1_000_000;
const CACHE_USUAL: u32 = 16_384;

/// Whose tokens are accepted, and how they are verified (RFC 7519, RFC 8725).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtRule {
    /// The issuer: exactly what tokens have in `iss`.
    pub issuer: At<String>,
    /// Who we are: one of these must be in `aud`.
    pub audience: At<Vec<At<String>>>,
    /// Where the issuer's keys are: "https://…" or "file:PATH" with a JWK Set.
    pub keys: Option<At<String>>,
    /// A secret that the issuer shares: "env:NAME", "file:PATH" or "credential:NAME". For HS256,
    /// HS384 or HS512, as long as its hash at least, and then the only key.
    pub secret: Option<At<String>>,
    /// The algorithms that are accepted. Default: all that need no shared secret; with a secret
    /// HS256. Each key has one of them, whatever a token says.
    pub algorithms: Option<At<Vec<At<Algorithm>>>>,
    /// What tokens must say that they are (`typ`): "JWT", or "at+jwt" for RFC 9068 to the letter.
    /// Default: either, or nothing.
    pub typ: Option<At<String>>,
    /// How far clocks may differ, at most `5m`. Default: `30s`.
    pub skew: Option<At<Span>>,
    /// From `iat` to `exp`, `1s` to `30d`. Default: `24h`.
    pub max_lifetime: Option<At<Span>>,
    /// From `auth_time` to now, `1m` to `365d`. Default: no limit.
    pub max_session: Option<At<Span>>,
    /// The claim with the subject; "/a/b" is the claim `b` inside of `a`. Default: "sub".
    pub subject: Option<At<String>>,
    /// The claims with scopes. Default: ["scope", "scp"]. Only names that the policy defines count.
    pub scopes: Option<At<Vec<At<String>>>>,
    /// The claims with roles. Default: ["roles"].
    pub roles: Option<At<Vec<At<String>>>>,
    /// The claim with the tier. Default: none.
    pub tier: Option<At<String>>,
    /// Whether tokens must be bound to a client certificate or a DPoP key. Default: false; those
    /// that are bound are always checked.
    #[serde(default)]
    pub sender_constrained: bool,
    /// Demands a nonce of ours in every DPoP proof. Default: none is needed.
    pub dpop_nonce: Option<DpopNonceRule>,
    /// How often keys are fetched again, `10s` to `24h`. Default: `15m`.
    pub refresh: Option<At<Span>>,
    /// How long keys are used when they cannot be fetched again, `1m` to `7d`. Default: `24h`.
    pub stale: Option<At<Span>>,
    /// Networks that are not public, and where keys may be fetched all the same.
    #[serde(default)]
    pub reachable: Vec<Network>,
    /// "file:PATH" with the certificates of the only authorities that are believed when keys are
    /// fetched. Default: those that browsers trust.
    pub roots: Option<At<String>>,
    /// How many verified tokens are remembered, 0 to 1,000,000. Default: 16384.
    pub cache: Option<At<u32>>,
}

impl JwtRule {
    /// Compiles the rule `[jwt.NAME]`, whose name stands at `span`.
    pub fn compile(
        &self,
        name: &str,
        span: &Range<usize>,
        surroundings: &Surroundings<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<JwtScheme> {
        let (issuer, audience) = (text(&self.issuer, reading), self.audience(reading));
        let algorithms = self.algorithms(reading);
        let kind = self.kind(reading);
        let limits = self.limits(reading);
        let mapping = MappingRule {
            subject: self.subject.as_ref(),
            scopes: self.scopes.as_ref(),
            roles: self.roles.as_ref(),
            tier: self.tier.as_ref(),
        };
        let mapping = mapping.compile(surroundings, reading);
        let dpop_nonces = DpopNonceRule::compile(self.dpop_nonce.as_ref(), surroundings, reading);
        let cache = self.cache.as_ref().map_or(CACHE_USUAL, |cache| cache.value);
        if let Some(written) = self.cache.as_ref().filter(|cache| cache.value > CACHE_MAX) {
            let says = format!("`{cache}` tokens are too many to remember");
            reading.wrong(Code::WrongValue, &written.span, says, "write 0 to 1000000");
        }
        let algorithms = algorithms?;
        let keys = self.key_set(span, &algorithms, surroundings, reading);
        let verifier = Verifier {
            name: format!("jwt.{name}"),
            origin: reading.origin(format!("jwt.{name}"), span),
            issuer: issuer?,
            audience: audience?,
            keys: keys?,
            algorithms,
            kind: kind?,
            limits: limits?,
            mapping: mapping?,
            is_bound: self.sender_constrained,
            dpop_nonces: dpop_nonces?,
            cache: Cache::new(cache.min(CACHE_MAX) as usize),
            sessions: Arc::clone(&surroundings.outside.sessions),
            nonces: Arc::clone(surroundings.nonces),
            counts: Counts::default(),
        };
        Some(JwtScheme::of(vec![Arc::new(verifier)], Carried::default()))
    }

    fn audience(&self, reading: &mut Reading<'_>) -> Option<Box<[Box<str>]>> {
        if self.audience.is_empty() {
            let help = "name what the issuer calls this API";
            reading.wrong(Code::WrongValue, &self.audience.span, "`audience` is empty", help);
            return None;
        }
        self.audience.iter().map(|audience| text(audience, reading)).collect()
    }

    fn algorithms(&self, reading: &mut Reading<'_>) -> Option<Box<[Algorithm]>> {
        let is_shared = self.secret.is_some();
        let Some(written) = &self.algorithms else {
            let usual = |algorithm: &Algorithm| !algorithm.is_shared();
            return Some(match is_shared {
                true => [Algorithm::Hs256].into(),
                false => Algorithm::ALL.iter().copied().filter(usual).collect(),
            });
        };
        let fits = written.iter().all(|algorithm| algorithm.value.is_shared() == is_shared);
        let counts = if is_shared { 1..=1 } else { 1..=Algorithm::ALL.len() };
        if fits && counts.contains(&written.len()) {
            return Some(written.iter().map(|algorithm| algorithm.value).collect());
        }
        let help =
            "with `secret` write one of HS256, HS384 and HS512, with `keys` any of the others";
        let says = "`algorithms` does not fit the keys";
        reading.wrong(Code::WrongValue, &written.span, says, help);
        None
    }

    fn kind(&self, reading: &mut Reading<'_>) -> Option<Kind> {
        let Some(written) = &self.typ else { return Some(Kind::Any) };
        match written.as_str() {
            "JWT" => Some(Kind::Jwt),
            "at+jwt" => Some(Kind::AccessToken),
            other => {
                let says = format!("`{other}` is no `typ` that is known here");
                let help = "write \"JWT\" or \"at+jwt\", or leave it out";
                reading.wrong(Code::WrongValue, &written.span, says, help);
                None
            }
        }
    }

    fn limits(&self, reading: &mut Reading<'_>) -> Option<Limits> {
        let skew = seconds(self.skew.as_ref(), 30, 0..=300, reading);
        let lifetime = seconds(self.max_lifetime.as_ref(), 86_400, 1..=LIFETIME_S_MAX, reading);
        let session = match &self.max_session {
            None => Some(None),
            Some(written) => seconds(Some(written), 0, 60..=365 * 86_400, reading).map(Some),
        };
        Some(Limits { skew_s: skew?, lifetime_s: lifetime?, session_s: session? })
    }

    fn key_set(
        &self,
        span: &Range<usize>,
        algorithms: &[Algorithm],
        surroundings: &Surroundings<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Arc<KeySet>> {
        let refresh = seconds(self.refresh.as_ref(), 900, 10..=86_400, reading);
        let stale = seconds(self.stale.as_ref(), 86_400, 60..=7 * 86_400, reading);
        let first = *algorithms.first()?;
        let written = match (&self.keys, &self.secret) {
            (Some(keys), None) => keys,
            (None, Some(secret)) => {
                let secret = surroundings.secret(secret, first.secret_bytes_min(), reading)?;
                return Some(Arc::new(KeySet::fixed(Key::shared(first, &secret))));
            }
            (None, None) | (Some(_), Some(_)) => {
                let help = "write keys = \"https://…\" or \"file:PATH\", or secret = \"env:NAME\"";
                let says = "a `jwt` needs either `keys` or `secret`";
                reading.wrong(Code::MissingKey, span, says, help);
                return None;
            }
        };
        let mut rsa = algorithms.iter().copied().filter(|algorithm| algorithm.is_rsa());
        let rsa = match (rsa.next(), rsa.next()) {
            (Some(only), None) => only,
            (_, _) => Algorithm::Rs256,
        };
        let place = match written.strip_prefix("file:") {
            Some(path) => {
                let text = surroundings.file(written, reading)?;
                check_file(&text, rsa, written, reading)?;
                Place::File(surroundings.dir.join(path))
            }
            None => {
                let reach = (self.reachable.as_slice(), self.roots.as_ref());
                Place::Url(Box::new(surroundings.site(written, reach, reading)?))
            }
        };
        let seconds = Duration::from_secs;
        let source = Source { place, rsa, refresh: seconds(refresh?), stale: seconds(stale?) };
        found(&source, first, surroundings, written, reading)
    }
}

/// The set of keys of this source; the stand-in of a rehearsal. Those of a file are there at once.
fn found(
    source: &Source,
    first: Algorithm,
    surroundings: &Surroundings<'_>,
    written: &At<String>,
    reading: &mut Reading<'_>,
) -> Option<Arc<KeySet>> {
    let sets = &surroundings.outside.key_sets;
    if let Some(stand_in) = sets.stand_in(first) {
        return Some(stand_in);
    }
    let Some(set) = sets.find(source) else {
        let says = "there are more sets of keys than a process may hold";
        reading.wrong(
            Code::WrongValue,
            &written.span,
            says,
            "let issuers share one, or remove some",
        );
        return None;
    };
    if let Place::File(_) = &source.place {
        let text = surroundings.file(written, reading)?;
        // What is wrong in it was told before.
        let _ = set.take(&text, surroundings.clock.now());
    }
    Some(set)
}

/// A file is the operator's own, so a key in it that cannot be used is a mistake.
fn check_file(
    text: &[u8],
    rsa: Algorithm,
    written: &At<String>,
    reading: &mut Reading<'_>,
) -> Option<()> {
    let wrong = match read_set(text, rsa) {
        Ok((_, left_out)) if left_out.is_empty() => return Some(()),
        Ok((_, left_out)) => left_out.join("; "),
        Err(says) => says,
    };
    let says = format!("`{}`: {wrong}", written.value);
    let help = "write a JWK Set (RFC 7517) with public keys: RSA of 2048 bits and more, P-256, P-384 or Ed25519";
    reading.wrong(Code::BadKeys, &written.span, says, help);
    None
}

fn text(written: &At<String>, reading: &mut Reading<'_>) -> Option<Box<str>> {
    if !written.is_empty() {
        return Some(written.as_str().into());
    }
    reading.wrong(Code::WrongValue, &written.span, "an empty text names nobody", "write a name");
    None
}
