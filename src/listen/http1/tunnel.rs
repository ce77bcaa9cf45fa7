//! Carries bytes both ways between a caller and an upstream that agreed to an upgrade.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::http1::wire::Alarm;
use crate::listen::{Stream, Tunnel, TunnelGuard};

const BUFFER_BYTES: usize = 16 << 10;

/// Carries bytes until both sides have ended, one of them fails, the guard says that it must end, or
/// nothing moved for the idle time. `ahead` is what the caller sent before the upgrade was answered.
pub(super) async fn through<S: Stream>(mut caller: S, ahead: BytesMut, tunnel: Tunnel) {
    let Tunnel { mut upstream, keep, idle } = tunnel;
    let mut account = Account { keep, from_caller: 0, to_caller: 0 };
    let mut outward = Way::starting_with(&ahead);
    let mut inward = Way::starting_with(&[]);
    drop(ahead);
    let mut alarm = Alarm::after(idle);
    poll_fn(|context| {
        let before = (account.from_caller, account.to_caller);
        let out = outward.poll(context, &mut caller, &mut upstream, &mut account.from_caller);
        let back = inward.poll(context, &mut upstream, &mut caller, &mut account.to_caller);
        if (account.from_caller, account.to_caller) != before {
            alarm.set(idle);
        }
        match (out, back) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            // One side has ended; the other may finish.
            (Poll::Pending, _) | (_, Poll::Pending) => match account.keep.poll_cut(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => alarm.poll(context),
            },
        }
    })
    .await;
}

/// Tells the guard how much passed, however the tunnel ends.
struct Account {
    keep: Box<dyn TunnelGuard>,
    from_caller: u64,
    to_caller: u64,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.keep.ended(self.from_caller, self.to_caller);
    }
}

/// One of the two directions.
struct Way {
    buffer: Box<[u8]>,
    filled: usize,
    written: usize,
    state: State,
    must_flush: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Carrying,
    Ending,
    Ended,
}

impl Way {
    fn starting_with(ahead: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES.max(ahead.len())];
        for (to, from) in buffer.iter_mut().zip(ahead) {
            *to = *from;
        }
        Self {
            buffer: buffer.into(),
            filled: ahead.len(),
            written: 0,
            state: State::Carrying,
            must_flush: false,
        }
    }

    /// Carries what it can; ready when the reader's end has been passed on to the writer.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        carried: &mut u64,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(waiting @ [_, ..]) = self.buffer.get(self.written..self.filled) {
                let written = ready!(Pin::new(&mut *writer).poll_write(context, waiting))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += written;
                self.must_flush = true;
                *carried += written as u64;
            }
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(context))?;
                    self.state = State::Ended;
                    continue;
                }
                State::Carrying => {}
            }
            let mut space = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *reader).poll_read(context, &mut space) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    // Only now: while more comes in at once, TLS may fill its records.
                    if self.must_flush {
                        ready!(Pin::new(&mut *writer).poll_flush(context))?;
                        self.must_flush = false;
                    }
                    return Poll::Pending;
                }
            }
            (self.written, self.filled) = (0, space.filled().len());
            if self.filled == 0 {
                self.state = State::Ending;
            }
        }
    }
}
