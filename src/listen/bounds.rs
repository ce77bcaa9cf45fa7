//! The ceilings and deadlines of a listener: as written, and checked.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::{Size, Span};

/// Ceilings and deadlines of a listener, as written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BoundsRule {
    /// Connections at a time, in all. 20000 unless written.
    #[serde(default)]
    pub connections: Option<At<u32>>,
    /// Connections at a time from one address (IPv6: from one /64). 200 unless written.
    #[serde(default)]
    pub connections_per_address: Option<At<u32>>,
    /// A request's whole head. `"16KiB"` unless written.
    #[serde(default)]
    pub header_bytes: Option<At<Size>>,
    /// Header lines of a request. 100 unless written.
    #[serde(default)]
    pub headers: Option<At<u32>>,
    /// A request's target: path and query. `"8KiB"` unless written.
    #[serde(default)]
    pub target_bytes: Option<At<Size>>,
    /// Time for the TLS handshake. `"5s"` unless written.
    #[serde(default)]
    pub handshake_timeout: Option<At<Span>>,
    /// Time for a request's whole head. `"5s"` unless written.
    #[serde(default)]
    pub header_timeout: Option<At<Span>>,
    /// Time between two reads of a request's body. `"15s"` unless written.
    #[serde(default)]
    pub body_timeout: Option<At<Span>>,
    /// Time between two writes of an answer that make progress. `"30s"` unless written.
    #[serde(default)]
    pub write_timeout: Option<At<Span>>,
    /// Time that a connection may stay open without a request. `"60s"` unless written.
    #[serde(default)]
    pub idle_timeout: Option<At<Span>>,
    /// Requests on one connection, after which it closes. 100000 unless written.
    #[serde(default)]
    pub requests_per_connection: Option<At<u32>>,
    /// HTTP/2 requests at a time on one connection. 100 unless written.
    #[serde(default)]
    pub h2_streams: Option<At<u32>>,
}

/// Ceilings and deadlines of a listener.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) connections: u32,
    pub(super) connections_per_address: u32,
    pub(super) header_bytes: usize,
    pub(super) headers: usize,
    pub(super) target_bytes: usize,
    pub(super) handshake_timeout: Duration,
    pub(super) header_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) requests_per_connection: u32,
    pub(super) h2_streams: u32,
}

/// Compiles the bounds of a listener, reporting all that is out of range.
pub(super) fn compile(rule: &BoundsRule, reading: &mut Reading<'_>) -> Option<Bounds> {
    let BoundsRule {
        connections,
        connections_per_address,
        header_bytes,
        headers,
        target_bytes,
        handshake_timeout,
        header_timeout,
        body_timeout,
        write_timeout,
        idle_timeout,
        requests_per_connection,
        h2_streams,
    } = rule;
    let connections = count(connections, 20_000, 1..=10_000_000, reading);
    let per_address = count(connections_per_address, 200, 1..=10_000_000, reading);
    let target_bytes_read = size(target_bytes, 8 << 10, 64..=32 << 10, reading);
    let header_bytes_read = size(header_bytes, 16 << 10, 1 << 10..=256 << 10, reading);
    let headers = count(headers, 100, 1..=1000, reading);
    let times = [
        (handshake_timeout, 5),
        (header_timeout, 5),
        (body_timeout, 15),
        (write_timeout, 30),
        (idle_timeout, 60),
    ]
    .map(|(written, default_s)| time(written, default_s, reading));
    let requests = count(requests_per_connection, 100_000, 1..=u32::MAX, reading);
    let streams = count(h2_streams, 100, 1..=10_000, reading);
    let (target, header) = (target_bytes_read?, header_bytes_read?);
    if target.saturating_add(512) > header {
        let both = target_bytes.as_ref().or(header_bytes.as_ref());
        let span = both.map_or(0..0, |written| written.span.clone());
        let says = "the longest target does not fit into the largest head";
        let help = "make `header_bytes` at least 512 bytes larger than `target_bytes`";
        reading.wrong(Code::WrongValue, &span, says, help);
        return None;
    }
    let [handshake_timeout, header_timeout, body_timeout, write_timeout, idle_timeout] = times;
    Some(Bounds {
        connections: connections?,
        connections_per_address: per_address?,
        header_bytes: header,
        headers: usize::try_from(headers?).ok()?,
        target_bytes: target,
        handshake_timeout: handshake_timeout?,
        header_timeout: header_timeout?,
        body_timeout: body_timeout?,
        write_timeout: write_timeout?,
        idle_timeout: idle_timeout?,
        requests_per_connection: requests?,
        h2_streams: streams?,
    })
}

fn count(
    written: &Option<At<u32>>,
    default: u32,
    range: RangeInclusive<u32>,
    reading: &mut Reading<'_>,
) -> Option<u32> {
    let Some(written) = written else { return Some(default) };
    within(written.value, &range, |number| number.to_string(), &written.span, reading)
}

fn size(
    written: &Option<At<Size>>,
    default: u64,
    range: RangeInclusive<u64>,
    reading: &mut Reading<'_>,
) -> Option<usize> {
    let bytes = match written {
        None => default,
        Some(written) => {
            within(written.0, &range, |bytes| Size(bytes).to_string(), &written.span, reading)?
        }
    };
    usize::try_from(bytes).ok()
}

fn time(written: &Option<At<Span>>, default_s: u64, reading: &mut Reading<'_>) -> Option<Duration> {
    let Some(written) = written else { return Some(Duration::from_secs(default_s)) };
    let range = Duration::from_millis(10)..=Duration::from_secs(3600);
    within(written.0, &range, |span| Span(span).to_string(), &written.span, reading)
}

fn within<T: PartialOrd + Copy>(
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
    span: &Range<usize>,
    reading: &mut Reading<'_>,
) -> Option<T> {
    if range.contains(&value) {
        return Some(value);
    }
    let says = format!("{} is out of range", show(value));
    let help = format!("write {} to {}", show(*range.start()), show(*range.end()));
    reading.wrong(Code::WrongValue, span, says, help);
    None
}
