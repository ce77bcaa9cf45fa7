//! Asks the schemes of a route in turn, and waits where one has to ask outside.

use crate::authenticate::ask::Question;
use crate::authenticate::{Attempt, Authenticate, Demand, Principal};
use crate::clock::Now;
use crate::head::Head;
use crate::refusal::{Reason, Refusal};

/// How far the schemes of a route got.
enum Found {
    /// All were asked, and this is the caller.
    Principal(Principal),
    /// The scheme with this number has a question; those before it found as much as this.
    Asks { question: Question, member: usize, principal: Principal },
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
    /// A scheme that has to ask outside is waited for, and only then those behind it are asked.
    ///
    /// # Errors
    /// The refusal of the first scheme, in the order of the rule, that is not satisfied.
    pub async fn identify(&self, head: &Head, now: Now) -> Result<Principal, Refusal> {
        let mut found = self.go_on(Principal::default(), (0, Asked::No), head, now)?;
        loop {
            match found {
                Found::Principal(principal) => return Ok(principal),
                Found::Asks { question, member, principal } => {
                    question.answer().await?;
                    found = self.go_on(principal, (member, Asked::Yes), head, now)?;
                }
            }
        }
    }

    /// As [`identify`](Self::identify), for those who cannot wait: whoever has to ask outside is
    /// refused.
    ///
    /// # Errors
    /// As there, and [`Reason::IntrospectionFailed`].
    pub fn who(&self, head: &Head, now: Now) -> Result<Principal, Refusal> {
        match self.go_on(Principal::default(), (0, Asked::No), head, now)? {
            Found::Principal(principal) => Ok(principal),
            Found::Asks { .. } => Err(Reason::IntrospectionFailed.into()),
        }
    }

    /// Asks the schemes from the one with this number on. The schemes before it have answered.
    fn go_on(
        &self,
        mut principal: Principal,
        (first, asked): (usize, Asked),
        head: &Head,
        now: Now,
    ) -> Result<Found, Refusal> {
        if self.demand == Demand::None {
            return Ok(Found::Principal(principal));
        }
        for (number, member) in self.schemes.iter().enumerate().skip(first) {
            match member.scheme.attempt(head, now) {
                Attempt::Ask(question) if number != first || asked == Asked::No => {
                    return Ok(Found::Asks { question, member: number, principal });
                }
                Attempt::Ask(_) => {
                    return Err(Refusal::new(Reason::IntrospectionFailed)
                        .because("the answer was forgotten at once"));
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
