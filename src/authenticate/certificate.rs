//! The scheme `certificate.NAME`: the client certificate of the connection, by its SPIFFE ID or DNS name.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::standing::{Keeper, Standing, Ticket};
use crate::authenticate::{Attempt, Evidence, Grant, Scheme};
use crate::clock::Now;
use crate::head::Head;
use crate::listen::ClientCertificate;
use crate::listen::client_certificate::is_spiffe_id;
use crate::listen::clients::Distrust;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::name::{Name, Names};
use crate::refusal::{Reason, Refusal};
use crate::route::host::HostPattern;

/// Whose client certificates prove whom, as written under `[certificates.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRule {
    /// Server names at which such certificates count. Name them where hosts believe different
    /// authorities. Default: all.
    #[serde(default)]
    pub hosts: Option<At<Vec<At<String>>>>,
    /// Who is proved by which name.
    pub identities: At<Vec<At<IdentityRule>>>,
}

/// Who a certificate's name stands for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityRule {
    /// The name in the certificate: `"spiffe://example.org/ns/prod/api"`, with `/*` at the end for
    /// every path below, or `"api.example.com"`, with `*.` in front for every name with one label
    /// more. The most specific one that fits holds.
    pub name: At<String>,
    /// The subject that `owner` doors and the service see. Default: the certificate's own name.
    #[serde(default)]
    pub subject: Option<At<String>>,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<At<String>>,
    /// Scopes.
    #[serde(default)]
    pub scopes: Vec<At<String>>,
    /// Tier. Default: none, which is the policy's strictest.
    #[serde(default)]
    pub tier: Option<At<String>>,
}

/// The names that a policy defines. Each gives the name, or reports that nothing defines it.
pub trait Vocabulary {
    /// The role with this name.
    fn role(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name>;
    /// The scope with this name.
    fn scope(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name>;
    /// The tier with this name.
    fn tier(&self, written: &At<String>, reading: &mut Reading<'_>) -> Option<Name>;
}

/// A name in certificates, or all names of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This SPIFFE ID alone.
    Spiffe(Box<str>),
    /// Every SPIFFE ID that begins so and goes on; it ends with `/`.
    SpiffeBelow(Box<str>),
    /// This DNS name alone, in lower case.
    Dns(Box<str>),
    /// Every DNS name with one label before this one; it begins with a dot.
    DnsUnder(Box<str>),
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is neither a SPIFFE ID nor a DNS name, with or without its one star.
    pub fn read(written: &str) -> Result<Self, &'static str> {
        if written.contains(':') {
            return match written.strip_suffix("/*") {
                Some(above) if is_spiffe_id(above) => {
                    Ok(Self::SpiffeBelow(format!("{above}/").into()))
                }
                None if is_spiffe_id(written) => Ok(Self::Spiffe(written.into())),
                _ => Err("it is no SPIFFE ID"),
            };
        }
        let lower = written.to_ascii_lowercase();
        let (name, under) = match lower.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (lower.as_str(), false),
        };
        let is_name = rustls::pki_types::DnsName::try_from(name).is_ok() && !name.ends_with('.');
        match (is_name, under) {
            (false, _) => Err("it is neither a SPIFFE ID nor a DNS name"),
            (true, true) => Ok(Self::DnsUnder(format!(".{name}").into())),
            (true, false) => Ok(Self::Dns(name.into())),
        }
    }

    /// Whether a name of a certificate fits: a SPIFFE ID or a DNS name, which never fit each
    /// other's patterns. A name with a star of its own names nobody.
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Spiffe(id) | Self::Dns(id) => **id == *name,
            Self::SpiffeBelow(above) => name.len() > above.len() && name.starts_with(&**above),
            Self::DnsUnder(under) => name
                .strip_suffix(&**under)
                .is_some_and(|label| !matches!(label, "" | "*") && !label.contains(['.', ':'])),
        }
    }

    /// Whether one of a certificate's names fits. One whose SPIFFE ID is in doubt has none.
    pub fn fits_any(&self, certificate: &ClientCertificate) -> bool {
        let spiffe = certificate.spiffe_id().ok().flatten();
        spiffe.is_some_and(|id| self.fits(id)) || certificate.dns_names.iter().any(|n| self.fits(n))
    }

    /// The pattern as policy writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Spiffe(name) | Self::Dns(name) => name.to_string(),
            Self::SpiffeBelow(above) => format!("{above}*"),
            Self::DnsUnder(under) => format!("*{under}"),
        }
    }

    /// What comes first when several patterns fit: a whole name, then the longest.
    fn rank(&self) -> (bool, Reverse<usize>) {
        match self {
            Self::Spiffe(name) | Self::Dns(name) => (false, Reverse(name.len())),
            Self::SpiffeBelow(name) | Self::DnsUnder(name) => (true, Reverse(name.len())),
        }
    }
}

