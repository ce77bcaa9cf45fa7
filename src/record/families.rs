//! The table of metrics: one row a family, with its name, labels and help.
//!
//! Label values come from the policy, from `gateway.toml` or from closed lists; never from a caller.

/// The name, labels and help of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name, as Prometheus scrapes it.
    pub name: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts, for people.
    pub help: &'static str,
}

/// A gauge that others set before a scrape, with this many labels.
#[derive(Clone, Copy, Debug)]
pub struct Gauge<const LABELS: usize>(pub(in crate::record) usize);

/// A counter whose total others keep, and hand over before a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Total<const LABELS: usize>(pub(in crate::record) usize);

/// Defines the families of one kind: a constant to name each, and the list of all rows.
macro_rules! families {
    ($kind:ident $index:ident $all:ident: $($name:ident $text:literal [$($label:literal)*] $help:literal)*) => {
        #[expect(non_camel_case_types, reason = "only numbers the constants below")]
        enum $index { $($name,)* }

        $(
            #[doc = concat!("`", $text, "`: ", $help)]
            pub const $name: $kind<{ <[&str]>::len(&[$($label),*]) }> = $kind($index::$name as usize);
        )*

        /// All families of this kind.
        pub const $all: &[Row] = &[$(Row { name: $text, labels: &[$($label),*], help: $help },)*];
    };
}

families! { Gauge GaugeIndex GAUGES:
    CONNECTIONS_OPEN "portcullis_connections" ["listener" "state"] "Open connections, handshaking, active or idle"
    LIMIT_BUCKETS "portcullis_limit_buckets" [] "Token buckets held"
    LIMIT_BUCKETS_MAX "portcullis_limit_buckets_max" [] "Token buckets that may be held"
    BUFFERED_BYTES "portcullis_buffered_bytes" [] "Bytes of bodies held in memory"
    BUFFERED_BYTES_MAX "portcullis_buffered_bytes_max" [] "Bytes of bodies that may be held in memory"
    BANS_IN_FORCE "portcullis_bans" ["source"] "Bans in force"
    UPSTREAM_TARGET_HEALTHY "portcullis_upstream_target_healthy" ["upstream" "target"] "1 when in rotation"
    UPSTREAM_TOKEN_EXPIRY "portcullis_upstream_token_expiry_timestamp_seconds" ["upstream"] "When the token for an upstream expires"
    TOKEN_KEYS "portcullis_token_keys" ["scheme"] "Keys held of an issuer of tokens"
    TOKEN_KEYS_AGE "portcullis_token_keys_age_seconds" ["scheme"] "Time since the keys of an issuer were fetched"
    REVOCATIONS_HELD "portcullis_revocations" [] "Tokens, sessions and subjects that are revoked"
    REVOCATIONS_MAX "portcullis_revocations_max" [] "Revocations that may be held"
    POLICY_INFO "portcullis_policy_info" ["name" "hash"] "1; the policy in force"
    POLICY_LAST_RELOAD_SUCCESSFUL "portcullis_policy_last_reload_successful" [] "1 when the last reload was applied or changed nothing, otherwise 0"
    POLICY_LAST_RELOAD_SUCCESS_TIMESTAMP "portcullis_policy_last_reload_success_timestamp_seconds" [] "When the policy in force was loaded"
    POLICY_OBSERVE_UNTIL "portcullis_policy_observe_until_timestamp_seconds" ["rule"] "End of each period in which a rule only watches"
    KEYS_HELD "portcullis_keys" ["state"] "API keys"
    KEYS_OVERDUE "portcullis_keys_overdue" [] "API keys that hold and are older than their environment allows"
    KEY_NEXT_EXPIRY "portcullis_key_next_expiry_timestamp_seconds" [] "Earliest expiry among active keys"
    IDENTITY_KEYS_PUBLISHED "portcullis_identity_keys" [] "Keys published for tokens that tell services who calls"
    CERTIFICATE_EXPIRY "portcullis_certificate_expiry_timestamp_seconds" ["certificate"] "When a certificate expires"
    CLIENT_AUTHORITY_EXPIRY "portcullis_client_authority_expiry_timestamp_seconds" ["listener"] "When the first authority for client certificates expires"
    REVOCATION_LIST_EXPIRY "portcullis_revocation_list_expiry_timestamp_seconds" ["listener"] "When the first revocation list ends, from when on no client certificate is believed"
    BUILD_INFO "portcullis_build_info" ["version" "revision" "rustc" "tls"] "1; what runs"
    PROCESS_RESIDENT_MEMORY "process_resident_memory_bytes" [] "Resident memory"
    PROCESS_VIRTUAL_MEMORY "process_virtual_memory_bytes" [] "Virtual memory"
    PROCESS_OPEN_FDS "process_open_fds" [] "Open file descriptors"
    PROCESS_MAX_FDS "process_max_fds" [] "File descriptors that may be open"
    PROCESS_START_TIME "process_start_time_seconds" [] "When the process started, as Unix time"
    PROCESS_THREADS "process_threads" [] "Threads"
}

