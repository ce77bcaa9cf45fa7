//! What doors let through: a truth table, and the mistakes that compiling finds.

mod kinds;

use std::sync::Arc;

use http::{Method, Version};
use serde::Deserialize;

use super::*;
use crate::authenticate::Grant;
use crate::authorize::vocabulary::VocabularyRule;
use crate::fields::Fields;
use crate::head::{RequestId, Trace};
use crate::listen::{Length, Peer};
use crate::mistake::Mistakes;
use crate::mistake::source::Source;
use crate::name::Name;
use crate::parties::Parties;
use crate::refusal::Reason;

const NOW: crate::clock::Now = crate::clock::Now { steady_ns: 0, unix_ms: 1_764_000_000_000 };

/// A head for the tests of this and later stages.
pub(crate) fn head(client: &str, query: Option<&str>) -> Head {
    Head {
        method: Method::GET,
        path: "/v1/users/u-7".into(),
        query: query.map(Into::into),
        target: "/v1/users/u-7".into(),
        version: Version::HTTP_11,
        headers: Fields::new(),
        length: Length::None,
        upgrade: None,
        parties: Arc::new(Parties::new(client.parse().unwrap(), "https", "api.example.com", None)),
        peer: Arc::new(Peer {
            address: "192.0.2.1:5000".parse().unwrap(),
            local: "192.0.2.2:8443".parse().unwrap(),
            listener: "public".into(),
            tls: None,
            trusted: Arc::default(),
            redirect_port: None,
            parties: Default::default(),
        }),
        id: RequestId(*b"01JDBZ8Q3M5V7X9K2N4P6R8T0W"),
        trace: Trace::begin(),
    }
}

/// A principal with these names, each list separated by spaces.
pub(crate) fn key(subject: &str, roles: &str, scopes: &str, tier: &str) -> Principal {
    Principal::for_tests(Some(Arc::new(Grant {
        credential: format!("key-of-{subject}").into(),
        subject: subject.into(),
        roles: roles.split_whitespace().collect(),
        scopes: scopes.split_whitespace().collect(),
        tier: (!tier.is_empty()).then(|| Name::new(tier)),
        ..Grant::default()
    })))
}

#[derive(Deserialize)]
struct Written {
    roles: std::collections::BTreeMap<String, At<vocabulary::RoleRule>>,
    scopes: std::collections::BTreeMap<String, At<String>>,
    tiers: std::collections::BTreeMap<String, At<vocabulary::TierRule>>,
    #[serde(default)]
    allow: Option<At<Vec<At<DoorRule>>>>,
    #[serde(default)]
    deny: Option<At<Vec<At<DoorRule>>>>,
}

const NAMES: &str = r#"
[roles]
admin   = { summary = "Operators", includes = ["manager"] }
manager = { summary = "Team leads", includes = ["member"] }
member  = { summary = "Users" }
[scopes]
"users:read"  = "Read"
"users:write" = "Write"
[tiers]
free = { summary = "Default" }
pro  = { summary = "Paying" }
"#;

fn compile(allow: &str) -> (Option<Doors>, String) {
    compile_all(&format!("allow = {allow}\n{NAMES}"))
}

fn compile_all(text: &str) -> (Option<Doors>, String) {
    let source = Source::new("policy.toml", text);
    let written: Written = toml::from_str(text).unwrap();
    let mut mistakes = Mistakes::default();
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let route = reading.origin("routes.users-read", &(0..1));
    let rule =
        VocabularyRule { roles: written.roles, scopes: written.scopes, tiers: written.tiers };
    let vocabulary = Vocabulary::compile(&rule, &mut reading);
    let frame = Frame { vocabulary: &vocabulary, parameters: &["id"], route: &route, now: NOW };
    let doors = written.allow.and_then(|allow| Doors::compile(&allow, frame, &mut reading));
    let doors = Doors::denying(doors, written.deny.as_ref(), frame, &mut reading);
    let shown: Vec<String> = mistakes
        .iter()
        .map(|m| format!("{} {} ({})", m.code.number(), m.says, m.help.as_deref().unwrap_or("")))
        .collect();
    (doors, shown.join("\n"))
}

fn doors(allow: &str) -> Doors {
    let (doors, mistakes) = compile(allow);
    doors.unwrap_or_else(|| panic!("{mistakes}"))
}

