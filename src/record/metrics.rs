//! What Prometheus scrapes: every family of the table, and the text of one scrape.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::record::families::{self, Gauge, Row, Total};
use crate::record::meters::{ListenerMeters, RouteFamilies, RouteMeters, UNMATCHED};
use crate::record::process;
use crate::refusal::Stage;

/// What runs, for `portcullis_build_info`.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The version of this crate.
    pub version: &'static str,
    /// The revision it was built from; `unknown` outside a checkout.
    pub revision: &'static str,
    /// The compiler.
    pub rustc: &'static str,
}

/// All metrics of the process, in a registry of their own. A request touches only handles that
/// were resolved before; locks are taken when a policy is swapped and when Prometheus scrapes.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Arc<RouteFamilies>,
    stages: [Histogram; Stage::ALL.len()],
    in_flight: IntGaugeVec,
    gauges: Vec<prometheus::GaugeVec>,
    totals: Vec<IntCounterVec>,
    cpu: Counter,
    unmatched: Arc<RouteMeters>,
    routes: Mutex<BTreeMap<Box<str>, Arc<RouteMeters>>>,
}

impl Metrics {
    /// Makes every family of the table.
    ///
    /// # Errors
    /// When two rows of the table have one name, or a name is none. A test sees to both.
    pub fn new(build: Build) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let families = Arc::new(RouteFamilies {
            requests: counters(&registry, &families::REQUESTS)?,
            decisions: counters(&registry, &families::DECISIONS)?,
            request_duration: durations(&registry, &families::REQUEST_DURATION)?,
            gateway_duration: durations(&registry, &families::GATEWAY_DURATION)?,
            upstream_duration: durations(&registry, &families::UPSTREAM_DURATION)?,
            request_bytes: counters(&registry, &families::REQUEST_BODY_BYTES)?,
            response_bytes: counters(&registry, &families::RESPONSE_BODY_BYTES)?,
        });
        let stages = durations(&registry, &families::STAGE_DURATION)?;
        let row = &families::REQUESTS_IN_FLIGHT;
        let in_flight = registered(&registry, IntGaugeVec::new(opts(row), row.labels)?)?;
        let gauges: Result<Vec<_>, prometheus::Error> = families::GAUGES
            .iter()
            .map(|row| registered(&registry, prometheus::GaugeVec::new(opts(row), row.labels)?))
            .collect();
        let totals: Result<Vec<_>, prometheus::Error> =
            families::TOTALS.iter().map(|row| counters(&registry, row)).collect();
        let cpu = registered(&registry, Counter::with_opts(opts(&families::PROCESS_CPU))?)?;
        let metrics = Self {
            stages: Stage::ALL.map(|stage| stages.with_label_values(&[stage.name()])),
            unmatched: Arc::new(RouteMeters::new(UNMATCHED, None, &families)),
            registry,
            families,
            in_flight,
            gauges: gauges?,
            totals: totals?,
            cpu,
            routes: Mutex::default(),
        };
        let labels = [build.version, build.revision, build.rustc, "rustls with ring"];
        metrics.set(families::BUILD_INFO, labels, 1.0);
        // Families without labels exist from the start, so that alerts on them can fire.
        metrics.add(families::LIMIT_EVICTIONS, [], 0);
        metrics.add(families::LIMIT_STORE_REFUSED, [], 0);
        metrics.add(families::ACCESS_RECORDS_DROPPED, [], 0);
        metrics.add(families::RETIRING_KEYS_USED, [], 0);
        metrics.add(families::KEY_USAGE_FAULTS, [], 0);
        Ok(metrics)
    }

    /// The metrics of a route; the same ones for as long as the route's name is not forgotten.
    /// Ask when a policy is about to be swapped in, not for one that may yet be refused.
    pub fn route(&self, name: &str, upstream: Option<&str>) -> Arc<RouteMeters> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(name)
            && known.upstream() == upstream
        {
            return Arc::clone(known);
        }
        let meters = Arc::new(RouteMeters::new(name, upstream, &self.families));
        routes.insert(name.into(), Arc::clone(&meters));
        meters
    }

    /// The metrics of requests that no route matches.
    pub fn unmatched(&self) -> &Arc<RouteMeters> {
        &self.unmatched
    }

    /// The metrics of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMeters> {
        Arc::new(ListenerMeters { in_flight: self.in_flight.with_label_values(&[name]) })
    }

    /// The routes that have children, in alphabetical order.
    pub fn routes(&self) -> Vec<Box<str>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Drops the children of a route that the policy no longer has. Do it an hour after the swap,
    /// when Prometheus has surely seen the last values.
    pub fn forget_route(&self, name: &str) {
        let forgotten = self.routes.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(meters) = forgotten {
            meters.forget();
        }
    }

    /// Sets a gauge.
    pub fn set<const LABELS: usize>(
        &self,
        gauge: Gauge<LABELS>,
        labels: [&str; LABELS],
        value: f64,
    ) {
        if let Some(family) = self.gauges.get(gauge.0) {
            family.with_label_values(&labels).set(value);
        }
    }

    /// Drops all children of a gauge whose labels come and go, before they are set anew.
    pub fn clear<const LABELS: usize>(&self, gauge: Gauge<LABELS>) {
        if let Some(family) = self.gauges.get(gauge.0) {
            family.reset();
        }
    }

    /// Adds to a counter.
    pub fn add<const LABELS: usize>(
        &self,
        total: Total<LABELS>,
        labels: [&str; LABELS],
        more: u64,
    ) {
        if let Some(family) = self.totals.get(total.0) {
            family.with_label_values(&labels).inc_by(more);
        }
    }

    /// Raises a counter to a total that is kept elsewhere. One that fell stays as it was.
    pub fn raise<const LABELS: usize>(
        &self,
        total: Total<LABELS>,
        labels: [&str; LABELS],
        value: u64,
    ) {
        if let Some(family) = self.totals.get(total.0) {
            let counter = family.with_label_values(&labels);
            counter.inc_by(value.saturating_sub(counter.get()));
        }
    }

    /// One scrape, in the text format. Gauges that live elsewhere are set before.
    pub fn render(&self) -> String {
        self.measure_process();
        let mut text = String::with_capacity(64 * 1024);
        if let Err(fault) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%fault, "metrics could not be rendered");
        }
        let series = text.lines().filter(|line| !line.starts_with('#')).count() + 1;
        let Row { name, help, .. } = families::SCRAPE_SERIES;
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {series}\n"));
        text
    }

    pub(in crate::record) fn stage_took(&self, stage: Stage, time: Duration) {
        if let Some(histogram) = self.stages.get(stage as usize) {
            histogram.observe(time.as_secs_f64());
        }
    }

    fn measure_process(&self) {
        let Some(process) = process::measure() else { return };
        self.cpu.inc_by((process.cpu_s - self.cpu.get()).max(0.0));
        self.set(families::PROCESS_RESIDENT_MEMORY, [], process.resident_bytes);
        self.set(families::PROCESS_VIRTUAL_MEMORY, [], process.virtual_bytes);
        self.set(families::PROCESS_OPEN_FDS, [], process.open_fds);
        self.set(families::PROCESS_MAX_FDS, [], process.max_fds);
        self.set(families::PROCESS_START_TIME, [], process.started_s);
        self.set(families::PROCESS_THREADS, [], process.threads);
    }
}

fn opts(row: &Row) -> Opts {
    Opts::new(row.name, row.help)
}

fn counters(registry: &Registry, row: &Row) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(opts(row), row.labels)?)
}

fn durations(registry: &Registry, row: &Row) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(row.name, row.help).buckets(families::DURATION_BOUNDS.to_vec());
    registered(registry, HistogramVec::new(opts, row.labels)?)
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
