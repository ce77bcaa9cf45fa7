use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;
use crate::head::{RequestId, Trace};
use crate::inspect::field::Place;
use crate::listen::Peer;
use crate::listen::body::Broken;
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, read};
use crate::refusal::Extra;
use crate::units::Size;

/// A body that gives these frames. What lies behind the last never comes, unless that is `End`.
struct Chunks(VecDeque<Chunk>);

#[derive(Clone, Debug)]
enum Chunk {
    Data(Vec<u8>),
    Trailers,
    Breaks(Broken),
    End,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.0.pop_front() {
            None => Poll::Pending,
            Some(Chunk::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
            Some(Chunk::Trailers) => {
                let trailers = [("x-user".parse().unwrap(), HeaderValue::from_static("admin"))];
                Poll::Ready(Some(Ok(Frame::trailers(trailers.into_iter().collect()))))
            }
            Some(Chunk::Breaks(broken)) => Poll::Ready(Some(Err(broken))),
            Some(Chunk::End) => Poll::Ready(None),
        }
    }
}

fn streaming(chunks: impl IntoIterator<Item = Chunk>) -> Body {
    Body::Streaming(Box::pin(Chunks(chunks.into_iter().collect())))
}

fn sent(bytes: &[u8]) -> Body {
    streaming([Chunk::Data(bytes.to_vec()), Chunk::End])
}

fn head(method: Method, length: Length, headers: &[(&'static str, &str)]) -> Head {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    Head {
        method,
        path: "/v1/tasks/a%20b".into(),
        query: None,
        host: "localhost".into(),
        port: None,
        scheme: "https",
        target: "/v1/tasks/a%20b".into(),
        version: Version::HTTP_11,
        headers,
        length,
        upgrade: None,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer: Arc::new(Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            local: "127.0.0.1:2".parse().unwrap(),
            listener: "public".into(),
            tls: None,
        }),
        id: RequestId([b'0'; 26]),
        trace: Trace { parent: HeaderValue::from_static("00"), state: None },
    }
}

fn post(length: Length, content_type: &str) -> Head {
    head(Method::POST, length, &[("content-type", content_type)])
}

const SCHEMA: &str =
    r#"{"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}"#;

/// Compiles `body = …`, `query = …` and `headers = …` of a route, or says what is wrong.
fn compile(text: &str, examine: Option<Arc<dyn Examine>>) -> Result<Filters, Vec<String>> {
    let source = Source::new("p.toml", text);
    let mut mistakes = Mistakes::default();
    let (mut body, mut query, mut headers) = (None, None, None);
    for entry in read::top(&source, &mut mistakes) {
        match entry.name.as_str() {
            "body" => body = read::rule("a body", entry.node, &source, &mut mistakes),
            "query" => query = read::rule("a query", entry.node, &source, &mut mistakes),
            "headers" => headers = read::rule("headers", entry.node, &source, &mut mistakes),
            other => panic!("{other}"),
        }
    }
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let rule =
        InspectRule { body: body.as_ref(), query: query.as_ref(), headers: headers.as_ref() };
    let files = |_: &str| Ok(SCHEMA.to_owned());
    let filters = Parts::compile(&rule, "routes.a", &files, &mut reading).and_then(|parts| {
        let route = At { value: "routes.a".to_owned(), span: 0..0 };
        Filters::compile(Parts { examine, ..parts }, &route, &mut reading)
    });
    let says: Vec<String> = mistakes.iter().map(|mistake| mistake.says.clone()).collect();
    filters.filter(|_| says.is_empty()).ok_or(says)
}

fn filters(text: &str) -> Filters {
    compile(text, None).unwrap()
}

