//! Budgets under many threads, at their ceiling and at the edges of their rules.

mod rules;

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::*;
use crate::authorize::Doors;
use crate::authorize::tests::{head, key};
use crate::authorize::vocabulary::{TierRule, Vocabulary, VocabularyRule};
use crate::clock::Clock;
use crate::limit::address::{AddressBudgets, AddressRule};
use crate::limit::rule::LimitRule;
use crate::mistake::Mistakes;
use crate::mistake::source::Source;
use crate::route::Parameters;

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    limits: BTreeMap<String, At<LimitRule>>,
    #[serde(default)]
    use_limits: Option<At<Vec<At<String>>>>,
    #[serde(default)]
    address: Option<At<AddressRule>>,
}

struct Compiled {
    budgets: Option<Budgets>,
    address: Option<AddressBudgets>,
    mistakes: String,
}

fn compile(text: &str, route: &str, buckets: &Arc<Buckets>) -> Compiled {
    let source = Source::new("policy.toml", text);
    let written: Written = toml::from_str(text).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut mistakes = Mistakes::default();
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let tier = |_: &str| At { value: TierRule { summary: String::new() }, span: 0..1 };
    let tiers = ["free", "pro", "trial"].map(|name| (name.to_owned(), tier(name))).into();
    let names = VocabularyRule { tiers, ..VocabularyRule::default() };
    let vocabulary = Vocabulary::compile(&names, &mut reading);
    let mut limits = BTreeMap::new();
    for (name, rule) in &written.limits {
        let at = At { value: name.clone(), span: rule.span.clone() };
        let limit = Limit::compile(&at, rule, &vocabulary, &mut reading);
        limits.insert(name.clone(), limit.map(Arc::new));
    }
    let names = written.use_limits.unwrap_or_else(|| At {
        value: limits.keys().map(|name| At { value: name.clone(), span: 0..1 }).collect(),
        span: 0..1,
    });
    let budgets = Budgets::compile(&names, &limits, route, buckets, &mut reading);
    let address =
        written.address.and_then(|rule| AddressBudgets::compile(&rule, buckets, &mut reading));
    let shown: Vec<String> =
        mistakes.iter().map(|m| format!("{} {}", m.code.number(), m.says)).collect();
    Compiled { budgets, address, mistakes: shown.join("\n") }
}

fn budgets(text: &str, buckets: &Arc<Buckets>) -> Budgets {
    let compiled = compile(text, "r", buckets);
    compiled.budgets.unwrap_or_else(|| panic!("{}", compiled.mistakes))
}

fn permit(who: Principal) -> Permit {
    Doors::open()
        .allow(
            who,
            &head("192.0.2.9", None),
            &Parameters::default(),
            crate::clock::Now { steady_ns: 0, unix_ms: 0 },
        )
        .unwrap()
}

fn user(subject: &str, tier: &str) -> Permit {
    permit(key(subject, "", "", tier))
}

fn room() -> Arc<Buckets> {
    Arc::new(Buckets::new(10_000))
}

fn remaining(verdicts: &[BudgetVerdict]) -> Vec<u64> {
    verdicts.iter().map(|verdict| verdict.spent.remaining).collect()
}

const TWO: &str = r#"
[limits.each]
per = "principal"
all = { burst = 3, refill = "3/min" }
[limits.everybody]
per = "route"
all = { burst = 100, refill = "100/h" }
"#;

#[test]
fn the_tightest_budget_is_reported_and_the_empty_one_refuses() {
    let (clock, hand) = Clock::set_at(1_764_000_000_000);
    let budgets = budgets(TWO, &room());
    let head = head("192.0.2.9", None);
    for left in (0..3).rev() {
        let admission = budgets.spend(user("u", ""), &head, clock.now()).unwrap();
        let (origin, spent) = admission.tightest().unwrap();
        assert_eq!((origin.rule(), spent.remaining, spent.limit), ("limits.each", left, 3));
    }
    let refusal = budgets.spend(user("u", ""), &head, clock.now()).unwrap_err();
    assert_eq!(refusal.reason, Reason::BudgetEmpty);
    assert_eq!(refusal.rule.unwrap().to_string(), "limits.each, policy.toml:2");
    let wanted = Spent {
        limit: 3,
        remaining: 0,
        reset_at: 1_764_000_060,
        reset_in: 60,
        retry_after: 20,
        window: 60,
    };
    assert_eq!(refusal.extra, Extra::Budget(wanted));
    hand.advance(Duration::from_secs(20));
    assert!(budgets.spend(user("u", ""), &head, clock.now()).is_ok());
}

