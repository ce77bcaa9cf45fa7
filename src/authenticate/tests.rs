//! Protects who is asked, what is enough, and what is told to those who are refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderName, Method, Version};

use super::*;
use crate::authenticate::api_key::ApiKeyScheme;
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::record::NewKey;
use crate::authenticate::rule::AuthRule;
use crate::fields::Fields;
use crate::head::{RequestId, Trace};
use crate::listen::{Length, Peer};
use crate::mistake::source::{At, Source};
use crate::mistake::{Mistakes, Reading, read};
use crate::parties::Parties;
use crate::secret::Secret;

/// The time at which these tests happen.
pub(in crate::authenticate) const NOW: Now = Now { steady_ns: 0, unix_ms: 1_764_000_000_000 };

/// The pepper of these tests.
pub(in crate::authenticate) fn pepper() -> Secret {
    Secret::new(vec![5; 32])
}

/// A head with these headers, from 192.0.2.7.
pub(in crate::authenticate) fn head(headers: &[(&str, &str)]) -> Head {
    let address: SocketAddr = "192.0.2.7:50000".parse().unwrap();
    let headers = headers.iter().map(|(name, value)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    });
    let mut map = Fields::new();
    for (name, value) in headers {
        map.append(name, value);
    }
    Head {
        method: Method::GET,
        path: "/v1/tasks".into(),
        query: None,
        target: "/v1/tasks".into(),
        version: Version::HTTP_11,
        headers: map,
        length: Length::None,
        upgrade: None,
        parties: Arc::new(Parties::new(address.ip(), "https", "localhost", None)),
        peer: Arc::new(Peer {
            address,
            local: address,
            listener: "public".into(),
            tls: None,
            trusted: Arc::default(),
            redirect_port: None,
            parties: Default::default(),
        }),
        id: RequestId(*b"01JD5Z3M7Q8V9T2K4N6P0R1S5W"),
        trace: Trace::begin(),
    }
}

/// Says what the header `x-test-signature` tells it to.
struct Signature;

impl Scheme for Signature {
    fn name(&self) -> &str {
        "signature.request"
    }

    fn attempt(&self, head: &Head, _: Now) -> Attempt {
        let Some(value) = head.headers.get("x-test-signature") else { return Attempt::Absent };
        match value.to_str().unwrap() {
            "wrong" => Attempt::Rejected(Reason::SignatureWrong.into()),
            subject => Attempt::Accepted(Evidence {
                grant: Arc::new(Grant {
                    credential: "signer00".into(),
                    subject: subject.into(),
                    ..Grant::default()
                }),
                digest_covered: true,
                standing: None,
                assurance: None,
                dpop_nonce: None,
            }),
        }
    }

    fn challenge(&self, with_body: bool) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match with_body {
            true => "sig=(\"@method\" \"content-digest\");created",
            false => "sig=(\"@method\");created",
        }))
    }
}

