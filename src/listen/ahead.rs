//! Reads much at once from a socket on which much has come.
//!
//! rustls asks its socket for 4 KiB more each time, so a body of 64 KiB took nine reads, and what
//! was read in pieces was handed on in pieces. A socket that gave all that it was asked for has more:
//! from then on it is read in large pieces, until one of them is not filled.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The most that is read ahead, and so what a connection holds here at most. It holds nothing while
/// nothing comes, or little.
const AHEAD_BYTES: usize = 64 << 10;
/// A reader that asks for less, as for the head of a record, tells nothing when it is filled.
const ASKED_BYTES_MIN: usize = 4 << 10;

/// A socket beneath TLS.
#[derive(Debug)]
pub(crate) struct Ahead {
    socket: TcpStream,
    /// What was read and not yet asked for.
    held: BytesMut,
    /// Whether the last read was filled.
    has_more: bool,
}

impl Ahead {
    /// Nothing is read before it is asked for.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, held: BytesMut::new(), has_more: false }
    }

    /// The socket itself. Reading from it would pass over what was read ahead.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// As [`socket`](Self::socket), to be changed.
    pub(crate) fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether something was read that nobody has asked for yet.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever has to wait holds no buffer meanwhile.
        ready!(self.socket.poll_read_ready(context))?;
        self.held.reserve(AHEAD_BYTES);
        let spare = self.held.capacity();
        match pin!(self.socket.read_buf(&mut self.held)).poll(context) {
            Poll::Ready(read) => {
                self.has_more = read? == spare;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                self.held = BytesMut::new();
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.holds() {
            if !self.has_more {
                let asked = out.remaining();
                ready!(Pin::new(&mut self.socket).poll_read(context, out))?;
                self.has_more = asked >= ASKED_BYTES_MIN && out.remaining() == 0;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fill(context))?;
        }
        let given = self.held.len().min(out.remaining());
        out.put_slice(self.held.get(..given).unwrap_or_default());
        self.held.advance(given);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, Ahead) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, Ahead::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn what_was_read_ahead_comes_in_order_and_whole() {
        let (mut near, mut ahead) = pair().await;
        let sent: Vec<u8> = (0..1_000_003_u32).flat_map(u32::to_le_bytes).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move { near.write_all(&sent).await });
        let mut came = Vec::new();
        for asked in [4096, 1, 5, 100, 8192, 70_000].iter().cycle() {
            let mut piece = vec![0; *asked];
            let read = ahead.read(&mut piece).await.unwrap();
            if read == 0 {
                break;
            }
            came.extend_from_slice(&piece[..read]);
        }
        writer.await.unwrap().unwrap();
        assert!(came == expected);
    }

    #[tokio::test]
    async fn a_connection_on_which_little_comes_holds_nothing() {
        let (mut near, mut ahead) = pair().await;
        let mut piece = [0; 4096];
        near.write_all(&[7; 3000]).await.unwrap();
        assert_eq!(ahead.read(&mut piece).await.unwrap(), 3000);
        assert!(!ahead.has_more && ahead.held.capacity() == 0);
        // One read is filled, and nothing follows: who waits holds nothing either.
        near.write_all(&[7; 4096]).await.unwrap();
        ahead.socket().readable().await.unwrap();
        let mut came = 0;
        while came < 4096 {
            came += ahead.read(&mut piece).await.unwrap();
        }
        let waits =
            pin!(ahead.read(&mut piece)).poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(waits.is_pending());
        assert_eq!(ahead.held.capacity(), 0);
    }
}
