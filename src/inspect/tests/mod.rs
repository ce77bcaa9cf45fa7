//! Whole requests against whole rules: what is shared by the tests of the stage.

mod bodies;
mod fields;
mod laws;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use http::{HeaderName, HeaderValue, Method, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;
use crate::fields::Fields;
use crate::head::{RequestId, Trace};
use crate::inspect::field::Place;
use crate::listen::Peer;
use crate::listen::body::Broken;
use crate::listen::room::Room;
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, read};
use crate::parties::Parties;
use crate::refusal::extra::Extra;
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
    let headers: Fields = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect();
    Head {
        method,
        path: "/v1/tasks/a%20b".into(),
        query: None,
        target: "/v1/tasks/a%20b".into(),
        version: Version::HTTP_11,
        headers,
        length,
        upgrade: None,
        parties: Arc::new(Parties::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            "https",
            "localhost",
            None,
        )),
        peer: Arc::new(Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            local: "127.0.0.1:2".parse().unwrap(),
            listener: "public".into(),
            tls: None,
            trusted: Arc::default(),
            redirect_port: None,
            parties: Default::default(),
        }),
        id: RequestId([b'0'; 26]),
        trace: Trace::begin(),
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
