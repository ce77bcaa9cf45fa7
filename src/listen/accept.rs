//! Takes connections from the kernel, gives each a seat and a handshake, and sends it on its way.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::HandshakeKind;
use socket2::SockRef;
use tokio::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

use crate::listen::balance::{Berth, Carried, Handed, Kept, Place, Stay};
use crate::listen::counters::{Full, Held, Seat, count};
use crate::listen::drain::{Drain, Token};
use crate::listen::tls::{Secured, Tls};
use crate::listen::{Handler, Peer, Service, Shared, TlsFacts, http1, http2};
use crate::refusal::Reason;

/// After a failure to accept, such as having no file descriptor left: trying again at once would
/// only spin.
const FAULT_PAUSE: Duration = Duration::from_millis(50);
/// After a drain has begun: connections whose handshake with the kernel is on its way are taken too.
const DRAIN_GRACE: Duration = Duration::from_millis(200);
/// Connections taken from the queue at the end: twice what it holds, lest a flood keeps us here.
const QUEUE_MAX: usize = 2048;

/// What takes connections at one socket of one worker.
pub(super) struct Accept<H> {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: H,
    pub(super) drain: Drain,
    pub(super) place: Arc<Place>,
}

impl<H: Handler> Accept<H> {
    /// Accepts until the drain, then what the kernel and other workers have already given us.
    pub(super) async fn run(self, socket: TcpListener, mut inbox: Receiver<Handed>) {
        let mut ending = pin!(async {
            self.drain.began().await;
            let _ = timeout(DRAIN_GRACE, self.drain.was_cut()).await;
        });
        loop {
            tokio::select! {
                // First the end: connections without end must not keep it from being seen.
                biased;
                () = &mut ending => break,
                Some(handed) = inbox.recv() => self.take_over(handed),
                accepted = socket.accept() => {
                    if !self.take(accepted) {
                        sleep(FAULT_PAUSE).await;
                    }
                }
            }
        }
        // Nobody gets a berth any more; who has one, uses it at once.
        inbox.close();
        while let Some(handed) = inbox.recv().await {
            self.take_over(handed);
        }
        // Closing the socket would reset what still stands in its queue. The kernel is asked
        // directly, because tokio knows of a connection only after its driver has run.
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
            if !self.take(accepted) {
                return;
            }
        }
    }

    /// Starts what the kernel gave, here or with another worker. False when it had nothing to give.
    fn take(&self, accepted: io::Result<(TcpStream, SocketAddr)>) -> bool {
        match accepted {
            Ok((stream, address)) => {
                count(&self.shared.counters.accepted);
                match self.place.elsewhere() {
                    None => self.connect(stream, address),
                    Some(berth) => {
                        count(&self.shared.counters.handed_over);
                        drop(berth.send(Handed::New(stream, address)));
                    }
                }
                true
            }
            Err(fault) if is_of_one_connection(&fault) => true,
            Err(_) => {
                count(&self.shared.counters.accept_faults);
                false
            }
        }
    }

    /// Goes on with a connection that another worker had no time for.
    fn take_over(&self, handed: Handed) {
        match handed {
            Handed::New(mut stream, address) => {
                if self.rehome(&mut stream) {
                    self.connect(stream, address);
                }
            }
            Handed::Kept(mut kept, held) => {
                let socket = match &mut kept.stream {
                    Carried::Plain(stream) => stream,
                    Carried::Tls(stream) => stream.whole_mut().get_mut().0.socket_mut(),
                };
                if self.rehome(socket) {
                    self.start(self.connection(kept.peer).serve(kept.stream, kept.served), held);
                }
            }
        }
    }

    /// Starts the task of a new connection, if there is a seat for it. Nothing is read before.
    fn connect(&self, stream: TcpStream, address: SocketAddr) {
        let Self { shared, drain, .. } = self;
        let counters = &shared.counters;
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
            parties: Default::default(),
        };
        self.start(self.connection(Arc::new(peer)).run(stream), (seat, drain.token()));
    }

    fn connection(&self, peer: Arc<Peer>) -> Connection<H> {
        Connection {
            peer,
            shared: Arc::clone(&self.shared),
            handler: self.handler.clone(),
            drain: self.drain.clone(),
            stay: self.place.enter(),
        }
    }

    /// Starts the task of a connection, which goes to another worker in the end or nowhere.
    fn start<F>(&self, work: F, held: (Seat, Token))
    where
        F: Future<Output = Option<(Berth, Kept)>> + Send + 'static,
    {
        let drain = self.drain.clone();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            // In a box: whoever holds a future by value holds its room twice.
            let ended = drain.wake_and_cut(Box::pin(work)).await;
            if let Some((berth, kept)) = ended.flatten() {
                count(&shared.counters.handed_over);
                drop(berth.send(Handed::Kept(Box::new(kept), held)));
            }
        });
    }

    /// Makes a socket that another worker's runtime looked after one of this runtime's. False when
    /// the system does not let us, as without a file descriptor left; that is counted as when a
    /// connection cannot be accepted.
    fn rehome(&self, stream: &mut TcpStream) -> bool {
        let clone = SockRef::from(&*stream).try_clone().map(std::net::TcpStream::from);
        match clone.and_then(TcpStream::from_std) {
            Ok(ours) => {
                *stream = ours;
                true
            }
            Err(_) => {
                count(&self.shared.counters.accept_faults);
                false
            }
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

/// A connection that has a seat.
struct Connection<H> {
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    handler: H,
    drain: Drain,
    stay: Stay,
}

impl<H: Handler> Connection<H> {
    /// Serves a connection that has said nothing yet.
    async fn run(self, stream: TcpStream) -> Option<(Berth, Kept)> {
        let Some(tls) = self.shared.settings.tls.clone() else {
            return self.serve(Carried::Plain(stream), 0).await;
        };
        // The states of a handshake are large and soon over: they get a box of their own.
        match Box::pin(self.shake_hands(stream, &tls)).await? {
            Shaken::Tls(stream, facts) => {
                let peer = Peer { tls: Some(facts), ..Arc::unwrap_or_clone(self.peer) };
                Self { peer: Arc::new(peer), ..self }.serve(Carried::Tls(stream), 0).await
            }
            Shaken::Plaintext(stream) => {
                let service = self.service();
                Box::pin(http1::refuse(stream, service, Reason::PlaintextRefused)).await;
                None
            }
        }
    }

    /// Speaks HTTP over a connection on which so many requests were served before. Gives it back
    /// when it had better go to another worker.
    async fn serve(self, stream: Carried, served: u32) -> Option<(Berth, Kept)> {
        let service = self.service();
        let peer = Arc::clone(&service.peer);
        let _open = Held::new(&service.shared, |counters| &counters.open);
        let (berth, stream, served) = match stream {
            Carried::Plain(stream) => {
                let left = Box::pin(http1::serve(stream, service, served)).await?;
                (left.berth, Carried::Plain(left.socket), left.served)
            }
            Carried::Tls(stream) if stream.whole().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Box::pin(http2::serve(*stream, service)).await;
                return None;
            }
            Carried::Tls(_) if !service.shared.settings.speaks_h1 => return None,
            Carried::Tls(stream) => {
                let left = Box::pin(http1::serve(*stream, service, served)).await?;
                (left.berth, Carried::Tls(Box::new(left.socket)), left.served)
            }
        };
        Some((berth, Kept { stream, peer, served }))
    }

    fn service(self) -> Service<H> {
        let Self { peer, shared, handler, drain, stay } = self;
        Service { peer, shared, handler, drain, stay }
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
                let (_, session) = stream.whole().get_ref();
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
    Tls(Box<Secured>, TlsFacts),
    Plaintext(TcpStream),
}
