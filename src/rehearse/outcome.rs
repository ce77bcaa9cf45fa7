//! What a test expected, what it got, and where the two differ.

use serde_json::Value;

use crate::policy::case::{Case, CaseCaller, Decision as Wanted, ExpectRule};
use crate::rehearse::Happened;
use crate::rehearse::decision::Decision;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether everything was as expected.
    pub passed: bool,
    /// What was expected, in words.
    pub expected: String,
    /// What happened, in words.
    pub got: String,
    /// What differs and why, a line each; empty when the test passed.
    pub explanation: Vec<String>,
    /// The route that was found, if any was; for coverage.
    pub route: Option<String>,
}

impl Outcome {
    pub(in crate::rehearse) fn of(case: &Case, happened: Result<&Happened, &str>) -> Self {
        let expected = expected(&case.expect);
        let happened = match happened {
            Ok(happened) => happened,
            Err(says) => {
                let got = "nothing: the test could not be run".to_owned();
                let explanation = vec![says.to_owned()];
                return Self { passed: false, expected, got, explanation, route: None };
            }
        };
        let decision = &happened.decision;
        let mut explanation = differences(&case.expect, happened);
        let passed = explanation.is_empty();
        if !passed && !decision.detail.is_empty() {
            explanation.push(decision.detail.clone());
        }
        Self {
            passed,
            expected,
            got: got(decision),
            explanation,
            route: decision.is_routed().then(|| decision.route.clone()),
        }
    }

    /// The failure as people read it.
    pub fn report(&self, case: &Case) -> String {
        let origin = &case.origin;
        let mut lines = vec![
            format!("FAILED  {}   {}:{}", case.name, origin.path(), origin.line()),
            format!("  request   {}", asked(case)),
            format!("  expected  {}", self.expected),
            format!("  got       {}", self.got),
        ];
        lines.extend(self.explanation.iter().map(|line| format!("            {line}")));
        lines.join("\n")
    }
}

/// The request of a test, in words: `GET /v1/users/u-8   as u-7 (member; users:read; free)`.
pub fn asked(case: &Case) -> String {
    let who = case.caller.as_ref().map_or_else(|| "nobody".to_owned(), in_words);
    let times = if case.repeat > 1 { format!("   {} times", case.repeat) } else { String::new() };
    format!("{} {}   as {who}{times}", case.request.method, case.request.target)
}

/// A caller in words: subject, roles, scopes and tier.
pub fn in_words(caller: &CaseCaller) -> String {
    let list = |texts: &[String]| {
        if texts.is_empty() { "none".to_owned() } else { texts.join(" ") }
    };
    let tier = caller.tier.as_deref().unwrap_or("no tier");
    let signed = if caller.signed { "; signed" } else { "" };
    let shown = caller.certificate.as_ref().map(|name| format!("; certificate {name}"));
    let shown = shown.unwrap_or_default();
    let (roles, scopes) = (list(&caller.roles), list(&caller.scopes));
    format!("{} ({roles}; {scopes}; {tier}{signed}{shown})", caller.sub)
}

/// `refuse 403 at authorize, reason not-owner`
fn expected(expect: &ExpectRule) -> String {
    let mut text = verb(expect.decision == Wanted::Allow).to_owned();
    if let Some(status) = &expect.status {
        text.push_str(&format!(" {}", status.value));
    }
    if let Some(stage) = &expect.stage {
        text.push_str(&format!(" at {}", stage.value));
    }
    if let Some(reason) = &expect.reason {
        text.push_str(&format!(", reason {}", reason.value));
    }
    if let Some(rule) = &expect.rule {
        text.push_str(&format!(", by {rule}"));
    }
    if let Some(route) = &expect.route {
        text.push_str(&format!(", on route {route}"));
    }
    text
}

