//! Takes connections from the kernel, gives each a seat and a handshake, and sends it on its way.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::listen::counters::{Full, Held, Seat, count};
use crate::listen::drain::Drain;
use crate::listen::tls::Tls;
use crate::listen::{Handler, Peer, Service, Shared, TlsFacts, http1, http2};
use crate::refusal::Reason;

/// After a failure to accept, such as having no file descriptor left: trying again at once would
/// only spin.
const FAULT_PAUSE: Duration = Duration::from_millis(50);
/// After a drain has begun: connections whose handshake with the kernel is on its way are taken too.
const DRAIN_GRACE: Duration = Duration::from_millis(200);
/// Connections taken from the queue at the end: twice what it holds, lest a flood keeps us here.
const QUEUE_MAX: usize = 2048;

/// Accepts until the drain, then what the kernel has already taken in for us.
pub(super) async fn run<H: Handler>(
    socket: TcpListener,
    shared: &Arc<Shared>,
    handler: &H,
    drain: &Drain,
) {
    let take = |accepted: io::Result<(TcpStream, SocketAddr)>| match accepted {
        Ok((stream, address)) => {
            connect(stream, address, (shared, handler, drain));
            true
        }
        Err(fault) if is_of_one_connection(&fault) => true,
        Err(_) => {
            count(&shared.counters.accept_faults);
            false
        }
    };
    let mut ending = pin!(async {
        drain.began().await;
        let _ = timeout(DRAIN_GRACE, drain.was_cut()).await;
    });
    loop {
        tokio::select! {
            // First the end: connections without end must not keep it from being seen.
            biased;
            () = &mut ending => break,
            accepted = socket.accept() => {
                if !take(accepted) {
                    sleep(FAULT_PAUSE).await;
                }
            }
        }
    }
    // Closing the socket would reset what still stands in its queue. The kernel is asked directly,
    // because tokio knows of a connection only after its driver has run.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..QUEUE_MAX {
        let accepted = match socket.accept() {
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return,
            Ok((stream, address)) => stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
                .map(|stream| (stream, address)),
            Err(fault) => Err(fault),
        };
        if !take(accepted) {
            return;
        }
    }
}

/// A fault that tells of one connection that has gone again, not of the socket (accept(2)).
fn is_of_one_connection(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Starts the task of a new connection, if there is a seat for it. Nothing is read before.
fn connect<H: Handler>(
    stream: TcpStream,
    address: SocketAddr,
    (shared, handler, drain): (&Arc<Shared>, &H, &Drain),
) {
    let counters = &shared.counters;
    count(&counters.accepted);
    if drain.is_cut() {
        return count(&counters.refused_draining);
    }
    let seat = match Seat::take(shared, address.ip()) {
        Ok(seat) => seat,
        Err(Full::Listener) => return count(&counters.refused_ceiling),
        Err(Full::Address) => return count(&counters.refused_address_ceiling),
    };
    let local = stream.local_addr().unwrap_or(address);
    let peer = Peer {
        address: SocketAddr::new(address.ip().to_canonical(), address.port()),
        local: SocketAddr::new(local.ip().to_canonical(), local.port()),
        listener: Arc::clone(&shared.settings.name),
        tls: None,
        trusted: Arc::clone(&shared.settings.trusted),
        redirect_port: shared.settings.redirect_port,
    };
    let connection = Connection {
        peer,
        shared: Arc::clone(shared),
        handler: handler.clone(),
        drain: drain.clone(),
    };
    let token = drain.token();
    let drain = drain.clone();
    tokio::spawn(async move {
        // In a box: whoever holds a future by value holds its room twice.
        drain.wake_and_cut(Box::pin(connection.run(stream))).await;
        drop((seat, token));
    });
}

/// A connection that has a seat and has said nothing yet.
struct Connection<H> {
    peer: Peer,
    shared: Arc<Shared>,
    handler: H,
    drain: Drain,
}

impl<H: Handler> Connection<H> {
    async fn run(self, stream: TcpStream) {
        let Some(tls) = self.shared.settings.tls.clone() else {
            let service = self.service(None);
            let _open = Held::new(&service.shared, |counters| &counters.open);
            return Box::pin(http1::serve(stream, service)).await;
        };
        // The states of a handshake are large and soon over: they get a box of their own.
        let Some(shaken) = Box::pin(self.shake_hands(stream, &tls)).await else { return };
        match shaken {
            Shaken::Tls(stream, facts) => {
                let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = self.service(Some(facts));
                let _open = Held::new(&service.shared, |counters| &counters.open);
                if speaks_h2 {
                    Box::pin(http2::serve(*stream, service)).await;
                } else if service.shared.settings.speaks_h1 {
                    Box::pin(http1::serve(*stream, service)).await;
                }
            }
            Shaken::Plaintext(stream) => {
                let service = self.service(None);
                Box::pin(http1::refuse(stream, service, Reason::PlaintextRefused)).await;
            }
        }
    }

    fn service(self, tls: Option<TlsFacts>) -> Service<H> {
        let Self { peer, shared, handler, drain } = self;
        Service { peer: Arc::new(Peer { tls, ..peer }), shared, handler, drain }
    }

    /// Completes the handshake within its deadline, and counts how it went.
    async fn shake_hands(&self, stream: TcpStream, tls: &Tls) -> Option<Shaken> {
        let counters = &self.shared.counters;
        let _shaking = Held::new(&self.shared, |counters| &counters.handshaking);
        let shaking = async {
            // TLS begins with a record of type 22 (RFC 8446, section 5.1); whoever begins with a
            // letter speaks HTTP, and is told so in words.
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_alphabetic) {
                return Ok(Shaken::Plaintext(stream));
            }
            let (stream, facts) = tls.accept(stream, &counters.turned).await?;
            Ok::<_, io::Error>(Shaken::Tls(Box::new(stream), facts))
        };
        let deadline = self.shared.settings.bounds.handshake_timeout;
        let shaken = match timeout(deadline, shaking).await {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(_)) => {
                count(&counters.handshake_failed);
                return None;
            }
            Err(_) => {
                count(&counters.handshake_timeout);
                return None;
            }
        };
        match &shaken {
            Shaken::Plaintext(_) => count(&counters.handshake_failed),
            Shaken::Tls(stream, facts) => {
                let (_, session) = stream.get_ref();
                match facts.version {
                    "TLSv1.2" => count(&counters.handshakes_tls12),
                    _ => count(&counters.handshakes_tls13),
                }
                if session.handshake_kind() == Some(HandshakeKind::Resumed) {
                    count(&counters.handshakes_resumed);
                }
            }
        }
        Some(shaken)
    }
}

/// What came of a handshake.
enum Shaken {
    Tls(Box<TlsStream<TcpStream>>, TlsFacts),
    Plaintext(TcpStream),
}
