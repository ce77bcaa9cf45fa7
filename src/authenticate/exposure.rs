//! Credentials that stand where others can read them: in a URL, or on a connection without TLS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::alarm::{Alarm, Cause};
use crate::authenticate::api_key::{X_API_KEY, bearer};
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::entry::Entry;
use crate::authenticate::key_finder::Finder;
use crate::authenticate::key_format::KeyId;
use crate::clock::Now;
use crate::head::Head;
use crate::listen::Peer;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::refusal::{Reason, Refusal};
use crate::units::Span;

/// The longest ban: ten years.
const BAN_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What becomes of keys that are used as they must not be, as `[keys]` of a policy has it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysRule {
    /// What becomes of a key that stands in a URL or is sent without TLS, beside its refusal:
    /// "refuse" or "suspend". Default: "refuse".
    pub exposed: Exposed,
    /// For how long an address is banned that uses a canary key: 1s to ten years. Default: 24h.
    pub canary_ban: Option<At<Span>>,
}

/// What becomes of an exposed key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exposed {
    /// It is refused where it is exposed, and holds elsewhere.
    #[default]
    Refuse,
    /// It is suspended as well, until somebody resumes it.
    Suspend,
}

/// Looks for exposed credentials, and knows what becomes of those that are found.
#[derive(Debug)]
pub struct Watch {
    directory: Arc<Directory>,
    exposed: Exposed,
    canary_ban: Duration,
}

impl Watch {
    /// What this rule wants, over the keys of this directory.
    pub fn compile(
        rule: &KeysRule,
        directory: &Arc<Directory>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let usual = Duration::from_secs(86_400);
        let canary_ban = match &rule.canary_ban {
            Some(span) if (Duration::from_secs(1)..=BAN_MAX).contains(&span.0) => span.0,
            Some(span) => {
                let says = "a ban lasts at least 1s and at most ten years";
                let help = "write for example canary_ban = \"24h\"";
                reading.wrong(Code::WrongValue, &span.span, says, help);
                return None;
            }
            None => usual,
        };
        Some(Self { directory: Arc::clone(directory), exposed: rule.exposed, canary_ban })
    }

    /// Whether an exposed key is suspended.
    pub fn suspends(&self) -> bool {
        self.exposed == Exposed::Suspend
    }

    /// For how long whoever uses a canary is banned.
    pub fn canary_ban(&self) -> Duration {
        self.canary_ban
    }

    /// Looks at what a refusal says was exposed in the URL: a key of ours raises an alarm, and the
    /// record is told which one it was. Other refusals stay as they are.
    pub fn found(&self, mut refusal: Refusal, peer: &Peer, now: Now) -> Refusal {
        let Some(exposed) = refusal.exposed.take() else { return refusal };
        let Ok(text) = std::str::from_utf8(exposed.expose()) else { return refusal };
        let whole = text.strip_prefix("Bearer ").unwrap_or(text);
        let mut entries: Vec<Entry> = self.known(whole).into_iter().collect();
        let mut finder = Finder::new(self.directory.format());
        let mut add = |key: &str| {
            if key != whole {
                entries.extend(self.known(key));
            }
        };
        finder.read(text.as_bytes(), |found| add(found.key));
        finder.finish(|found| add(found.key));
        let client = stranger(peer.address.ip(), peer);
        for entry in &entries {
            self.raise(entry, Cause::Url, client, now);
        }
        match entries.first() {
            Some(entry) => {
                refusal.because(format!("key {} stood in the URL", entry.grant.credential))
            }
            None => refusal,
        }
    }

