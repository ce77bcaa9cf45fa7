//! The scheme `api-key`: `Authorization: Bearer KEY`, or `X-API-Key: KEY`, and never both.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authenticate::alarm::{Alarm, Cause};
use crate::authenticate::bearer::Carried;
use crate::authenticate::directory::Directory;
use crate::authenticate::exposure::stranger;
use crate::authenticate::key_format::{KeyId, TOKEN_BYTES_MAX, is_token as is_well_formed};
use crate::authenticate::standing::{Keeper, Standing};
use crate::authenticate::{Attempt, Evidence, Grant, Scheme};
use crate::clock::Now;
use crate::head::Head;
use crate::refusal::{Reason, Refusal};

/// The name of this scheme in policy.
pub const NAME: &str = "api-key";

/// The header beside `Authorization` that may carry a key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Query parameters that hold a credential wherever they stand: RFC 6750 section 2.3, and what
/// other gateways made a habit.
const QUERY_NAMES: [&str; 4] = ["access_token", "api_key", "apikey", "x-api-key"];

/// Proves callers by the API keys of a directory.
#[derive(Debug)]
pub struct ApiKeyScheme {
    directory: Arc<Directory>,
    /// What else `Authorization` may carry on the route.
    carried: Carried,
}

impl ApiKeyScheme {
    /// The scheme over the keys of this directory.
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, carried: Carried::default() }
    }

    /// What the key gives, if it is known and holds.
    ///
    /// Whether the caller knows the key comes before everything else about it, so that nothing of
    /// a key can be learned without its secret.
    fn prove(&self, text: &str, head: &Head, now: Now) -> Result<Evidence, Refusal> {
        let Some((entry, ticket)) = self.directory.find_api_key(text) else {
            return Err(self.unknown(text));
        };
        if entry.is_trap(now) {
            return Err(self.trapped(&entry.grant, head));
        }
        if let Err(reason) = entry.check(self.directory.environment_name(), head.client, now) {
            return Err(Refusal::new(reason).because(format!("key {}", entry.grant.credential)));
        }
        let keeper: Arc<dyn Keeper> = Arc::clone(&self.directory) as _;
        let standing = Some(Standing::new(keeper, ticket));
        let grant = Arc::clone(&entry.grant);
        Ok(Evidence { grant, digest_covered: false, standing, assurance: None })
    }

    /// Tells those who act behind the request that somebody holds what nobody may use.
    fn trapped(&self, grant: &Grant, head: &Head) -> Refusal {
        if let Some(id) = KeyId::parse(&grant.credential) {
            let client = stranger(head.client, &head.peer);
            self.directory.alarms().raise(Alarm { id, cause: Cause::Canary, client });
        }
        Refusal::new(Reason::CredentialCanary).because(format!("key {}", grant.credential))
    }

    /// Why a text is no key of ours, as far as the text itself tells.
    fn unknown(&self, text: &str) -> Refusal {
        let format = self.directory.format();
        match format.parse(text) {
            Some(parsed) if parsed.env != self.directory.environment() => {
                Refusal::new(Reason::CredentialEnvironment)
                    .because("the key was made for another environment and is not known here")
            }
            Some(_) => Refusal::new(Reason::CredentialUnknown),
            None if format.resembles(text) => Refusal::new(Reason::CredentialMalformed)
                .because("the key's checksum is wrong: it was mistyped or cut"),
            None => Refusal::new(Reason::CredentialUnknown),
        }
    }

    /// Whether a value of `Authorization` is a token that another scheme of the route takes. What
    /// begins like a key of ours is one, and so is what was imported as one.
    fn is_token(&self, value: &HeaderValue) -> bool {
        self.carried.is_token(value, |text| self.directory.is_key(text))
    }

    /// Refuses a key in the query, where it has already been written to logs and histories.
    fn refuse_exposed(&self, query: &str) -> Result<(), Refusal> {
        if let Some(parsed) = self.directory.format().find(query) {
            let told = format!("the query holds a well-formed key with the id {}", parsed.id);
            return Err(Refusal::new(Reason::CredentialInQuery).because(told));
        }
        let named = query.split('&').any(|pair| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            QUERY_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
        });
        if named {
            return Err(Refusal::new(Reason::CredentialInQuery)
                .because("the query has a parameter that names a credential"));
        }
        Ok(())
    }
}

