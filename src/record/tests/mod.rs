//! What the record tells, how often, and what can never get into it.

mod lines;
mod series;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame};
use serde_json::Value;

use super::*;
use crate::authorize::tests::{head, key};
use crate::head::Head;
use crate::listen::body::{Body, Broken};
use crate::mistake::source::{Origin, Source};
use crate::mistake::{Mistakes, Reading};
use crate::record::entry::Recorded;
use crate::record::log::{LogPlan, LogRule};
use crate::record::meters::AnsweredBy;
use crate::record::metrics::Build;
use crate::refusal::{Reason, Refusal, Stage};

const BUILD: Build = Build { version: "1.2.3", revision: "abc", rustc: "1.95" };

struct Bench {
    record: Arc<Record>,
    listener: Arc<ListenerMeters>,
    clock: Clock,
    hand: crate::clock::Hand,
    log: tempfile::TempDir,
}

fn plan(text: &str) -> Result<LogPlan, String> {
    plan_in(".", text)
}

fn plan_in(base: &str, text: &str) -> Result<LogPlan, String> {
    let rule: LogRule = toml::from_str(text).map_err(|wrong| wrong.to_string())?;
    let (source, mut mistakes) = (Source::new("gateway.toml", text), Mistakes::default());
    let made = {
        let reading = &mut Reading { source: &source, mistakes: &mut mistakes };
        LogPlan::compile(&rule, std::path::Path::new(base), reading)
    };
    let says = mistakes.iter().map(|mistake| mistake.says.clone()).collect::<Vec<_>>().join("\n");
    made.ok_or(says)
}

fn bench_with(more: &str) -> Bench {
    let log = tempfile::tempdir().unwrap();
    let text = format!("{more}access.to = \"file:{}/access\"\n", log.path().display());
    let (clock, hand) = Clock::set_at(1_764_000_000_123);
    let metrics = Metrics::new(BUILD).unwrap();
    let listener = metrics.listener("public");
    let record = Record::new(metrics, Log::start(plan(&text).unwrap()).unwrap(), clock.clone());
    Bench { record, listener, clock, hand, log }
}

fn bench() -> Bench {
    bench_with("")
}

impl Bench {
    fn open(&self, head: &Head) -> Entry {
        let policy = "sha256:4c1f".into();
        let mut entry = self.record.open(&head.peer, &self.listener, &policy, self.clock.now());
        entry.headed(head);
        entry
    }

    /// Ends the record and reads back what was logged.
    fn lines(self) -> Vec<Value> {
        drop(self.record);
        let text = std::fs::read_to_string(self.log.path().join("access")).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The value of a series in a scrape; `name{labels}` as it is printed.
fn series(record: &Record, series: &str) -> Option<f64> {
    let text = record.scrape();
    let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn origin() -> Origin {
    Origin::new("limits.write", &Source::new("p.toml", "a\nb").place(2..3))
}

/// A body of these frames.
struct Frames(VecDeque<Result<Bytes, Broken>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(self.0.pop_front().map(|frame| frame.map(Frame::data)))
    }
}

fn poll<B>(body: &mut Recorded<B>) -> Option<Result<Frame<Bytes>, Broken>>
where
    B: http_body::Body<Data = Bytes, Error = Broken> + Unpin,
{
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => frame,
        Poll::Pending => panic!("nothing is pending here"),
    }
}

/// Lets one request pass, with something of everything.
fn let_one_pass(bench: &Bench) {
    let head = head("203.0.113.9", Some("limit=5&token=SECRET&SECRET2"));
    let mut entry = bench.open(&head);
    let meters = bench.record.metrics().route("users-read", Some("users"));
    entry.routed(&meters);
    entry.passed(Stage::Head, None);
    entry.passed(Stage::Limit, Some(&origin()));
    entry.identified(&mut key("u-7", "", "", ""));
    entry.observed(&Refusal::new(Reason::Sql).by(&origin()));
    drop(entry.count(Body::Whole(Bytes::from_static(b"1234567"))));
    bench.hand.advance(Duration::from_millis(3));
    entry.forwarded(&"http://a:1".into(), Duration::from_millis(2));
    entry.answered(StatusCode::CREATED, AnsweredBy::Upstream, bench.clock.now());
    let frames = Frames([Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"de"))].into());
    let mut body = entry.with(frames);
    let in_flight = "portcullis_requests_in_flight{listener=\"public\"}";
    assert_eq!(series(&bench.record, in_flight), Some(1.0));
    bench.hand.advance(Duration::from_millis(1));
    while poll(&mut body).is_some() {}
    assert!(poll(&mut body).is_none());
    drop(body);
    assert_eq!(series(&bench.record, in_flight), Some(0.0));
}

