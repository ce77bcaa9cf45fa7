//! A handler that the tests of this room play with, and bodies that follow a script.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::DuplexStream;

use crate::clock::Clock;
use crate::listen::balance::Post;
use crate::listen::body::{Body, Broken};
use crate::listen::drain::Drain;
use crate::listen::settings::Settings;
use crate::listen::{
    Arrival, Handler, Outgoing, Peer, RawHead, Response, Service, Shared, Tunnel, TunnelGuard,
};

/// Answers by the path: see `play`.
#[derive(Clone, Default)]
pub(super) struct Player {
    /// What arrived, in its order: targets, and names of reasons.
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    /// Requests that were given up before they were answered.
    pub(super) given_up: Arc<AtomicU32>,
    /// What `/script` answers with.
    pub(super) script: Arc<Mutex<Option<Script>>>,
    /// The upstream that `/tunnel` leads to, and what passed at its end.
    pub(super) upstream: Arc<Mutex<Option<DuplexStream>>>,
    pub(super) passed: Arc<Mutex<Option<(u64, u64)>>>,
}

/// A response body: content, a wait, or a break, in this order; then what the channel brings.
#[derive(Default)]
pub(super) struct Script {
    pub(super) frames: VecDeque<Result<Bytes, Broken>>,
    pub(super) more: Option<tokio::sync::mpsc::Receiver<Bytes>>,
    pub(super) exact: Option<u64>,
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(frame.map(Frame::data)));
        }
        match &mut self.more {
            Some(more) => {
                more.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
            }
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.exact.map_or_else(Default::default, http_body::SizeHint::with_exact)
    }
}

struct GivenUp(Option<Arc<AtomicU32>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Passed(Arc<Mutex<Option<(u64, u64)>>>);

impl TunnelGuard for Passed {
    fn ended(&mut self, from_caller: u64, to_caller: u64) {
        *self.0.lock().unwrap() = Some((from_caller, to_caller));
    }
}

impl Handler for Player {
    type Body = Body;

    async fn handle(&self, _peer: &Arc<Peer>, arrival: Arrival) -> Outgoing<Body> {
        let mut armed = GivenUp(Some(Arc::clone(&self.given_up)));
        let outgoing = match arrival {
            Arrival::Request(head, body) => {
                self.seen.lock().unwrap().push(head.target.to_string());
                self.play(&head, body).await
            }
            Arrival::Malformed(reason) => {
                self.seen.lock().unwrap().push(reason.name().to_owned());
                Outgoing { close: true, ..answer(reason.status(), reason.name()) }
            }
        };
        armed.0 = None;
        outgoing
    }
}

impl Player {
    async fn play(&self, head: &RawHead, body: Body) -> Outgoing<Body> {
        match head.target.as_ref() {
            "/echo" => match body.collect().await {
                Ok(whole) => answer(StatusCode::OK, whole.to_bytes()),
                Err(Broken::Caller(reason)) => answer(reason.status(), reason.name()),
                Err(_) => answer(StatusCode::BAD_GATEWAY, "lost"),
            },
            "/ignore" => answer(StatusCode::UNAUTHORIZED, "who are you"),
            "/nothing" => answer(StatusCode::NO_CONTENT, "ignored"),
            "/unchanged" => {
                let mut outgoing = answer(StatusCode::NOT_MODIFIED, "");
                let length = http::HeaderValue::from_static("77");
                outgoing.response.headers.insert(http::header::CONTENT_LENGTH, length);
                outgoing
            }
            "/wait" => std::future::pending().await,
            "/soon" => {
                tokio::time::sleep(Duration::from_millis(30)).await;
                answer(StatusCode::OK, "soon")
            }
            "/large" => answer(StatusCode::OK, vec![b'x'; 4 << 20]),
            "/script" => {
                let script = self.script.lock().unwrap().take().unwrap_or_default();
                let body = Body::Streaming(Box::pin(script));
                Outgoing { response: Response::new(body), tunnel: None, close: false, at: at() }
            }
            "/tunnel" => {
                let mut outgoing = answer(StatusCode::SWITCHING_PROTOCOLS, "");
                let upgrade = http::HeaderValue::from_static("websocket");
                outgoing.response.headers.insert(http::header::UPGRADE, upgrade);
                outgoing.tunnel = self.upstream.lock().unwrap().take().map(|upstream| Tunnel {
                    upstream: Box::new(upstream),
                    keep: Box::new(Passed(Arc::clone(&self.passed))),
                    idle: Duration::from_millis(300),
                });
                outgoing
            }
            _ => answer(StatusCode::OK, "hello"),
        }
    }
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Outgoing<Body> {
    let mut response = Response::new(Body::Whole(body.into()));
    response.status = status;
    Outgoing { response, tunnel: None, close: false, at: at() }
}

/// When everything here happens.
fn at() -> crate::clock::Now {
    Clock::set_at(784_111_777_000).0.now()
}

/// What serves a connection that has no listener.
pub(super) fn service(settings: Settings, player: &Player, drain: &Drain) -> Service<Player> {
    let address = "192.0.2.7:4711".parse().unwrap();
    let (clock, _) = Clock::set_at(784_111_777_000);
    let peer = Peer {
        address,
        local: address,
        listener: Arc::clone(&settings.name),
        tls: None,
        trusted: Arc::clone(&settings.trusted),
        redirect_port: None,
        parties: Default::default(),
    };
    Service {
        peer: Arc::new(peer),
        shared: Shared::new(settings, &clock),
        handler: player.clone(),
        drain: drain.clone(),
        stay: Post::alone().place.enter(),
    }
}