    /// Refuses every credential that is sent as it is over a connection that others can read.
    ///
    /// A connection on the same machine, and one from a proxy whose `Forwarded` headers are
    /// believed, are read by nobody else.
    ///
    /// # Errors
    /// `credential-plaintext`, whether the credential is any good or not.
    pub fn plaintext(&self, head: &Head, now: Now) -> Result<(), Refusal> {
        if is_private(&head.peer) {
            return Ok(());
        }
        let bearers = head.headers.get_all(AUTHORIZATION);
        let bearers = bearers.filter_map(|value| bearer(value.as_bytes()));
        let plain = head.headers.get_all(X_API_KEY).map(|value| value.as_bytes());
        let mut shown = bearers.chain(plain).peekable();
        if shown.peek().is_none() {
            return Ok(());
        }
        let refusal = Refusal::new(Reason::CredentialPlaintext);
        let texts = shown.filter_map(|shown| std::str::from_utf8(shown).ok());
        let known: Vec<_> = texts.filter_map(|text| self.known(text)).collect();
        for entry in &known {
            self.raise(entry, Cause::Plaintext, stranger(head.parties.client, &head.peer), now);
        }
        match known.first() {
            Some(entry) => {
                let id = &entry.grant.credential;
                Err(refusal.because(format!("key {id} was sent without TLS")))
            }
            None => Err(refusal),
        }
    }

    fn known(&self, text: &str) -> Option<Entry> {
        self.directory.find_api_key(text).map(|(entry, _)| entry)
    }

    fn raise(&self, entry: &Entry, cause: Cause, client: Option<IpAddr>, now: Now) {
        let cause = if entry.is_trap(now) { Cause::Canary } else { cause };
        if let Some(id) = KeyId::parse(&entry.grant.credential) {
            self.directory.alarms().raise(Alarm { id, cause, client });
        }
    }
}

/// The address of a caller whom a ban may meet; nothing when it is that of a proxy, behind which
/// everybody else is too.
pub(in crate::authenticate) fn stranger(client: IpAddr, peer: &Peer) -> Option<IpAddr> {
    let is_proxy = peer.trusted.iter().any(|network| network.contains(client));
    (!is_proxy).then(|| client.to_canonical())
}

