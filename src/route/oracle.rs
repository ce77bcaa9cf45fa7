//! That the table finds what a slow reading of every route would find.

use std::sync::Arc;

use http::Method;
use proptest::prelude::*;

use crate::head::path::canonical;
use crate::mistake::Mistakes;
use crate::route::Found;
use crate::route::host::HostPattern;
use crate::route::pattern::{Kind, Segment};
use crate::route::table::{Shape, Table};
use crate::route::tests::{Written, shapes, table};

/// A reading of one route that nobody could get wrong: the values of its parameters if it matches.
fn slow_match(shape: &Shape, method: &Method, host: &str, path: &str) -> Option<Vec<String>> {
    let asked = shape.pattern.method();
    let follows = *method == Method::HEAD && asked == Some(&Method::GET);
    if asked.is_some_and(|asked| asked != method) && !follows {
        return None;
    }
    if !shape.hosts.is_empty() && !shape.hosts.iter().any(|pattern| pattern.matches(host)) {
        return None;
    }
    let parts: Vec<&str> = path[1..].split('/').collect();
    let mut values = Vec::new();
    for (at, segment) in shape.pattern.segments().iter().enumerate() {
        match segment {
            Segment::Rest(_) => {
                let rest = parts.get(at..).filter(|rest| !rest.is_empty())?;
                values.push(rest.join("/"));
                return Some(values);
            }
            Segment::Literal(text) if **text == **parts.get(at)? => {}
            Segment::Parameter(_, kind) if kind.accepts(parts.get(at)?) => {
                values.push(parts[at].to_owned());
            }
            _ => return None,
        }
    }
    (parts.len() == shape.pattern.segments().len()).then_some(values)
}

/// How specific a route is for a host and method; less is more specific.
fn rank(shape: &Shape, method: &Method, host: &str) -> (usize, Vec<usize>, usize) {
    let of_host = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(_) => 0,
        HostPattern::Under(suffix) => 1000 - suffix.len(),
    };
    let matching = shape.hosts.iter().filter(|pattern| pattern.matches(host));
    let segments = shape.pattern.segments().iter().map(|segment| match segment {
        Segment::Literal(_) => 0,
        Segment::Parameter(_, kind) => 1 + Kind::ALL.iter().position(|k| k == kind).unwrap(),
        Segment::Rest(_) => 100,
    });
    let of_method = match shape.pattern.method() {
        Some(asked) if asked == method => 0,
        Some(_) => 1,
        None => 2,
    };
    (matching.map(of_host).min().unwrap_or(2000), segments.collect(), of_method)
}

fn pattern_text() -> impl Strategy<Value = String> {
    let segment = prop_oneof!["[ab1]", Just("{p}".into()), "\\{p:(int|hex|slug)\\}"];
    let end = prop_oneof![Just(""), Just("/"), Just("/{r...}")];
    let method = prop_oneof![Just("GET"), Just("HEAD"), Just("POST"), Just("*")];
    (method, prop::collection::vec(segment, 1..4), end).prop_map(|(method, segments, end)| {
        let named = segments
            .iter()
            .enumerate()
            .map(|(at, segment): (usize, &String)| segment.replace("{p", &format!("{{p{at}")));
        format!("{method} /{}{end}", named.collect::<Vec<_>>().join("/"))
    })
}

fn host_text() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop_oneof![Just("x.y.z"), Just("*.y.z"), Just("*.z")], 0..2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_agrees_with_a_slow_reading(
        routes in prop::collection::vec((pattern_text(), host_text()), 1..24),
        requests in prop::collection::vec(
            ("(GET|HEAD|POST|PUT)", "(/[ab1A]){1,4}/?", "(x\\.y\\.z|w\\.y\\.z|v\\.z|z)"), 1..16),
    ) {
        let written: Vec<Written<'_>> =
            routes.iter().map(|(pattern, hosts)| (pattern.as_str(), hosts.as_slice())).collect();
        let (all, mut mistakes) = shapes(&written);
        prop_assert_eq!(&mistakes, &Mistakes::default());
        let table = Table::compile(all.clone(), &mut mistakes);
        for (method, path, host) in &requests {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let matching = |method: &Method| all
                .iter()
                .filter_map(|shape| Some((shape, slow_match(shape, method, host, path)?)))
                .collect::<Vec<_>>();
            let best = matching(&method)
                .into_iter()
                .min_by_key(|(shape, _)| (rank(shape, &method, host), shape.route));
            match (table.find(&method, host, path), best) {
                (Found::Route(route, parameters), Some((shape, values))) => {
                    prop_assert_eq!(route, shape.route);
                    let names: Vec<Arc<str>> =
                        shape.pattern.parameters().map(|(name, _)| Arc::clone(name)).collect();
                    let expected: Vec<(Arc<str>, Box<str>)> =
                        names.into_iter().zip(values.into_iter().map(Box::from)).collect();
                    prop_assert_eq!(parameters.0, expected);
                }
                (Found::OtherMethods(methods), None) => {
                    let expected: Vec<&str> = ["GET", "HEAD", "POST"]
                        .into_iter()
                        .filter(|name| !matching(&name.parse().unwrap()).is_empty())
                        .collect();
                    prop_assert_eq!(&*methods, expected.join(", "));
                }
                (Found::Nothing, None) => {
                    let others = ["GET", "HEAD", "POST"];
                    prop_assert!(others.iter().all(|name| matching(&name.parse().unwrap()).is_empty()));
                }
                (found, best) => prop_assert!(false, "{method} {path} {host}: {found:?}, not {best:?}"),
            }
        }
    }

    /// Whatever spelling a caller chooses, the string that is forwarded finds the same route again.
    #[test]
    fn the_forwarded_path_finds_the_same_route(raw in "(/([ab1.]|%6[1-3]|%2[eEfF]|%3[fF]|%[cC]3%[aA]9){1,3}){1,3}/?") {
        let table = table(&[
            ("GET /a/{rest...}", &[]),
            ("GET /{x:int}/b", &[]),
            ("GET /{x:hex}/{y}", &[]),
            ("GET /{x}", &[]),
            ("GET /b/c/", &[]),
        ]);
        if let Ok(path) = canonical(&raw) {
            let again = canonical(&path).unwrap();
            prop_assert_eq!(&path, &again);
            prop_assert_eq!(table.find(&Method::GET, "h", &path), table.find(&Method::GET, "h", &again));
            if let Found::Route(_, parameters) = table.find(&Method::GET, "h", &path) {
                for (_, value) in &parameters.0 {
                    prop_assert!(path.contains(&**value));
                }
            }
        }
    }
}