/// The body that comes out, whole, or the reason why not; and checks that the room is empty at the end.
async fn outcome(filters: &Filters, head: Head, body: Body) -> Result<Vec<u8>, Reason> {
    let room = Room::new(Size(1 << 24));
    let mut watch = Observed::default();
    let taken = match filters.look_at_head(&head, &Parameters::default(), &mut watch) {
        Ok(()) => filters.take_body(&head, body, false, room.hold(), &mut watch).await,
        Err(refusal) => Err(refusal),
    };
    let result = match taken {
        Ok((body, held)) => {
            let gathered = body.collect().await;
            drop(held);
            gathered.map(|all| all.to_bytes().to_vec()).map_err(|broken| match broken {
                Broken::Caller(reason) => reason,
                Broken::Upstream | Broken::Connection => Reason::ClientLeft,
            })
        }
        Err(refusal) => Err(refusal.reason),
    };
    assert_eq!(room.bytes_held(), 0);
    result
}

const JSON: &str = "application/json";

#[tokio::test]
async fn a_route_without_a_rule_streams_up_to_a_mebibyte() {
    let filters = filters("");
    assert!(!filters.reads_body());
    assert_eq!(filters.body_max(), 1 << 20);
    let most = vec![b'x'; 1 << 20];
    let unknown = || head(Method::POST, Length::Unknown, &[]);
    assert_eq!(outcome(&filters, unknown(), sent(&most)).await, Ok(most.clone()));
    let more = [Chunk::Data(most), Chunk::Data(b"x".to_vec()), Chunk::End];
    assert_eq!(outcome(&filters, unknown(), streaming(more)).await, Err(Reason::BodyTooLarge));
    for method in [Method::GET, Method::HEAD] {
        let head = head(method, Length::Exactly(1), &[]);
        assert_eq!(outcome(&filters, head, sent(b"x")).await, Err(Reason::BodyUnexpected));
    }
    let coded = head(Method::POST, Length::Unknown, &[("content-encoding", "gzip")]);
    assert_eq!(outcome(&filters, coded, sent(b"x")).await, Err(Reason::ContentEncodingRefused));
}

/// A body of which no byte may be asked for.
struct Untouched;

impl http_body::Body for Untouched {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        panic!("the body was read")
    }
}

#[tokio::test]
async fn what_the_head_gives_away_is_refused_before_a_byte_is_read() {
    for (rule, head, expected) in [
        ("body.max = \"10B\"", post(Length::Exactly(11), JSON), Reason::BodyTooLarge),
        ("body = \"none\"", post(Length::Exactly(1), JSON), Reason::BodyUnexpected),
        ("body = \"none\"", post(Length::Unknown, JSON), Reason::BodyUnexpected),
        (
            "body.types = [\"application/json\"]",
            post(Length::Unknown, "text/plain"),
            Reason::ContentTypeRefused,
        ),
        (
            "body.types = [\"application/json\"]",
            head(Method::POST, Length::Unknown, &[]),
            Reason::ContentTypeRefused,
        ),
        ("body.json = {}", post(Length::Unknown, "text/plain"), Reason::ContentTypeRefused),
        (
            "body.json = {}",
            post(Length::Unknown, "application/json; charset=utf-16"),
            Reason::ContentTypeRefused,
        ),
        (
            "query.allow = []\nbody.json = {}",
            {
                let mut head = post(Length::Unknown, JSON);
                head.query = Some("a=1".into());
                head
            },
            Reason::QueryRefused,
        ),
        ("headers.require = [\"x-a\"]", post(Length::Unknown, JSON), Reason::HeaderRefused),
    ] {
        let body = Body::Streaming(Box::pin(Untouched));
        assert_eq!(outcome(&filters(rule), head, body).await, Err(expected), "{rule}");
    }
}

