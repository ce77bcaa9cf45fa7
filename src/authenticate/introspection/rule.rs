//! What policies write under `[introspection.NAME]`, and how it becomes a scheme.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::authenticate::bearer::Carried;
use crate::authenticate::introspection::{Counts, IntrospectionScheme, Introspector};
use crate::authenticate::jwt::cache::Cache;
use crate::authenticate::jwt::claims::Limits;
use crate::authenticate::jwt::dpop_nonce::DpopNonceRule;
use crate::authenticate::outside::{MappingRule, Surroundings, seconds};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::secret::Secret;
use crate::units::{Network, Span};

/// How many answers may be remembered.
const CACHE_MAX: u32 = 1_000_000;
const CACHE_USUAL: u32 = 16_384;

/// Who is asked what tokens are worth that only their issuer can read (RFC 7662).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionRule {
    /// Where the issuer is asked: "https://…".
    pub endpoint: At<String>,
    /// The gateway's own name at the issuer.
    pub client_id: At<String>,
    /// The secret that goes with it: "env:NAME", "file:PATH" or "credential:NAME".
    pub client_secret: At<String>,
    /// What answers must have in `iss`. Default: it is not looked at.
    pub issuer: Option<At<String>>,
    /// Who we are: one of these must be in the answer's `aud`.
    pub audience: At<Vec<At<String>>>,
    /// How far clocks may differ, at most `5m`. Default: `30s`.
    pub skew: Option<At<Span>>,
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
    /// How long an active token counts as active without asking again, `1s` to `1h`, never beyond
    /// its end. Default: `30s`.
    pub active_for: Option<At<Span>>,
    /// How long any other token counts as inactive, `1s` to `1h`. Default: `10s`.
    pub inactive_for: Option<At<Span>>,
    /// How long an answer is waited for, `1s` to `10s`. Default: `2s`.
    pub timeout: Option<At<Span>>,
    /// What happens without an answer. Default: `"refuse"`.
    pub on_failure: Option<At<OnFailure>>,
    /// With `on_failure = "allow_cached"`: how long after `active_for`, `1s` to `1h`, and never beyond
    /// the token's end. What its issuer revokes meanwhile is noticed that much later. Default: `5m`.
    pub stale: Option<At<Span>>,
    /// Networks that are not public, and where the issuer may be asked all the same.
    #[serde(default)]
    pub reachable: Vec<Network>,
    /// "file:PATH" with the certificates of the only authorities that are believed. Default: those
    /// that browsers trust.
    pub roots: Option<At<String>>,
    /// How many answers are remembered, 1 to 1,000,000. Default: 16384.
    pub cache: Option<At<u32>>,
}

/// What happens to a token whose issuer gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The request is refused with 503.
    Refuse,
    /// A token that its issuer called active when it was last asked goes on for the time of `stale`,
    /// as long as the answer is still in memory. Every other one is refused.
    AllowCached,
}

impl IntrospectionRule {
    /// Compiles the rule `[introspection.NAME]`, whose name stands at `span`.
    pub fn compile(
        &self,
        name: &str,
        span: &Range<usize>,
        surroundings: &Surroundings<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<IntrospectionScheme> {
        let reach = (self.reachable.as_slice(), self.roots.as_ref());
        let site = surroundings.site(&self.endpoint, reach, reading);
        let secret = surroundings.secret(&self.client_secret, 16, reading);
        let limits = self.limits(reading);
        let active = seconds(self.active_for.as_ref(), 30, 1..=3600, reading);
        let inactive = seconds(self.inactive_for.as_ref(), 10, 1..=3600, reading);
        let stale = self.stale_s(reading);
        let dpop_nonces = DpopNonceRule::compile(self.dpop_nonce.as_ref(), surroundings, reading);
        let timeout = seconds(self.timeout.as_ref(), 2, 1..=10, reading);
        let mapping = MappingRule {
            subject: self.subject.as_ref(),
            scopes: self.scopes.as_ref(),
            roles: self.roles.as_ref(),
            tier: self.tier.as_ref(),
        };
        let mapping = mapping.compile(surroundings, reading);
        let cache = self.cache.as_ref().map_or(CACHE_USUAL, |cache| cache.value);
        if let Some(written) = self.cache.as_ref().filter(|at| !(1..=CACHE_MAX).contains(&at.value))
        {
            let says = format!("`{cache}` answers cannot be remembered");
            reading.wrong(Code::WrongValue, &written.span, says, "write 1 to 1000000");
        }
        if self.audience.is_empty() {
            let help = "name what the issuer calls this API";
            reading.wrong(Code::WrongValue, &self.audience.span, "`audience` is empty", help);
        }
        let (outside, secret) = (surroundings.outside, secret?);
        let introspector = Introspector {
            name: format!("introspection.{name}"),
            origin: reading.origin(format!("introspection.{name}"), span),
            site: site?,
            authorization: basic(&self.client_id, &secret)?,
            issuer: self.issuer.as_ref().map(|issuer| issuer.as_str().into()),
            audience: self.audience.iter().map(|audience| audience.as_str().into()).collect(),
            limits: limits?,
            mapping: mapping?,
            is_bound: self.sender_constrained,
            dpop_nonces: dpop_nonces?,
            active_s: active?,
            inactive_s: inactive?,
            stale_s: stale?,
            timeout: Duration::from_secs(timeout?),
            cache: Cache::new(cache.clamp(1, CACHE_MAX) as usize),
            directory: Arc::clone(surroundings.directory),
            flights: std::sync::Mutex::default(),
            errands: outside.errands.clone(),
            sessions: Arc::clone(&outside.sessions),
            nonces: Arc::clone(surroundings.nonces),
            clock: surroundings.clock.clone(),
            counts: Counts::default(),
        };
        let introspector = Arc::new(introspector);
        Some(IntrospectionScheme { introspector, carried: Carried::default() })
    }

    /// How long the last answer counts when there is none; nothing where it does not.
    fn stale_s(&self, reading: &mut Reading<'_>) -> Option<Option<u64>> {
        let allows = self.on_failure.as_ref().is_some_and(|at| at.value == OnFailure::AllowCached);
        if allows {
            return seconds(self.stale.as_ref(), 300, 1..=3600, reading).map(Some);
        }
        if let Some(written) = &self.stale {
            let says = "`stale` says nothing while requests are refused without an answer";
            let help = "write on_failure = \"allow_cached\", or leave `stale` out";
            reading.wrong(Code::WrongValue, &written.span, says, help);
            return None;
        }
        Some(None)
    }

    fn limits(&self, reading: &mut Reading<'_>) -> Option<Limits> {
        let skew = seconds(self.skew.as_ref(), 30, 0..=300, reading);
        let session = match &self.max_session {
            None => Some(None),
            Some(written) => seconds(Some(written), 0, 60..=365 * 86_400, reading).map(Some),
        };
        // How long its tokens hold is for the issuer to say: it is asked again and again.
        Some(Limits { skew_s: skew?, lifetime_s: u64::MAX, session_s: session? })
    }
}

/// The gateway's own credential (RFC 6749, section 2.3.1).
fn basic(client: &str, secret: &Secret) -> Option<HeaderValue> {
    let secret = Zeroizing::new(std::str::from_utf8(secret.expose()).ok()?.to_owned());
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pair = Zeroizing::new(format!("{}:{}", encoded(client), encoded(&secret)));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
