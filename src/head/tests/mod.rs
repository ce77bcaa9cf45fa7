//! What the whole reading of a head must refuse, keep and drop.

mod kept;

use std::net::SocketAddr;

use super::*;
use crate::clock::Clock;
use crate::fields::Fields;
use crate::listen::TlsFacts;

/// A request as the tables write it.
#[derive(Clone)]
pub(in crate::head) struct Sent {
    method: &'static str,
    target: String,
    version: Version,
    authority: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    length: Length,
    peer: &'static str,
    server_name: Option<&'static str>,
    in_clear: bool,
    redirects: bool,
    name_binds: bool,
}

/// Name, target, and what is read of it: path and query, or the reason of a refusal.
type Target<'a> = (&'a str, &'a str, Result<(&'a str, Option<&'a str>), Reason>);

pub(in crate::head) fn get(target: &str) -> Sent {
    Sent {
        method: "GET",
        target: target.to_owned(),
        version: Version::HTTP_11,
        authority: None,
        headers: vec![("host", "example.com".to_owned())],
        length: Length::None,
        peer: "203.0.113.5:4711",
        server_name: None,
        in_clear: false,
        redirects: false,
        name_binds: false,
    }
}

fn h2(target: &str, authority: Option<&'static str>) -> Sent {
    Sent { version: Version::HTTP_2, authority, headers: Vec::new(), ..get(target) }
}

impl Sent {
    pub(in crate::head) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(in crate::head) fn host(mut self, value: &str) -> Self {
        self.headers.retain(|(name, _)| *name != "host");
        self.with("host", value)
    }

    fn hostless(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != "host");
        self
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    pub(in crate::head) fn from(mut self, peer: &'static str) -> Self {
        self.peer = peer;
        self
    }

    pub(in crate::head) fn read(self) -> Result<Head, Refusal> {
        let peer = self.peer();
        self.over(&peer)
    }

    fn peer(&self) -> Arc<Peer> {
        Arc::new(Peer {
            address: self.peer.parse::<SocketAddr>().unwrap(),
            local: "192.0.2.1:8443".parse().unwrap(),
            listener: "public".into(),
            tls: (!self.in_clear).then(|| TlsFacts {
                server_name: self.server_name.map(Box::from),
                version: "TLSv1.3",
                certificate: None,
                name_binds: self.name_binds,
            }),
            trusted: Arc::default(),
            redirect_port: self.redirects.then_some(443),
            parties: Default::default(),
        })
    }

