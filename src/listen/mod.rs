//! Accepts connections up to a ceiling and serves HTTP on each, within deadlines, until it drains.

pub mod body;
pub mod room;
pub mod gather;
pub mod plain;
pub(crate) mod ahead;
pub(crate) mod pieces;
pub mod settings;
pub mod bounds;
pub mod der;
pub mod certificate;
pub mod clients;
pub mod client_certificate;
pub mod tls;
pub mod tls_rule;
pub mod bind;
pub mod counters;
pub mod drain;
pub mod balance;
pub mod turn;
mod accept;
pub(crate) mod http1;
mod http2;
#[cfg(test)]
mod testing;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{Method, StatusCode, Version};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock::{Clock, Now};
use crate::fields::Fields;
use crate::listen::balance::{Post, Stay};
use crate::listen::body::{AnswerBody, Body};
use crate::listen::client_certificate::{CertificateFields, Memo};
use crate::listen::clients::Clients;
use crate::listen::counters::{Counters, Seats};
use crate::listen::drain::Drain;
use crate::listen::settings::Settings;
use crate::parties::Parties;
use crate::refusal::Reason;
use crate::units::Network;

/// What the workers of one listener share.
#[derive(Debug)]
pub struct Shared {
    /// What the listener is.
    pub settings: Settings,
    /// What it has counted.
    pub counters: Counters,
    seats: Seats,
}

impl Shared {
    /// A listener that nobody has connected to yet.
    pub fn new(settings: Settings, clock: &Clock) -> Arc<Self> {
        if let Some(tls) = &settings.tls {
            tls.keep_time_by(clock);
        }
        Arc::new(Self { settings, counters: Counters::default(), seats: Seats::default() })
    }
}

/// Accepts connections from one socket and from other workers, and serves them, until the drain has begun and the socket's
/// queue is empty. Connections go on in tasks of their own; [`Drain::finished`] waits for them.
///
/// Must run inside a tokio runtime with I/O and time; one runtime of one thread per worker is what
/// it is made for.
///
/// # Errors
/// The runtime cannot take the socket.
pub async fn serve<H: Handler>(
    socket: TcpListener,
    shared: Arc<Shared>,
    handler: H,
    drain: Drain,
    post: Post,
) -> io::Result<()> {
    let token = drain.token();
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    accept::Accept { shared, handler, drain, place: post.place }.run(socket, post.inbox).await;
    drop(token);
    Ok(())
}

/// The other end of a connection, and how it is connected.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The address of ours that it connected to.
    pub local: SocketAddr,
    /// The listener's name in `gateway.toml`.
    pub listener: Arc<str>,
    /// The facts of TLS; nothing on a plaintext listener.
    pub tls: Option<TlsFacts>,
    /// The networks whose `Forwarded` headers are believed.
    pub trusted: Arc<[Network]>,
    /// On a plaintext listener that redirects: the port of `https`.
    pub redirect_port: Option<u16>,
    /// The parties of its first request, which are nearly always those of all.
    pub parties: OnceLock<Arc<Parties>>,
}

/// What a completed TLS handshake told.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The server name that the peer asked for (SNI), in lower case.
    pub server_name: Option<Box<str>>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The certificate that the peer proved to hold the key of, checked against the listener's
    /// authorities; nothing when none was asked for or none was shown.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Whether every request must be for `server_name`, even from trusted proxies: hosts of this
    /// listener differ in the client certificates that they demand.
    pub name_binds: bool,
}

