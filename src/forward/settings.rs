//! `[upstreams.NAME]` of `gateway.toml`: what an operator writes about a service behind the gateway.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::forward::address::{Address, compile_all};
use crate::forward::credential::rule::{self as credential_rule, CredentialRule};
use crate::forward::identity::rule::{self as identity_rule, IdentityRule};
use crate::forward::reference::Surroundings;
use crate::forward::tls::{self, TlsRule};
use crate::forward::upstream::{
    Balance, ClientCertSent, Health, HostSent, PoolBounds, Protocol, Retries, Settings, Target,
    Timeouts, Upstream,
};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::Span;

/// A service behind the gateway, as written in `[upstreams.NAME]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamRule {
    /// Where the service is: `["http://10.0.0.5:9000", "https://tasks.internal"]`. A host and a port, no path.
    pub targets: Vec<At<String>>,
    /// Which healthy target is asked next. Default `"least-requests"`.
    pub balance: Option<BalanceRule>,
    /// What is spoken to the targets. Default `"1.1"`. `"2"` is agreed by ALPN on https, and spoken
    /// unasked (prior knowledge) on http.
    pub http: Option<HttpRule>,
    /// Which host the targets are told: the caller's (`"keep"`) or their own (`"target"`). Default `"keep"`.
    pub host: Option<HostRule>,
    /// How many connections are kept, and for how long.
    #[serde(default)]
    pub pool: PoolRule,
    /// How long each part of an exchange may take.
    #[serde(default)]
    pub timeout: TimeoutRule,
    /// Whether a request is sent again.
    #[serde(default)]
    pub retry: RetryRule,
    /// How the targets are watched.
    #[serde(default)]
    pub health: HealthRule,
    /// How https targets are proved, and what proves us to them. Default: by a public authority, under
    /// the host of the target, and nothing.
    pub tls: Option<At<TlsRule>>,
    /// How the service is told who calls, in a header that callers cannot write. Default: not at all.
    pub identity: Option<At<IdentityRule>>,
    /// What the service is told of the client certificate that the caller proved (RFC 9440). What
    /// callers write in those headers is always removed. Default: nothing.
    pub client_cert: Option<ClientCertRule>,
    /// What proves us to the service, such as a third party's API. Default: nothing.
    pub credential: Option<At<CredentialRule>>,
}

impl UpstreamRule {
    /// One target and nothing else that somebody wrote.
    pub(in crate::forward) fn plain(target: At<String>, tls: Option<At<TlsRule>>) -> Self {
        Self {
            targets: vec![target],
            balance: None,
            http: None,
            host: None,
            pool: PoolRule::default(),
            timeout: TimeoutRule::default(),
            retry: RetryRule::default(),
            health: HealthRule::default(),
            tls,
            identity: None,
            client_cert: None,
            credential: None,
        }
    }
}

/// Which healthy target is asked next.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalanceRule {
    /// The one with the fewest requests in flight; equals take turns.
    LeastRequests,
    /// Each in turn.
    RoundRobin,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum HttpRule {
    /// HTTP/1.1.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "2")]
    Http2,
}

/// Which host the targets are told.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostRule {
    /// The caller's.
    Keep,
    /// The target's own.
    Target,
}

/// What a service is told of the client certificate that a caller proved (RFC 9440).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertRule {
    /// The certificate, in `Client-Cert`.
    Certificate,
    /// The certificate, and in `Client-Cert-Chain` the others that were shown with it.
    Chain,
}

/// The bounds of the pool. Each holds per target and worker thread.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRule {
    /// Connections that are kept open without a request, 0 to 65536. Default 64.
    pub idle: Option<At<u32>>,
    /// How long such a connection is kept. Default `"30s"`; stay below what the service keeps.
    pub idle_timeout: Option<At<Span>>,
    /// Connections that are open at all, 1 to 65536; with HTTP/2, requests on the one connection. A
    /// WebSocket counts for as long as it is open. Default 512.
    pub max: Option<At<u32>>,
    /// Requests that may wait for a connection, 0 to 65536. One more is refused with 503. Default 256.
    pub wait: Option<At<u32>>,
    /// How old a connection may grow. Default `"10m"`.
    pub lifetime: Option<At<Span>>,
}

