//! Hands much to TLS in pieces that are copied fast everywhere.
//!
//! rustls copies what it encrypts behind the five bytes of a record's head. glibc copies 2,112 bytes
//! and more by one instruction (`rep movsb`) where the processor says that it is fast, and on an AMD
//! EPYC it is not when the copy begins a few bytes later in its page than what is copied: 3.4 GB/s
//! were seen in place of 45. That took a third of a download. Smaller pieces are copied otherwise.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PIECE_BYTES: usize = 2 << 10;
/// As many as 64 KiB have, and a head before them.
const PIECES_MAX: usize = 33;

/// A stream over TLS.
#[derive(Debug)]
pub(crate) struct Pieces<T>(T);

impl<T> Pieces<T> {
    /// Writes to `stream` in pieces.
    pub(crate) fn new(stream: T) -> Self {
        Self(stream)
    }

    /// The stream itself.
    pub(crate) fn whole(&self) -> &T {
        &self.0
    }

    /// As [`whole`](Self::whole), to be changed.
    pub(crate) fn whole_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Pieces<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, out)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Pieces<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() <= PIECE_BYTES {
            return Pin::new(&mut self.0).poll_write(context, bytes);
        }
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.len() <= PIECE_BYTES) {
            return Pin::new(&mut self.0).poll_write_vectored(context, parts);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        let cut = parts.iter().flat_map(|part| part.chunks(PIECE_BYTES));
        for (place, piece) in pieces.iter_mut().zip(cut) {
            *place = IoSlice::new(piece);
            count += 1;
        }
        let pieces = pieces.get(..count).unwrap_or_default();
        Pin::new(&mut self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes at most so many bytes of each piece it is given, and notes how large pieces were.
    struct Sink {
        came: Vec<u8>,
        largest: usize,
        takes: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.largest = self.largest.max(bytes.len());
            let taken = bytes.len().min(self.takes);
            self.came.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.largest = parts.iter().map(|part| part.len()).fold(self.largest, usize::max);
            let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            let taken = all.len().min(self.takes);
            self.came.extend_from_slice(&all[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn everything_arrives_in_order_however_much_is_taken() {
        let sent: Vec<u8> = (0..60_000_u32).flat_map(u32::to_le_bytes).collect();
        for takes in [1000, 2048, 5000, 70_000, usize::MAX] {
            let mut pieces = Pieces::new(Sink { came: Vec::new(), largest: 0, takes });
            pieces.write_all(&sent[..100]).await.unwrap();
            let (head, rest) = sent[100..].split_at(3000);
            let mut at = 0;
            while at < 3000 {
                let parts = [IoSlice::new(&head[at..]), IoSlice::new(rest)];
                at += pieces.write_vectored(&parts).await.unwrap();
            }
            pieces.write_all(&rest[at - 3000..]).await.unwrap();
            assert!(pieces.whole().came == sent, "{takes}");
            assert_eq!(pieces.whole().largest, PIECE_BYTES);
        }
    }
}
