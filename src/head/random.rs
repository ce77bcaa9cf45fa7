//! That no bytes make the reading of a head panic, and that what passes keeps its promises.

use http::HeaderName;
use proptest::prelude::*;

use crate::head::headers::{is_hop_by_hop, is_managed};
use crate::head::query;
use crate::head::tests::get;

/// Targets near the edge of what is valid, and anything at all.
fn target() -> impl Strategy<Value = String> {
    let odd = prop_oneof!["[a-z0-9]", "[/?&=.%;:@+#*\\\\]", "%[0-9a-fA-F]{2}", "\\PC"];
    let near = prop::collection::vec(odd, 0..12).prop_map(|parts| parts.concat());
    prop_oneof![
        near.clone().prop_map(|text| format!("/{text}")),
        near.clone().prop_map(|text| format!("https://example.com{text}")),
        near,
        "\\PC*",
    ]
}

fn header() -> impl Strategy<Value = (&'static str, String)> {
    let name = prop::sample::select(vec![
        "connection",
        "upgrade",
        "x-forwarded-for",
        "forwarded",
        "traceparent",
        "tracestate",
        "cookie",
        "expect",
        "x-mine",
        "te",
        "content-type",
    ]);
    let word = prop::sample::select(vec![
        "upgrade",
        "websocket",
        "x-mine",
        "content-type",
        "10.0.0.1",
        "[::1]:5",
        "for=",
        "\"",
        ";",
        ",",
        " ",
        "=",
        "a",
        "00-",
        "100-continue",
        "é",
    ]);
    (name, prop::collection::vec(word, 0..8).prop_map(|words| words.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_sent_is_refused_or_unambiguous(
        target in target(),
        headers in prop::collection::vec(header(), 0..6),
        from_proxy: bool,
    ) {
        let mut sent = get(&target);
        for (name, value) in &headers {
            sent = sent.with(name, value);
        }
        if from_proxy {
            sent = sent.from("10.0.0.1:1");
        }
        let Ok(head) = sent.read() else { return Ok(()) };
        let left = |name: &HeaderName| is_hop_by_hop(name) || is_managed(name);
        prop_assert!(!head.headers.keys().any(left), "{:?}", head.headers);
        prop_assert_eq!(&*head.target, &target);
        prop_assert!(head.path.starts_with('/'));
        prop_assert!(head.query_pairs().count() <= query::QUERY_PARAMETERS_MAX);
        let asked = head.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let forwarded = format!("{}{asked}", head.path);
        prop_assert!(forwarded.parse::<http::uri::PathAndQuery>().is_ok_and(|uri| uri == forwarded));
        let again = get(&forwarded).read().expect("what is forwarded can be read");
        prop_assert_eq!((head.path, head.query), (again.path, again.query));
    }
}
