//! The handles of one route's metrics, resolved once, so that a request looks nothing up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::refusal::{Mode, Reason};

/// Who made an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The gateway: a refusal, or an answer of its own.
    Gateway,
    /// The service behind.
    Upstream,
}

impl AnsweredBy {
    /// The name, as the label `origin` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

/// The route of requests that no route matches.
pub const UNMATCHED: &str = "unmatched";

/// Statuses that have a series of their own (IANA's registry, and 499). What else an upstream
/// answers is counted as `other`.
const STATUSES: [u16; 62] = [
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304,
    305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415,
    416, 417, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505,
    506, 507, 508, 510, 511,
];
const OTHER: &str = "other";

/// Answers that exist from the start with the value 0, so that `increase()` sees the first one.
const EXPECTED_ANSWERS: [(&str, AnsweredBy); 12] = [
    ("200", AnsweredBy::Upstream),
    ("500", AnsweredBy::Upstream),
    ("400", AnsweredBy::Gateway),
    ("401", AnsweredBy::Gateway),
    ("403", AnsweredBy::Gateway),
    ("404", AnsweredBy::Gateway),
    ("429", AnsweredBy::Gateway),
    ("499", AnsweredBy::Gateway),
    ("500", AnsweredBy::Gateway),
    ("502", AnsweredBy::Gateway),
    ("503", AnsweredBy::Gateway),
    ("504", AnsweredBy::Gateway),
];
/// Refusals that exist from the start, for the same reason.
const EXPECTED_REFUSALS: [Reason; 8] = [
    Reason::CredentialMissing,
    Reason::CredentialUnknown,
    Reason::ScopeMissing,
    Reason::RoleMissing,
    Reason::BudgetEmpty,
    Reason::UpstreamUnreachable,
    Reason::ClientLeft,
    Reason::GatewayFault,
];

/// The families that routes have children in.
#[derive(Debug)]
pub(in crate::record) struct RouteFamilies {
    pub(in crate::record) requests: IntCounterVec,
    pub(in crate::record) decisions: IntCounterVec,
    pub(in crate::record) request_duration: HistogramVec,
    pub(in crate::record) gateway_duration: HistogramVec,
    pub(in crate::record) upstream_duration: HistogramVec,
    pub(in crate::record) request_bytes: IntCounterVec,
    pub(in crate::record) response_bytes: IntCounterVec,
}

/// The metrics of one route. What a request touches always is resolved; a status or a reason is
/// resolved when it first happens, and both lists are closed.
#[derive(Debug)]
pub struct RouteMeters {
    name: Box<str>,
    upstream: Option<Box<str>>,
    families: Arc<RouteFamilies>,
    allowed: IntCounter,
    request_duration: Histogram,
    gateway_duration: Histogram,
    upstream_duration: Option<Histogram>,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
    answers: OnceLock<Slots>,
    refusals: OnceLock<Slots>,
}

/// Counters that are resolved one by one. The boxes keep a quiet route small.
type Slots = Box<[OnceLock<IntCounter>]>;

fn slots(count: usize) -> Slots {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

impl RouteMeters {
    pub(in crate::record) fn new(
        name: &str,
        upstream: Option<&str>,
        families: &Arc<RouteFamilies>,
    ) -> Self {
        for (status, by) in EXPECTED_ANSWERS {
            families.requests.with_label_values(&[name, status, by.name()]);
        }
        for reason in EXPECTED_REFUSALS {
            families.decisions.with_label_values(&refusal_labels(name, reason, Mode::Enforce));
        }
        Self {
            name: name.into(),
            upstream: upstream.map(Into::into),
            allowed: families.decisions.with_label_values(&allow_labels(name)),
            request_duration: families.request_duration.with_label_values(&[name]),
            gateway_duration: families.gateway_duration.with_label_values(&[name]),
            upstream_duration: upstream
                .map(|upstream| families.upstream_duration.with_label_values(&[name, upstream])),
            request_bytes: families.request_bytes.with_label_values(&[name]),
            response_bytes: families.response_bytes.with_label_values(&[name]),
            answers: OnceLock::new(),
            refusals: OnceLock::new(),
            families: Arc::clone(families),
        }
    }

    /// The route's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The upstream that the route forwards to.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    pub(in crate::record) fn answered(&self, status: StatusCode, by: AnsweredBy) {
        let found = STATUSES.binary_search(&status.as_u16());
        let number = found.unwrap_or(STATUSES.len()) * 2 + by as usize;
        let slots = self.answers.get_or_init(|| slots((STATUSES.len() + 1) * 2));
        let Some(slot) = slots.get(number) else { return };
        let code = if found.is_ok() { status.as_str() } else { OTHER };
        slot.get_or_init(|| {
            self.families.requests.with_label_values(&[&*self.name, code, by.name()])
        })
        .inc();
    }

    pub(in crate::record) fn allowed(&self) {
        self.allowed.inc();
    }

    pub(in crate::record) fn refused(&self, reason: Reason, mode: Mode) {
        let slots = self.refusals.get_or_init(|| slots(Reason::ALL.len() * 2));
        let Some(slot) = slots.get(reason as usize * 2 + mode as usize) else { return };
        let labels = refusal_labels(&self.name, reason, mode);
        slot.get_or_init(|| self.families.decisions.with_label_values(&labels)).inc();
    }

    pub(in crate::record) fn bytes(&self, request: u64, response: u64) {
        if request > 0 {
            self.request_bytes.inc_by(request);
        }
        if response > 0 {
            self.response_bytes.inc_by(response);
        }
    }

    pub(in crate::record) fn took(
        &self,
        whole: Duration,
        gateway: Duration,
        upstream: Option<Duration>,
    ) {
        self.request_duration.observe(whole.as_secs_f64());
        self.gateway_duration.observe(gateway.as_secs_f64());
        if let (Some(histogram), Some(upstream)) = (&self.upstream_duration, upstream) {
            histogram.observe(upstream.as_secs_f64());
        }
    }

    /// Drops every child of this route.
    pub(in crate::record) fn forget(&self) {
        let families = &self.families;
        let name = &*self.name;
        // A child that never was is no child to drop, so what removing answers does not matter.
        for by in [AnsweredBy::Gateway, AnsweredBy::Upstream] {
            for status in STATUSES {
                let code = status.to_string();
                let _ = families.requests.remove_label_values(&[name, &code, by.name()]);
            }
            let _ = families.requests.remove_label_values(&[name, OTHER, by.name()]);
        }
        let _ = families.decisions.remove_label_values(&allow_labels(name));
        for mode in [Mode::Enforce, Mode::Observe] {
            for reason in Reason::ALL {
                let labels = refusal_labels(name, *reason, mode);
                let _ = families.decisions.remove_label_values(&labels);
            }
        }
        let _ = families.request_duration.remove_label_values(&[name]);
        let _ = families.gateway_duration.remove_label_values(&[name]);
        if let Some(upstream) = &self.upstream {
            let _ = families.upstream_duration.remove_label_values(&[name, upstream]);
        }
        let _ = families.request_bytes.remove_label_values(&[name]);
        let _ = families.response_bytes.remove_label_values(&[name]);
    }
}

/// A request that passes is counted once, at the stage that sends it on.
fn allow_labels(route: &str) -> [&str; 5] {
    [route, "forward", "allow", "none", Mode::Enforce.name()]
}

fn refusal_labels(route: &str, reason: Reason, mode: Mode) -> [&str; 5] {
    [route, reason.stage().name(), "refuse", reason.name(), mode.name()]
}

/// The metrics of one listener that requests touch.
#[derive(Debug)]
pub struct ListenerMeters {
    pub(in crate::record) in_flight: IntGauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_and_every_refusal_has_its_own() {
        assert!(STATUSES.is_sorted());
        for reason in Reason::ALL {
            assert!(STATUSES.contains(&reason.status().as_u16()), "{}", reason.name());
        }
    }

    #[test]
    fn reasons_are_numbered_as_they_are_listed() {
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }
}