/// What a client certificate says that requests need to know.
#[derive(Debug, Default)]
pub struct ClientCertificate {
    /// SHA-256 of its DER: what tokens are bound to (RFC 8705, section 3.1).
    pub sha256: [u8; 32],
    /// Its DNS names, in lower case; every one is valid.
    pub dns_names: Box<[Box<str>]>,
    /// Its URIs, as they stand. See [`spiffe_id`](Self::spiffe_id).
    pub uri_names: Box<[Box<str>]>,
    /// Its serial number: bytes, the highest first.
    pub serial: Box<[u8]>,
    /// Its issuer's name, in DER without the outer tag.
    pub issuer: Box<[u8]>,
    /// When it expires, in Unix seconds.
    pub not_after_unix_s: u64,
    /// The certificate itself, and after it the others that were shown with it.
    pub chain: Box<[CertificateDer<'static>]>,
    /// What `authenticate` made of it.
    pub memo: Memo,
    /// What services are told of it, once one was.
    fields: OnceLock<CertificateFields>,
    clients: Option<Arc<Clients>>,
    /// The generation of `clients` that has last let it in.
    judged_by: AtomicU64,
}

/// One request as it stood on the wire. It is framed beyond doubt; what it means is for `head` to say.
#[derive(Debug)]
pub struct RawHead {
    /// The method, as sent.
    pub method: Method,
    /// The request target, byte for byte as sent: `/v1/tasks?limit=5`, an absolute URI, or `*`.
    /// For HTTP/2 the `:path`.
    pub target: Box<str>,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The `:authority` of HTTP/2; nothing for HTTP/1, whose `Host` is among the headers.
    pub authority: Option<Box<str>>,
    /// All headers. For HTTP/1, `Content-Length` stands at most once and is one plain number, and
    /// `Transfer-Encoding`, if present, is exactly `chunked`; never both.
    pub headers: Fields,
    /// How long the body says it is.
    pub length: Length,
}

/// How long a body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is no body.
    None,
    /// So many bytes; more than none.
    Exactly(u64),
    /// Unknown until its end: chunked, or HTTP/2 without `content-length`.
    Unknown,
}

/// What arrived: a request, or bytes that are not one.
#[derive(Debug)]
pub enum Arrival {
    /// A request with its body, of which nothing has been read yet.
    Request(Box<RawHead>, Body),
    /// Bytes that are not a request. They get a proper answer, and then the connection closes.
    Malformed(Reason),
}

impl Arrival {
    /// The request, whose head and body go separate ways from here.
    ///
    /// # Errors
    /// What is wrong with bytes that are not a request.
    pub fn request(self) -> Result<(RawHead, Body), Reason> {
        match self {
            Self::Request(head, body) => Ok((*head, body)),
            Self::Malformed(reason) => Err(reason),
        }
    }
}

/// A response: status, header fields and body.
#[derive(Clone, Debug)]
pub struct Response<B> {
    /// The status.
    pub status: StatusCode,
    /// The header fields. What says how the message is framed is for whoever writes it.
    pub headers: Fields,
    /// The body.
    pub body: B,
}

impl<B> Response<B> {
    /// A response with status 200, no fields and this body.
    pub fn new(body: B) -> Self {
        Self { status: StatusCode::OK, headers: Fields::new(), body }
    }

    /// The same with another body.
    pub fn map<T>(self, change: impl FnOnce(B) -> T) -> Response<T> {
        Response { status: self.status, headers: self.headers, body: change(self.body) }
    }
}

/// What is sent back.
pub struct Outgoing<B> {
    /// The response.
    pub response: Response<B>,
    /// After a 101: the other half of the tunnel that the connection becomes.
    pub tunnel: Option<Tunnel>,
    /// Whether the connection must close after this response.
    pub close: bool,
    /// When it was made.
    pub at: Now,
}

/// A byte stream to an upstream that has agreed to an upgrade.
pub struct Tunnel {
    /// The stream to the upstream.
    pub upstream: Box<dyn Stream>,
    /// What lives for as long as the tunnel does: permits, the record's entry.
    pub keep: Box<dyn TunnelGuard>,
    /// The tunnel ends when no byte passed for this long.
    pub idle: std::time::Duration,
}

/// A byte stream of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Lives as long as a tunnel, and is told at its end how many bytes passed.
pub trait TunnelGuard: Send {
    /// Ready when the tunnel has to end, whatever its two ends want.
    fn poll_cut(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Bytes from the caller and bytes to the caller.
    fn ended(&mut self, from_caller: u64, to_caller: u64);
}

/// What answers requests. `listen` is given it, and knows nothing else of the gateway.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of responses.
    type Body: AnswerBody + Send + Unpin + 'static;

    /// Answers one arrival. Never fails: a refusal is an answer too.
    fn handle(
        &self,
        peer: &Arc<Peer>,
        arrival: Arrival,
    ) -> impl Future<Output = Outgoing<Self::Body>> + Send;
}

/// What serves the requests of one connection.
struct Service<H> {
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    handler: H,
    drain: Drain,
    stay: Stay,
}

#[cfg(test)]
mod tests;