#[tokio::test]
async fn sizes_hold_at_their_edges_however_they_are_told() {
    let filters = filters("body = { max = \"10B\", types = [\"application/json\"] }");
    assert!(filters.reads_body());
    let (fits, exceeds) = (b"\"12345678\"", b"\"123456789\"");
    for length in [Length::Exactly(10), Length::Unknown] {
        assert_eq!(outcome(&filters, post(length, JSON), sent(fits)).await, Ok(fits.to_vec()));
    }
    let refused = Err(Reason::BodyTooLarge);
    assert_eq!(outcome(&filters, post(Length::Unknown, JSON), sent(exceeds)).await, refused);
    let one = exceeds.iter().map(|byte| Chunk::Data(vec![*byte]));
    assert_eq!(outcome(&filters, post(Length::Unknown, JSON), streaming(one)).await, refused);
    let short = Err(Reason::BodyIncomplete);
    assert_eq!(outcome(&filters, post(Length::Exactly(9), JSON), sent(fits)).await, short);
}

#[tokio::test]
async fn a_body_may_be_demanded() {
    let filters = filters("body.required = true");
    let missing = Err(Reason::BodyRequired);
    assert_eq!(outcome(&filters, post(Length::None, JSON), Body::Empty).await, missing);
    let strict = self::filters("body.schema = \"x.json\"");
    assert_eq!(outcome(&strict, post(Length::None, JSON), Body::Empty).await, missing);
    let nothing = [Chunk::Data(Vec::new()), Chunk::End];
    assert_eq!(outcome(&strict, post(Length::Unknown, JSON), streaming(nothing)).await, missing);
    let free = self::filters("body = { schema = \"x.json\", required = false }");
    assert_eq!(outcome(&free, post(Length::None, JSON), Body::Empty).await, Ok(Vec::new()));
}

#[tokio::test]
async fn json_is_checked_wherever_it_is_named() {
    let filters =
        filters("body.types = [\"application/*+json\", \"application/json\", \"text/csv\"]");
    for content_type in [JSON, "application/merge-patch+json", "Application/JSON"] {
        let twice = sent(b"{\"a\":1,\"a\":2}");
        let refused = outcome(&filters, post(Length::Unknown, content_type), twice).await;
        assert_eq!(refused, Err(Reason::JsonDuplicate), "{content_type}");
    }
    let csv = post(Length::Unknown, "text/csv");
    assert_eq!(outcome(&filters, csv, sent(b"{")).await, Ok(b"{".to_vec()));
    let other = post(Length::Unknown, "application/+json");
    assert_eq!(outcome(&filters, other, sent(b"{}")).await, Err(Reason::ContentTypeRefused));
}

#[tokio::test]
async fn a_schema_refuses_by_the_name_of_the_rule() {
    let filters = filters("body = { schema = \"x.json\", extra_fields = \"refuse\" }");
    let room = Room::new(Size(1000));
    let mut watch = Observed::default();
    let head = post(Length::Unknown, JSON);
    let body = sent(b"{\"title\":\"x\",\"is_admin\":true}");
    let refusal = filters.take_body(&head, body, false, room.hold(), &mut watch).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::FieldUnknown);
    assert_eq!(refusal.rule.unwrap().rule(), "routes.a.body");
    assert!(matches!(refusal.extra, Extra::Fields(fields) if &*fields[0].0 == "is_admin"));
}

#[tokio::test]
async fn digests_are_compared_where_the_body_is_read() {
    const RIGHT: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let body = || sent(b"{\"hello\": \"world\"}");
    let with = |digest: &str| {
        head(Method::POST, Length::Unknown, &[("content-type", JSON), ("content-digest", digest)])
    };
    let wrong = RIGHT.replace("X48", "Y48");
    let filters = filters("body = { json = {}, digest = \"required\" }");
    assert!(outcome(&filters, with(RIGHT), body()).await.is_ok());
    for (head, expected) in [
        (with(&wrong), Reason::DigestMismatch),
        (with("md5=:AAAA:"), Reason::DigestUnsupported),
        (post(Length::Unknown, JSON), Reason::DigestMissing),
    ] {
        assert_eq!(outcome(&filters, head, body()).await, Err(expected));
    }
    // A signature that covered the digest makes any route read and compare.
    let streams = self::filters("body.stream = true");
    let room = Room::new(Size(1000));
    for (head, expected) in [
        (with(RIGHT), None),
        (with(&wrong), Some(Reason::DigestMismatch)),
        (post(Length::Unknown, JSON), Some(Reason::DigestMissing)),
    ] {
        let mut watch = Observed::default();
        let taken = streams.take_body(&head, body(), true, room.hold(), &mut watch).await;
        assert_eq!(taken.err().map(|refusal| refusal.reason), expected);
    }
    let mut watch = Observed::default();
    let mut none = with(RIGHT);
    none.length = Length::None;
    let taken = streams.take_body(&none, Body::Empty, true, room.hold(), &mut watch).await;
    assert_eq!(taken.unwrap_err().reason, Reason::DigestMismatch);
}

