//! HTTP/1 towards callers: one task a connection, one request after the other, strictly read.

pub(crate) mod decode;
pub(crate) mod trailer;
pub(crate) mod head;
mod incoming;
pub(super) mod line;
pub(super) mod reply;
mod send;
mod tunnel;
pub(crate) mod wire;

use bytes::BytesMut;
use http::{Method, StatusCode};

use crate::listen::balance::Berth;
use crate::listen::body::Body;
use crate::listen::counters::Held;
use crate::listen::http1::decode::Decoder;
use crate::listen::http1::incoming::Incoming;
use crate::listen::http1::line::{Arrived, Line};
use crate::listen::http1::reply::{Asked, Framing, write_head};
use crate::listen::http1::send::{Sending, room};
use crate::listen::http1::tunnel::through;
use crate::listen::http1::wire::{Socket, Wire};
use crate::listen::turn::{begin, turn};
use crate::listen::{Arrival, Handler, Length, Outgoing, Response, Service, Tunnel};
use crate::refusal::Reason;

/// Serves a connection, on which so many requests were served before, until it ends or had better
/// go to another worker.
pub(super) async fn serve<S: Socket, H: Handler>(
    socket: S,
    service: Service<H>,
    served: u32,
) -> Option<Left<S>> {
    let line = Line::new(socket, &service);
    Connection { line, service, served }.run().await
}

/// A connection that goes to another worker, between two requests.
pub(super) struct Left<S> {
    pub(super) socket: S,
    pub(super) berth: Berth,
    pub(super) served: u32,
}

/// Answers whatever comes over a connection as not being a request, for this reason, and closes it.
pub(super) async fn refuse<S: Socket, H: Handler>(socket: S, service: Service<H>, reason: Reason) {
    let line = Line::new(socket, &service);
    let mut connection = Connection { line, service, served: 0 };
    let after = connection.exchange(Arrived::Malformed(reason)).await;
    connection.end(after).await;
}

struct Connection<S: Socket, H> {
    line: Line<S>,
    service: Service<H>,
    served: u32,
}

/// What becomes of a connection after an exchange.
enum After {
    /// It waits for the next request.
    Next,
    /// It ends cleanly. Lingering lets the answer arrive although the caller may still be sending.
    Close { lingering: bool },
    /// It ends at once: the caller has left, or must see that the answer is not whole.
    Drop,
    /// It becomes a tunnel.
    Upgrade(Tunnel),
}

impl<S: Socket, H: Handler> Connection<S, H> {
    async fn run(mut self) -> Option<Left<S>> {
        loop {
            let arrived = match self.line.arrive(self.served == 0).await {
                Arrived::Nothing => {
                    self.line.close(false).await;
                    return None;
                }
                arrived => arrived,
            };
            self.served = self.served.saturating_add(1);
            match self.exchange(arrived).await {
                After::Next => {}
                after => {
                    Box::pin(self.end(after)).await;
                    return None;
                }
            }
            if let Some(left) = self.leave() {
                return Some(left);
            }
        }
    }

    /// Leaves for another worker, if there is one that has more time and nothing was read ahead.
    fn leave(&mut self) -> Option<Left<S>> {
        let berth = self.service.stay.elsewhere()?;
        if !self.line.wire.lock().input.is_empty() {
            return None;
        }
        let (socket, _) = self.line.take()?;
        Some(Left { socket, berth, served: self.served })
    }

    async fn end(mut self, after: After) {
        match after {
            After::Next | After::Drop => {}
            After::Close { lingering } => self.line.close(lingering).await,
            After::Upgrade(tunnel) => {
                if let Some((socket, ahead)) = self.line.take() {
                    // In a box, so that connections without a tunnel do not hold its room.
                    Box::pin(through(socket, ahead, tunnel)).await;
                }
            }
        }
    }