/// Proves callers by the certificates of their connections.
#[derive(Debug)]
pub struct CertificateScheme {
    name: String,
    /// Whose memo a certificate carries.
    number: u64,
    hosts: Box<[HostPattern]>,
    /// The most specific first.
    identities: Box<[Identity]>,
}

#[derive(Debug)]
struct Identity {
    pattern: NamePattern,
    subject: Option<Arc<str>>,
    roles: Names,
    scopes: Names,
    tier: Option<Name>,
}

impl CertificateRule {
    /// Compiles the rule `[certificates.NAME]`, whose name stands at `span`. Nothing comes of it
    /// when a mistake was reported.
    pub fn compile(
        &self,
        name: &str,
        span: &Range<usize>,
        vocabulary: &dyn Vocabulary,
        reading: &mut Reading<'_>,
    ) -> Option<CertificateScheme> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let Self { hosts, identities } = self;
        let written = hosts.as_ref().map(|hosts| hosts.value.as_slice()).unwrap_or_default();
        let patterns: Vec<Option<HostPattern>> =
            written.iter().map(|host| HostPattern::compile(host, reading)).collect();
        let empty = hosts.as_ref().filter(|hosts| hosts.is_empty()).map(|hosts| &hosts.span);
        let empty = empty.or_else(|| identities.is_empty().then_some(span));
        if let Some(span) = empty {
            let says = format!("`certificates.{name}` can never prove anybody");
            let help = "write `identities = [{ name = \"spiffe://example.org/api\" }]`, and leave \
                        `hosts` out or name one";
            reading.wrong(Code::ClosedDoor, span, says, help);
        }
        let compiled: Vec<Option<Identity>> =
            identities.iter().map(|rule| rule.value.compile(vocabulary, reading)).collect();
        let compiled: Option<Vec<Identity>> = compiled.into_iter().collect();
        let mut compiled = compiled?;
        for (number, rule) in identities.iter().enumerate() {
            let same = |other: &At<IdentityRule>| {
                NamePattern::read(&other.name) == NamePattern::read(&rule.name)
            };
            if identities.iter().take(number).any(same) {
                let says = format!("`{}` is there twice", rule.name.value);
                reading.wrong(Code::DefinedTwice, &rule.name.span, says, "remove one of the two");
                return None;
            }
        }
        compiled.sort_by_key(|identity| identity.pattern.rank());
        let hosts: Option<Box<[HostPattern]>> = patterns.into_iter().collect();
        let hosts = hosts.filter(|_| empty.is_none())?;
        Some(CertificateScheme {
            name: format!("certificate.{name}"),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            hosts,
            identities: compiled.into(),
        })
    }
}

impl IdentityRule {
    fn compile(&self, vocabulary: &dyn Vocabulary, reading: &mut Reading<'_>) -> Option<Identity> {
        let Self { name, subject, roles, scopes, tier } = self;
        let pattern = NamePattern::read(name);
        if let Err(why) = pattern {
            let says = format!("`{}` is in no certificate: {why}", name.value);
            let help = "write \"spiffe://example.org/ns/prod/api\", \"spiffe://example.org/ns/prod/*\", \
                        \"api.example.com\" or \"*.example.com\"";
            reading.wrong(Code::WrongValue, &name.span, says, help);
        }
        let subject_fits = subject.as_ref().is_none_or(|subject| {
            (1..=256).contains(&subject.len()) && subject.bytes().all(|b| b.is_ascii_graphic())
        });
        if let Some(subject) = subject.as_ref().filter(|_| !subject_fits) {
            let says = "a subject is 1 to 256 visible ASCII characters";
            reading.wrong(Code::WrongValue, &subject.span, says, "write for example \"partner-7\"");
        }
        let roles: Vec<Option<Name>> = roles.iter().map(|n| vocabulary.role(n, reading)).collect();
        let scopes: Vec<_> = scopes.iter().map(|name| vocabulary.scope(name, reading)).collect();
        let tier = tier.as_ref().map(|name| vocabulary.tier(name, reading));
        Some(Identity {
            pattern: pattern.ok().filter(|_| subject_fits)?,
            subject: subject.as_ref().map(|subject| subject.as_str().into()),
            roles: roles.into_iter().collect::<Option<Names>>()?,
            scopes: scopes.into_iter().collect::<Option<Names>>()?,
            tier: match tier {
                None => None,
                Some(found) => Some(found?),
            },
        })
    }
}

