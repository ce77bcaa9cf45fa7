//! `[upstreams.NAME.credential]`: what proves us to the service, as an operator writes it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::fields::Malformed;
use crate::forward::credential::endpoint::{ClientAuth, Endpoint, form};
use crate::forward::credential::oauth::OAuth;
use crate::forward::credential::query::Pair;
use crate::forward::credential::signing::Signing;
use crate::forward::credential::{Credential, Kind};
use crate::forward::reference::Surroundings;
use crate::forward::settings::{self, UpstreamRule};
use crate::forward::tls::TlsRule;
use crate::forward::upstream::Upstreams;
use crate::head::headers::{is_hop_by_hop, is_managed};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::secret::Secret;
use crate::secret::reference::{Reference, ReferenceFault, environment};
use crate::secret::watched::Watched;
use crate::units::Span;

/// The shortest secret that signs, in bytes: that of the MAC's own output.
const SIGNING_BYTES_MIN: usize = 32;
const LIFETIME: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(3600);
const COMPONENTS: [&str; 4] = ["@method", "@authority", "@path", "@query"];
const HELP: &str = "write \"env:NAME\", \"file:PATH\" or \"credential:NAME\"";

/// What proves us to the service: one of these. Callers cannot write it, and their own value under
/// its name is dropped. A secret in a file is read again when it changes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRule {
    /// A header with a secret.
    pub header: Option<At<HeaderRule>>,
    /// A parameter of the query with a secret, for services that take it nowhere else.
    pub query: Option<At<QueryRule>>,
    /// A signature of each request (RFC 9421, hmac-sha256).
    pub signature: Option<At<SignatureRule>>,
    /// A token by OAuth 2.0 client credentials (RFC 6749, section 4.4).
    pub oauth: Option<At<OAuthRule>>,
}

/// A header with a secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// The name of the header.
    pub name: At<String>,
    /// What stands before the secret, for example `"Bearer "`. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// Where the secret is.
    pub secret: At<Reference>,
}

/// A parameter of the query with a secret.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRule {
    /// The name of the parameter.
    pub name: At<String>,
    /// Where the secret is.
    pub secret: At<Reference>,
}

/// A signature of each request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureRule {
    /// The name under which the service knows the secret.
    pub keyid: At<String>,
    /// Where the secret is: at least 32 bytes.
    pub secret: At<Reference>,
    /// How it is written there: `"raw"`, or `"base64"`. Default `"raw"`.
    #[serde(default)]
    pub encoding: Encoding,
    /// What is covered. Default: `["@method", "@authority", "@path", "@query"]`; a body that the
    /// gateway reads whole is covered always, by `content-digest` and `content-type`.
    pub components: Option<At<Vec<At<String>>>>,
    /// The label of the signature. Default `"sig"`.
    pub label: Option<At<String>>,
    /// The application that the signature is meant for. Default: none.
    pub tag: Option<At<String>>,
    /// How long a signature holds, up to `"1h"`. Default `"60s"`.
    pub lifetime: Option<At<Span>>,
}

/// How a secret is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// As it is.
    #[default]
    Raw,
    /// In base64 (RFC 4648, section 4).
    Base64,
}

/// A token by OAuth 2.0 client credentials.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuthRule {
    /// Where tokens are to be had: `"https://id.example.com/oauth/token"`; http on loopback only.
    pub token_url: At<String>,
    /// Where the id of the client is, for example `"env:CLIENT_ID"`.
    pub client_id: At<Reference>,
    /// Where the secret of the client is.
    pub client_secret: At<Reference>,
    /// How the client proves itself: `"basic"` in a header, or `"post"` in the form. Default `"basic"`.
    #[serde(default)]
    pub auth: ClientAuth,
    /// The scopes to ask for, separated by spaces. Default: none are named.
    pub scope: Option<At<String>>,
    /// The service that tokens are for. Default: none is named.
    pub audience: Option<At<String>>,
    /// The authority that alone is trusted to prove the token endpoint, `"file:PATH"`. Default: the
    /// public ones.
    pub ca: Option<At<String>>,
}

