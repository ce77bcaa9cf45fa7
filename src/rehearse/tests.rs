//! Rehearsals of the shipped policies and of small ones.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::policy::case::CaseCaller;

/// 2026-11-23T00:00:00Z.
const NOW: Now = Now { steady_ns: 0, unix_ms: 1_795_392_000_000 };

const HEAD: &str = r#"
version = 1
name = "rehearsed"
[roles]
admin = { summary = "all", includes = ["member"] }
member = { summary = "some" }
[scopes]
"tasks:read" = "read"
"tasks:write" = "write"
[tiers]
free = { summary = "free" }
[limits.write]
per = "principal"
all = { burst = 2, refill = "2/min" }
[filters.attacks]
detect = ["sql"]
[signatures.request]
components = ["@method", "@authority", "@path", "@query", "x-tenant"]
[routes.tasks-list]
summary = "List"
match = "GET /v1/tasks"
upstream = "tasks"
allow = [{ scopes = ["tasks:read"] }]
filter = "attacks"
[routes.tasks-create]
summary = "Create"
match = "POST /v1/tasks"
upstream = "tasks"
allow = [{ scopes = ["tasks:write"], roles = ["admin"] }, { scopes = ["tasks:write"], roles = ["member"] }]
limits = ["write"]
[routes.tasks-pay]
summary = "Pay"
match = "POST /v1/tasks/{taskId}/pay"
upstream = "tasks"
auth = { all = ["api-key", "signature.request"] }
allow = [{ anyone = true }]
limits = ["write"]
"#;

fn written(tests: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), format!("{HEAD}{tests}")).unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

fn loaded(dir: &Path) -> Rehearsal {
    let mut mistakes = Mistakes::default();
    let rehearsal = Rehearsal::load(dir, None, NOW, &mut mistakes);
    let says: Vec<String> = mistakes.iter().map(|mistake| mistake.render(false)).collect();
    rehearsal.unwrap_or_else(|| panic!("{}", says.join("\n")))
}

fn outcomes(tests: &str) -> Vec<Outcome> {
    let (_dir, path) = written(tests);
    let rehearsal = loaded(&path);
    rehearsal.policy().cases().iter().map(|case| rehearsal.run(case)).collect()
}

fn failures(tests: &str) -> Vec<Outcome> {
    outcomes(tests).into_iter().filter(|outcome| !outcome.passed).collect()
}

#[test]
fn the_shipped_policies_pass_their_own_tests() {
    let rehearsal = loaded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"));
    assert!(rehearsal.policy().cases().len() >= 12);
    for case in rehearsal.policy().cases() {
        let outcome = rehearsal.run(case);
        assert!(outcome.passed, "{}", outcome.report(case));
    }
}

#[test]
fn a_failing_test_says_what_was_expected_and_what_came() {
    let [outcome] = &failures(
        r#"
[[test]]
name = "wrong"
request = "POST /v1/tasks"
as = { sub = "u-7", roles = ["member"], scopes = ["tasks:write"] }
expect = { decision = "refuse", status = 403, stage = "authorize", reason = "role-missing" }
"#,
    )[..] else {
        panic!("one failure")
    };
    assert_eq!(outcome.expected, "refuse 403 at authorize, reason role-missing");
    assert!(
        outcome.got.starts_with("allow 200, by routes.tasks-create.allow[1]   "),
        "{}",
        outcome.got
    );
    assert!(outcome.got.ends_with("policy.toml:29"), "{}", outcome.got);
    let lines = &outcome.explanation;
    assert!(lines.contains(&"decision: expected refuse, got allow".to_owned()), "{lines:?}");
    assert!(lines.contains(&"stage: expected authorize, got none".to_owned()), "{lines:?}");
    assert_eq!(outcome.route.as_deref(), Some("tasks-create"));
}

#[test]
fn every_kind_of_expectation_can_fail() {
    let wrong = [
        "status = 201",
        "route = \"tasks-create\"",
        "rule = \"routes.tasks-list.allow[1]\"",
        "headers = { x-answer = \"43\" }",
        "headers = { x-absent = \"\" , x-answer = \"\" }",
        "body = '{\"a\": 2}'",
        "observed = [\"sql\"]",
    ];
    let test = |expect: &str| {
        format!(
            r#"
[[test]]
name = "one"
request = "GET /v1/tasks"
as = {{ sub = "u-7", roles = [], scopes = ["tasks:read"] }}
upstream = {{ headers = {{ x-answer = "42" }}, body = '{{"a": 1}}' }}
expect = {{ decision = "allow", {expect} }}
"#
        )
    };
    let all: String = wrong.iter().map(|expect| test(expect)).collect();
    assert_eq!(failures(&all).len(), wrong.len());
    let right = test(
        "status = 200, route = \"tasks-list\", rule = \"routes.tasks-list\", headers = { x-answer = \"42\" }, body = '{ \"a\":1 }', observed = []",
    );
    assert_eq!(failures(&right), []);
}