families! { Total TotalIndex TOTALS:
    CONNECTIONS_ACCEPTED "portcullis_connections_accepted_total" ["listener"] "Connections taken from the kernel, whatever became of them"
    CONNECTION_FLOODS "portcullis_connection_floods_total" ["listener"] "HTTP/2 connections closed for a flood of frames that carry nothing"
    CONNECTIONS_HANDED_OVER "portcullis_connections_handed_over_total" ["listener"] "Connections that an overloaded worker handed to another"
    CONNECTIONS_REFUSED "portcullis_connections_refused_total" ["listener" "reason"] "Connections refused before HTTP"
    TLS_HANDSHAKES "portcullis_tls_handshakes_total" ["listener" "version" "result"] "TLS handshakes"
    TLS_RESUMED "portcullis_tls_resumed_handshakes_total" ["listener"] "TLS handshakes that resumed an earlier session"
    CERTIFICATE_RELOADS "portcullis_certificate_reloads_total" ["listener" "result"] "Changed certificates: applied or refused"
    CLIENT_CERTIFICATES_REFUSED "portcullis_client_certificates_refused_total" ["listener" "reason"] "TLS handshakes that ended for want of a good client certificate"
    BUFFER_REFUSED "portcullis_buffer_refused_total" [] "Bodies refused because memory for bodies was full"
    LIMIT_EVICTIONS "portcullis_limit_evictions_total" [] "Full token buckets forgotten early to make room for new keys"
    LIMIT_STORE_REFUSED "portcullis_limit_store_refused_total" [] "Requests refused because no token bucket could be made for them"
    UPSTREAM_REQUESTS "portcullis_upstream_requests_total" ["upstream" "target" "result"] "Attempts at a target"
    UPSTREAM_RETRIES "portcullis_upstream_retries_total" ["upstream" "reason"] "Attempts that repeat one that failed"
    IDENTITY_TOKENS_SIGNED "portcullis_identity_tokens_signed_total" ["upstream"] "Tokens signed that tell a service who calls; the others were used again"
    UPSTREAM_TOKENS "portcullis_upstream_tokens_total" ["upstream" "result"] "Tokens that a token endpoint was asked for: ok or error"
    UPSTREAM_RELOADS "portcullis_upstream_reloads_total" ["upstream" "what" "result"] "Changed files of TLS, credentials and identities towards an upstream: applied or refused"
    KEY_ALARMS "portcullis_key_alarms_total" ["cause"] "Keys used as they must not be: canaries, and keys in URLs or sent without TLS"
    KEY_ALARMS_DROPPED "portcullis_key_alarms_dropped_total" [] "Alarms that nobody acted upon because too many waited"
    KEY_USAGE_FAULTS "portcullis_key_usage_faults_total" [] "Times that the use of keys could not be stored"
    RETIRING_KEYS_USED "portcullis_retiring_key_requests_total" [] "Requests with a key that already has a successor"
    TOKEN_KEYS_FETCHES "portcullis_token_keys_fetches_total" ["scheme" "result"] "Fetches of an issuer's keys: ok or failed"
    TOKENS_JUDGED "portcullis_tokens_total" ["scheme" "result"] "Tokens: cached, verified or refused"
    TOKENS_ASKED_ABOUT "portcullis_introspections_total" ["scheme" "result"] "Tokens looked up at their issuer: cached, active, inactive, failed, or stale where the last answer had to do"
    TOKEN_CACHE_EVICTIONS "portcullis_token_cache_evictions_total" ["scheme"] "Verified tokens forgotten early to make room for others"
    POLICY_RELOADS "portcullis_policy_reloads_total" ["result"] "Reloads: applied, unchanged or refused"
    ACCESS_RECORDS_DROPPED "portcullis_access_records_dropped_total" [] "Access records lost because they could not be written fast enough"
}