    /// Reads it as it came over this connection.
    fn over(self, peer: &Arc<Peer>) -> Result<Head, Refusal> {
        let mut headers = Fields::new();
        for (name, value) in &self.headers {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let raw = RawHead {
            method: Method::from_bytes(self.method.as_bytes()).unwrap(),
            target: self.target.into(),
            version: self.version,
            authority: self.authority.map(Box::from),
            headers,
            length: self.length,
        };
        let (clock, _) = Clock::set_at(1_764_000_000_000);
        read(raw, peer, &["10.0.0.0/8".parse().unwrap()], clock.now()).map(|head| *head)
    }

    fn refused(self) -> Option<Reason> {
        self.read().err().map(|refusal| refusal.reason)
    }
}

#[test]
fn what_a_connection_keeps_of_its_first_request_holds_for_no_other() {
    let first = || get("/").from("10.0.0.1:1").with("x-forwarded-for", "192.0.2.7");
    let peer = first().peer();
    let is = |sent: Sent| {
        let parties = sent.over(&peer).unwrap().parties;
        let told: Vec<String> = parties.told().map(|(_, value)| value.to_owned()).collect();
        (parties.host().to_owned(), parties.port, told.join(" "))
    };
    let example = ("example.com".to_owned(), None);
    let told = "for=192.0.2.7;proto=https;host=example.com example.com 192.0.2.7 https";
    let (host, port, lines) = is(first());
    assert_eq!(((host, port), &*lines), (example, told));
    assert_eq!(is(first()), is(first().host("EXAMPLE.com.:443")));
    let (host, port, lines) = is(first().host("evil.example:8443"));
    assert_eq!((&*host, port), ("evil.example", Some(8443)));
    assert!(lines.starts_with("for=192.0.2.7;proto=https;host=\"evil.example:8443\" evil"));
    let others = get("/").from("10.0.0.1:1").with("x-forwarded-for", "198.51.100.9");
    assert!(is(others).2.starts_with("for=198.51.100.9;"));
    assert!(is(first().with("x-forwarded-proto", "http")).2.ends_with(" http"));
    for host in ["", "example.com,evil.example", "example.com "] {
        let refused = first().host(host).over(&peer).err().map(|refusal| refusal.reason);
        assert_eq!(refused, Some(Reason::HostMalformed), "{host}");
    }
    let twice = first().with("host", "example.com").over(&peer);
    assert_eq!(twice.err().map(|refusal| refusal.reason), Some(Reason::HostMissing));
    assert_eq!(is(first()).2, told, "and it holds for those like it, still");
}

#[test]
fn paths_and_targets_are_read_one_way_or_not_at_all() {
    use Reason::{PathAmbiguous, QueryMalformed, TargetMalformed, TargetTooLong};
    let long_path = format!("/{}", "a".repeat(9000));
    let long_query = format!("/?{}", "a".repeat(9000));
    let table: &[Target<'_>] = &[
        ("plain", "/v1/tasks?limit=5", Ok(("/v1/tasks", Some("limit=5")))),
        ("empty query", "/a?", Ok(("/a", Some("")))),
        ("second question mark", "/a?b?c", Ok(("/a", Some("b?c")))),
        ("trailing slash", "/a/", Ok(("/a/", None))),
        ("case is kept", "/ADMIN", Ok(("/ADMIN", None))),
        ("unreserved decoded", "/%61dmin", Ok(("/admin", None))),
        ("hex in upper case", "/a%3fb", Ok(("/a%3Fb", None))),
        ("encoded ? is path", "/a%3Fadmin=1", Ok(("/a%3Fadmin=1", None))),
        ("encoded # is path", "/a%23b", Ok(("/a%23b", None))),
        ("query is kept raw", "/a?x=%2e%2E/../[b]", Ok(("/a", Some("x=%2e%2E/../[b]")))),
        ("absolute form", "https://example.com/a?b", Ok(("/a", Some("b")))),
        ("absolute form, other case", "HTTPS://EXAMPLE.com:443/a", Ok(("/a", None))),
        ("absolute form, no path", "http://example.com", Ok(("/", None))),
        ("absolute form, only query", "https://example.com?a", Ok(("/", Some("a")))),
        ("dot segment", "/a/../admin", Err(PathAmbiguous)),
        ("dot segment and encoded slash", "/a/..%2fadmin", Err(PathAmbiguous)),
        ("encoded dots", "/%2e%2e/admin", Err(PathAmbiguous)),
        ("empty segment first", "//admin", Err(PathAmbiguous)),
        ("looks like an authority", "//evil.example/admin", Err(PathAmbiguous)),
        ("semicolon", "/admin;x", Err(PathAmbiguous)),
        ("single dot", "/admin/.", Err(PathAmbiguous)),
        ("backslash first", "\\admin", Err(TargetMalformed)),
        ("backslash", "/\\admin", Err(PathAmbiguous)),
        ("encoded backslash", "/a%5c..%5cadmin", Err(PathAmbiguous)),
        ("double encoding", "/%252e%252e/admin", Err(PathAmbiguous)),
        ("overlong UTF-8", "/%c0%ae%c0%ae/admin", Err(PathAmbiguous)),
        ("NUL", "/a%00", Err(PathAmbiguous)),
        ("control", "/a\u{b}", Err(PathAmbiguous)),
        ("raw UTF-8", "/é", Err(PathAmbiguous)),
        ("in absolute form too", "https://example.com/../a", Err(PathAmbiguous)),
        ("too long", &long_path, Err(TargetTooLong)),
        ("query too long", &long_query, Err(TargetTooLong)),
        ("bad triplet in query", "/a?%zz", Err(QueryMalformed)),
        ("NUL in query", "/a?b=%00", Err(QueryMalformed)),
        ("fragment", "/a#b", Err(TargetMalformed)),
        ("fragment in query", "/a?b#c", Err(TargetMalformed)),
        ("asterisk with GET", "*", Err(TargetMalformed)),
        ("authority form", "example.com:443", Err(TargetMalformed)),
        ("no slash", "admin", Err(TargetMalformed)),
        ("empty", "", Err(TargetMalformed)),
        ("other scheme", "ftp://example.com/", Err(TargetMalformed)),
        ("userinfo", "https://user@example.com/", Err(TargetMalformed)),
        ("no host", "https:///admin", Err(TargetMalformed)),
    ];
    for (name, target, expected) in table {
        let read = get(target).read();
        let read = read
            .as_ref()
            .map(|head| (&*head.path, head.query.as_deref()))
            .map_err(|refusal| refusal.reason);
        assert_eq!(read, *expected, "{name}");
    }
    let asked = get("*").method("OPTIONS").read().unwrap();
    assert_eq!((&*asked.path, asked.query.as_deref()), ("*", None));
    assert_eq!(h2("https://example.com/", Some("example.com")).refused(), Some(TargetMalformed));
}

#[test]
fn what_was_read_reads_the_same_when_it_is_forwarded() {
    for target in ["/%61/b%2dc?x=%2e", "/a%3fb/", "/caf%c3%a9?q=[1]", "/"] {
        let once = get(target).read().unwrap();
        let query = once.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let twice = get(&format!("{}{query}", once.path)).read().unwrap();
        assert_eq!((once.path, once.query), (twice.path, twice.query));
        assert_eq!(&*once.target, target, "signatures see what was sent");
    }
}

#[test]
fn a_request_has_exactly_one_host() {
    use Reason::{HostMalformed, HostMissing, TargetMalformed};
    let table = [
        ("none", get("/").hostless(), Some(HostMissing)),
        ("none on 1.0", get("/").hostless().version(Version::HTTP_10), None),
        ("two", get("/").with("host", "example.com"), Some(HostMissing)),
        ("a list", get("/").host("example.com, evil.example"), Some(HostMalformed)),
        ("empty", get("/").host(""), Some(HostMalformed)),
        ("userinfo", get("/").host("a@example.com"), Some(HostMalformed)),
        ("underscore", get("/").host("a_b.example"), None),
        ("beyond ASCII", get("/").host("exämple.com"), Some(HostMalformed)),
        ("absolute form agrees", get("https://example.com/"), None),
        ("absolute form disagrees", get("https://evil.example/"), Some(HostMalformed)),
        ("absolute form, other port", get("https://example.com:1/"), Some(HostMalformed)),
        ("absolute form, no Host", get("https://example.com/").hostless(), Some(HostMissing)),
        ("absolute form, bad host", get("https://a*b/"), Some(TargetMalformed)),
        ("authority", h2("/", Some("example.com")), None),
        ("no authority", h2("/", None), Some(HostMissing)),
        ("only Host", h2("/", None).host("example.com"), None),
        ("both agree", h2("/", Some("example.com:443")).host("EXAMPLE.com."), None),
        ("both disagree", h2("/", Some("example.com")).host("evil.example"), Some(HostMalformed)),
        ("bad authority", h2("/", Some("a@example.com")), Some(HostMalformed)),
        (
            "authority and two Hosts",
            h2("/", Some("example.com")).host("example.com").with("host", "example.com"),
            Some(HostMissing),
        ),
    ];
    for (name, sent, expected) in table {
        assert_eq!(sent.refused(), expected, "{name}");
    }
    for (written, host, port, effective) in [
        ("EXAMPLE.com.", "example.com", None, 443),
        ("example.com:443", "example.com", None, 443),
        ("example.com:80", "example.com", Some(80), 80),
        ("[::1]:8443", "[::1]", Some(8443), 8443),
    ] {
        let head = get("/").host(written).read().unwrap();
        assert_eq!(
            (head.parties.host(), head.parties.port, head.effective_port()),
            (host, port, effective)
        );
        assert!(head.header(&http::header::HOST).is_none());
    }
    assert_eq!(
        get("/").host("example.com:8443").read().unwrap().parties.authority(),
        "example.com:8443"
    );
}

#[test]
fn a_host_is_the_one_that_the_connection_was_made_for() {
    let with = |server_name: &'static str| Sent { server_name: Some(server_name), ..get("/") };
    assert_eq!(with("example.com").refused(), None);
    assert_eq!(with("example.com.").host("EXAMPLE.com.:8443").refused(), None);
    assert_eq!(with("other.example").refused(), Some(Reason::HostMismatch));
    assert_eq!(with("other.example").from("[::ffff:10.0.0.1]:9").refused(), None);
}

#[test]
fn a_request_without_a_host_gets_nowhere_that_a_host_decides() {
    let old = || get("/").hostless().version(Version::HTTP_10);
    assert_eq!(old().read().unwrap().parties.host(), "");
    assert_eq!(Sent { target: "https://a/".into(), ..old() }.read().unwrap().parties.host(), "a");
    let named = || Sent { server_name: Some("example.com"), ..old() };
    assert_eq!(named().refused(), None);
    assert_eq!(Sent { name_binds: true, ..named() }.refused(), Some(Reason::HostMismatch));
    assert_eq!(Sent { redirects: true, ..old() }.refused(), Some(Reason::HostMissing));
}

#[test]
fn a_trusted_proxy_alone_says_how_its_caller_came() {
    const PROTO: &str = "x-forwarded-proto";
    let proxied = || Sent { in_clear: true, ..get("/").from("10.0.0.1:9") };
    for (name, sent, scheme) in [
        ("nobody says", proxied(), "http"),
        ("https", proxied().with(PROTO, "https"), "https"),
        ("case and blanks", proxied().with(PROTO, "\t HTTPS "), "https"),
        ("the last hop", proxied().with(PROTO, "http, https"), "https"),
        ("the last hop, downwards", proxied().with(PROTO, "https, http"), "http"),
        ("the last line", proxied().with(PROTO, "http").with(PROTO, "https"), "https"),
        ("neither", proxied().with(PROTO, "https, wss"), "http"),
        ("empty", proxied().with(PROTO, "https,"), "http"),
        ("a stranger", Sent { in_clear: true, ..get("/").with(PROTO, "https") }, "http"),
        ("over TLS", get("/").from("10.0.0.1:9").with(PROTO, "http"), "http"),
        ("a stranger over TLS", get("/").with(PROTO, "http"), "https"),
    ] {
        let head = sent.read().unwrap();
        assert_eq!(head.parties.scheme, scheme, "{name}");
        assert!(head.headers.is_empty(), "{name}: it is the gateway that tells the service");
    }
    let head = proxied().host("example.com:443").with(PROTO, "https").read().unwrap();
    assert_eq!((head.parties.authority(), head.effective_port()), ("example.com", 443));
}

#[test]
fn only_known_methods_are_served() {
    for method in ["CONNECT", "TRACE", "PROPFIND", "get", "PRI", "QUERY"] {
        let refusal = get("/").method(method).read().unwrap_err();
        assert_eq!(refusal.reason, Reason::MethodUnsupported, "{method}");
        assert!(matches!(refusal.extra, Extra::Allow(_)));
    }
    for method in &METHODS {
        assert!(METHODS_ALLOWED.split(", ").any(|known| known == method.as_str()));
        let name: &'static str = method.as_str().to_owned().leak();
        assert_eq!(get("/").method(name).refused(), None);
    }
}

#[test]
fn the_rest_of_a_head_comes_from_the_connection() {
    let head = get("/?a=1").with("x-forwarded-proto", "http").with("x-forwarded-for", "6.6.6.6");
    let head = head.read().unwrap();
    assert_eq!(
        (head.parties.scheme, head.parties.client.to_string()),
        ("https", "203.0.113.5".to_owned())
    );
    assert_eq!(head.id.as_str().len(), 26);
    assert_eq!(head.trace.parent.len(), 55);
    assert_eq!(head.query_pairs().collect::<Vec<_>>(), [("a".into(), "1".into())]);
}