#[test]
fn an_allowed_request_is_counted_once_in_every_family() {
    let bench = bench();
    let_one_pass(&bench);
    let record = &bench.record;
    for (name, wanted) in [
        ("portcullis_requests_total{code=\"201\",origin=\"upstream\",route=\"users-read\"}", 1.0),
        ("portcullis_requests_total{code=\"499\",origin=\"gateway\",route=\"users-read\"}", 0.0),
        (
            "portcullis_decisions_total{decision=\"allow\",mode=\"enforce\",reason=\"none\",route=\"users-read\",stage=\"forward\"}",
            1.0,
        ),
        (
            "portcullis_decisions_total{decision=\"refuse\",mode=\"observe\",reason=\"sql\",route=\"users-read\",stage=\"inspect\"}",
            1.0,
        ),
        ("portcullis_request_body_bytes_total{route=\"users-read\"}", 7.0),
        ("portcullis_response_body_bytes_total{route=\"users-read\"}", 5.0),
        ("portcullis_request_duration_seconds_sum{route=\"users-read\"}", 0.004),
        ("portcullis_gateway_duration_seconds_sum{route=\"users-read\"}", 0.001),
        (
            "portcullis_upstream_duration_seconds_sum{route=\"users-read\",upstream=\"users\"}",
            0.002,
        ),
    ] {
        assert_eq!(series(record, name), Some(wanted), "{name}");
    }
    let timed = "portcullis_stage_duration_seconds_count{stage=\"limit\"}";
    assert_eq!(series(record, timed), Some(1.0), "the clock's first moment is one in 128");
}

/// Closes so many records at this moment; tells how many of them `explain` would still find.
fn found_of(bench: &Bench, count: u64, close: impl Fn(&mut Entry)) -> usize {
    let mut ids = Vec::new();
    for _ in 0..count {
        let mut asked = head("192.0.2.9", None);
        asked.id = crate::head::RequestId::new(bench.clock.now());
        ids.push(asked.id);
        let mut entry = bench.open(&asked);
        entry.named(asked.id);
        close(&mut entry);
        drop(entry.with(Body::Empty));
    }
    ids.iter().filter(|id| bench.record.recent().find(id.as_str()).is_some()).count()
}

#[test]
fn a_busy_moment_keeps_some_of_what_passed_and_some_of_what_was_refused() {
    let bench = bench();
    let pass = |entry: &mut Entry| {
        entry.answered(StatusCode::OK, AnsweredBy::Upstream, bench.clock.now());
    };
    assert_eq!(found_of(&bench, 100, pass), 64);
    assert_eq!(found_of(&bench, 1, pass), 0, "the moment has had its share");
    assert_eq!(found_of(&bench, 100, |entry| entry.refused(&Reason::Sql.into())), 64);
    assert!(bench.record.recent().last_refused().is_some());
    bench.hand.advance(Duration::from_millis(17));
    assert_eq!(found_of(&bench, 1, pass), 1, "and the next one has its own");
}

#[test]
fn an_allowed_request_is_told_once_in_the_log_and_kept_for_explain() {
    let bench = bench();
    let_one_pass(&bench);
    let id = head("192.0.2.9", None).id;
    let found: Value =
        serde_json::from_str(&bench.record.recent().find(id.as_str()).unwrap()).unwrap();
    assert_eq!(found["stages"][5]["rule"], "limits.write, p.toml:2");
    assert!(bench.record.recent().find("another").is_none());
    assert!(bench.record.recent().last_refused().is_none());

    let [line] = <[Value; 1]>::try_from(bench.lines()).unwrap();
    for (key, wanted) in [
        ("time", "2025-11-24T16:00:00.123Z".into()),
        ("id", id.as_str().into()),
        ("client", "203.0.113.9".into()),
        ("method", "GET".into()),
        ("path", "/v1/users/u-7".into()),
        ("query", serde_json::json!(["limit", "token", "*"])),
        ("subject", "u-7".into()),
        ("decision", "allow".into()),
        ("status", 201.into()),
        ("bytes_in", 7.into()),
        ("bytes_out", 5.into()),
        ("duration_us", 4000.into()),
        ("end", "complete".into()),
        ("policy", "sha256:4c1f".into()),
    ] {
        assert_eq!(line[key], wanted, "{key}");
    }
    assert_eq!(line["observed"][0]["reason"], "sql");
    assert!(!line.to_string().contains("SECRET"), "{line}");
}