#[test]
fn a_signed_request_passes_where_a_signature_is_demanded_and_an_unsigned_one_does_not() {
    let test = |signed: bool, repeat: u32, headers: &str, body: &str, expect: &str| {
        format!(
            r#"
[[test]]
name = "pay"
request = "POST /v1/tasks/task_1/pay?now=1"
as = {{ sub = "u-7", roles = [], scopes = [], signed = {signed} }}
headers = {{ {headers} }}
{body}
repeat = {repeat}
expect = {{ {expect} }}
"#
        )
    };
    let body = "body = '{\"amount\": 1}'";
    let missing = "decision = \"refuse\", status = 401, stage = \"authenticate\", reason = \"signature-missing\"";
    let tests = [
        test(true, 1, "x-tenant = \"t\"", body, "decision = \"allow\""),
        test(true, 1, "x-tenant = \"t\"", "", "decision = \"allow\""),
        // Each repetition has a nonce of its own; replayed ones would be refused.
        test(true, 2, "x-tenant = \"t\"", body, "decision = \"allow\""),
        test(false, 1, "x-tenant = \"t\"", body, missing),
    ];
    assert_eq!(failures(&tests.concat()), []);
    let [unsignable] = &failures(&test(true, 1, "", body, "decision = \"allow\""))[..] else {
        panic!("one failure")
    };
    assert!(
        unsignable.explanation[0].starts_with("the request cannot be signed"),
        "{unsignable:?}"
    );
}

#[test]
fn budgets_do_not_leak_between_tests() {
    let test = |repeat: u32, expect: &str| {
        format!(
            r#"
[[test]]
name = "create"
request = "POST /v1/tasks"
as = {{ sub = "u-7", roles = ["member"], scopes = ["tasks:write"] }}
repeat = {repeat}
expect = {{ {expect} }}
"#
        )
    };
    let empty = "decision = \"refuse\", status = 429, stage = \"limit\", reason = \"budget-empty\", rule = \"limits.write\", headers = { retry-after = \"30\" }";
    let tests = [
        test(3, empty),
        test(2, "decision = \"allow\""),
        test(3, empty),
        test(1, "decision = \"allow\""),
    ];
    assert_eq!(failures(&tests.concat()), []);
}

#[test]
fn failed_credentials_do_not_leak_between_tests() {
    let test = "[[test]]\nname = \"n\"\nrequest = \"GET /v1/tasks\"\nrepeat = 20\nexpect = { decision = \"refuse\", status = 401 }\n";
    assert_eq!(failures(&test.repeat(3)), []);
}

#[test]
fn time_is_the_tests_own() {
    let test = "[[test]]\nname = \"n\"\nrequest = \"POST /v1/tasks\"\nnow = 2030-01-01\nas = { sub = \"u\", roles = [\"member\"], scopes = [\"tasks:write\"] }\nexpect = { decision = \"allow\", headers = { x-ratelimit-reset = \"1893456030\" } }\n";
    assert_eq!(failures(test), []);
}

#[test]
fn tests_run_inside_another_runtime_too() {
    let (_dir, path) = written(
        "[[test]]\nname = \"n\"\nrequest = \"GET /v1/tasks\"\nexpect = { decision = \"allow\" }\n",
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let upstreams =
            Arc::new(stand_in::upstreams(&Files::read(&path, &mut Mistakes::default())));
        let prove = proof(upstreams, Clock::set_at(NOW.unix_ms).0);
        let files = Files::read(&path, &mut Mistakes::default());
        let says = prove(&files).unwrap_err();
        assert!(
            says.contains("FAILED  n") && says.contains("got       refuse 401 at authenticate"),
            "{says}"
        );
        std::fs::write(path.join("policy.toml"), HEAD).unwrap();
        assert_eq!(prove(&Files::read(&path, &mut Mistakes::default())), Ok(()));
    });
}

