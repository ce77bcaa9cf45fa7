//! Limits as written: who owns a budget, which tier has which, and what is a mistake.

use super::*;

#[test]
fn each_owner_has_its_own_budget() {
    let (clock, _) = Clock::set_at(0);
    let full = |per: &str, spender: (Permit, &str), other: (Permit, &str)| {
        let text = format!("[limits.l]\nper = {per}\nall = {{ burst = 1, refill = \"1/h\" }}\n");
        let budgets = budgets(&text, &room());
        budgets.spend(spender.0, &head(spender.1, None), clock.now()).unwrap();
        budgets.spend(other.0, &head(other.1, None), clock.now()).is_ok()
    };
    let nobody = || permit(Principal::for_tests(None));
    let (here, there) = ("192.0.2.9", "192.0.2.10");
    assert!(full("\"principal\"", (user("a", ""), here), (user("b", ""), here)));
    assert!(!full("\"principal\"", (user("a", ""), here), (user("a", ""), there)));
    assert!(!full("\"key\"", (user("a", ""), here), (user("a", ""), there)));
    assert!(full("\"principal\"", (nobody(), here), (nobody(), there)));
    assert!(!full("\"principal\"", (nobody(), here), (nobody(), here)));
    assert!(!full("\"address\"", (user("a", ""), here), (user("b", ""), here)));
    assert!(!full("\"address\"", (user("a", ""), here), (user("b", ""), "::ffff:192.0.2.9")));
    assert!(!full("\"address\"", (nobody(), "2001:db8::1"), (nobody(), "2001:db8::ffff:0:0:2")));
    assert!(full("\"address\"", (nobody(), "2001:db8::1"), (nobody(), "2001:db8:0:1::1")));
    assert!(!full("\"route\"", (user("a", ""), here), (user("b", ""), there)));
    assert!(full("[\"principal\", \"route\"]", (user("a", ""), here), (user("b", ""), here)));
}

#[test]
fn buckets_survive_a_reload_until_their_shape_changes() {
    let (clock, _) = Clock::set_at(0);
    let buckets = room();
    let text =
        "[limits.l]\nper = [\"principal\", \"route\"]\nall = { burst = 1, refill = \"1/h\" }\n";
    let head = head("192.0.2.9", None);
    let spend = |text: &str, route: &str| {
        let budgets = compile(text, route, &buckets).budgets.unwrap();
        budgets.spend(user("u", ""), &head, clock.now()).is_ok()
    };
    assert!(spend(text, "r"));
    assert!(!spend(text, "r"));
    assert!(spend(text, "other-route"));
    assert!(spend(&text.replace("1/h", "2/h"), "r"), "another shape is another promise");
}

#[test]
fn tiers_have_their_own_and_strangers_the_strictest() {
    let (clock, _) = Clock::set_at(0);
    let text = r#"
[limits.l]
per = "principal"
[limits.l.tiers]
free = { burst = 5, refill = "5/min" }
pro = { burst = 3, refill = "600/min" }
"#;
    let budgets = budgets(text, &room());
    let limit = |tier: &str, who: &str| {
        let admission = budgets.spend(user(who, tier), &head("192.0.2.9", None), clock.now());
        admission.unwrap().tightest().unwrap().1.limit
    };
    assert_eq!((limit("free", "a"), limit("pro", "b")), (5, 3));
    assert_eq!((limit("trial", "c"), limit("", "d")), (5, 5), "slowest is strictest");
}

#[test]
fn mistakes_in_limits_are_all_reported() {
    let text = r#"
use_limits = ["good", "god", "good", "zero"]
[limits.good]
per = "key"
all = { burst = 1, refill = "1/s" }
[limits.zero]
per = "key"
all = { burst = 0, refill = "1/s" }
[limits.both]
per = "key"
all = { burst = 1, refill = "1/s" }
tiers = { free = { burst = 1, refill = "1/s" } }
[limits.none]
per = "key"
[limits.undefined]
per = ["key", "principal"]
tiers = { fre = { burst = 1, refill = "1/s" }, pro = { burst = 1, refill = "0/s" } }
[limits.nobody]
per = ["route", "route"]
tiers = { free = { burst = 0, refill = "1/s" } }
[limits.dear]
per = "key"
cost = 5
all = { burst = 1, refill = "1/s" }
[limits.free-of-cost]
per = "key"
cost = 0
mode = "observe"
all = { burst = 1, refill = "1/s" }
"#;
    let compiled = compile(text, "r", &room());
    assert!(compiled.budgets.is_none());
    for wanted in [
        "P0201 limit `god` is not defined",
        "P0207 limit `good` is named twice",
        "P0207 a burst of 0 refuses everybody",
        "P0207 limit `both` needs `all` or `tiers`, and not both",
        "P0207 limit `none` needs `all` or `tiers`, and not both",
        "P0207 `key` already tells principals apart",
        "P0201 tier `fre` is not defined",
        "P0207 a burst of 1 cannot fill at 0/s",
        "P0207 `per` must name different owners",
        "P0207 no tier has a budget at all",
        "P0207 a request costs 5, more than the burst of 1",
        "P0207 a cost of 0 limits nothing",
        "W0404 limit `free-of-cost` only watches",
    ] {
        assert!(compiled.mistakes.contains(wanted), "{wanted} is not in\n{}", compiled.mistakes);
    }
    assert_eq!(compiled.mistakes.lines().count(), 13, "{}", compiled.mistakes);
    let wrong = toml::from_str::<Written>("[limits.l]\nper = \"adress\"\n").err().unwrap();
    assert!(wrong.to_string().contains("did you mean `address`?"), "{wrong}");
}