impl Scheme for ApiKeyScheme {
    fn name(&self) -> &str {
        NAME
    }

    fn attempt(&self, head: &Head, now: Now) -> Attempt {
        if let Some(query) = &head.query
            && let Err(refusal) = self.refuse_exposed(query)
        {
            return Attempt::Rejected(refusal);
        }
        let proved = match presented(&head.headers, |value| self.is_token(value)) {
            Ok(None) => return Attempt::Absent,
            Ok(Some(text)) => self.prove(text, head, now),
            Err(refusal) => Err(refusal),
        };
        match proved {
            Ok(evidence) => Attempt::Accepted(evidence),
            Err(refusal) => Attempt::Rejected(refusal),
        }
    }

    fn on_route(&self, carried: Carried) -> Option<Arc<dyn Scheme>> {
        Some(Arc::new(Self { directory: Arc::clone(&self.directory), carried }))
    }
}

/// The one key that the headers carry, if they carry one.
fn presented(
    headers: &HeaderMap,
    is_token: impl Fn(&HeaderValue) -> bool,
) -> Result<Option<&str>, Refusal> {
    let mut bearers = headers.get_all(AUTHORIZATION).iter().filter(|value| !is_token(value));
    let mut plain = headers.get_all(X_API_KEY).iter();
    let carriers = (bearers.next(), plain.next());
    if bearers.next().is_some() || plain.next().is_some() {
        return Err(Reason::CredentialRepeated.into());
    }
    let token = match carriers {
        (None, None) => return Ok(None),
        // Even when they are equal: the service behind might look at the other one some day.
        (Some(_), Some(_)) => return Err(Reason::CredentialRepeated.into()),
        (Some(value), None) => bearer(value.as_bytes()).ok_or_else(|| {
            Refusal::new(Reason::CredentialMalformed)
                .because("Authorization is not `Bearer`, one space and a key")
        })?,
        (None, Some(value)) => value.as_bytes(),
    };
    if token.len() > TOKEN_BYTES_MAX || !is_well_formed(token) {
        return Err(Refusal::new(Reason::CredentialMalformed)
            .because("the key has characters that no key has, or more than 512"));
    }
    // Tokens are ASCII, so this does not fail.
    Ok(std::str::from_utf8(token).ok())
}