#[test]
fn an_entry_closes_once_at_end_error_or_drop() {
    for (frames, polls, end, bytes) in [
        (vec![Ok("abc")], 3, "complete", 3),
        (vec![Ok("abc"), Err(Broken::Upstream)], 2, "upstream-broke", 3),
        (vec![Ok("abc"), Err(Broken::Connection)], 2, "caller-left", 3),
        (vec![Ok("abc"), Ok("def")], 1, "caller-left", 3),
        (vec![Ok("abc")], 0, "caller-left", 0),
    ] {
        let bench = bench();
        let mut entry = bench.open(&head("192.0.2.9", None));
        entry.answered(StatusCode::OK, AnsweredBy::Upstream, bench.clock.now());
        let frames =
            frames.into_iter().map(|frame| frame.map(|text| Bytes::from_static(text.as_bytes())));
        let mut body = entry.with(Frames(frames.collect()));
        for _ in 0..polls {
            let _ = poll(&mut body);
        }
        drop(body);
        let counted =
            "portcullis_requests_total{code=\"200\",origin=\"upstream\",route=\"unmatched\"}";
        assert_eq!(series(&bench.record, counted), Some(1.0));
        let lines = bench.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["end"], &lines[0]["bytes_out"]), (&end.into(), &bytes.into()));
    }
}

#[test]
fn a_body_that_nobody_needs_to_poll_is_complete() {
    let bench = bench();
    for (method, status, body) in [
        (Method::GET, StatusCode::OK, Body::Empty),
        (Method::HEAD, StatusCode::OK, Body::Whole(Bytes::from_static(b"x"))),
        (Method::GET, StatusCode::NOT_MODIFIED, Body::Whole(Bytes::from_static(b"x"))),
    ] {
        let mut head = head("192.0.2.9", None);
        head.method = method;
        let mut entry = bench.open(&head);
        entry.answered(status, AnsweredBy::Gateway, bench.clock.now());
        drop(entry.with(body));
    }
    // One frame, after which hyper asks no more.
    let mut entry = bench.open(&head("192.0.2.9", None));
    entry.answered(StatusCode::OK, AnsweredBy::Gateway, bench.clock.now());
    let mut body = entry.with(Body::Whole(Bytes::from_static(b"x")));
    assert!(poll(&mut body).is_some() && body.is_end_stream());
    drop(body);
    let lines = bench.lines();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["end"] == "complete"), "{lines:?}");
}

#[test]
fn who_leaves_without_a_verdict_is_499_and_a_panic_is_500() {
    let bench = bench();
    drop(bench.open(&head("192.0.2.9", None)));
    let mut told = bench.open(&head("192.0.2.9", None));
    told.refused(&Refusal::new(Reason::BudgetEmpty).by(&origin()).because("tier free"));
    told.refused(&Refusal::new(Reason::GatewayFault));
    drop(told);
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _entry = bench.open(&head("192.0.2.9", None));
        std::panic::resume_unwind(Box::new("ours"));
    }));
    assert!(caught.is_err());
    let last: Value = serde_json::from_str(&bench.record.recent().last_refused().unwrap()).unwrap();
    assert_eq!(last["reason"], "gateway-fault");
    let counted = "portcullis_requests_total{code=\"499\",origin=\"gateway\",route=\"unmatched\"}";
    assert_eq!(series(&bench.record, counted), Some(1.0));
    let lines = bench.lines();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["status"].as_u64().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(499, "client-left"), (429, "budget-empty"), (500, "gateway-fault")]);
    assert_eq!(lines[1]["rule"], "limits.write, p.toml:2");
    assert_eq!(lines[1]["detail"], "tier free");
}

#[test]
fn a_tunnel_closes_its_entry_with_the_bytes_of_both_ways() {
    let bench = bench();
    let mut entry = bench.open(&head("192.0.2.9", None));
    entry.answered(StatusCode::SWITCHING_PROTOCOLS, AnsweredBy::Upstream, bench.clock.now());
    let mut guard: Box<dyn crate::listen::TunnelGuard> = Box::new(entry);
    guard.ended(11, 22);
    drop(guard);
    let lines = bench.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["bytes_in"], &lines[0]["bytes_out"]), (&11.into(), &22.into()));
    assert_eq!((&lines[0]["status"], &lines[0]["end"]), (&101.into(), &"complete".into()));
}

#[test]
fn a_streamed_request_body_is_counted_as_it_comes() {
    let bench = bench();
    let mut entry = bench.open(&head("192.0.2.9", None));
    let frames = Frames([Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"de"))].into());
    let mut body = entry.count(Body::Streaming(Box::pin(frames)));
    let context = &mut Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(_)) = Pin::new(&mut body).poll_frame(context) {}
    drop(entry);
    assert_eq!(bench.lines()[0]["bytes_in"], 5);
}