#[tokio::test]
async fn what_breaks_off_is_refused_for_what_broke_it() {
    let filters = filters("body.json = {}");
    for (broken, expected) in [
        (Broken::Caller(Reason::BodyTimeout), Reason::BodyTimeout),
        (Broken::Caller(Reason::ChunkMalformed), Reason::ChunkMalformed),
        (Broken::Connection, Reason::ClientLeft),
    ] {
        let body = streaming([Chunk::Data(b"{".to_vec()), Chunk::Breaks(broken)]);
        assert_eq!(outcome(&filters, post(Length::Unknown, JSON), body).await, Err(expected));
    }
}

#[tokio::test]
async fn trailers_pass_neither_way() {
    let chunks = || [Chunk::Data(b"{}".to_vec()), Chunk::Trailers, Chunk::End];
    for rule in ["body.json = {}", "body.stream = true"] {
        let room = Room::new(Size(1000));
        let mut watch = Observed::default();
        let (head, body) = (post(Length::Unknown, JSON), streaming(chunks()));
        let (body, _held) =
            filters(rule).take_body(&head, body, false, room.hold(), &mut watch).await.unwrap();
        let gathered = body.collect().await.unwrap();
        assert!(gathered.trailers().is_none());
        assert_eq!(gathered.to_bytes(), "{}");
    }
}

#[test]
fn the_room_is_taken_by_bytes_that_came_and_not_by_bytes_that_were_promised() {
    let filters = filters("body = { json = {}, max = \"1MiB\" }");
    let room = Room::new(Size(1 << 20));
    let head = post(Length::Exactly(1 << 20), JSON);
    let mut watch = Observed::default();
    let body = streaming([Chunk::Data(vec![b' '; 10]), Chunk::Data(vec![b' '; 10])]);
    let mut taking = Box::pin(filters.take_body(&head, body, false, room.hold(), &mut watch));
    let mut context = Context::from_waker(Waker::noop());
    assert!(taking.as_mut().poll(&mut context).is_pending());
    assert!((20..=4096).contains(&room.bytes_held()), "{}", room.bytes_held());
    drop(taking);
    assert_eq!(room.bytes_held(), 0);
}

#[tokio::test]
async fn a_body_holds_its_room_until_it_is_sent_and_a_full_room_is_our_fault() {
    let filters = filters("body.json = {}");
    let room = Room::new(Size(100));
    let text = format!("\"{}\"", "x".repeat(58));
    let head = || post(Length::Unknown, JSON);
    let mut watch = Observed::default();
    let (body, held) = filters
        .take_body(&head(), sent(text.as_bytes()), false, room.hold(), &mut watch)
        .await
        .unwrap();
    assert_eq!(room.bytes_held(), 60);
    let refusal = filters
        .take_body(&head(), sent(text.as_bytes()), false, room.hold(), &mut watch)
        .await
        .unwrap_err();
    assert_eq!((refusal.reason, room.refused()), (Reason::BufferFull, 1));
    assert_eq!(room.bytes_held(), 60);
    drop((body, held));
    assert_eq!(room.bytes_held(), 0);
}

