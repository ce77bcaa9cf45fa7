//! Watches the frames of an HTTP/2 connection, and ends it when they carry nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::listen::Shared;
use crate::listen::counters::count;
use crate::listen::http1::wire::{Alarm, Socket};

/// How many frames may come within the window that neither ask for anything nor follow from
/// anything that we sent. What browsers and gRPC clients send stays far below.
const IDLE_FRAMES_MAX: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(10);
const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ENHANCE_YOUR_CALM: u8 = 0xb;

/// A socket whose frames are counted, whose preface is due in time, and whose writes must get on.
///
/// It offers no vectored writes: with them, h2 writes the head of a frame and its content in two
/// TLS records, which costs almost a third of the throughput.
pub(super) struct Guarded<S> {
    socket: S,
    shared: Arc<Shared>,
    inbound: Frames,
    outbound: Frames,
    toll: Toll,
    preface: Option<Alarm>,
    stalled: Option<Alarm>,
    is_stalled: bool,
}

impl<S: Socket> Guarded<S> {
    pub(super) fn new(socket: S, shared: Arc<Shared>) -> Self {
        Self {
            socket,
            inbound: Frames::after(PREFACE_BYTES),
            outbound: Frames::after(0),
            toll: Toll { idle: 0, since: Instant::now(), last_stream: 0 },
            preface: Some(Alarm::after(shared.settings.bounds.header_timeout)),
            stalled: None,
            is_stalled: false,
            shared,
        }
    }

    /// Says GOAWAY as well as that can still be said, and gives the connection up (RFC 9113,
    /// section 10.5).
    fn end_flood(&mut self, context: &mut Context<'_>) -> io::Error {
        count(&self.shared.counters.flood_closes);
        if self.outbound.is_between_frames() {
            let [a, b, c, d] = self.toll.last_stream.to_be_bytes();
            let goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM];
            // Should the socket not take it at once, the end of the connection has to do.
            if Pin::new(&mut self.socket).poll_write(context, &goaway).is_ready() {
                let _ = Pin::new(&mut self.socket).poll_flush(context);
            }
        }
        io::Error::other("too many frames that carry nothing")
    }

    fn poll_stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timeout = self.shared.settings.bounds.write_timeout;
        let alarm = self.stalled.get_or_insert_with(|| Alarm::after(timeout));
        if !std::mem::replace(&mut self.is_stalled, true) {
            alarm.set(timeout);
        }
        alarm.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Socket> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = space.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.socket).poll_read(context, space) {
            read?;
            let new = space.filled().get(before..).unwrap_or_default();
            let toll = &mut this.toll;
            this.inbound.walk(new, |frame| toll.came(frame));
            if this.inbound.skip == 0 {
                this.preface = None;
            }
            if this.toll.is_too_much() {
                return Poll::Ready(Err(this.end_flood(context)));
            }
            return Poll::Ready(Ok(()));
        }
        let Some(preface) = &mut this.preface else { return Poll::Pending };
        preface.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Socket> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Poll::Ready(written) = Pin::new(&mut this.socket).poll_write(context, bytes) else {
            return this.poll_stalled(context);
        };
        let written = written?;
        this.is_stalled = false;
        let toll = &mut this.toll;
        let sent = bytes.get(..written).unwrap_or_default();
        this.outbound.walk(sent, |frame| toll.went(frame));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Poll::Ready(flushed) = Pin::new(&mut this.socket).poll_flush(context) else {
            return this.poll_stalled(context);
        };
        this.is_stalled = false;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Poll::Ready(shut) = Pin::new(&mut this.socket).poll_shutdown(context) else {
            return this.poll_stalled(context);
        };
        Poll::Ready(shut)
    }
}

/// What frames of the caller cost, against what we have sent.
struct Toll {
    idle: u32,
    since: Instant,
    last_stream: u32,
}

impl Toll {
    fn came(&mut self, frame: Frame) {
        match frame.kind {
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => {}
            HEADERS => self.last_stream = frame.stream,
            // PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION, unknown ones, and
            // DATA that holds nothing and ends nothing.
            DATA | 2..=CONTINUATION | 10.. => self.idle = self.idle.saturating_add(1),
        }
    }

    fn went(&mut self, frame: Frame) {
        // Each DATA frame is answered by a WINDOW_UPDATE for its stream and one for the connection.
        match frame.kind {
            DATA => self.idle = self.idle.saturating_sub(2),
            HEADERS => self.idle = self.idle.saturating_sub(1),
            _ => {}
        }
    }

    /// Asks for the time only when the ceiling is reached.
    fn is_too_much(&mut self) -> bool {
        if self.idle <= IDLE_FRAMES_MAX {
            return false;
        }
        let is_within = self.since.elapsed() < WINDOW;
        if !is_within {
            self.idle = 0;
            self.since = Instant::now();
        }
        is_within
    }
}

/// The head of a frame (RFC 9113, section 4.1): length 24 bits, type 8, flags 8, stream 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the heads of frames in a stream that comes in pieces.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next head begins.
    skip: usize,
    head: [u8; 9],
    filled: usize,
}

impl Frames {
    fn after(skip: usize) -> Self {
        Self { skip, head: [0; 9], filled: 0 }
    }

    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    fn walk(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = byte;
                self.filled += 1;
            }
            if self.filled == self.head.len() {
                let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = self.head;
                let length = u32::from_be_bytes([0, l1, l2, l3]);
                let stream = u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]);
                on_frame(Frame { length, kind, flags, stream });
                self.skip = length as usize;
                self.filled = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0, length as usize));
        bytes
    }

    #[test]
    fn frames_are_found_in_any_pieces() {
        let mut bytes = vec![0; PREFACE_BYTES];
        bytes.extend(frame(6, 4, 0, 0));
        bytes.extend(frame(300, DATA, 0, 1));
        bytes.extend(frame(0, DATA, END_STREAM, 1));
        for size in [1, 2, 7, 9, 64, 1000] {
            let mut found = Vec::new();
            let mut frames = Frames::after(PREFACE_BYTES);
            for piece in bytes.chunks(size) {
                frames.walk(piece, |frame| found.push((frame.length, frame.kind, frame.stream)));
            }
            assert_eq!(found, [(6, 4, 0), (300, DATA, 1), (0, DATA, 1)], "pieces of {size}");
            assert!(frames.is_between_frames());
        }
    }

    #[tokio::test]
    async fn what_follows_from_our_own_data_is_no_flood() {
        let mut toll = Toll { idle: 0, since: Instant::now(), last_stream: 0 };
        let (update, data) = (
            Frame { length: 4, kind: 8, flags: 0, stream: 1 },
            Frame { length: 16_384, kind: DATA, flags: 0, stream: 1 },
        );
        for _ in 0..100_000 {
            toll.went(data);
            toll.came(update);
            toll.came(update);
        }
        assert!(!toll.is_too_much());
        for _ in 0..=IDLE_FRAMES_MAX {
            toll.came(update);
        }
        assert!(toll.is_too_much());
    }
}
