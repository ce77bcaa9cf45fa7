//! Queries against rules, and rules against sense.

use super::*;
use crate::mistake::Mistakes;
use crate::mistake::read;
use crate::mistake::source::Source;

fn compile(text: &str) -> (Option<QueryFilter>, Vec<String>) {
    let source = Source::new("p.toml", text);
    let mut mistakes = Mistakes::default();
    let entry = read::top(&source, &mut mistakes).remove(0);
    let rule = read::rule::<At<QueryRule>>("a query", entry.node, &source, &mut mistakes);
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let filter = rule.and_then(|rule| QueryFilter::compile(&rule, "routes.a.query", &mut reading));
    let says = mistakes.iter().map(|m| format!("{} {}", m.code.number(), m.says)).collect();
    (filter, says)
}

fn filter(text: &str) -> QueryFilter {
    let (filter, mistakes) = compile(text);
    filter.unwrap_or_else(|| panic!("{mistakes:?}"))
}

fn reason(filter: &QueryFilter, query: &str) -> Option<Reason> {
    filter.check(Some(query)).err().map(|refusal| refusal.reason)
}

#[test]
fn only_known_parameters_pass_and_each_once() {
    let filter = filter("query = { allow = [\"status\", \"dueDate[lt]\"] }");
    assert_eq!(filter.check(None), Ok(()));
    assert_eq!(reason(&filter, "status=open&dueDate[lt]=x"), None);
    assert_eq!(reason(&filter, "st%61tus=open&dueDate%5Blt%5D=x"), None);
    for query in ["status=a&status=b", "status=a&st%61tus=b", "admin=1", "Status=a", "=a", "a&b"] {
        assert_eq!(reason(&filter, query), Some(Reason::QueryRefused), "{query}");
    }
    for query in ["status=%zz", "status=%ff"] {
        assert_eq!(reason(&filter, query), Some(Reason::QueryMalformed), "{query}");
    }
}

#[test]
fn what_may_be_extra_may_still_not_be_repeated() {
    let strict = filter("query = { extra = \"allow\" }");
    assert_eq!(reason(&strict, "a=1&b=2"), None);
    assert_eq!(reason(&strict, "a=1&b=2&%61=3"), Some(Reason::QueryRefused));
    let loose = filter("query = { extra = \"allow\", repeat = \"allow\" }");
    assert_eq!(reason(&loose, "a=1&b=2&a=3"), None);
}

#[test]
fn values_are_held_to_their_kind() {
    let filter = filter(concat!(
        "[query.params]\n",
        "limit = { type = \"int\", min = 1, max = 100 }\n",
        "status = { one_of = [\"TODO\", \"DONE\"], list = true }\n",
        "q = { max_length = 5, pattern = \"[a-zé]+|x\" }\n",
        "id = { type = \"uuid\" }\n",
        "all = { type = \"bool\" }\n",
        "due = { type = \"date\" }\n",
    ));
    for query in [
        "limit=1",
        "limit=100",
        "status=TODO,DONE",
        "q=ab%C3%A9",
        "id=0b5f3c1e-6f0a-4f7e-9a44-2f4c1d1f6a10",
        "all=true",
        "due=2026-12-01",
        "due=2026-12-01T09:00:00Z",
    ] {
        assert_eq!(reason(&filter, query), None, "{query}");
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=",
        "limit=+5",
        "limit=%2B5",
        "limit=05",
        "limit=1e1",
        "limit=-",
        "limit=99999999999999999999",
        "status=TODO,",
        "status=todo",
        "q=abcdef",
        "q=abX",
        "q=x%0A",
        "id=0b5f3c1e",
        "all=1",
        "due=2026-13-01",
        "due=tomorrow",
    ] {
        let refusal = filter.check(Some(query)).unwrap_err();
        assert_eq!(refusal.reason, Reason::QueryRefused, "{query}");
        let (_, value) = query.split_once('=').unwrap();
        assert!(value.is_empty() || value.len() < 4 || !refusal.private.contains(value), "{query}");
    }
}

#[test]
fn a_required_parameter_must_be_there() {
    let filter = filter("query.params.tenant = { required = true }");
    assert_eq!(filter.check(None).unwrap_err().reason, Reason::QueryRefused);
    assert_eq!(reason(&filter, "tenant=x"), None);
}

#[test]
fn all_mistakes_of_a_rule_are_told() {
    let (filter, mistakes) = compile(concat!(
        "[query]\nallow = [\"a\", \"a\"]\n[query.params]\n",
        "b = { min = 1 }\nc = { type = \"int\", min = 2, max = 1 }\nd = { one_of = [] }\n",
        "e = { pattern = \"(\" }\nf = { pattern = \")(\" }\ng = { type = \"int\", pattern = \"1\" }\n",
    ));
    assert!(filter.is_none());
    assert_eq!(mistakes.len(), 7, "{mistakes:#?}");
}