/// Makes the credential; reports all that is wrong with it. Nothing where somebody only looks, and
/// systemd would have the secret.
pub(in crate::forward) fn compile(
    rule: &At<CredentialRule>,
    name: &str,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Option<Credential>> {
    let mut making = Making { surroundings, reading };
    let made = match &rule.value {
        CredentialRule { header: Some(rule), query: None, signature: None, oauth: None } => {
            making.header(rule)
        }
        CredentialRule { header: None, query: Some(rule), signature: None, oauth: None } => {
            making.query(rule)
        }
        CredentialRule { header: None, query: None, signature: Some(rule), oauth: None } => {
            making.signature(rule)
        }
        CredentialRule { header: None, query: None, signature: None, oauth: Some(rule) } => {
            making.oauth(rule, name)
        }
        CredentialRule { .. } => {
            let says = "`credential` does not name exactly one kind";
            making.wrong(&rule.span, says, "write one of header, query, signature and oauth");
            None
        }
    };
    made.map(|kind| kind.map(Credential))
}

/// Makes one kind: nothing at all when it is wrong, and nothing inside when it is systemd's.
type Made<T> = Option<Option<T>>;

struct Making<'m, 'r, 's> {
    surroundings: &'m Surroundings<'s>,
    reading: &'m mut Reading<'r>,
}