/// Objects to every text with `evil` in it, and remembers what it was shown.
struct Evil {
    looks_in: Vec<PlaceKind>,
    observe: bool,
    shown: Mutex<Vec<(String, String)>>,
}

impl Evil {
    fn new(looks_in: &[PlaceKind], observe: bool) -> Arc<Self> {
        Arc::new(Self { looks_in: looks_in.to_vec(), observe, shown: Mutex::default() })
    }
}

impl Examine for Evil {
    fn looks_in(&self, kind: PlaceKind) -> bool {
        self.looks_in.contains(&kind)
    }

    fn examine(&self, place: &Place<'_>, text: &str) -> Option<Objection> {
        assert!(self.looks_in.contains(&place.kind));
        self.shown.lock().unwrap().push((place.name.to_string(), text.to_owned()));
        let source = Source::new("p.toml", "");
        text.contains("evil").then(|| Objection {
            reason: Reason::Sql,
            origin: Origin::new("filters.json-api", &source.place(0..0)),
            detail: "seen".into(),
            observe: self.observe,
        })
    }
}

const EVERYWHERE: [PlaceKind; 4] =
    [PlaceKind::Path, PlaceKind::Query, PlaceKind::Header, PlaceKind::Body];

#[test]
fn every_field_of_a_head_is_shown_decoded_and_by_its_name() {
    let evil = Evil::new(&EVERYWHERE, false);
    let filters = compile("", Some(evil.clone())).unwrap();
    let mut head = head(
        Method::GET,
        Length::None,
        &[
            ("user-agent", "curl"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("signature-input", "sig=()"),
            ("content-type", "a/b"),
            ("accept", "*/*"),
            ("accept-language", "de"),
            ("host", "x"),
            ("cookie", "a=1; b=two=2"),
            ("referer", "https://a/b"),
        ],
    );
    head.query = Some("status=a+b%2541&dueDate[lt]=x".into());
    let parameters = Parameters(vec![("taskId".into(), "a%20b".into())]);
    filters.look_at_head(&head, &parameters, &mut Observed::default()).unwrap();
    let mut shown = evil.shown.lock().unwrap().clone();
    shown.sort();
    let shown: Vec<_> = shown.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("header.cookie.a", "1"),
            ("header.cookie.b", "two=2"),
            ("header.referer", "https://a/b"),
            ("header.user-agent", "curl"),
            ("path", "tasks"),
            ("path", "v1"),
            ("path.taskId", "a b"),
            ("query.dueDate[lt]", "dueDate[lt]"),
            ("query.dueDate[lt]", "x"),
            ("query.status", "a b%41"),
            ("query.status", "status"),
        ]
    );
}

#[tokio::test]
async fn every_kind_of_body_is_taken_apart() {
    let multipart = "multipart/form-data; boundary=XX";
    let form = "application/x-www-form-urlencoded";
    let field =
        "--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"evil\"\r\n\r\nx\r\n--XX--";
    for (content_type, body) in [
        (JSON, "{\"a\":[\"e\\u0076il\"]}"),
        (JSON, "{\"evil\":1}"),
        ("application/merge-patch+json", "\"evil\""),
        (form, "a=1&b=ev%69l"),
        (form, "evil=1"),
        ("text/plain", "all evil"),
        ("application/xml", "<evil/>"),
        (multipart, field),
        (multipart, &field.replace("; filename=\"evil\"", "").replace('x', "evil")),
        (multipart, &field.replace("evil", "b").replace("\"a\"", "\"evil\"")),
    ] {
        let filters = compile("", Some(Evil::new(&[PlaceKind::Body], false))).unwrap();
        assert!(filters.reads_body());
        let head = || post(Length::Unknown, content_type);
        let refused = outcome(&filters, head(), sent(body.as_bytes())).await;
        assert_eq!(refused, Err(Reason::Sql), "{content_type} {body}");
        let harmless = body.replace("\\u0076", "v").replace("%69", "i").replace("evil", "good");
        let passed = outcome(&filters, head(), sent(harmless.as_bytes())).await;
        assert_eq!(passed, Ok(harmless.clone().into_bytes()), "{content_type} {harmless}");
    }
}

