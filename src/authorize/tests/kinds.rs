//! Doors that deny, that are only watched, and that ask for times and certificates.

use super::*;

/// What `allow` and `deny` say at this time: `ok` with what was only observed, or the reason.
fn said(text: &str, who: Principal, head: &Head, now: Now) -> String {
    let (doors, mistakes) = compile_all(&format!("{text}\n{NAMES}"));
    let doors = doors.unwrap_or_else(|| panic!("{mistakes}"));
    match doors.allow(who, head, &parameters("u-7"), now) {
        Ok(permit) => {
            let observed = permit.observed().iter().map(|refusal| {
                format!(" {} {}", refusal.reason.name(), refusal.rule.as_ref().unwrap().rule())
            });
            format!("ok{}", observed.collect::<String>())
        }
        Err(refusal) => format!("{} {}", refusal.reason.name(), refusal.rule.unwrap().rule()),
    }
}

#[test]
fn a_door_that_denies_refuses_whatever_else_allows() {
    let text = r#"
allow = [{ anyone = true }, { roles = ["admin"] }]
deny = [{ tiers = ["free"], from = ["192.0.2.0/24"] }, { scopes = ["users:write"] }]
"#;
    let (inside, outside) = (head("10.1.2.3", None), head("192.0.2.9", None));
    for (who, head, wanted) in [
        (key("u-7", "admin", "", "free"), &inside, "ok"),
        (key("u-7", "admin", "", "free"), &outside, "door-denied routes.users-read.deny[0]"),
        (key("u-7", "admin", "", "pro"), &outside, "ok"),
        (
            key("u-7", "admin", "users:write", "pro"),
            &outside,
            "door-denied routes.users-read.deny[1]",
        ),
        (Principal::for_tests(None), &outside, "ok"),
    ] {
        assert_eq!(said(text, who, head, NOW), wanted);
    }
    let closed = "allow = [{ anyone = true }]\ndeny = [{ anyone = true }]";
    let told = said(closed, key("u-7", "admin", "", ""), &inside, NOW);
    assert_eq!(told, "door-denied routes.users-read.deny[0]");
    let (none, mistakes) = compile_all(&format!(
        "allow = [{{ anyone = true }}]\ndeny = [{{ owner = \"path.id\" }}]\n{NAMES}"
    ));
    assert!(none.is_none() && mistakes.starts_with("P0103 a door that denies"), "{mistakes}");
}

#[test]
fn a_door_that_is_only_watched_lets_in_until_its_day_and_tells() {
    // The clock of these tests stands at 2025-11-24.
    let text = |observe: &str| {
        format!(
            r#"
allow = [{{ roles = ["admin"], {observe} }}]
deny = [{{ tiers = ["free"], {observe} }}]
"#
        )
    };
    let watched = text("observe = { until = 2025-12-01 }");
    let inside = head("10.1.2.3", None);
    let later = Now { steady_ns: 0, unix_ms: 1_764_547_200_000 };
    let before = Now { unix_ms: later.unix_ms - 1, ..later };
    let (allow, deny) = ("routes.users-read.allow[0]", "routes.users-read.deny[0]");
    let member = || key("u-7", "member", "", "free");
    let admin = |tier| key("u-7", "admin", "", tier);
    let both = format!("ok door-denied {deny} role-missing {allow}");
    for (who, now, wanted) in [
        (member(), NOW, both.clone()),
        (member(), before, both),
        (member(), later, format!("door-denied {deny}")),
        (admin("free"), NOW, format!("ok door-denied {deny}")),
        (admin("pro"), NOW, "ok".to_owned()),
        (admin("free"), later, format!("door-denied {deny}")),
        (key("u-7", "member", "", "pro"), later, format!("role-missing {allow}")),
    ] {
        assert_eq!(said(&watched, who, &inside, now), wanted);
    }
    let past = text("observe = { until = \"2025-11-24\" }");
    assert_eq!(said(&past, member(), &inside, NOW), format!("door-denied {deny}"));
    let told = |observe| compile_all(&format!("{}\n{NAMES}", text(observe))).1;
    assert!(
        told("observe = { until = 2025-12-01 }").starts_with("W0404 this door is only watched")
    );
    assert!(told("observe = { until = 2025-11-24 }").starts_with("W0430 2025-11-24 has come"));
    assert!(told("observe = {}").starts_with("P0209 an observation without an end"));
    let (doors, _) = compile_all(&format!("{watched}\n{NAMES}"));
    let doors = doors.unwrap();
    let watching: Vec<_> =
        doors.watching().map(|(rule, until)| (rule.to_string(), until)).collect();
    assert_eq!(watching, [(deny.to_owned(), 1_764_547_200), (allow.to_owned(), 1_764_547_200)]);
    assert!(doors.let_anyone_in(), "others must see that it is open");
    let verdicts = doors.explain(&member(), &inside, &parameters("u-7"), NOW);
    let kinds: Vec<_> =
        verdicts.iter().map(|verdict| (verdict.denies, verdict.opens, verdict.observed)).collect();
    assert_eq!(kinds, [(true, true, true), (false, false, true)]);
}

#[test]
fn a_door_may_ask_for_a_time_and_for_a_name_in_the_certificate() {
    let mut certified = head("10.1.2.3", None);
    let shown = crate::listen::ClientCertificate::rehearsed("spiffe://example.org/ns/prod/api");
    certified.peer = Arc::new(Peer {
        tls: Some(crate::listen::TlsFacts {
            server_name: None,
            version: "TLSv1.3",
            certificate: Some(Arc::new(shown)),
            name_binds: false,
        }),
        ..(*certified.peer).clone()
    });
    let plain = head("10.1.2.3", None);
    let at = "routes.users-read.allow[0]";
    let (missing, late) = (format!("certificate-missing {at}"), format!("time-refused {at}"));
    // 2025-11-24, a Monday, 16:00 UTC.
    for (allow, head, wanted) in [
        (r#"certificates = ["spiffe://example.org/*"]"#, &certified, "ok"),
        (r#"certificates = ["spiffe://example.org/*"]"#, &plain, missing.as_str()),
        (r#"certificates = ["spiffe://example.org/ns/prod/api", "*.a.example"]"#, &certified, "ok"),
        (r#"certificates = ["spiffe://example.org/ns/*"]"#, &certified, "ok"),
        (r#"certificates = ["spiffe://example.org/ns/prod/api/*"]"#, &certified, &missing),
        (r#"certificates = ["spiffe://example.or/*"]"#, &certified, &missing),
        (r#"certificates = ["*.example.org"]"#, &certified, &missing),
        (r#"hours = ["16:00-16:01"], days = ["mon"]"#, &plain, "ok"),
        (r#"hours = ["08:00-16:00"]"#, &plain, &late),
        (r#"days = ["tue"]"#, &plain, &late),
        (r#"hours = ["22:00-16:01"]"#, &plain, "ok"),
    ] {
        let text = format!("allow = [{{ {allow} }}]");
        let who = key("u-7", "", "", "");
        assert_eq!(said(&text, who, head, NOW), wanted, "{allow}");
    }
    let (none, mistakes) = compile(
        r#"[{ hours = ["8-18"] }, { days = ["monday"] }, { certificates = ["a b", "spiffe://A"] }, { hours = [] }, { hours = ["24:00-01:00", "01:00-01:00"] }]"#,
    );
    assert!(none.is_none());
    assert_eq!(mistakes.lines().count(), 7, "{mistakes}");
}
