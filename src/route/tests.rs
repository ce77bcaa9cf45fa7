//! What patterns, hosts, tables and rewrites must find and must report.

use http::Method;

use crate::mistake::code::Code;
use crate::mistake::source::{At, Source};
use crate::mistake::{Mistakes, Reading};
use crate::route::host::HostPattern;
use crate::route::pattern::{Kind, Pattern, SEGMENTS_MAX};
use crate::route::rewrite::Rewrite;
use crate::route::table::{Shape, Table};
use crate::route::{Found, Parameters};

pub(in crate::route) type Written<'a> = (&'a str, &'a [&'a str]);

/// Compiles routes, written one a line; the number of a route is its line, counted from 0.
pub(in crate::route) fn shapes(routes: &[Written<'_>]) -> (Vec<Shape>, Mistakes) {
    let text: String = routes.iter().map(|(pattern, _)| format!("{pattern}\n")).collect();
    let source = Source::new("policies/p.toml", text);
    let mut mistakes = Mistakes::default();
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let mut start = 0;
    let mut made = Vec::new();
    for (route, (pattern, hosts)) in routes.iter().enumerate() {
        let span = start..start + pattern.len();
        start = span.end + 1;
        let at = |text: &str| At { value: text.to_owned(), span: span.clone() };
        let hosts =
            hosts.iter().filter_map(|host| HostPattern::compile(&at(host), &mut reading)).collect();
        if let Some(pattern) = Pattern::compile(&at(pattern), &mut reading) {
            let place = source.place(span);
            made.push(Shape { route, name: format!("r{route}").into(), pattern, hosts, place });
        }
    }
    (made, mistakes)
}

pub(in crate::route) fn table(routes: &[Written<'_>]) -> Table {
    let (shapes, mut mistakes) = shapes(routes);
    let table = Table::compile(shapes, &mut mistakes);
    assert_eq!(mistakes, Mistakes::default());
    table
}

/// What was found, as text: `3 id=7`, `Allow: GET`, or `-`.
fn found(table: &Table, request: &str) -> String {
    let mut words = request.split(' ');
    let method = Method::from_bytes(words.next().unwrap().as_bytes()).unwrap();
    let (path, host) = (words.next().unwrap(), words.next().unwrap_or("example.com"));
    match table.find(&method, host, path) {
        Found::Route(route, parameters) => {
            let values = parameters.0.iter().map(|(name, value)| format!(" {name}={value}"));
            format!("{route}{}", values.collect::<String>())
        }
        Found::OtherMethods(methods) => format!("Allow: {methods}"),
        Found::Nothing => "-".to_owned(),
    }
}

#[test]
fn the_most_specific_route_holds() {
    let uuid = "0b5f3c1e-7a42-4d0c-9b1e-2f6a8c4d7e10";
    let table = table(&[
        ("GET /v1/tasks", &[]),
        ("POST /v1/tasks", &[]),
        ("GET /v1/tasks/{id:uuid}", &[]),
        ("GET /v1/tasks/{number:int}", &[]),
        ("GET /v1/tasks/{slug:slug}", &[]),
        ("GET /v1/tasks/{any}", &[]),
        ("GET /v1/tasks/search", &[]),
        ("* /v1/{rest...}", &[]),
        ("GET /v1/tasks/{id}/notes/{note:int}", &[]),
        ("DELETE /v1/tasks/search", &[]),
        ("GET /", &[]),
        ("GET /v2/a/", &[]),
        ("HEAD /v2/a/", &[]),
        ("PATCH /v2/a/", &[]),
        ("GET /v2/{x}/c/d", &[]),
        ("GET /v2/b/{y}/e", &[]),
    ]);
    for (request, expected) in [
        ("GET /v1/tasks", "0"),
        ("HEAD /v1/tasks", "0"),
        ("POST /v1/tasks", "1"),
        (&format!("GET /v1/tasks/{uuid}"), &format!("2 id={uuid}")),
        ("GET /v1/tasks/42", "3 number=42"),
        ("GET /v1/tasks/042", "4 slug=042"),
        ("GET /v1/tasks/a-b", "4 slug=a-b"),
        ("GET /v1/tasks/A", "5 any=A"),
        ("GET /v1/tasks/search", "6"),
        // Another method falls through to what still matches.
        ("PUT /v1/tasks/search", "7 rest=tasks/search"),
        ("PATCH /v1/tasks", "7 rest=tasks"),
        ("GET /v1/tasks/x/notes/7", "8 id=x note=7"),
        ("GET /v1/tasks/x/notes/y", "7 rest=tasks/x/notes/y"),
        ("DELETE /v1/tasks/search", "9"),
        // The rest is also nothing, after a slash.
        ("GET /v1/", "7 rest="),
        ("GET /v1/a/", "7 rest=a/"),
        ("GET /v1", "-"),
        ("GET /", "10"),
        ("GET /v2/a/", "11"),
        ("HEAD /v2/a/", "12"),
        ("PUT /v2/a/", "Allow: GET, HEAD, PATCH"),
        ("GET /v2/a", "-"),
        // Backtracking: the literal leads nowhere, the parameter does.
        ("GET /v2/b/c/d", "14 x=b"),
        ("GET /v2/b/c/e", "15 y=c"),
        ("GET /v2/b/c/f", "-"),
        ("POST /v2/b/c/d", "Allow: GET, HEAD"),
        ("GET *", "-"),
        ("BREW /", "-"),
    ] {
        assert_eq!(found(&table, request), expected, "{request}");
    }
}

#[test]
fn hosts_narrow() {
    let table = table(&[
        ("GET /a", &["api.example.com"]),
        ("GET /a", &["*.example.com"]),
        ("GET /a", &["*.eu.example.com"]),
        ("GET /a", &[]),
        ("GET /b", &[]),
        ("POST /b", &["api.example.com", "EXAMPLE.org."]),
        ("GET /c", &["[::1]", "192.0.2.7"]),
    ]);
    for (request, expected) in [
        ("GET /a api.example.com", "0"),
        ("GET /a www.example.com", "1"),
        ("GET /a a.b.example.com", "1"),
        ("GET /a a.eu.example.com", "2"),
        ("GET /a eu.example.com", "1"),
        ("GET /a example.com", "3"),
        ("GET /a badexample.com", "3"),
        ("GET /b api.example.com", "4"),
        ("POST /b api.example.com", "5"),
        ("POST /b example.org", "5"),
        ("PUT /b api.example.com", "Allow: GET, HEAD, POST"),
        ("POST /b www.example.com", "Allow: GET, HEAD"),
        ("GET /c [::1]", "6"),
        ("GET /c 192.0.2.7", "6"),
        ("GET /c example.com", "-"),
    ] {
        assert_eq!(found(&table, request), expected, "{request}");
    }
    assert_eq!(found(&Table::default(), "GET /"), "-");
}

#[test]
fn equal_shapes_collide_with_a_witness() {
    let collide = |routes: &[Written<'_>]| {
        let (shapes, mut mistakes) = shapes(routes);
        let table = Table::compile(shapes, &mut mistakes);
        let shown: Vec<_> = mistakes.iter().cloned().collect();
        assert!(shown.iter().all(|mistake| mistake.code == Code::Collision));
        (shown, table)
    };
    let (shown, table) = collide(&[
        ("GET /v1/tasks/{id:int}", &["*.example.com", "example.org"]),
        ("GET /v1/tasks/{number:int}", &["example.org", "*.example.com"]),
    ]);
    assert_eq!(shown.len(), 1, "once for each pair");
    let text = shown[0].render(false);
    assert!(text.contains("routes.r1 also matches GET example.org/v1/tasks/42"), "{text}");
    assert!(text.contains("routes.r0") && text.contains("p.toml:2:1"), "{text}");
    assert_eq!(found(&table, "GET /v1/tasks/1 example.org"), "0 id=1");

    assert_eq!(collide(&[("* /a", &[]), ("* /a", &[])]).0.len(), 1);
    assert_eq!(collide(&[("GET /{a...}", &[]), ("GET /{b...}", &[])]).0.len(), 1);
    assert_eq!(collide(&[("GET /a", &[]), ("GET /a", &[]), ("GET /a", &[])]).0.len(), 2);
    for apart in [
        [("GET /a", &[][..]), ("POST /a", &[])],
        [("GET /a", &[]), ("* /a", &[])],
        [("GET /a", &[]), ("HEAD /a", &[])],
        [("GET /a", &[]), ("GET /a/", &[])],
        [("GET /a", &[]), ("GET /a", &["example.com"])],
        [("GET /{a:int}", &[]), ("GET /{a:hex}", &[])],
        [("GET /{a}", &[]), ("GET /{a...}", &[])],
    ] {
        assert!(collide(&apart).0.is_empty(), "{apart:?}");
    }
}

#[test]
fn patterns_that_cannot_be_read_say_what_would_be_right() {
    let long = format!("GET {}", "/a".repeat(SEGMENTS_MAX + 1));
    let many: String = (0..17).map(|number| format!("/{{p{number}}}")).collect();
    let many = format!("GET {many}");
    for (written, says, help) in [
        ("/v1/tasks", "no method", "GET /v1/tasks"),
        ("GTE /a", "`GTE` is not a method", "did you mean `GET`?"),
        ("get /a", "`get` is not a method", "upper case: GET"),
        ("TRACE /a", "`TRACE` is not a method", "known are: *, DELETE"),
        ("GET a", "does not begin with a slash", "write /a"),
        ("GET  /a", "does not begin with a slash", "write /a"),
        ("GET /a//b", "empty segment", "one slash"),
        ("GET /a%41", "never seen in this form", "`aA`"),
        ("GET /a%3fb", "never seen in this form", "`a%3Fb`"),
        ("GET /a%2fb", "encoded slash", "refused before"),
        ("GET /../a", "dot segment", "refused before"),
        ("GET /a;b", "semicolon", "refused before"),
        ("GET /a?b", "must be encoded", "refused before"),
        ("GET /a b", "must be encoded", "refused before"),
        ("GET /é", "beyond ASCII", "refused before"),
        ("GET /{}", "does not name", "{id}"),
        ("GET /{1}", "does not name", "{id}"),
        ("GET /{a b}", "does not name", "{id}"),
        ("GET /{id:uui}", "not a type", "did you mean `uuid`?"),
        ("GET /{id:}", "not a type", "known are: hex, int, slug, ulid, uuid"),
        ("GET /{a...:int}", "the rest of a path a type", "write {a...}"),
        ("GET /{a...}/b", "not at the end", "last segment"),
        ("GET /x{a}", "mixes text", "whole segment"),
        ("GET /{a}{b}", "mixes text", "whole segment"),
        ("GET /{a", "mixes text", "whole segment"),
        ("GET /{a}/{a:int}", "stands twice", "of its own"),
        ("GET /{a}/{a...}", "stands twice", "of its own"),
        (&long, "65 segments", "{rest...}"),
        (&many, "17 parameters", "at most 16"),
    ] {
        let wrong = Pattern::read(written).expect_err(written);
        let hit = wrong.iter().any(|(s, h)| s.contains(says) && h.contains(help));
        assert!(hit, "{written}: {wrong:?}");
    }
    let (made, mistakes) = shapes(&[("GTE /a%41/{x:uid}", &["a*b", "a:80", "*.192.0.2.7"])]);
    assert!(made.is_empty());
    assert_eq!(mistakes.count(), (6, 0), "all at once: {mistakes:?}");
}

#[test]
fn kinds_accept_what_they_say() {
    for (kind, good, bad) in [
        (
            Kind::Uuid,
            &["0B5F3C1E-7a42-4d0c-9b1e-2f6a8c4d7e10"][..],
            &["0b5f3c1e7a424d0c9b1e2f6a8c4d7e10", "0b5f3c1e-7a42-4d0c-9b1e-2f6a8c4d7e1g"][..],
        ),
        (
            Kind::Int,
            &["0", "7", "9223372036854775807"],
            &["", "00", "07", "-1", "+1", "1.0", "9223372036854775808"],
        ),
        (
            Kind::Ulid,
            &["01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav"],
            &["81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU", "01ARZ3NDEK"],
        ),
        (Kind::Hex, &["c0FFEE", "0"], &["", "g", "0x1"]),
        (Kind::Slug, &["a-b-1", "-"], &["", "A", "a_b", "a.b"]),
        (Kind::Any, &["A", "%C3%A9", "..."], &[""]),
    ] {
        assert!(good.iter().all(|text| kind.accepts(text)), "{kind:?}");
        assert!(bad.iter().all(|text| !kind.accepts(text)), "{kind:?}");
        let narrowest = Kind::ALL.into_iter().find(|known| known.accepts(kind.example()));
        assert_eq!(narrowest, Some(kind));
    }
}

fn rewrite(pattern: &str, written: &str) -> Result<(Table, Rewrite), String> {
    let source = Source::new("policies/p.toml", written);
    let mut mistakes = Mistakes::default();
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let at = At { value: written.to_owned(), span: 0..written.len() };
    let made = Rewrite::compile(&at, &Pattern::read(pattern).unwrap(), &mut reading);
    assert!(mistakes.iter().all(|mistake| mistake.code == Code::BadRewrite));
    made.map(|rewrite| (table(&[(pattern, &[])]), rewrite)).ok_or_else(|| {
        mistakes.iter().map(|m| format!("{} {}\n", m.says, m.help.as_deref().unwrap())).collect()
    })
}

#[test]
fn rewrites_are_made_of_the_routes_own_parameters() {
    for (pattern, written, path, expected) in [
        ("GET /v0/tasks", "/v1/tasks", "/v0/tasks", "/v1/tasks"),
        ("GET /v1/{id:int}/x", "/v2/tasks/{id}", "/v1/7/x", "/v2/tasks/7"),
        ("GET /{a}/{b}", "/{b}/{a}/", "/x/%C3%A9", "/%C3%A9/x/"),
        ("GET /api/{rest...}", "/{rest...}", "/api/a/b/", "/a/b/"),
        ("GET /api/{rest...}", "/{rest...}", "/api/", "/"),
        ("GET /api/{rest...}", "/", "/api/a", "/"),
    ] {
        let (table, rewrite) = rewrite(pattern, written).unwrap();
        let Found::Route(0, parameters) = table.find(&Method::GET, "a", path) else {
            panic!("{pattern} does not match {path}")
        };
        assert_eq!(rewrite.apply(&parameters).as_deref(), Ok(expected), "{pattern} {written}");
    }
    for (pattern, written, why) in [
        ("GET /{task}", "/v2/{tsak}", "did you mean `task`?"),
        ("GET /a", "/{id}", "none is defined"),
        ("GET /{id:int}", "/{id:int}", "write {id} here"),
        ("GET /{rest...}", "/{rest}", "write {rest...}"),
        ("GET /{id}", "/{id...}", "write {id}"),
        ("GET /{rest...}", "/{rest...}/a", "not at the end"),
        ("GET /a", "b", "slash"),
        ("GET /a", "/../b", "dot segment"),
        ("GET /a", "//evil.example", "empty segment"),
        ("GET /a", "/b?c=d", "must be encoded"),
    ] {
        let wrong = rewrite(pattern, written).map(|_| ()).expect_err(written);
        assert!(wrong.contains(why), "{written}: {wrong}");
    }
}

#[test]
fn a_rewrite_never_makes_a_path_that_is_not_canonical() {
    let (_, rewrite) = rewrite("GET /{a}/{rest...}", "/x/{a}/{rest...}").unwrap();
    let with = |a: &str, rest: &str| {
        Parameters(vec![("a".into(), a.into()), ("rest".into(), rest.into())])
    };
    assert!(rewrite.apply(&with("a", "b/c")).is_ok());
    for (a, rest) in [("..", "b"), ("a", "../b"), ("", "b"), ("%61", "b"), ("a", "b//c")] {
        assert!(rewrite.apply(&with(a, rest)).is_err(), "{a} {rest}");
    }
    assert!(rewrite.apply(&with("a", &"b".repeat(9000))).is_err());
    assert!(rewrite.apply(&Parameters::default()).is_err());
}

#[test]
fn many_routes_and_hosts_are_told_apart() {
    let hosts: Vec<String> = (0..1000).map(|number| format!("h{number}.example.com")).collect();
    let mut written: Vec<(String, Vec<&str>)> = Vec::new();
    for number in 0..8000 {
        written.push((format!("GET /v1/things-{number}/{{id:int}}"), Vec::new()));
    }
    for (number, host) in hosts.iter().enumerate() {
        written.push((format!("GET /own/{number}"), vec![host]));
        written.push(("GET /shared".to_owned(), vec![host]));
    }
    let routes: Vec<Written<'_>> =
        written.iter().map(|(pattern, hosts)| (pattern.as_str(), hosts.as_slice())).collect();
    let table = table(&routes);
    for number in 0..8000 {
        let request = format!("GET /v1/things-{number}/{number}");
        assert_eq!(found(&table, &request), format!("{number} id={number}"));
    }
    for (number, host) in hosts.iter().enumerate() {
        assert_eq!(
            found(&table, &format!("GET /own/{number} {host}")),
            format!("{}", 8000 + 2 * number)
        );
        assert_eq!(found(&table, &format!("GET /shared {host}")), format!("{}", 8001 + 2 * number));
        assert_eq!(found(&table, &format!("GET /own/{} {host}", number + 1)), "-");
    }
}