/// Families that the record counts itself, with a handle for each route, listener or stage.
pub const COUNTED: &[Row] = &[
    REQUESTS,
    DECISIONS,
    REQUEST_DURATION,
    GATEWAY_DURATION,
    UPSTREAM_DURATION,
    STAGE_DURATION,
    REQUESTS_IN_FLIGHT,
    REQUEST_BODY_BYTES,
    RESPONSE_BODY_BYTES,
    PROCESS_CPU,
    SCRAPE_SERIES,
];

/// Every family there is.
pub fn all() -> impl Iterator<Item = &'static Row> {
    COUNTED.iter().chain(GAUGES).chain(TOTALS)
}

pub(in crate::record) const REQUESTS: Row = Row {
    name: "portcullis_requests_total",
    labels: &["route", "code", "origin"],
    help: "Requests answered",
};
pub(in crate::record) const DECISIONS: Row = Row {
    name: "portcullis_decisions_total",
    labels: &["route", "stage", "decision", "reason", "mode"],
    help: "Verdicts: allow or refuse, enforced or only observed",
};
pub(in crate::record) const REQUEST_DURATION: Row = Row {
    name: "portcullis_request_duration_seconds",
    labels: &["route"],
    help: "From the request's head to the last byte of its answer",
};
pub(in crate::record) const GATEWAY_DURATION: Row = Row {
    name: "portcullis_gateway_duration_seconds",
    labels: &["route"],
    help: "Time until the answer's head that the gateway itself took",
};
pub(in crate::record) const UPSTREAM_DURATION: Row = Row {
    name: "portcullis_upstream_duration_seconds",
    labels: &["route", "upstream"],
    help: "Time to the upstream's first byte",
};
pub(in crate::record) const STAGE_DURATION: Row = Row {
    name: "portcullis_stage_duration_seconds",
    labels: &["stage"],
    help: "Time in one stage, of one request in 128",
};
pub(in crate::record) const REQUESTS_IN_FLIGHT: Row = Row {
    name: "portcullis_requests_in_flight",
    labels: &["listener"],
    help: "Requests now being handled",
};
pub(in crate::record) const REQUEST_BODY_BYTES: Row = Row {
    name: "portcullis_request_body_bytes_total",
    labels: &["route"],
    help: "Bytes of request bodies",
};
pub(in crate::record) const RESPONSE_BODY_BYTES: Row = Row {
    name: "portcullis_response_body_bytes_total",
    labels: &["route"],
    help: "Bytes of response bodies",
};
pub(in crate::record) const PROCESS_CPU: Row =
    Row { name: "process_cpu_seconds_total", labels: &[], help: "CPU time, user and system" };
pub(in crate::record) const SCRAPE_SERIES: Row =
    Row { name: "portcullis_scrape_series", labels: &[], help: "Series in this scrape" };

/// Bounds of the duration histograms, in seconds: they resolve a gateway, not the loading of a page.
pub(in crate::record) const DURATION_BOUNDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