fn parameters(id: &str) -> Parameters {
    Parameters(vec![("id".into(), id.into())])
}

/// `ok`, or the reason and the door that said it.
fn verdict(doors: &Doors, who: Principal, head: &Head, id: &str) -> String {
    let told = doors.explain(&who, head, &parameters(id), NOW);
    match doors.allow(who, head, &parameters(id), NOW) {
        Ok(_) => {
            assert!(told.iter().any(|door| door.opens));
            "ok".to_owned()
        }
        Err(refusal) => {
            assert!(told.iter().all(|door| !door.opens), "explain and allow must agree");
            format!("{} {}", refusal.reason.name(), refusal.rule.unwrap().rule())
        }
    }
}

#[test]
fn a_door_opens_only_when_everything_in_it_holds() {
    let all = doors(
        r#"[{ scopes = ["users:read", "users:write"], roles = ["manager"], tiers = ["pro"], owner = "path.id", from = ["10.0.0.0/8"] }]"#,
    );
    let (inside, outside) = (head("10.1.2.3", None), head("192.0.2.9", None));
    let both = "users:read users:write";
    let at = "routes.users-read.allow[0]";
    for (who, head, id, wanted) in [
        (key("u-7", "manager", both, "pro"), &inside, "u-7", "ok".to_owned()),
        (key("u-7", "admin", both, "pro"), &inside, "u-7", "ok".to_owned()),
        (key("u-7", "manager", "users:read", "pro"), &inside, "u-7", format!("scope-missing {at}")),
        (key("u-7", "member", both, "pro"), &inside, "u-7", format!("role-missing {at}")),
        (key("u-7", "manager", both, "free"), &inside, "u-7", format!("tier-missing {at}")),
        (key("u-7", "manager", both, ""), &inside, "u-7", format!("tier-missing {at}")),
        (key("u-7", "manager", both, "pro"), &inside, "u-8", format!("not-owner {at}")),
        (key("u-7", "manager", both, "pro"), &outside, "u-7", format!("network-refused {at}")),
        (Principal::for_tests(None), &inside, "u-7", format!("scope-missing {at}")),
    ] {
        assert_eq!(verdict(&all, who, head, id), wanted);
    }
}

#[test]
fn one_door_is_enough_and_the_furthest_one_speaks() {
    let doors = doors(
        r#"[{ scopes = ["users:read"], owner = "path.id" }, { scopes = ["users:read"], roles = ["manager"] }, { tiers = ["pro"] }]"#,
    );
    let head = head("192.0.2.9", None);
    let own = key("u-7", "member", "users:read", "free");
    assert_eq!(verdict(&doors, own, &head, "u-7"), "ok");
    let lead = key("u-2", "admin", "users:read", "free");
    assert_eq!(verdict(&doors, lead, &head, "u-7"), "ok");
    let paying = key("u-3", "", "", "pro");
    assert_eq!(verdict(&doors, paying, &head, "u-7"), "ok");
    let other = key("u-8", "member", "users:read", "free");
    assert_eq!(verdict(&doors, other, &head, "u-7"), "not-owner routes.users-read.allow[0]");
    let nothing = key("u-8", "member", "", "free");
    assert_eq!(verdict(&doors, nothing, &head, "u-7"), "scope-missing routes.users-read.allow[0]");
}

