//! The access log: what one line can and cannot hold, and what is lost when nobody reads.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn a_full_log_gives_up_requests_that_passed_before_refusals() {
    // A pipe that nobody reads stalls the writer.
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::File::open(fifo).unwrap()
    });
    let log =
        Log::start(plan(&format!("access.to = \"file:{}\"", fifo.display())).unwrap()).unwrap();
    let reader = reader.join().unwrap();
    let (clock, _) = Clock::set_at(0);
    let record = Record::new(Metrics::new(BUILD).unwrap(), log, clock.clone());
    let listener = record.metrics().listener("public");
    let policy = "".into();
    let head = head("192.0.2.9", None);
    let tell = |refused: bool| {
        let mut entry = record.open(&head.peer, &listener, &policy, clock.now());
        entry.headed(&head);
        if refused {
            entry.refused(&Refusal::new(Reason::BudgetEmpty));
        }
        entry.answered(StatusCode::OK, AnsweredBy::Gateway, clock.now());
    };
    let mut told = 0;
    // So many losses in a row mean that the writer is stuck, and not only late.
    while record.log().dropped() < 5000 {
        tell(false);
        told += 1;
        assert!(told < 50_000, "the buffer has no ceiling");
    }
    let dropped = record.log().dropped();
    tell(true);
    assert_eq!(record.log().dropped(), dropped, "a refusal still finds room");
    for _ in 0..10_000 {
        tell(true);
    }
    assert!(record.log().dropped() > dropped, "and has a ceiling too");
    let counted = series(&record, "portcullis_access_records_dropped_total").unwrap();
    assert_eq!(counted, record.log().dropped() as f64);
    drop(reader);
}

#[test]
fn sampling_spares_requests_that_passed_and_never_refusals() {
    let bench = bench_with("access.sample_allowed = 0.25\n");
    for number in 0..2000 {
        bench.hand.advance(Duration::from_nanos(12_345));
        let mut entry = bench.open(&head("192.0.2.9", None));
        if number < 1000 {
            entry.refused(&Refusal::new(Reason::ScopeMissing));
        }
        entry.answered(StatusCode::OK, AnsweredBy::Gateway, bench.clock.now());
    }
    let lines = bench.lines();
    let refused = lines.iter().filter(|line| line["decision"] == "refuse").count();
    assert_eq!(refused, 1000);
    assert!((150..350).contains(&(lines.len() - refused)), "{}", lines.len());
}

#[test]
fn the_log_follows_a_file_that_is_moved_away() {
    let bench = bench();
    let path = bench.log.path().join("access");
    std::fs::rename(&path, bench.log.path().join("moved")).unwrap();
    bench.record.log().reopen();
    drop(bench.open(&head("192.0.2.9", None)));
    assert_eq!(bench.lines().len(), 1);
}

#[test]
fn mistakes_in_the_log_rule_are_reported() {
    assert!(plan("access.to = \"syslog\"").unwrap_err().contains("`syslog` is no place"));
    assert!(plan("access.sample_allowed = 1.5").unwrap_err().contains("1.5 is no part"));
    assert!(plan("access.sample = 1.0").is_err());
    assert_eq!(
        plan("format = \"json\"\naccess = { to = \"none\", sample_allowed = 0 }"),
        Ok(LogPlan::none())
    );
}

/// What may not stand bare in a line: it could break, hide, colour or reorder it.
fn is_harmless(line: &str) -> bool {
    !line.chars().any(|c| {
        c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_makes_one_harmless_line(
        agents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
        odd in "[\\x00-\\x1f\"\\\\\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{feff}\u{e0041}a-c=&]{0,80}",
    ) {
        for format in ["json", "text"] {
            let bench = bench_with(&format!("format = \"{format}\"\n"));
            for agent in &agents {
                let mut head = head("192.0.2.9", Some(&odd));
                head.path = odd.clone().into();
                if let Ok(agent) = HeaderValue::from_bytes(agent) {
                    head.headers.insert(http::header::USER_AGENT, agent);
                }
                let mut entry = bench.open(&head);
                entry.identified(&mut key(&odd, "", "", ""));
                entry.refused(&Refusal::new(Reason::Sql).because(odd.clone()));
            }
            let Bench { record, log, .. } = bench;
            drop(record);
            let text = std::fs::read_to_string(log.path().join("access")).unwrap();
            prop_assert_eq!(text.matches('\n').count(), agents.len());
            for line in text.lines() {
                prop_assert!(is_harmless(line), "{}", line.escape_debug());
                if format == "json" {
                    let line: Value = serde_json::from_str(line).unwrap();
                    prop_assert_eq!(&line["path"], &Value::from(odd.as_str()));
                    prop_assert_eq!(line["detail"].as_str().unwrap_or_default(), odd.as_str());
                }
            }
        }
    }
}

#[test]
fn a_user_agent_cannot_forge_a_second_record() {
    let bench = bench();
    let mut head = head("192.0.2.9", None);
    let evil = "x\"}\u{202e}\u{85}{\"decision\":\"allow\"}\t\u{1f512}".as_bytes();
    head.headers.insert(http::header::USER_AGENT, HeaderValue::from_bytes(evil).unwrap());
    head.headers.insert(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer SECRET"));
    head.headers.insert(http::header::COOKIE, HeaderValue::from_static("a=SECRET"));
    drop(bench.open(&head));
    let lines = bench.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["user_agent"], std::str::from_utf8(evil).unwrap());
    assert_eq!(lines[0]["decision"], "refuse");
    assert!(!lines[0].to_string().contains("SECRET"));
}

#[test]
fn the_file_of_a_log_lies_where_gateway_toml_lies() {
    assert_eq!(
        plan_in("/etc/gate", "access.to = \"file:a.log\""),
        plan("access.to = \"file:/etc/gate/a.log\"")
    );
}