impl Making<'_, '_, '_> {
    fn header(&mut self, rule: &HeaderRule) -> Made<Kind> {
        let name = HeaderName::from_bytes(rule.name.as_bytes());
        let ours = |name: &HeaderName| {
            is_hop_by_hop(name) || is_managed(name) || [HOST, CONTENT_LENGTH].contains(name)
        };
        let name = match name {
            Ok(name) if !ours(&name) => Some(name),
            Ok(_) | Err(_) => {
                let says = format!("`{}` is no header for a credential", rule.name.value);
                let help = "write for example \"Authorization\" or \"X-API-Key\"";
                self.wrong(&rule.name.span, says, help);
                None
            }
        };
        let prefix = rule.prefix.clone();
        let value = self.watched(&rule.secret, move |secret| {
            let text = Zeroizing::new([prefix.as_bytes(), secret.expose()].concat());
            let visible = text.iter().all(|byte| (b' '..=b'~').contains(byte));
            let value = HeaderValue::from_bytes(&text).ok().filter(|_| visible);
            let mut value =
                value.ok_or_else(|| "what it holds cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            Ok(value)
        })?;
        let name = name?;
        Some(value.map(|value| Kind::Header { name, value }))
    }

    fn query(&mut self, rule: &QueryRule) -> Made<Kind> {
        let name = rule.name.value.clone();
        let sound = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            let says = "this is no name of a parameter";
            self.wrong(&rule.name.span, says, "write for example \"api_key\"");
        }
        let pair = self.watched(&rule.secret, move |secret| Pair::new(&name, secret))?;
        sound.then_some(pair.map(Kind::Query))
    }

    fn signature(&mut self, rule: &SignatureRule) -> Made<Kind> {
        let SignatureRule { keyid, secret, encoding, components, label, tag, lifetime } = rule;
        let encoding = *encoding;
        let mut sound = true;
        let written = components.iter().flat_map(|list| list.iter());
        for component in written.clone() {
            let read = Component::read(component).and_then(|read| match read.is_trailer() {
                true => Err(Malformed("requests are sent without trailers")),
                false => Ok(read),
            });
            if let Err(fault) = read {
                let says = format!("`{}` cannot be covered: {fault}", component.value);
                self.wrong(&component.span, says, "name a header or a derived component");
                sound = false;
            }
        }
        let texts = [
            Some((keyid, 64)),
            label.as_ref().map(|at| (at, 64)),
            tag.as_ref().map(|at| (at, 128)),
        ];
        for (text, most) in texts.into_iter().flatten() {
            let fits = (1..=most).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
            if !fits {
                let says = format!("`{}` cannot stand in a signature", text.value);
                self.wrong(&text.span, says, "write up to 64 visible characters without quotes");
                sound = false;
            }
        }
        let span = lifetime.as_ref().map_or(LIFETIME, |lifetime| lifetime.value.0);
        if let Some(written) = lifetime
            && !(Duration::from_secs(1)..=LIFETIME_MAX).contains(&span)
        {
            self.wrong(&written.span, "`lifetime` is out of its range", "write \"1s\" to \"1h\"");
            sound = false;
        }
        let secret = self.watched(secret, move |secret| {
            let secret = match encoding {
                Encoding::Raw => secret.clone(),
                Encoding::Base64 => STANDARD
                    .decode(secret.expose())
                    .map(Secret::new)
                    .map_err(|_| "what it holds is not base64".to_owned())?,
            };
            match secret.expose().len() {
                SIGNING_BYTES_MIN.. => Ok(secret),
                _ => Err(format!("a secret that signs has at least {SIGNING_BYTES_MIN} bytes")),
            }
        })?;
        let components = match components {
            Some(_) => written.map(|component| component.as_str().into()).collect(),
            None => COMPONENTS.map(Box::from).into(),
        };
        sound.then_some(secret.map(|secret| {
            Kind::Signature(Signing {
                secret,
                keyid: keyid.as_str().into(),
                label: label.as_ref().map_or("sig", |label| label.as_str()).into(),
                tag: tag.as_ref().map(|tag| tag.as_str().into()),
                components,
                lifetime_s: span.as_secs().max(1),
            })
        }))
    }

    fn oauth(&mut self, rule: &OAuthRule, name: &str) -> Made<Kind> {
        let endpoint = self.endpoint(rule, name);
        let (auth, scope) = (rule.auth, rule.scope.as_ref().map(|at| at.value.clone()));
        let audience = rule.audience.as_ref().map(|at| at.value.clone());
        let both = [rule.client_id.value.clone(), rule.client_secret.value.clone()];
        let base = self.surroundings.base_dir;
        // What is wrong with one of the two is told at its own place.
        self.found(&rule.client_id, rule.client_id.read(base).map(drop))?;
        let read = Watched::read_all(both, base, &environment, move |[id, secret]| {
            form(auth, id, secret, scope.as_deref(), audience.as_deref())
        });
        let form = self.found(&rule.client_secret, read)?;
        let endpoint = endpoint?;
        Some(form.map(|form| Kind::OAuth(Box::new(OAuth::new(endpoint, form)))))
    }

    /// The token endpoint: an upstream of its own, with one target and a path.
    fn endpoint(&mut self, rule: &OAuthRule, name: &str) -> Option<Endpoint> {
        let url = &rule.token_url;
        let begin = url.find("://").map_or(0, |at| at + 3);
        let (origin, path) = match url.get(begin..).and_then(|rest| rest.find('/')) {
            Some(at) => url.split_at(begin + at),
            None => (url.as_str(), "/"),
        };
        let Some(path) = path.parse::<PathAndQuery>().ok().filter(|_| !path.contains('#')) else {
            let says = format!("`{}` is not the URL of a token endpoint", url.value);
            self.wrong(&url.span, says, "write for example \"https://id.example.com/token\"");
            return None;
        };
        let target = At { value: origin.to_owned(), span: url.span.clone() };
        let tls = rule.ca.as_ref().map(|ca| At {
            value: TlsRule { ca: Some(ca.clone()), server_name: None, cert: None, key: None },
            span: ca.span.clone(),
        });
        let rule = UpstreamRule::plain(target, tls);
        let upstream = settings::compile(&rule, name, &url.span, self.surroundings, self.reading)?;
        let mut addresses = upstream.targets().iter().map(|target| target.address());
        if addresses.any(|address| !address.is_secure() && !address.is_loopback()) {
            let says = "the client's secret and the token would go over the network in plaintext";
            self.wrong(&url.span, says, "write https://");
            return None;
        }
        let upstreams = Upstreams::new([upstream]);
        Some(Endpoint { upstream: Arc::clone(upstreams.find(name)?), path })
    }

    fn watched<T>(
        &mut self,
        reference: &At<Reference>,
        make: impl Fn(&Secret) -> Result<T, String> + Send + Sync + 'static,
    ) -> Made<Watched<T>> {
        let base = self.surroundings.base_dir.to_owned();
        let read = Watched::read(reference.value.clone(), base, make);
        self.found(reference, read)
    }

    fn found<T>(&mut self, at: &At<Reference>, read: Result<T, ReferenceFault>) -> Made<T> {
        match read {
            Ok(found) => Some(Some(found)),
            Err(ReferenceFault::NoCredentials(_)) if self.surroundings.only_looking => Some(None),
            Err(fault) => {
                fault.report(&at.span, HELP, self.reading);
                None
            }
        }
    }

    fn wrong(&mut self, span: &Range<usize>, says: impl Into<String>, help: impl Into<String>) {
        self.reading.wrong(Code::WrongValue, span, says, help);
    }
}
