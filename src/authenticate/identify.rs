//! Asks the schemes of a route in turn, and waits where one has to ask outside or for trailers.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::authenticate::ask::Question;
use crate::authenticate::digest::Expected;
use crate::authenticate::{Attempt, Authenticate, Demand, Principal, Wanted};
use crate::clock::Now;
use crate::fields::Fields;
use crate::head::Head;
use crate::listen::Length;
use crate::listen::body::Body;
use crate::listen::gather::{too_large, whole};
use crate::listen::room::{Held, Room};
use crate::refusal::{Reason, Refusal};

/// How far the schemes of a route got.
enum Found {
    /// All were asked, and this is the caller.
    Principal(Principal),
    /// The scheme with this number has a question; those before it found as much as this.
    Asks { question: Question, member: usize, principal: Principal },
    /// The same, and it wants the trailers.
    Wants { wanted: Wanted, member: usize, principal: Principal },
}

/// Whether the question of the scheme that goes on was answered already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

impl Authenticate {
    /// Who calls. On a route with `auth = "none"` that is nobody, and whatever credentials are
    /// shown there are neither looked at nor refused.
    ///
    /// With `any`, whichever credentials are shown must all be good: one that is present and wrong
    /// is refused even beside a good one, and never passes for none. With both, all must belong to
    /// one subject, and the first scheme of the rule says what the caller may do.
    ///
    /// A scheme that has to ask outside is waited for, and only then those behind it are asked. So
    /// is one that wants trailers: the body in front of them is read whole, and takes its place in the
    /// room for as long as it lives.
    ///
    /// # Errors
    /// The refusal of the first scheme, in the order of the rule, that is not satisfied, and what is
    /// wrong with a body that had to be read.
    pub async fn identify(
        &self,
        head: &Head,
        (body, room): (&mut Body, &Arc<Room>),
        now: Now,
    ) -> Result<Principal, Refusal> {
        let mut trailers: Option<Box<Fields>> = None;
        let mut found = self.go_on(Principal::default(), (0, Asked::No), (head, None), now)?;
        loop {
            let (member, asked, principal) = match found {
                Found::Principal(principal) => return Ok(principal),
                Found::Asks { question, member, principal } => {
                    question.answer().await?;
                    (member, Asked::Yes, principal)
                }
                Found::Wants { wanted, member, principal } => {
                    // In a box, because so few requests go this way.
                    let read = Box::pin(read(head, body, &wanted, room.hold())).await;
                    trailers = Some(read.map_err(|refusal| refusal.by(&wanted.rule))?);
                    (member, Asked::No, principal)
                }
            };
            found = self.go_on(principal, (member, asked), (head, trailers.as_deref()), now)?;
        }
    }

    /// As [`identify`](Self::identify), for those who cannot wait: whoever has to ask outside or for
    /// trailers is refused.
    ///
    /// # Errors
    /// As there, and [`Reason::IntrospectionFailed`].
    pub fn who(&self, head: &Head, now: Now) -> Result<Principal, Refusal> {
        match self.go_on(Principal::default(), (0, Asked::No), (head, None), now)? {
            Found::Principal(principal) => Ok(principal),
            Found::Asks { .. } => Err(Reason::IntrospectionFailed.into()),
            Found::Wants { .. } => Err(Refusal::new(Reason::SignatureMalformed)
                .because("it covers trailers, which are not there")),
        }
    }

    /// Asks the schemes from the one with this number on. The schemes before it have answered.
    fn go_on(
        &self,
        mut principal: Principal,
        (first, asked): (usize, Asked),
        (head, trailers): (&Head, Option<&Fields>),
        now: Now,
    ) -> Result<Found, Refusal> {
        if self.demand == Demand::None {
            return Ok(Found::Principal(principal));
        }
        for (number, member) in self.schemes.iter().enumerate().skip(first) {
            match member.scheme.attempt_whole(head, trailers, now) {
                Attempt::Ask(question) if number != first || asked == Asked::No => {
                    return Ok(Found::Asks { question, member: number, principal });
                }
                Attempt::Ask(_) => {
                    return Err(Refusal::new(Reason::IntrospectionFailed)
                        .because("the answer was forgotten at once"));
                }
                Attempt::Trailers(wanted) => {
                    return Ok(Found::Wants { wanted, member: number, principal });
                }
                Attempt::Rejected(refusal) => return Err(refusal),
                Attempt::Absent if self.demand == Demand::All => {
                    return Err(member.missing.into());
                }
                Attempt::Absent => {}
                Attempt::Accepted(evidence) => {
                    evidence.grant.usage.note(head.parties.client, now);
                    principal.accept(member.family, evidence)?;
                }
            }
        }
        match principal.grant {
            Some(_) => Ok(Found::Principal(principal)),
            None => Err(self.missing.into()),
        }
    }
}

/// Reads the body of a request whole, up to the trailers, and leaves it as a whole one.
async fn read(
    head: &Head,
    body: &mut Body,
    wanted: &Wanted,
    mut held: Held,
) -> Result<Box<Fields>, Refusal> {
    let bytes_max = wanted.bytes_max;
    if matches!(head.length, Length::Exactly(bytes) if bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    let mut trailers = Box::new(Fields::new());
    let mut keep = |came: HeaderMap| *trailers = Fields::from(came);
    let bytes = whole(std::mem::take(body), head.length, bytes_max, &mut held, &mut keep).await?;
    // A digest that follows its body is compared here, because the trailers go no further.
    if let Some(expected) = Expected::from_headers(&trailers)? {
        expected.verify(&bytes)?;
    }
    *body = match bytes.is_empty() {
        true => Body::Empty,
        false => Body::Whole(Bytes::from_owner(Kept { bytes, _held: held })),
    };
    Ok(trailers)
}

/// A body that brings its hold of the room along, so that requests without one carry none. A filter
/// that reads it again holds as much once more: rather too much than too little.
struct Kept {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