/// How long each part of an exchange may take, each up to `"1h"`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutRule {
    /// Looking up, connecting and the TLS handshake. Default `"1s"`.
    pub connect: Option<At<Span>>,
    /// From the last progress in sending the request to the head of the answer. Default `"5s"`.
    pub first_byte: Option<At<Span>>,
    /// From the choice of a target to the head of the answer, retry included. Default `"10s"`.
    pub total: Option<At<Span>>,
    /// Between two bytes of an answer after its head. Default `"60s"`.
    pub idle: Option<At<Span>>,
}

/// Whether a request is sent again.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRule {
    /// How often, 0 or 1: only where no target can have seen the request, or where seeing it twice
    /// does no harm (GET, HEAD, OPTIONS, PUT and DELETE on a connection that the service had already closed). Default 1.
    pub times: Option<At<u32>>,
}

/// How targets are watched.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthRule {
    /// The path whose answer must be 2xx or 3xx. Without one, that a connection can be opened is health.
    pub path: Option<At<String>>,
    /// How often it is asked, `"100ms"` to `"1h"`; at least once a second while a target is down. Default `"5s"`.
    pub every: Option<At<Span>>,
    /// How long it may take. Default `"1s"`.
    pub timeout: Option<At<Span>>,
    /// So many good checks in a row bring a target back, 1 to 100. Default 2.
    pub up_after: Option<At<u32>>,
    /// So many failures in a row, of checks or of connecting, take it out, 1 to 100. Default 3.
    pub down_after: Option<At<u32>>,
}