/// What follows `Bearer` and exactly one space (RFC 6750 section 2.1).
pub(in crate::authenticate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::authenticate::directory::change::Created;
    use crate::authenticate::directory::record::NewKey;
    use crate::authenticate::tests::{NOW, head, pepper};
    use crate::store::Store;

    fn scheme() -> ApiKeyScheme {
        ApiKeyScheme::new(Arc::new(Directory::in_memory(&pepper(), "live").unwrap()))
    }

    fn wish() -> NewKey {
        NewKey { name: "ci".into(), subject: "user-1".into(), ..NewKey::default() }
    }

    fn text_of(created: &Created) -> String {
        String::from_utf8(created.secret.expose().to_vec()).unwrap()
    }

    /// What the scheme says of these headers: `absent`, the subject, or the name of the reason.
    fn said(scheme: &ApiKeyScheme, headers: &[(&str, &str)], now: Now) -> String {
        match scheme.attempt(&head(headers), now) {
            Attempt::Absent | Attempt::Ask(_) => "absent".to_owned(),
            Attempt::Accepted(evidence) => evidence.grant.subject.to_string(),
            Attempt::Rejected(refusal) => refusal.reason.name().to_owned(),
        }
    }

    #[test]
    fn a_key_is_taken_from_either_carrier() {
        let scheme = scheme();
        let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
        assert_eq!(said(&scheme, &[], NOW), "absent");
        for word in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(
                said(&scheme, &[("authorization", &format!("{word} {key}"))], NOW),
                "user-1"
            );
        }
        assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "user-1");
    }

    #[test]
    fn two_carriers_are_refused_even_when_equal() {
        let scheme = scheme();
        let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
        let bearer = format!("Bearer {key}");
        let (bearer, plain) = (("authorization", bearer.as_str()), ("x-api-key", key.as_str()));
        let basic = ("authorization", "Basic dTpw");
        for headers in [[bearer, bearer], [plain, plain], [bearer, plain], [basic, plain]] {
            assert_eq!(said(&scheme, &headers, NOW), "credential-repeated");
        }
    }

    #[test]
    fn what_is_not_exactly_a_token_is_malformed() {
        let scheme = scheme();
        let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
        let long = "a".repeat(513);
        for value in [
            key.as_str(),
            "Bearer",
            "Bearer ",
            &format!("Bearer  {key}"),
            &format!("Bearer\t{key}"),
            &format!("Bearer {key} "),
            &format!("Bearer {key},{key}"),
            &format!("Bearer \"{key}\""),
            &format!("Bearer {long}"),
            &format!("Basic {key}"),
            &format!("Bearer{key}"),
            "Bearer ====",
            "",
        ] {
            let answer = said(&scheme, &[("authorization", value)], NOW);
            assert_eq!(answer, "credential-malformed", "{value}");
        }
        for value in ["", "a b", "a,b", "=a", &long] {
            assert_eq!(
                said(&scheme, &[("x-api-key", value)], NOW),
                "credential-malformed",
                "{value}"
            );
        }
    }

    #[test]
    fn a_mistyped_an_unknown_and_a_strange_key_are_told_apart_in_private() {
        let scheme = scheme();
        let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
        let other = |env| {
            let (_, secret) = scheme.directory.format().generate(env).unwrap();
            String::from_utf8(secret.expose().to_vec()).unwrap()
        };
        let ask = |key: &str| said(&scheme, &[("x-api-key", key)], NOW);
        assert_eq!(ask(&key[..key.len() - 1]), "credential-malformed");
        assert_eq!(ask(&other("live")), "credential-unknown");
        assert_eq!(ask(&other("test")), "credential-environment");
        assert_eq!(ask("some-other-token"), "credential-unknown");
        assert_eq!(ask(&key), "user-1");
    }

    #[test]
    fn a_key_with_a_known_id_and_another_secret_is_unknown_whatever_its_bounds() {
        let scheme = scheme();
        let created = scheme.directory.create(wish(), NOW).unwrap();
        scheme.directory.revoke(created.id, NOW).unwrap();
        // The same id, another secret, and a checksum that fits.
        let key = text_of(&created);
        let mut forged = key[..key.len() - 6].to_owned();
        let end = if forged.ends_with('0') { "1" } else { "0" };
        forged.replace_range(forged.len() - 1.., end);
        let check = crc32fast::hash(forged.as_bytes());
        let alphabet: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
        forged
            .extend((0..6).rev().map(|power| alphabet[(check / 62_u32.pow(power) % 62) as usize]));
        let parsed = scheme.directory.format().parse(&forged).unwrap();
        assert_eq!(parsed.id, created.id);
        assert_eq!(said(&scheme, &[("x-api-key", &forged)], NOW), "credential-unknown");
        assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "credential-revoked");
    }

    #[test]
    fn bounds_are_kept() {
        let scheme = scheme();
        let at = |ms: u64| Now { unix_ms: NOW.unix_ms + ms, ..NOW };
        let bounded = NewKey {
            not_before_ms: Some(at(1000).unix_ms),
            expires_ms: Some(at(2000).unix_ms),
            ..wish()
        };
        let key = text_of(&scheme.directory.create(bounded, NOW).unwrap());
        let ask = |now| said(&scheme, &[("x-api-key", &key)], now);
        assert_eq!(ask(at(999)), "credential-expired");
        assert_eq!(ask(at(1000)), "user-1");
        assert_eq!(ask(at(1999)), "user-1");
        assert_eq!(ask(at(2000)), "credential-expired");
        for (network, answer) in [("192.0.2.0/24", "user-1"), ("10.0.0.0/8", "credential-network")]
        {
            let bounded = NewKey { networks: vec![network.parse().unwrap()], ..wish() };
            let key = text_of(&scheme.directory.create(bounded, NOW).unwrap());
            assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), answer);
        }
    }

    #[test]
    fn a_revoked_key_is_refused_from_the_next_request_on() {
        let scheme = scheme();
        let created = scheme.directory.create(wish(), NOW).unwrap();
        let key = text_of(&created);
        assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "user-1");
        scheme.directory.revoke(created.id, NOW).unwrap();
        assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "credential-revoked");
    }

    #[test]
    fn a_known_key_of_another_environment_is_refused() {
        let store = Arc::new(Store::in_memory().unwrap());
        let test = Directory::open(Arc::clone(&store), &pepper(), "test").unwrap();
        let key = text_of(&test.create(wish(), NOW).unwrap());
        let live = ApiKeyScheme::new(Arc::new(Directory::open(store, &pepper(), "live").unwrap()));
        assert_eq!(said(&live, &[("x-api-key", &key)], NOW), "credential-environment");
    }

    #[test]
    fn both_keys_hold_while_they_overlap() {
        let scheme = scheme();
        let old = scheme.directory.create(wish(), NOW).unwrap();
        let new = scheme.directory.rotate(old.id, Duration::from_secs(60), NOW).unwrap();
        let later = Now { unix_ms: NOW.unix_ms + 60_000, ..NOW };
        for (created, now, answer) in [
            (&old, NOW, "user-1"),
            (&new, NOW, "user-1"),
            (&old, later, "credential-expired"),
            (&new, later, "user-1"),
        ] {
            assert_eq!(said(&scheme, &[("x-api-key", &text_of(created))], now), answer);
        }
    }

    #[test]
    fn a_key_in_the_query_is_refused_beside_a_good_one() {
        let scheme = scheme();
        let created = scheme.directory.create(wish(), NOW).unwrap();
        let key = text_of(&created);
        let asked = |query: &str| {
            let mut head = head(&[("x-api-key", &key)]);
            head.query = Some(query.into());
            match scheme.attempt(&head, NOW) {
                Attempt::Rejected(refusal) => {
                    assert_eq!(refusal.reason, Reason::CredentialInQuery);
                    assert!(!refusal.private.contains(&key[20..]), "{}", refusal.private);
                    false
                }
                Attempt::Accepted(_) => true,
                Attempt::Absent | Attempt::Ask(_) => panic!("the header was not seen"),
            }
        };
        for query in [&format!("a=1&k={key}"), "Access_Token=x", "limit=5&api_key", "apikey=1"] {
            assert!(!asked(query), "{query}");
        }
        for query in ["", "limit=5&sort=api_key", "q=pcl_live_", &format!("q={}", &key[..30])] {
            assert!(asked(query), "{query}");
        }
    }

    #[test]
    fn garbage_never_proves_anybody() {
        let scheme = scheme();
        scheme.directory.create(wish(), NOW).unwrap();
        scheme.directory.import(["imported-key-0123456789"], &wish(), NOW).unwrap();
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            prop::collection::vec(0x20_u8..0x7f, 0..600),
            "[0-9A-Za-z._~+/-]{0,100}={0,3}".prop_map(String::into_bytes),
            "(pcl_live_|imported-key-)[0-9A-Za-z]{40}".prop_map(String::into_bytes),
        ];
        let word = prop::sample::select(vec!["", "Bearer ", "bearer ", "Basic "]);
        proptest!(|(word in word, bearer in bytes.clone(), plain in bytes, carriers in 0..3_u8)| {
            let mut head = head(&[]);
            let bearer = HeaderValue::from_bytes(&[word.as_bytes(), &bearer].concat());
            if let (Ok(value), 0 | 2) = (bearer, carriers) {
                head.headers.append(AUTHORIZATION, value);
            }
            if let (Ok(value), 1 | 2) = (HeaderValue::from_bytes(&plain), carriers) {
                head.headers.append(X_API_KEY, value);
            }
            let empty = head.headers.is_empty();
            match scheme.attempt(&head, NOW) {
                Attempt::Accepted(_) => prop_assert!(false, "garbage was accepted"),
                Attempt::Absent | Attempt::Ask(_) => prop_assert!(empty),
                Attempt::Rejected(_) => prop_assert!(!empty),
            }
        });
    }
}