    /// One request and its answer.
    async fn exchange(&mut self, arrived: Arrived) -> After {
        let (asked, arrival, is_connect) = match arrived {
            Arrived::Nothing => return After::Drop,
            Arrived::Malformed(reason) => {
                self.line.wire.lock().begin(Decoder::Broken(reason), false);
                (Asked::NOTHING, Arrival::Malformed(reason), false)
            }
            Arrived::Request(parsed) => {
                let raw = parsed.raw;
                let asked = Asked::new(&raw.method, raw.version, parsed.persistent);
                let is_connect = raw.method == Method::CONNECT;
                let body = self.body(raw.length, parsed.expects_continue);
                (asked, Arrival::Request(raw, body), is_connect)
            }
        };
        begin();
        let _flight = Held::new(&self.service.shared, |counters| &counters.in_flight);
        // In a box, so that a connection that waits does not hold the room of a request at work.
        // The box comes first, so that the future is made in it and not moved there.
        let place = Box::new_uninit();
        let work = Box::write(place, self.service.handler.handle(&self.service.peer, arrival));
        let work = Box::into_pin(work);
        let Some(outgoing) = self.line.while_present(work).await else { return After::Drop };
        self.answer(asked, is_connect, outgoing).await
    }

    /// The body of a request: whole if it has arrived with the head, as small ones do.
    fn body(&mut self, length: Length, expects_continue: bool) -> Body {
        let mut wire = self.line.wire.lock();
        if let Length::Exactly(bytes) = length
            && let Ok(bytes) = usize::try_from(bytes)
            && wire.input.len() >= bytes
        {
            wire.begin(Decoder::Ended, false);
            return Body::Whole(wire.input.split_to(bytes).freeze());
        }
        // Who sends the body unasked does not wait for us to ask.
        let awaits = expects_continue && wire.input.is_empty();
        wire.begin(Decoder::of(length), awaits);
        drop(wire);
        match length {
            Length::None => Body::Empty,
            Length::Exactly(_) | Length::Unknown => {
                let timeout = self.service.shared.settings.bounds.body_timeout;
                Body::Streaming(Box::pin(Incoming::new(&self.line.wire, length, timeout)))
            }
        }
    }

    /// Whether we want the connection to close, whatever the caller wants.
    fn closes_after_this(&self, wire: &Wire<S>, outgoing: &Outgoing<H::Body>) -> bool {
        outgoing.close
            || self.service.drain.is_draining()
            || self.served >= self.service.shared.settings.bounds.requests_per_connection
            // Nobody knows whether a body that was not asked for will come (RFC 9110, 10.1.1).
            || wire.awaits_continue()
            || matches!(wire.decoder, Decoder::Broken(_))
    }

    /// Writes the answer, after which the connection may have to close.
    async fn answer(&mut self, asked: Asked, closes: bool, outgoing: Outgoing<H::Body>) -> After {
        turn().await;
        let mut out = room();
        let closes = {
            let mut wire = self.line.wire.lock();
            let closes = closes || self.closes_after_this(&wire, &outgoing);
            out.extend_from_slice(wire.rest_of_interim());
            wire.is_midway = true;
            closes
        };
        // What was asked, less what we do not want.
        let plan = Asked { persistent: asked.persistent && !closes, ..asked };
        let Outgoing { response, tunnel, close: _, at } = outgoing;
        let Response { mut status, headers, body } = response;
        let tunnel = tunnel.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
        if status.is_informational() && tunnel.is_none() {
            // No caller could tell where such an answer ends.
            status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let exact = http_body::Body::size_hint(&body).exact();
        let framing = Framing::choose(plan, status, exact);
        let persistent = plan.persistent && framing != Framing::UntilClose;
        write_head(&mut out, (status, &headers), framing, (asked, persistent), at);
        let sending = Sending { line: &mut self.line, out, body, framing };
        if sending.send_all().await.is_err() {
            return After::Drop;
        }
        let body_has_ended = {
            let mut wire = self.line.wire.lock();
            wire.is_midway = false;
            wire.decoder == Decoder::Ended
        };
        if let Some(tunnel) = tunnel {
            return After::Upgrade(tunnel);
        }
        self.after(asked, persistent, body_has_ended).await
    }

    /// What becomes of the connection once the answer is written.
    async fn after(&mut self, asked: Asked, persistent: bool, body_has_ended: bool) -> After {
        if persistent && (body_has_ended || self.line.discard_body().await) {
            return After::Next;
        }
        let nothing_follows =
            !asked.persistent && body_has_ended && self.line.wire.lock().input.is_empty();
        After::Close { lingering: !nothing_follows }
    }
}

/// Lets go of a buffer that holds nothing but room.
fn give_back(input: &mut BytesMut) {
    if input.is_empty() {
        *input = BytesMut::new();
    }
}

#[cfg(test)]
mod tests;
