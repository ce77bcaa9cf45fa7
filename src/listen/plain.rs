//! A small HTTP/1 server for loopback: the admin listener and the bundled task service.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections served at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 1024;
/// A head must be there by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a head, and of what is read ahead.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// What answers on such a server.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request; never fails.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// The two ends of a connection, as an extension of each of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Who connected.
    pub peer: SocketAddr,
    /// The address that the server is bound to.
    pub bound: SocketAddr,
}

impl Ends {
    /// Whether both ends are on this machine, and the server can be reached from no other.
    pub fn are_loopback(&self) -> bool {
        [self.peer, self.bound].iter().all(|end| end.ip().to_canonical().is_loopback())
    }
}

/// Serves on `listener` until `stop`, then lets the requests in flight end.
pub async fn serve<A: Answers>(
    listener: TcpListener,
    answers: Arc<A>,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let bound = match listener.local_addr() {
        Ok(bound) => bound,
        Err(fault) => {
            return tracing::error!(%fault, "a listener that has no address serves nobody");
        }
    };
    let (ending, ended) = tokio::sync::watch::channel(false);
    tokio::pin!(stop);
    loop {
        // The place is taken before the connection, so that the ceiling holds.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, most likely: give connections a moment to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (answers, mut ended) = (Arc::clone(&answers), ended.clone());
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Ends { peer, bound });
                let answers = Arc::clone(&answers);
                async move { Ok::<_, Infallible>(answers.answer(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let ending = async { drop(ended.wait_for(|ending| *ending).await) };
            tokio::select! {
                _ = connection.as_mut() => {}
                () = ending => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    let _ = ending.send(true);
    let _ = places.acquire_many(CONNECTIONS_MAX).await;
}
