//! Tests of forwarding over real sockets, against upstreams that follow a script.

mod answers;
mod bounds;
mod credentials;
mod faults;
mod mutual;
mod protocols;
mod rules;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::authenticate::{Grant, Principal};
use crate::authorize::Permit;
use crate::clock::Now;
use crate::fields::Fields;
use crate::forward::identity::issuer::{Issuer, IssuerRule};
use crate::forward::pool::Pool;
use crate::forward::reference::Surroundings;
use crate::forward::settings::{UpstreamRule, compile};
use crate::forward::upstream::{Upstream, Upstreams};
use crate::forward::{Answer, SendOptions, send};
use crate::head::{Head, RequestId, Trace};
use crate::inspect::Cleared;
use crate::limit::Admission;
use crate::listen::body::{Body, Broken};
use crate::listen::{Length, Peer};
use crate::mistake::read;
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, Reading};
use crate::name::Names;
use crate::parties::Parties;
use crate::refusal::{Reason, Refusal};

pub(super) const NOW: Now = Now { steady_ns: 0, unix_ms: 1_764_000_000_000 };
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One upstream named `x`, its pool, and no watch.
pub(super) struct Rig {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) pool: Arc<Pool>,
}

/// Compiles one upstream, and tells what is wrong with it.
pub(super) fn compiled(text: &str, base_dir: &Path) -> (Option<Upstream>, Vec<String>) {
    let source = Source::new("gateway.toml", format!("[x]\n{text}\n"));
    let mut mistakes = Mistakes::default();
    let entry = read::top(&source, &mut mistakes).remove(0);
    let rule: Option<UpstreamRule> = read::rule("an upstream", entry.node, &source, &mut mistakes);
    let issuer = Issuer::compile(
        &IssuerRule::default(),
        &mut Reading { source: &source, mistakes: &mut mistakes },
    );
    let surroundings = Surroundings {
        base_dir,
        issuer: &issuer,
        forbidden: &["127.0.0.1:9901".parse().unwrap()],
        environment: &|name| (name == "SECRET").then(|| SECRET.to_owned()),
        only_looking: false,
    };
    let upstream = rule.and_then(|rule| {
        let mut reading = Reading { source: &source, mistakes: &mut mistakes };
        compile(&rule, "x", &entry.span, &surroundings, &mut reading)
    });
    let said = mistakes.iter().map(|mistake| format!("{} {}", mistake.code.number(), mistake.says));
    (upstream, said.collect())
}

impl Rig {
    pub(super) fn new(targets: &[SocketAddr], rest: &str) -> Self {
        let targets: Vec<String> = targets.iter().map(|at| format!("\"http://{at}\"")).collect();
        Self::written(&format!("targets = [{}]\n{rest}", targets.join(", ")))
    }

    pub(super) fn written(text: &str) -> Self {
        let (upstream, mistakes) = compiled(text, Path::new("/"));
        Self::of(upstream.unwrap_or_else(|| panic!("{mistakes:?}")))
    }

    pub(super) fn of(upstream: Upstream) -> Self {
        let upstreams = Arc::new(Upstreams::new([upstream]));
        let upstream = Arc::clone(upstreams.find("x").unwrap());
        let pool = Arc::new(Pool::new(&upstreams));
        Self { upstreams, upstream, pool }
    }

    pub(super) async fn send(&self, cleared: Cleared) -> Result<Answer, Refusal> {
        send(&self.pool, &self.upstream, cleared, &options()).await
    }

    /// Sends, and reads the answer to its end.
    pub(super) async fn fetch(&self, cleared: Cleared) -> (u16, Bytes) {
        let answer = self.send(cleared).await.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        (answer.status.as_u16(), whole(answer.body).await.unwrap())
    }

    pub(super) async fn refused(&self, cleared: Cleared) -> Reason {
        match self.send(cleared).await {
            Ok(answer) => panic!("answered {}", answer.status),
            Err(refusal) => refusal.reason,
        }
    }
}