#[tokio::test]
async fn what_the_filters_cannot_read_does_not_pass_them_by() {
    let evil = || Some(Evil::new(&[PlaceKind::Body], false) as Arc<dyn Examine>);
    let open = compile("", evil()).unwrap();
    for (content_type, body, expected) in [
        ("image/png", "evil", Reason::ContentTypeRefused),
        ("application/json", "{", Reason::JsonMalformed),
        ("application/x-www-form-urlencoded", "a=%zz", Reason::BodyMalformed),
        ("multipart/form-data", "x", Reason::BodyMalformed),
        ("multipart/form-data; boundary=a", "x", Reason::BodyMalformed),
        ("text/plain; charset=latin1", "x", Reason::ContentTypeRefused),
    ] {
        let refused = outcome(&open, post(Length::Unknown, content_type), sent(body.as_bytes()));
        assert_eq!(refused.await, Err(expected), "{content_type}");
    }
    let latin = outcome(&open, post(Length::Unknown, "text/plain"), sent(b"\xff")).await;
    assert_eq!(latin, Err(Reason::BodyMalformed));
    let untyped = head(Method::POST, Length::Unknown, &[]);
    assert_eq!(outcome(&open, untyped, sent(b"x")).await, Err(Reason::ContentTypeRefused));
    // What a rule names passes unread: that is said aloud.
    let named = compile("body.types = [\"image/*\"]", evil()).unwrap();
    let image = post(Length::Unknown, "image/png");
    assert_eq!(outcome(&named, image, sent(b"evil")).await, Ok(b"evil".to_vec()));
}

#[tokio::test]
async fn observations_are_kept_up_to_a_number_and_counted_beyond() {
    let filters = compile("", Some(Evil::new(&[PlaceKind::Body], true))).unwrap();
    let room = Room::new(Size(10_000));
    let mut watch = Observed::default();
    let body = format!("[{}\"evil\"]", "\"evil\",".repeat(19));
    let head = post(Length::Unknown, JSON);
    filters.take_body(&head, sent(body.as_bytes()), false, room.hold(), &mut watch).await.unwrap();
    assert_eq!((watch.seen().len(), watch.more()), (16, 4));
    assert_eq!(watch.seen()[0].origin.rule(), "filters.json-api");
}

#[test]
fn all_that_cannot_hold_together_is_told() {
    for (text, expected) in [
        ("body = \"nothing\"", 1),
        ("body = 5", 1),
        ("body.max = \"0B\"", 1),
        ("body.types = []", 1),
        ("body.types = [\"json\", \"a/b; c=d\", \"*/*\", \"\"]", 4),
        ("body.extra_fields = \"refuse\"", 1),
        ("body.encodings = [\"gzip\"]", 1),
        ("body = { encodings = [\"g zip\"], stream = true }", 1),
        ("body = { stream = true, schema = \"x\", json = {}, digest = \"required\" }", 3),
        ("body = { schema = \"x\", types = [\"application/json\", \"text/plain\"] }", 1),
        ("body.json = { depth = 0, members = 0, elements = 2000000 }", 3),
        ("body.json = { deep = 3 }", 1),
    ] {
        let mistakes = compile(text, None).unwrap_err();
        assert_eq!(mistakes.len(), expected, "{text}: {mistakes:?}");
    }
    let body = Evil::new(&[PlaceKind::Body], false);
    assert!(compile("body.stream = true", Some(body)).is_err());
    let path = Evil::new(&[PlaceKind::Path], false);
    assert!(compile("body.stream = true", Some(path)).is_ok());
}