/// Whether nobody else can read what goes over a connection: it has TLS, stays on this machine, or comes
/// from a proxy whose `Forwarded` headers are believed.
pub fn is_private(peer: &Peer) -> bool {
    let Peer { local, address, trusted, tls, .. } = peer;
    let address = address.ip().to_canonical();
    tls.is_some()
        || local.ip().to_canonical().is_loopback()
        || trusted.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::authenticate::directory::record::NewKey;
    use crate::authenticate::tests::{NOW, head, pepper};
    use crate::listen::TlsFacts;
    use crate::parties::Parties;

    fn watch(exposed: Exposed) -> (Watch, String) {
        let directory = Arc::new(Directory::in_memory(&pepper(), "live").unwrap());
        let wish = NewKey { name: "ci".into(), subject: "user-1".into(), ..NewKey::default() };
        let key = directory.create(wish, NOW).unwrap().secret;
        let key = String::from_utf8(key.expose().to_vec()).unwrap();
        (Watch { directory, exposed, canary_ban: Duration::from_secs(60) }, key)
    }

    /// A head with these headers, between these two addresses.
    fn between(peer: &str, local: &str, headers: &[(&str, &str)]) -> Head {
        let mut head = head(headers);
        let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 40_000);
        head.parties = Arc::new(Parties::new(address(peer).ip(), "https", "localhost", None));
        head.peer = Arc::new(Peer {
            address: address(peer),
            local: address(local),
            trusted: ["10.0.0.0/8".parse().unwrap()].into(),
            ..(*head.peer).clone()
        });
        head
    }

    #[test]
    fn a_credential_without_tls_is_refused_where_others_can_read_it() {
        let (watch, key) = watch(Exposed::Refuse);
        let bearer = format!("Bearer {key}");
        let says = |head: &Head| watch.plaintext(head, NOW).err().map(|refusal| refusal.reason);
        let ours = [("authorization", bearer.as_str())];
        let plain = Some(Reason::CredentialPlaintext);
        for (peer, local, expected) in [
            ("203.0.113.9", "192.0.2.1", plain),
            ("2001:db8::9", "2001:db8::1", plain),
            ("127.0.0.1", "127.0.0.1", None),
            ("::1", "::1", None),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", None),
            // A proxy that is believed took the TLS off.
            ("10.1.2.3", "10.0.0.1", None),
        ] {
            assert_eq!(says(&between(peer, local, &ours)), expected, "{peer} to {local}");
        }
        let strange =
            |headers: &[(&str, &str)]| says(&between("203.0.113.9", "192.0.2.1", headers));
        assert_eq!(strange(&[("x-api-key", &key)]), plain);
        assert_eq!(strange(&[("x-api-key", "anything")]), plain, "good or not");
        assert_eq!(strange(&[("authorization", &bearer), ("x-api-key", "other")]), plain);
        assert_eq!(strange(&[("authorization", "Basic dTpw")]), None);
        assert_eq!(strange(&[]), None);
        let mut over_tls = between("203.0.113.9", "192.0.2.1", &ours);
        let tls = TlsFacts {
            server_name: None,
            version: "TLSv1.3",
            certificate: None,
            name_binds: false,
        };
        over_tls.peer = Arc::new(Peer { tls: Some(tls), ..(*over_tls.peer).clone() });
        assert_eq!(says(&over_tls), None);
    }

    #[test]
    fn an_alarm_names_the_key_and_only_keys_of_ours_raise_one() {
        let (watch, key) = watch(Exposed::Suspend);
        let id = watch.directory.id_of(&key).unwrap();
        let bearer = format!("Bearer {key}");
        let head = between("203.0.113.9", "192.0.2.1", &[("authorization", &bearer)]);
        let refusal = watch.plaintext(&head, NOW).unwrap_err();
        assert_eq!(refusal.private, format!("key {id} was sent without TLS"));
        let client = Some("203.0.113.9".parse().unwrap());
        let alarms = || watch.directory.alarms().take();
        assert_eq!(alarms(), [Alarm { id, cause: Cause::Plaintext, client }]);
        for (text, known) in [
            (key.as_str(), true),
            (&bearer, true),
            (&format!("see {key} here"), true),
            (&key[..key.len() - 1], false),
            ("anything", false),
            ("", false),
        ] {
            let refusal = Refusal::new(Reason::CredentialInQuery).exposing(text);
            let refusal = watch.found(refusal, &head.peer, NOW);
            assert_eq!(refusal.exposed, None, "it goes no further");
            assert!(!refusal.private.contains(&key[20..]), "{}", refusal.private);
            let raised = alarms();
            assert_eq!(raised.len(), usize::from(known), "{text}");
            assert!(raised.iter().all(|alarm| alarm.id == id && alarm.cause == Cause::Url));
        }
    }

    #[test]
    fn a_canary_is_one_wherever_it_shows_and_a_proxy_is_never_banned_for_it() {
        let (watch, _) = watch(Exposed::Suspend);
        let wish = NewKey {
            name: "trap".into(),
            subject: "nobody".into(),
            canary: true,
            ..NewKey::default()
        };
        let made = watch.directory.create(wish, NOW).unwrap();
        let key = String::from_utf8(made.secret.expose().to_vec()).unwrap();
        let mut raised = Vec::new();
        for peer in ["203.0.113.9", "10.1.2.3"] {
            let head = between(peer, "192.0.2.1", &[]);
            let refusal = Refusal::new(Reason::CredentialInQuery).exposing(&key);
            watch.found(refusal, &head.peer, NOW);
            raised.extend(watch.directory.alarms().take());
        }
        let told: Vec<_> = raised.iter().map(|alarm| (alarm.cause, alarm.client)).collect();
        let stranger = "203.0.113.9".parse().ok();
        assert_eq!(told, [(Cause::Canary, stranger), (Cause::Canary, None)]);
        watch.directory.revoke(made.id, NOW).unwrap();
        let refusal = Refusal::new(Reason::CredentialInQuery).exposing(&key);
        watch.found(refusal, &between("203.0.113.9", "192.0.2.1", &[]).peer, NOW);
        assert_eq!(watch.directory.alarms().take()[0].cause, Cause::Url, "it is no trap any more");
    }
}