#[test]
fn the_private_detail_says_what_is_held_instead() {
    let doors = doors(r#"[{ scopes = ["users:write"] }]"#);
    let who = key("u-7", "member", "users:read", "free");
    let refusal = doors.allow(who, &head("192.0.2.9", None), &parameters("u-7"), NOW).unwrap_err();
    assert_eq!(refusal.reason, Reason::ScopeMissing);
    assert_eq!(refusal.private, "asks for scopes users:write; the key has users:read");
    assert_eq!(refusal.rule.unwrap().line(), 1);
}

#[test]
fn anonymous_callers_pass_only_doors_that_ask_for_no_identity() {
    let head = head("10.1.2.3", None);
    let nobody = || Principal::for_tests(None);
    for (allow, wanted) in [
        (r#"[{ anyone = true }]"#, true),
        (r#"[{ anyone = true, from = ["10.0.0.0/8"] }]"#, true),
        (r#"[{ from = ["10.0.0.0/8"] }]"#, true),
        (r#"[{ from = ["192.0.2.0/24"] }]"#, false),
        (r#"[{ scopes = ["users:read"] }]"#, false),
        (r#"[{ owner = "path.id" }]"#, false),
        (r#"[{ tiers = ["free"] }]"#, false),
    ] {
        let passed = doors(allow).allow(nobody(), &head, &parameters(""), NOW).is_ok();
        assert_eq!(passed, wanted, "{allow}");
    }
    assert!(Doors::open().allow(nobody(), &head, &parameters(""), NOW).unwrap().door().is_none());
}

#[test]
fn an_owner_in_the_query_is_beyond_doubt_or_nobody() {
    let doors = doors(r#"[{ owner = "query.user" }]"#);
    for (query, wanted) in [
        (Some("user=u-7"), true),
        (Some("a=1&user=u%2D7&b=2"), true),
        (Some("user=u-8"), false),
        (Some("user=u-7&user=u-8"), false),
        (Some("user=u-8&user=u-7"), false),
        (Some("user=u-7&User=u-8"), false),
        (Some("User=u-7"), false),
        (Some("user=u-7&%75ser=u-8"), false),
        (Some("a=1;user=u-8&user=u-7"), false),
        (Some("user="), false),
        (Some("user"), false),
        (Some(""), false),
        (None, false),
    ] {
        let who = key("u-7", "", "", "");
        let passed = doors.allow(who, &head("10.1.2.3", query), &parameters("x"), NOW).is_ok();
        assert_eq!(passed, wanted, "{query:?}");
    }
    let plus = doors.allow(
        key("a b", "", "", ""),
        &head("10.1.2.3", Some("user=a+b")),
        &parameters("x"),
        NOW,
    );
    assert!(plus.is_err(), "a plus may be a space to one and a plus to another");
    let nameless =
        doors.allow(key("", "", "", ""), &head("10.1.2.3", Some("user=")), &parameters(""), NOW);
    assert!(nameless.is_err(), "no subject owns nothing");
}

#[test]
fn an_owner_in_the_path_is_compared_decoded() {
    let doors = doors(r#"[{ owner = "path.id" }]"#);
    let passes = |subject: &str, id: &str| {
        doors.allow(key(subject, "", "", ""), &head("10.1.2.3", None), &parameters(id), NOW).is_ok()
    };
    assert!(passes("ada@example.com", "ada%40example.com"));
    assert!(passes("u-7", "u-7"));
    assert!(!passes("u-7", "U-7"));
    assert!(!passes("u-7", "u-70"));
}

#[test]
fn mistakes_in_doors_are_all_reported() {
    let (doors, mistakes) = compile(
        r#"[{ scopes = ["users:raed"], roles = ["manger"], tiers = ["gold"], owner = "path.user" }, { }, { anyone = false }, { anyone = true, roles = ["member"] }, { roles = [] }, { owner = "body.id" }, { from = [] }]"#,
    );
    assert!(doors.is_none());
    for wanted in [
        "P0201 scope `users:raed` is not defined (did you mean `users:read`?)",
        "P0201 role `manger` is not defined (did you mean `manager`?)",
        "P0201 tier `gold` is not defined (known are: free, pro)",
        "P0201 the route's pattern has no parameter `user`",
        "P0205 this door asks for nothing",
        "P0204 `anyone = false` means nothing",
        "P0103 `anyone` opens this door to all",
        "P0204 `roles` is empty",
        "P0103 `body.id` does not name a value",
        "P0204 `from` is empty",
    ] {
        assert!(mistakes.contains(wanted), "{wanted} is not in\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 10, "{mistakes}");
    assert!(compile("[]").1.starts_with("P0205 nobody may use this route"));
}

#[test]
fn mistakes_in_the_vocabulary_are_all_reported() {
    let (_, mistakes) = compile_all(
        r#"
[roles]
a = { summary = "", includes = ["b"] }
b = { summary = "", includes = ["a", "c"] }
Big = { summary = "" }
[scopes]
"with space" = ""
[tiers]
"9" = { summary = "" }
"#,
    );
    for wanted in [
        "P0201 role `c` is not defined",
        "P0103 role `a` includes itself through `b`",
        "P0103 role `b` includes itself through `a`",
        "P0106 `Big` cannot be a name",
        "P0106 `9` cannot be a name",
        "P0106 `with space` cannot be a scope",
    ] {
        assert!(mistakes.contains(wanted), "{wanted} is not in\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 6, "{mistakes}");
}