/// `allow 200 by routes.users-read.allow[1]   policies/users.toml:29`
fn got(decision: &Decision) -> String {
    let mut text = format!("{} {}", verb(decision.is_allowed()), decision.status);
    if let (Some(stage), Some(reason)) = (&decision.stage, &decision.reason) {
        text.push_str(&format!(" at {stage}, reason {reason}"));
    }
    match decision.rule() {
        Some(rule) => text.push_str(&format!(", by {}   {}", rule.rule, rule.place)),
        None if decision.is_routed() => text.push_str(&format!(", on route {}", decision.route)),
        None => {}
    }
    text
}

fn verb(allowed: bool) -> &'static str {
    if allowed { "allow" } else { "refuse" }
}

/// Every difference, a line each.
fn differences(expect: &ExpectRule, happened: &Happened) -> Vec<String> {
    let decision = &happened.decision;
    let mut lines = Vec::new();
    let mut compare = |what: &str, wanted: Option<&str>, got: &str| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != got) {
            let got = if got.is_empty() { "none" } else { got };
            lines.push(format!("{what}: expected {wanted}, got {got}"));
        }
    };
    let status = expect.status.as_ref().map(|status| status.value.to_string());
    compare("decision", Some(verb(expect.decision == Wanted::Allow)), verb(decision.is_allowed()));
    compare("status", status.as_deref(), &happened.status.as_u16().to_string());
    let stage = expect.stage.as_ref().map(|stage| stage.value.as_str());
    compare("stage", stage, decision.stage.as_deref().unwrap_or_default());
    let reason = expect.reason.as_ref().map(|reason| reason.value.as_str());
    compare("reason", reason, decision.reason.as_deref().unwrap_or_default());
    let route = if decision.is_routed() { decision.route.as_str() } else { "" };
    compare("route", expect.route.as_deref(), route);
    let rule = decision.rule().map_or("", |rule| &rule.rule);
    compare("rule", expect.rule.as_deref().filter(|wanted| !names(wanted, rule)), rule);
    for (name, wanted) in &expect.headers {
        let values = happened.headers.get_all(name.as_str());
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        compare(&format!("header {name}"), Some(wanted), &values.join(", "));
    }
    let body = String::from_utf8_lossy(&happened.body);
    compare("body", expect.body.as_deref().filter(|wanted| !is_same_body(wanted, &body)), &body);
    if let Some(wanted) = &expect.observed {
        let mut wanted: Vec<&str> = wanted.iter().map(|reason| reason.value.as_str()).collect();
        let mut seen: Vec<&str> =
            decision.observed.iter().map(|seen| seen.reason.as_str()).collect();
        wanted.sort_unstable();
        seen.sort_unstable();
        let wanted = if wanted.is_empty() { "none".to_owned() } else { wanted.join(", ") };
        let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
        compare("observed", Some(&wanted), &seen);
    }
    lines
}

/// Whether an address names a rule: the rule itself, or one that it is a part of.
fn names(wanted: &str, rule: &str) -> bool {
    rule.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// JSON is compared by what it says, everything else byte for byte.
fn is_same_body(wanted: &str, got: &str) -> bool {
    match (serde_json::from_str::<Value>(wanted), serde_json::from_str::<Value>(got)) {
        (Ok(wanted), Ok(got)) => wanted == got,
        _ => wanted == got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_rule_and_its_parts() {
        assert!(names("limits.write", "limits.write"));
        assert!(names("limits.write", "limits.write.tiers.free"));
        assert!(names("routes.tasks-read", "routes.tasks-read.allow[0]"));
        assert!(names("routes.tasks-read.allow", "routes.tasks-read.allow[0]"));
        assert!(!names("limits.write", "limits.write-more"));
        assert!(!names("limits.write.tiers.free", "limits.write"));
    }

    #[test]
    fn json_is_compared_by_what_it_says() {
        assert!(is_same_body(r#"{"a": 1, "b": [2]}"#, r#"{"b":[2],"a":1}"#));
        assert!(!is_same_body(r#"{"a": 1}"#, r#"{"a": 2}"#));
        assert!(is_same_body("plain", "plain"));
        assert!(!is_same_body("plain", "{}"));
    }
}