impl CertificateScheme {
    /// What a certificate gives that was shown for this server name.
    fn prove(
        &self,
        certificate: &ClientCertificate,
        server_name: Option<&str>,
        now: Now,
    ) -> Result<Arc<Grant>, Refusal> {
        if let Err(distrust) = certificate.still_holds(now) {
            return Err(Refusal::new(reason_of(distrust)).because(told(certificate)));
        }
        let counts_here = self.hosts.is_empty()
            || server_name.is_some_and(|name| self.hosts.iter().any(|host| host.matches(name)));
        if !counts_here {
            return Err(Refusal::new(Reason::CredentialUnknown)
                .because("certificates shown for this server name do not count"));
        }
        if let Some(grant) = certificate.memo.get::<Grant>(self.number) {
            return Ok(grant);
        }
        let grant = Arc::new(self.grant(certificate)?);
        certificate.memo.put(self.number, Arc::clone(&grant));
        Ok(grant)
    }

    /// Who a certificate stands for: whoever its SPIFFE ID names, or else all of its DNS names that
    /// are known, which must then be one and the same.
    fn grant(&self, certificate: &ClientCertificate) -> Result<Grant, Refusal> {
        let malformed = |why: &'static str| Refusal::new(Reason::CredentialMalformed).because(why);
        let known =
            |name| Some((self.identities.iter().find(|known| known.pattern.fits(name))?, name));
        let spiffe = certificate.spiffe_id().map_err(malformed)?.and_then(known);
        let mut found = spiffe;
        if found.is_none() {
            for (identity, name) in certificate.dns_names.iter().filter_map(|name| known(name)) {
                let (earlier, of) = *found.get_or_insert((identity, name));
                if !std::ptr::eq(earlier, identity) || (identity.subject.is_none() && of != name) {
                    return Err(malformed("its names stand for more than one caller"));
                }
            }
        }
        let Some((identity, name)) = found else {
            return Err(Refusal::new(Reason::CredentialUnknown).because(told(certificate)));
        };
        let id: String = certificate.sha256.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Ok(Grant {
            credential: format!("x509-{id}").into(),
            subject: identity.subject.clone().unwrap_or_else(|| name.into()),
            roles: identity.roles.clone(),
            scopes: identity.scopes.clone(),
            tier: identity.tier,
            ..Grant::default()
        })
    }
}

/// Which certificate it was, for the record: its serial number, which its issuer knows it by.
fn told(certificate: &ClientCertificate) -> String {
    format!("the certificate with the serial number {}", certificate.serial_hex())
}

fn reason_of(distrust: Distrust) -> Reason {
    match distrust {
        Distrust::Expired => Reason::CredentialExpired,
        Distrust::Revoked => Reason::CredentialRevoked,
        Distrust::Unknown => Reason::CredentialUnknown,
    }
}

/// A certificate keeps itself: it is shared by its connection's requests, and knows its end and
/// the lists of its host as they are now.
impl Keeper for ClientCertificate {
    fn still_holds(&self, _: Ticket, _: IpAddr, now: Now) -> Result<(), Reason> {
        self.still_holds(now).map_err(reason_of)
    }
}

impl Scheme for CertificateScheme {
    fn name(&self) -> &str {
        &self.name
    }

    fn attempt(&self, head: &Head, now: Now) -> Attempt {
        let Some(tls) = &head.peer.tls else { return Attempt::Absent };
        let Some(certificate) = &tls.certificate else { return Attempt::Absent };
        match self.prove(certificate, tls.server_name.as_deref(), now) {
            Ok(grant) => Attempt::Accepted(Evidence {
                grant,
                digest_covered: false,
                standing: Some(Standing::new(Arc::clone(certificate) as _, Ticket::default())),
                assurance: None,
                dpop_nonce: None,
            }),
            Err(refusal) => Attempt::Rejected(refusal),
        }
    }
}