pub(super) fn options() -> SendOptions<'static> {
    SendOptions { path: None, total: None, keep_credentials: false, identity: true, now: NOW }
}

pub(super) async fn whole(body: Body) -> Result<Bytes, Broken> {
    Ok(body.collect().await?.to_bytes())
}

pub(super) fn head(method: Method, path: &str, length: Length) -> Head {
    let peer = Peer {
        address: "192.0.2.60:4711".parse().unwrap(),
        local: "192.0.2.1:8443".parse().unwrap(),
        listener: "public".into(),
        tls: None,
        trusted: Arc::default(),
        redirect_port: None,
        parties: Default::default(),
    };
    Head {
        method,
        path: path.into(),
        query: None,
        target: path.into(),
        version: Version::HTTP_11,
        headers: Fields::new(),
        length,
        upgrade: None,
        parties: Arc::new(Parties::new(
            "192.0.2.60".parse().unwrap(),
            "https",
            "api.example.com",
            None,
        )),
        peer: Arc::new(peer),
        id: RequestId(*b"01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        trace: Trace {
            parent: *b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            state: None,
        },
    }
}

pub(super) fn cleared(head: Head, body: Body) -> Cleared {
    let grant = Grant {
        credential: "key-1".into(),
        subject: "user-1".into(),
        roles: ["editor"].into_iter().collect(),
        scopes: Names::default(),
        ..Grant::default()
    };
    let permit = Permit::for_tests(Principal::for_tests(Some(Arc::new(grant))));
    Cleared::for_tests(head, body, Admission::for_tests(permit))
}

pub(super) fn get(path: &str) -> Cleared {
    cleared(head(Method::GET, path, Length::None), Body::Empty)
}

pub(super) fn with_body(method: Method, body: &'static [u8]) -> Cleared {
    let length = Length::Exactly(body.len() as u64);
    cleared(head(method, "/v1/tasks", length), Body::Whole(Bytes::from_static(body)))
}

/// A body that a test feeds while it is sent.
pub(super) struct Fed(mpsc::Receiver<Result<Bytes, Broken>>);

pub(super) fn fed(length: Length) -> (mpsc::Sender<Result<Bytes, Broken>>, Cleared) {
    let (feed, receiver) = mpsc::channel(8);
    let body = Body::Streaming(Box::pin(Fed(receiver)));
    (feed, cleared(head(Method::POST, "/v1/tasks", length), body))
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Broken>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(http_body::Frame::data)))
    }
}

/// An upstream that serves each connection by `script`, which is told the connection's number.
pub(super) async fn upstream<F, S>(script: S) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Fn(TcpStream, usize) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(stream, count.fetch_add(1, Ordering::SeqCst)));
        }
    });
    (address, accepted)
}

/// An upstream that answers every request with these bytes, and keeps its connections.
pub(super) async fn answering(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    upstream(move |mut stream, _| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(answer).await.unwrap();
        }
    })
    .await
}

/// An upstream that answers once with these bytes and closes.
pub(super) async fn answering_once(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    upstream(move |mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
    })
    .await
}

/// An address where nobody listens.
pub(super) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The head of the next request, in lower case, once its body was read, too. Nothing at the end.
pub(super) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(text).unwrap().to_ascii_lowercase();
    if let Some(length) = header(&text, "content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.ok()?;
    }
    if header(&text, "transfer-encoding").is_some() {
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.ok()?);
        }
    }
    Some(text)
}

pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// An upstream that hands every request's head to the test.
pub(super) async fn listening() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (heads, receiver) = mpsc::unbounded_channel();
    let (address, _) = upstream(move |mut stream, _| {
        let heads = heads.clone();
        async move {
            while let Some(head) = read_request(&mut stream).await {
                heads.send(head).unwrap();
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    (address, receiver)
}

/// Fails instead of hanging when something takes longer than a second or two.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3), what).await.expect("it hung")
}

pub(super) async fn until(mut met: impl FnMut() -> bool) {
    soon(async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