#[test]
fn the_tightest_is_who_has_least_left_in_proportion() {
    let spent = |remaining, limit| Spent {
        limit,
        remaining,
        reset_at: 0,
        reset_in: 0,
        retry_after: 0,
        window: 1,
    };
    assert!(is_tighter(&spent(50, 1000), &spent(2, 20)));
    assert!(!is_tighter(&spent(2, 20), &spent(50, 1000)));
    assert!(is_tighter(&spent(1, 10), &spent(10, 100)), "of equals the one with fewer tokens");
    assert!(!is_tighter(&spent(10, 100), &spent(1, 10)));
    assert!(is_tighter(&spent(0, u64::MAX), &spent(1, u64::MAX)), "no overflow");
}

#[test]
fn a_refusal_takes_from_no_budget() {
    let (clock, _) = Clock::set_at(0);
    let budgets = budgets(TWO, &room());
    let head = head("192.0.2.9", None);
    for _ in 0..50 {
        let _ = budgets.spend(user("u", ""), &head, clock.now());
    }
    let permit = user("v", "");
    let everybody = &budgets.explain(permit.principal(), &head, clock.now())[1];
    assert_eq!((everybody.limit.rule(), everybody.spent.remaining), ("limits.everybody", 97));
    assert_eq!(everybody, &budgets.explain(permit.principal(), &head, clock.now())[1]);
}

#[test]
fn what_was_taken_is_given_back_when_a_later_budget_has_no_room() {
    let (clock, _) = Clock::set_at(0);
    let buckets = Arc::new(Buckets::new(1));
    let budgets = budgets(TWO, &buckets);
    let head = head("192.0.2.9", None);
    let refusal = budgets.spend(user("u", ""), &head, clock.now()).unwrap_err();
    assert_eq!(refusal.reason, Reason::LimitStoreFull);
    assert!(matches!(refusal.extra, Extra::RetryAfter(1..)));
    let left = budgets.explain(user("u", "").principal(), &head, clock.now());
    assert_eq!(remaining(&left), [3, 100]);
}

#[test]
fn threads_get_what_was_promised_and_no_token_is_lost() {
    const THREADS: u64 = 8;
    const TRIES: u64 = 4000;
    const PROMISE: u64 = 5000;
    let text = format!(
        r#"
[limits.a-wide]
per = "route"
all = {{ burst = 8000, refill = "1/h" }}
[limits.b-narrow]
per = "principal"
all = {{ burst = {PROMISE}, refill = "1/h" }}
"#
    );
    let budgets = budgets(&text, &room());
    let (clock, _) = Clock::set_at(0);
    let (now, admitted, start) = (clock.now(), AtomicU64::new(0), Barrier::new(8));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let head = head("192.0.2.9", None);
                start.wait();
                for _ in 0..TRIES {
                    if budgets.spend(user("u", ""), &head, now).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // Each thread tries on long after the budget is spent, so no race at the end leaves a token.
    assert_eq!(admitted.load(Ordering::Relaxed), PROMISE);
    let left = budgets.explain(user("u", "").principal(), &head("192.0.2.9", None), now);
    assert_eq!(
        remaining(&left),
        [8000 - PROMISE, 0],
        "what the narrow one refused, the wide one kept"
    );
}

#[test]
fn many_new_keys_cannot_reset_a_drained_one() {
    let (clock, hand) = Clock::set_at(0);
    let buckets = Arc::new(Buckets::new(100));
    let budgets = budgets(
        "[limits.each]\nper = \"principal\"\nall = { burst = 2, refill = \"2/min\" }\n",
        &buckets,
    );
    let head = head("192.0.2.9", None);
    let spend = |who: &str| budgets.spend(user(who, ""), &head, clock.now());
    assert!(spend("first").is_ok() && spend("first").is_ok());
    let mut refused = 0;
    for number in 0..1000 {
        match spend(&format!("u-{number}")) {
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::LimitStoreFull);
                refused += 1;
            }
        }
        assert_eq!(spend("first").unwrap_err().reason, Reason::BudgetEmpty);
    }
    assert_eq!((refused, buckets.held(), buckets.refused()), (901, 100, 901));
    // One token is back after half a minute: those who spent one are full, the first is not.
    hand.advance(Duration::from_secs(30));
    assert!(spend("another").is_ok());
    assert!(buckets.evictions() > 0);
    assert!(spend("first").is_ok());
    assert_eq!(spend("first").unwrap_err().reason, Reason::BudgetEmpty);
}