#[test]
fn a_caller_with_a_role_that_nothing_defines_is_a_mistake() {
    let (_dir, path) = written(
        "[[test]]\nname = \"n\"\nrequest = \"GET /\"\nas = { sub = \"u\", roles = [\"membr\"], tier = \"fre\" }\nexpect = { decision = \"allow\" }\n",
    );
    let mut mistakes = Mistakes::default();
    assert!(Rehearsal::load(&path, None, NOW, &mut mistakes).is_none());
    let errors = mistakes.iter().filter(|mistake| !mistake.is_advice());
    let says: Vec<&str> = errors.map(|mistake| mistake.says.as_str()).collect();
    assert!(says.len() == 2 && says[0].contains("membr") && says[1].contains("fre"), "{says:?}");
}

fn explained(test: &str) -> walk::Explanation {
    let (_dir, path) = written(test);
    let rehearsal = loaded(&path);
    rehearsal.explain(&rehearsal.policy().cases()[0]).unwrap()
}

fn lines<'e>(explanation: &'e walk::Explanation, stage: &str) -> (&'static str, &'e [String]) {
    let says = explanation.stages.iter().find(|says| says.stage == stage).unwrap();
    (says.verdict, &says.lines)
}

#[test]
fn an_explanation_shows_doors_and_budgets_and_stops_where_the_request_did() {
    let explanation = explained(
        "[[test]]\nname = \"n\"\nrequest = \"POST /v1/tasks\"\nas = { sub = \"u\", roles = [\"member\"], scopes = [\"tasks:write\"] }\nexpect = { decision = \"allow\" }\n",
    );
    assert!(explanation.is_allowed() && explanation.hint.is_none());
    let (verdict, doors) = lines(&explanation, "authorize");
    assert_eq!(verdict, "pass");
    assert!(doors[0].starts_with("door 0 stays shut"), "{doors:?}");
    assert_eq!(doors[1], "  scopes  tasks:write   yes");
    assert!(doors[2].starts_with("  roles   admin   no: "), "{doors:?}");
    assert!(doors[3].starts_with("door 1 opens"), "{doors:?}");
    let (_, budgets) = lines(&explanation, "limit");
    assert!(
        budgets[0].starts_with("limits.write   2 of 2 left, 2 in 1m, fits (enforce)   "),
        "{budgets:?}"
    );

    let explanation = explained(
        "[[test]]\nname = \"n\"\nrequest = \"POST /v1/tasks\"\nas = { sub = \"u\" }\nexpect = { decision = \"allow\" }\n",
    );
    assert_eq!((explanation.status, explanation.reason.as_deref()), (403, Some("scope-missing")));
    assert_eq!(lines(&explanation, "authorize").0, "refuse");
    assert_eq!(lines(&explanation, "limit"), ("none", &[][..]));
}

#[test]
fn an_explanation_of_a_signed_request_spends_no_nonce_twice() {
    let explanation = explained(
        "[[test]]\nname = \"n\"\nrequest = \"POST /v1/tasks/t/pay\"\nheaders = { x-tenant = \"t\" }\nas = { sub = \"u\", signed = true }\nexpect = { decision = \"allow\" }\n",
    );
    assert!(explanation.is_allowed());
    assert_eq!(
        lines(&explanation, "authorize").1.last().unwrap(),
        "  open to everybody who is authenticated"
    );
    assert_eq!(lines(&explanation, "authenticate").1[0], "asks for api-key and signature.request");
}

#[test]
fn a_filters_refusal_says_how_to_allow_it_on_purpose() {
    let explanation = explained(
        "[[test]]\nname = \"n\"\nrequest = \"GET /v1/tasks?status=x%27%20OR%201%3D1--\"\nas = { sub = \"u\", scopes = [\"tasks:read\"] }\nexpect = { decision = \"allow\" }\n",
    );
    assert_eq!(explanation.reason.as_deref(), Some("sql"));
    let hint = explanation.hint.unwrap();
    assert_eq!(hint, "except = [{ field = \"query.status\", detect = [\"sql\"], why = \"…\" }]");
}

#[test]
fn a_caller_without_a_subject_gets_no_key() {
    let (_dir, path) = written(
        "[[test]]\nname = \"n\"\nrequest = \"GET /v1/tasks\"\nexpect = { decision = \"allow\" }\n",
    );
    let rehearsal = loaded(&path);
    let mut case = rehearsal.policy().cases()[0].clone();
    case.caller = Some(CaseCaller::default());
    let outcome = rehearsal.run(&case);
    assert!(!outcome.passed && outcome.explanation[0].contains("cannot have a key"), "{outcome:?}");
}
