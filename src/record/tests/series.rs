//! Metrics: what can be scraped, and that no caller can make a series.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::*;
use crate::parties::Parties;

#[test]
fn no_caller_can_make_a_series() {
    let bench = bench();
    let meters = bench.record.metrics().route("users-read", Some("users"));
    let statuses = [200, 201, 404, 418, 499, 777];
    let request = |number: u32| {
        let mut head = head("192.0.2.9", Some(&format!("p{number}={number}")));
        let client = std::net::Ipv4Addr::from_bits(number).into();
        head.parties = Arc::new(Parties::new(client, "https", "api.example.com", None));
        head.path = format!("/v1/{number}").into();
        head.method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let mut entry = bench.open(&head);
        if number.is_multiple_of(5) {
            entry.routed(&meters);
        }
        entry.identified(&mut key(&format!("u-{number}"), "", "", ""));
        if number.is_multiple_of(3) {
            entry.refused(&Refusal::new(Reason::ScopeMissing));
        }
        let status = StatusCode::from_u16(statuses[number as usize % statuses.len()]).unwrap();
        entry.answered(status, AnsweredBy::Upstream, bench.clock.now());
        drop(entry.with(Body::Empty));
    };
    (0..60).for_each(request);
    let before = series(&bench.record, "portcullis_scrape_series").unwrap();
    (60..100_000).for_each(request);
    assert_eq!(series(&bench.record, "portcullis_scrape_series"), Some(before));
    let other =
        "portcullis_requests_total{code=\"other\",origin=\"upstream\",route=\"users-read\"}";
    assert!(series(&bench.record, other).unwrap() > 0.0, "418 and 777 have no series of their own");
}

#[test]
fn a_route_that_is_forgotten_leaves_nothing() {
    let metrics = Metrics::new(BUILD).unwrap();
    let before = metrics.render();
    let meters = metrics.route("old", Some("users"));
    meters.answered(StatusCode::IM_A_TEAPOT, AnsweredBy::Upstream);
    meters.refused(Reason::Nosql, Mode::Observe);
    assert!(metrics.render().contains("route=\"old\""));
    assert!(Arc::ptr_eq(&meters, &metrics.route("old", Some("users"))));
    metrics.forget_route("old");
    assert!(!metrics.render().contains("route=\"old\""));
    assert_eq!(before.lines().count(), metrics.render().lines().count());
}

#[test]
fn every_family_of_the_table_can_be_scraped() {
    let metrics = Metrics::new(BUILD).unwrap();
    metrics.route("r", Some("u"));
    metrics.listener("l");
    metrics.set(families::CONNECTIONS_OPEN, ["public", "idle"], 3.0);
    metrics.set(families::POLICY_INFO, ["p", "a"], 1.0);
    metrics.clear(families::POLICY_INFO);
    metrics.set(families::POLICY_INFO, ["p", "b"], 1.0);
    metrics.raise(families::LIMIT_EVICTIONS, [], 7);
    metrics.raise(families::LIMIT_EVICTIONS, [], 5);
    metrics.add(families::POLICY_RELOADS, ["applied"], 1);
    let text = metrics.render();
    for wanted in [
        "portcullis_connections{listener=\"public\",state=\"idle\"} 3\n",
        "portcullis_policy_info{hash=\"b\",name=\"p\"} 1\n",
        "portcullis_limit_evictions_total 7\n",
        "portcullis_policy_reloads_total{result=\"applied\"} 1\n",
        "portcullis_build_info{revision=\"abc\",rustc=\"1.95\",tls=\"rustls with ring\",version=\"1.2.3\"} 1\n",
        "# TYPE process_cpu_seconds_total counter\n",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("hash=\"a\""));
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(text.ends_with(&format!("portcullis_scrape_series {series}\n")));
    let names: std::collections::HashSet<_> = families::all().map(|row| row.name).collect();
    assert_eq!(names.len(), families::all().count(), "every name stands once");
}

#[test]
fn the_stages_of_one_request_in_128_are_timed() {
    let bench = bench();
    for _ in 0..12_800 {
        bench.hand.advance(std::time::Duration::from_nanos(10_007));
        bench.open(&head("192.0.2.9", None)).passed(Stage::Head, None);
    }
    let timed = series(&bench.record, "portcullis_stage_duration_seconds_count{stage=\"head\"}");
    assert!((80.0..120.0).contains(&timed.unwrap()), "{timed:?}");
}