/// Makes the upstream `name`, whose name stands at `span`; reports all that is wrong with it.
pub fn compile(
    rule: &UpstreamRule,
    name: &str,
    span: &Range<usize>,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Upstream> {
    let UpstreamRule { targets, balance, http, host, pool, timeout, retry, health, .. } = rule;
    let http = match http {
        Some(HttpRule::Http2) => Protocol::Http2,
        Some(HttpRule::Http1) | None => Protocol::Http1,
    };
    let addresses = compile_all(targets, span, surroundings.forbidden, reading);
    let secure = addresses.iter().flatten().any(Address::is_secure);
    let tls = tls::compile(rule.tls.as_ref(), secure, http, surroundings, reading);
    let identity = match &rule.identity {
        None => Some(None),
        Some(rule) => identity_rule::compile(rule, name, surroundings, reading).map(Some),
    };
    let credential = match &rule.credential {
        None => Some(None),
        Some(rule) => credential_rule::compile(rule, name, surroundings, reading),
    };
    if let (Some(Some(teller)), Some(Some(credential)), Some(rule)) =
        (&identity, &credential, &rule.credential)
        && teller.binds_query()
        && credential.is_in_query()
    {
        let says = "the identity would cover a query that holds a secret";
        let help = "send the credential in a header, or write identity = { jwt = {} }";
        reading.wrong(Code::WrongValue, &rule.span, says, help);
        return None;
    }
    let mut checks = Checks { reading, sound: true };
    let pool = checks.pool(pool);
    let timeout = checks.timeout(timeout);
    let retries_max = checks.count(retry.times.as_ref(), 1, 0..=1, "retry.times");
    let health = checks.health(health);
    let sound = checks.sound;
    let settings = Settings {
        balance: match balance {
            Some(BalanceRule::RoundRobin) => Balance::RoundRobin,
            Some(BalanceRule::LeastRequests) | None => Balance::LeastRequests,
        },
        http,
        host: match host {
            Some(HostRule::Target) => HostSent::Targets,
            Some(HostRule::Keep) | None => HostSent::Callers,
        },
        pool,
        timeout,
        retries_max,
        health,
        tls: tls?,
        identity: identity?,
        client_cert: match rule.client_cert {
            None => ClientCertSent::Nothing,
            Some(ClientCertRule::Certificate) => ClientCertSent::Own,
            Some(ClientCertRule::Chain) => ClientCertSent::Chain,
        },
        credential: credential?,
        forbidden: surroundings.forbidden.into(),
    };
    let targets = addresses?.into_iter().map(|address| Arc::new(Target::new(address))).collect();
    sound.then(|| Upstream {
        name: name.into(),
        targets,
        settings,
        first_slot: 0,
        turn: Default::default(),
        retries: Retries::default(),
    })
}

/// Holds values against their ranges, and remembers whether all of them fitted.
struct Checks<'c, 'r> {
    reading: &'c mut Reading<'r>,
    sound: bool,
}

impl Checks<'_, '_> {
    fn pool(&mut self, rule: &PoolRule) -> PoolBounds {
        const MANY: u32 = 65_536;
        let PoolRule { idle, idle_timeout, max, wait, lifetime } = rule;
        PoolBounds {
            idle_max: self.count(idle.as_ref(), 64, 0..=MANY, "pool.idle") as usize,
            idle_timeout: self.span(
                idle_timeout.as_ref(),
                secs(30),
                secs(86_400),
                "pool.idle_timeout",
            ),
            requests_max: self.count(max.as_ref(), 512, 1..=MANY, "pool.max") as usize,
            waiting_max: self.count(wait.as_ref(), 256, 0..=MANY, "pool.wait") as usize,
            lifetime: self.span(lifetime.as_ref(), secs(600), secs(86_400), "pool.lifetime"),
        }
    }

    fn timeout(&mut self, rule: &TimeoutRule) -> Timeouts {
        let TimeoutRule { connect, first_byte, total, idle } = rule;
        let total = self.span(total.as_ref(), secs(10), secs(3600), "timeout.total");
        // What nobody wrote follows a shorter total; what somebody wrote must be able to apply.
        Timeouts {
            connect: self.span(connect.as_ref(), secs(1).min(total), total, "timeout.connect"),
            first_byte: self.span(
                first_byte.as_ref(),
                secs(5).min(total),
                total,
                "timeout.first_byte",
            ),
            idle: self.span(idle.as_ref(), secs(60), secs(3600), "timeout.idle"),
            total,
        }
    }

    fn health(&mut self, rule: &HealthRule) -> Health {
        let HealthRule { path, every, timeout, up_after, down_after } = rule;
        let path = path.as_ref().and_then(|written| {
            let path = written
                .parse::<PathAndQuery>()
                .ok()
                .filter(|path| written.starts_with('/') && path.as_str() == written.value);
            if path.is_none() {
                let says = format!("`{}` is not a path", written.value);
                self.wrong(&written.span, says, "write for example \"/healthz\"");
            }
            path
        });
        let every_span = self.span(every.as_ref(), secs(5), secs(3600), "health.every");
        if let Some(every) = every
            && every_span < Duration::from_millis(100)
        {
            let says = "`health.every` asks more often than ten times a second";
            self.wrong(&every.span, says, "write \"100ms\" or more");
        }
        Health {
            path,
            every: every_span,
            timeout: self.span(timeout.as_ref(), secs(1), secs(60), "health.timeout"),
            up_after: self.count(up_after.as_ref(), 2, 1..=100, "health.up_after"),
            down_after: self.count(down_after.as_ref(), 3, 1..=100, "health.down_after"),
        }
    }

    fn count(
        &mut self,
        written: Option<&At<u32>>,
        default: u32,
        range: RangeInclusive<u32>,
        key: &str,
    ) -> u32 {
        let Some(written) = written else { return default };
        if !range.contains(&written.value) {
            let help = format!("write a number from {} to {}", range.start(), range.end());
            self.wrong(&written.span, format!("`{key}` is out of its range"), help);
        }
        written.value
    }

    fn span(
        &mut self,
        written: Option<&At<Span>>,
        default: Duration,
        max: Duration,
        key: &str,
    ) -> Duration {
        let Some(written) = written else { return default };
        if written.value.0.is_zero() || written.value.0 > max {
            let help = format!("write more than nothing and at most \"{}\"", Span(max));
            self.wrong(&written.span, format!("`{key}` is out of its range"), help);
        }
        written.value.0
    }

    fn wrong(&mut self, span: &Range<usize>, says: impl Into<String>, help: impl Into<String>) {
        self.sound = false;
        self.reading.wrong(Code::WrongValue, span, says, help);
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