#[test]
fn a_route_replaces_defaults_and_takes_what_it_leaves_out() {
    let parts = |max: &str| {
        let filters = filters(&format!("body.max = \"{max}\""));
        Parts { body: Some(filters.body), ..Parts::default() }
    };
    let max = |parts: Parts| parts.body.map(|body| body.bytes_max());
    assert_eq!(max(parts("1KiB").or(&parts("2KiB"))), Some(1024));
    assert_eq!(max(Parts::default().or(&parts("2KiB"))), Some(2048));
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let chunk = prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Chunk::Data),
        6 => proptest::sample::select(vec!["[", "]", "\"evil\"", ",", "1", " "])
            .prop_map(|text| Chunk::Data(text.as_bytes().to_vec())),
        1 => Just(Chunk::Trailers),
        1 => Just(Chunk::Breaks(Broken::Connection)),
        1 => Just(Chunk::Breaks(Broken::Caller(Reason::BodyTimeout))),
        3 => Just(Chunk::End),
    ];
    proptest::collection::vec(chunk, 0..12)
}

proptest! {
    #[test]
    fn however_a_body_is_cut_it_arrives_whole(
        text in "[a-z\u{e9} ]{0,200}",
        cuts in proptest::collection::vec(0_usize..220, 0..12),
    ) {
        let whole = format!("{{\"title\":\"{text}\"}}").into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| Chunk::Data(whole[cut[0]..cut[1]].to_vec()));
        let body = streaming(pieces.chain([Chunk::End]));
        let filters = filters("body = { schema = \"x.json\", max = \"10KiB\" }");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime.block_on(outcome(&filters, post(Length::Unknown, JSON), body));
        prop_assert_eq!(result, Ok(whole));
    }

    #[test]
    fn whatever_happens_the_room_is_given_back(
        chunks in chunks(),
        room_bytes in 0_u64..20_000,
        rule in proptest::sample::select(vec!["body.json = {}", "body.max = \"5KiB\"", "body.stream = true"]),
        observe: bool,
    ) {
        let places: &[_] = if rule.contains("stream") { &[] } else { &[PlaceKind::Body] };
        let filters = compile(rule, Some(Evil::new(places, observe))).unwrap();
        let room = Room::new(Size(room_bytes));
        let head = post(Length::Unknown, JSON);
        let mut watch = Observed::default();
        let mut taking = Box::pin(filters.take_body(&head, streaming(chunks), false, room.hold(), &mut watch));
        let mut context = Context::from_waker(Waker::noop());
        let polled = taking.as_mut().poll(&mut context);
        prop_assert!(room.bytes_held() <= room_bytes);
        if let Poll::Ready(Ok((Body::Whole(bytes), held))) = &polled {
            prop_assert!(held.bytes() >= bytes.len() as u64);
        }
        drop(polled);
        drop(taking);
        prop_assert_eq!(room.bytes_held(), 0);
    }

    #[test]
    fn a_rule_that_only_watches_never_changes_the_outcome(chunks in chunks(), query in "[a-z=&%+]{0,12}") {
        let run = |examine: Arc<dyn Examine>| {
            let filters = compile("body.types = [\"application/json\"]", Some(examine)).unwrap();
            let mut head = post(Length::Unknown, JSON);
            head.query = Some(query.as_str().into());
            let mut chunks = chunks.clone();
            chunks.push(Chunk::End);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(outcome(&filters, head, streaming(chunks)))
        };
        // One that never objects looks at the same fields.
        prop_assert_eq!(run(Evil::new(&EVERYWHERE, true)), run(Arc::new(Harmless)));
    }
}

/// Objects to nothing.
struct Harmless;

impl Examine for Harmless {
    fn looks_in(&self, _: PlaceKind) -> bool {
        true
    }

    fn examine(&self, _: &Place<'_>, _: &str) -> Option<Objection> {
        None
    }
}