/// The schemes of a policy, and a key of `alice` to use with them.
fn schemes() -> (BTreeMap<String, Arc<dyn Scheme>>, String) {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let wish = NewKey { name: "a".into(), subject: "alice".into(), ..NewKey::default() };
    let key = directory.create(wish, NOW).unwrap();
    let api_key: Arc<dyn Scheme> = Arc::new(ApiKeyScheme::new(Arc::new(directory)));
    let schemes = BTreeMap::from([
        ("api-key".to_owned(), api_key),
        ("signature.request".to_owned(), Arc::new(Signature) as Arc<dyn Scheme>),
        ("signature.other".to_owned(), Arc::new(Signature)),
    ]);
    (schemes, String::from_utf8(key.secret.expose().to_vec()).unwrap())
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct RouteRule {
    auth: At<AuthRule>,
}

fn compiled(
    schemes: &BTreeMap<String, Arc<dyn Scheme>>,
    auth: &str,
) -> (Option<Authenticate>, String) {
    let source = Source::new("policies/tasks.toml", format!("[route]\nauth = {auth}\n"));
    let mut mistakes = Mistakes::default();
    let entry = read::top(&source, &mut mistakes).pop().unwrap();
    let rule: Option<RouteRule> = read::rule("a route", entry.node, &source, &mut mistakes);
    let made = rule.and_then(|rule| {
        let mut reading = Reading { source: &source, mistakes: &mut mistakes };
        Authenticate::compile(&rule.auth, schemes, "tasks", &mut reading)
    });
    let shown: Vec<String> = mistakes
        .iter()
        .map(|mistake| {
            let help = mistake.help.clone().unwrap_or_default();
            let place = mistake.place.as_ref().unwrap();
            format!("{} {place} {}; {help}", mistake.code.number(), mistake.says)
        })
        .collect();
    (made, shown.join("\n"))
}

/// Which headers a table's row sends: a good or a bad key, and what the signature says.
fn sent(key: &str, signature: &str, good: &str) -> Head {
    let mut headers = Vec::new();
    match key {
        "good" => headers.push(("x-api-key", good)),
        "bad" => headers.push(("x-api-key", "0123456789abcdef")),
        _ => {}
    }
    if !signature.is_empty() {
        headers.push(("x-test-signature", signature));
    }
    head(&headers)
}

#[test]
fn every_way_to_combine_schemes_is_answered_as_the_table_says() {
    let (schemes, good) = schemes();
    let any = "{ any = [\"api-key\", \"signature.request\"] }";
    let all = "{ all = [\"api-key\", \"signature.request\"] }";
    let turned = "{ all = [\"signature.request\", \"api-key\"] }";
    let alone = "{ any = [\"signature.request\"] }";
    for (auth, key, signature, expected) in [
        (any, "", "", "credential-missing"),
        (any, "good", "", "api-key alice"),
        (any, "bad", "", "credential-unknown"),
        (any, "", "alice", "signature alice digest"),
        (any, "", "wrong", "signature-wrong"),
        (any, "good", "alice", "api-key alice digest"),
        (any, "good", "bob", "credential-owner-mismatch"),
        (any, "good", "wrong", "signature-wrong"),
        (any, "bad", "alice", "credential-unknown"),
        (all, "", "", "credential-missing"),
        (all, "good", "", "signature-missing"),
        (all, "bad", "", "credential-unknown"),
        (all, "", "alice", "credential-missing"),
        (all, "good", "alice", "api-key alice digest"),
        (all, "good", "bob", "credential-owner-mismatch"),
        (all, "good", "wrong", "signature-wrong"),
        (all, "bad", "alice", "credential-unknown"),
        (turned, "", "", "signature-missing"),
        (turned, "", "alice", "credential-missing"),
        (turned, "good", "alice", "signature alice digest"),
        (alone, "", "", "signature-missing"),
        (alone, "good", "", "signature-missing"),
        (alone, "", "bob", "signature bob digest"),
        ("\"none\"", "", "", "none"),
        ("\"none\"", "bad", "wrong", "none"),
    ] {
        let (authenticate, mistakes) = compiled(&schemes, auth);
        let authenticate = authenticate.unwrap_or_else(|| panic!("{mistakes}"));
        let said = match authenticate.who(&sent(key, signature, &good), NOW) {
            Err(refusal) => refusal.reason.name().to_owned(),
            Ok(principal) => {
                let subject = principal.grant().map(|grant| format!(" {}", grant.subject));
                let digest = if principal.digest_covered() { " digest" } else { "" };
                format!("{}{}{digest}", principal.scheme(), subject.unwrap_or_default())
            }
        };
        assert_eq!(said, expected, "{auth} with key `{key}` and signature `{signature}`");
    }
}

#[test]
fn the_challenge_says_error_only_to_those_who_showed_something() {
    let (schemes, _) = schemes();
    let all = compiled(&schemes, "{ all = [\"api-key\", \"signature.request\"] }").0.unwrap();
    let told = |reason| all.challenge(reason, true).map(|asked| asked.www_authenticate.clone());
    assert_eq!(told(Reason::CredentialMissing).unwrap(), "Bearer realm=\"tasks\"");
    for reason in [Reason::CredentialUnknown, Reason::SignatureMissing, Reason::SignatureWrong] {
        assert_eq!(told(reason).unwrap(), "Bearer realm=\"tasks\", error=\"invalid_token\"");
    }
    assert_eq!(told(Reason::CredentialRepeated), None);
    assert_eq!(told(Reason::NonceStoreFull), None);
    let asked = all.challenge(Reason::CredentialMissing, true).unwrap();
    assert_eq!(asked.accept_signature.len(), 1);
    assert_eq!(asked.want_content_digest.as_ref().unwrap(), "sha-256=10");
    let key = compiled(&schemes, "{ any = [\"api-key\"] }").0.unwrap();
    let asked = key.challenge(Reason::CredentialUnknown, true).unwrap();
    assert!(asked.accept_signature.is_empty() && asked.want_content_digest.is_none());
    let signature = compiled(&schemes, "{ any = [\"signature.request\"] }").0.unwrap();
    let asked = signature.challenge(Reason::SignatureMissing, true).unwrap();
    assert_eq!(asked.www_authenticate, "Signature realm=\"tasks\"");
    let bare = all.challenge(Reason::CredentialMissing, false).unwrap();
    assert!(bare.want_content_digest.is_none(), "there is nothing to digest");
    let open = compiled(&schemes, "\"none\"").0.unwrap();
    assert!(open.is_open() && open.challenge(Reason::CredentialMissing, true).is_none());
}

#[test]
fn a_realm_cannot_break_out_of_its_quotes() {
    let challenge = Challenge::new("a\"b\\c\r\nd", true, None, &[]);
    assert_eq!(challenge.www_authenticate, "Bearer realm=\"abcd\"");
}

#[test]
fn every_mistake_in_auth_is_told_at_its_place() {
    let (schemes, _) = schemes();
    for (auth, expected) in [
        ("\"open\"", "P0211 policies/tasks.toml:2:8 `open` is no `auth`; write {"),
        ("{ any = [] }", "P0211 policies/tasks.toml:2:8 `auth` names no scheme"),
        ("{}", "P0211 policies/tasks.toml:2:8 `auth` has neither `any` nor `all`"),
        ("{ any = [\"api-key\"], all = [\"api-key\"] }", "`auth` has both `any` and `all`"),
        (
            "{ any = [\"api-kye\"] }",
            "P0201 policies/tasks.toml:2:17 there is no scheme `api-kye`; did you mean `api-key`?",
        ),
        (
            "{ ayn = [\"api-key\"] }",
            "P0102 policies/tasks.toml:2:10 unknown key `ayn` in `auth` of a route; did you mean `any`?",
        ),
        (
            "{ any = [\"api-key\", \"api-key\"] }",
            "P0211 policies/tasks.toml:2:28 `auth` asks twice for a credential of the kind `api-key`",
        ),
        ("{ any = [\"signature.other\", \"signature.request\"] }", "of the kind `signature`"),
        ("3", "P0103 policies/tasks.toml:2:8"),
    ] {
        let (made, mistakes) = compiled(&schemes, auth);
        assert!(made.is_none(), "{auth}");
        assert!(mistakes.contains(expected), "{auth}: {mistakes}");
    }
    let (_, mistakes) = compiled(&schemes, "{ any = [\"x\", \"api-key\", \"y\", \"api-key\"] }");
    assert_eq!(mistakes.lines().count(), 3, "{mistakes}");
}

#[test]
fn headers_that_carry_credentials_are_known() {
    for name in ["authorization", "x-api-key", "signature", "signature-input"] {
        assert!(is_credential(&HeaderName::from_static(name)), "{name}");
    }
    assert!(!is_credential(&HeaderName::from_static("accept")));
}