#[test]
fn sweeping_forgets_full_buckets_only_and_a_bounded_number_at_once() {
    let (clock, hand) = Clock::set_at(0);
    let buckets = Arc::new(Buckets::new(40_000));
    let budgets = budgets(
        "[limits.each]\nper = \"principal\"\nall = { burst = 2, refill = \"2/min\" }\n",
        &buckets,
    );
    let head = head("192.0.2.9", None);
    for number in 0..20_000 {
        budgets.spend(user(&format!("u-{number}"), ""), &head, clock.now()).unwrap();
    }
    budgets.spend(user("u-1", ""), &head, clock.now()).unwrap();
    assert_eq!((0..buckets.segments()).map(|_| buckets.sweep(clock.now())).sum::<usize>(), 0);
    hand.advance(Duration::from_secs(31));
    let most = (0..buckets.segments()).map(|_| buckets.sweep(clock.now())).max().unwrap();
    assert!(most < 20_000 / buckets.segments() * 2, "{most} at once");
    assert_eq!(buckets.held(), 1, "the one that was drawn from twice");
    assert_eq!(buckets.evictions(), 0, "nobody had to go early");
}

#[test]
fn a_limit_that_watches_refuses_nothing_and_tells() {
    let (clock, _) = Clock::set_at(0);
    let text = r#"
[limits.a]
per = "principal"
mode = "observe"
all = { burst = 1, refill = "1/h" }
[limits.b]
per = "principal"
all = { burst = 3, refill = "3/h" }
"#;
    let budgets = budgets(text, &room());
    let head = head("192.0.2.9", None);
    let spend = || budgets.spend(user("u", ""), &head, clock.now());
    assert!(spend().unwrap().observed().is_empty());
    let second = spend().unwrap();
    assert_eq!(second.observed()[0].rule.as_ref().unwrap().rule(), "limits.a");
    assert_eq!(second.tightest().unwrap().0.rule(), "limits.b", "only what holds is told callers");
    spend().unwrap();
    assert_eq!(spend().unwrap_err().rule.unwrap().rule(), "limits.b");
}

#[test]
fn an_address_pays_for_requests_and_failures_apart() {
    let (clock, hand) = Clock::set_at(0);
    let text = "[address]\nburst = 2\nrefill = \"2/s\"\nfailed_credentials = { burst = 1, refill = \"1/min\" }\n";
    let address = compile(text, "r", &room()).address.unwrap();
    let (here, there) = ("192.0.2.9".parse().unwrap(), "192.0.2.10".parse().unwrap());
    assert!(address.failed(here, clock.now()).is_ok());
    let failed = address.failed(here, clock.now()).unwrap_err();
    assert_eq!(failed.reason, Reason::FailureBudgetEmpty);
    assert_eq!(failed.rule.unwrap().rule(), "address.failed_credentials");
    assert!(matches!(failed.extra, Extra::Budget(Spent { retry_after: 60, .. })));
    assert!(address.spend(here, clock.now()).is_ok() && address.spend(here, clock.now()).is_ok());
    assert_eq!(address.spend(here, clock.now()).unwrap_err().reason, Reason::AddressBudgetEmpty);
    assert!(
        address.spend(there, clock.now()).is_ok() && address.failed(there, clock.now()).is_ok()
    );
    hand.advance(Duration::from_secs(1));
    assert!(address.spend(here, clock.now()).is_ok());
}

#[test]
fn an_address_pays_apart_even_where_both_budgets_look_alike() {
    let (clock, _) = Clock::set_at(0);
    let text = "[address]\nburst = 1\nrefill = \"1/min\"\nfailed_credentials = { burst = 1, refill = \"1/min\" }\n";
    let address = compile(text, "r", &room()).address.unwrap();
    let here = "192.0.2.9".parse().unwrap();
    assert!(address.failed(here, clock.now()).is_ok());
    assert!(address.spend(here, clock.now()).is_ok());
}

#[test]
fn an_address_that_the_policy_does_not_mention_has_the_shipped_budgets() {
    let (clock, _) = Clock::set_at(0);
    let address = compile("[address]\n", "r", &room()).address.unwrap();
    let here = "192.0.2.9".parse().unwrap();
    let now = clock.now();
    assert_eq!((0..2000).filter(|_| address.spend(here, now).is_ok()).count(), 1000);
    assert_eq!((0..2000).filter(|_| address.failed(here, now).is_ok()).count(), 20);
}
