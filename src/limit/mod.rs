//! Spends from every budget that applies, or from none; makes an `Admission` or says when to return.

pub mod address;
pub mod buckets;
pub mod rule;
pub mod token_bucket;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use crate::authenticate::Principal;
use crate::authorize::Permit;
use crate::clock::Now;
use crate::head::Head;
use crate::limit::buckets::{BucketKey, Buckets, Taken, name_hash};
use crate::limit::rule::{Limit, Per};
use crate::limit::token_bucket::TokenBucket;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::mistake::{Reading, suggest};
use crate::refusal::extra::{Extra, Spent};
use crate::refusal::{Mode, Reason, Refusal};

/// How many limits one route may name.
pub const LIMITS_MAX: usize = 8;

/// The proof that all budgets were paid. Made by [`Budgets::spend`] alone.
#[derive(Debug)]
pub struct Admission {
    permit: Permit,
    tightest: Option<(Origin, Spent)>,
    observed: Vec<Refusal>,
}

impl Admission {
    /// The proof before this one.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The budget with the least left, for limit headers; nothing when no budget applies.
    pub fn tightest(&self) -> Option<&(Origin, Spent)> {
        self.tightest.as_ref()
    }

    /// What limits that only watch would have refused.
    pub fn observed(&self) -> &[Refusal] {
        &self.observed
    }
}

/// The budgets of one route.
#[derive(Debug)]
pub struct Budgets {
    limits: Box<[Arc<Limit>]>,
    route_hash: u64,
    buckets: Arc<Buckets>,
}

/// What one budget says to a principal, without being spent from; for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetVerdict {
    /// The limit.
    pub limit: Origin,
    /// Whether one more request fits.
    pub fits: bool,
    /// How the budget stands.
    pub spent: Spent,
    /// Whether the limit refuses or only watches.
    pub mode: Mode,
}

/// One budget of one request.
struct Share<'a> {
    limit: &'a Limit,
    bucket: &'a TokenBucket,
    key: BucketKey,
}

impl Budgets {
    /// The budgets of a route that names no limits.
    pub fn none(buckets: &Arc<Buckets>) -> Self {
        Self { limits: Box::default(), route_hash: 0, buckets: Arc::clone(buckets) }
    }

    /// Whether nothing is spent.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Compiles the `limits` of the route with this name, from all limits of the policy; nothing
    /// stands for one that did not compile. Reports limits that nothing defines, that are named
    /// twice, and more than [`LIMITS_MAX`] of them.
    pub fn compile(
        names: &At<Vec<At<String>>>,
        limits: &BTreeMap<String, Option<Arc<Limit>>>,
        route: &str,
        buckets: &Arc<Buckets>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let mut sound = true;
        if names.len() > LIMITS_MAX {
            let says = format!("{} limits on one route", names.len());
            let help = format!("a route may name at most {LIMITS_MAX}");
            reading.wrong(Code::BadLimit, &names.span, says, help);
            sound = false;
        }
        let mut found: Vec<Arc<Limit>> = Vec::with_capacity(names.len());
        for name in names.iter() {
            let Some(limit) = limits.get(&name.value) else {
                sound = false;
                if reading.mistakes.is_broken(&format!("limits.{}", name.value)) {
                    continue;
                }
                let says = format!("limit `{}` is not defined", name.value);
                let help = suggest(name, limits.keys().map(String::as_str));
                reading.wrong(Code::Undefined, &name.span, says, help);
                continue;
            };
            // A limit that is defined but broken was reported where it stands.
            let Some(limit) = limit else {
                sound = false;
                continue;
            };
            if found.iter().any(|known| known.name() == limit.name()) {
                let says = format!("limit `{}` is named twice", name.value);
                let help = "name it once; to charge more, raise its `cost`";
                reading.wrong(Code::BadLimit, &name.span, says, help);
                sound = false;
            }
            found.push(Arc::clone(limit));
        }
        sound.then(|| Self {
            limits: found.into(),
            route_hash: name_hash(route),
            buckets: Arc::clone(buckets),
        })
    }

    /// How much, in words; `unlimited` where no limit is named.
    pub fn describe(&self) -> String {
        if self.limits.is_empty() {
            return "unlimited".to_owned();
        }
        self.limits.iter().map(|limit| limit.describe()).collect::<Vec<_>>().join(" and ")
    }

    /// Pays for one request from every budget, or from none.
    ///
    /// All are looked at before one is taken from. Where another request comes between, what was
    /// taken is given back at once: no budget ever pays out more than it promised, and for that
    /// moment (well under a microsecond) a third request may find a token fewer than there is.
    ///
    /// # Errors
    /// `budget-empty` by the first limit that has too little, with when to return;
    /// `limit-store-full` when a new caller cannot be counted.
    pub fn spend(&self, permit: Permit, head: &Head, now: Now) -> Result<Admission, Refusal> {
        let mut observed = Vec::new();
        let mut keys = [None; LIMITS_MAX];
        let principal = permit.principal();
        for (limit, key) in self.limits.iter().zip(&mut keys) {
            let share = self.share(limit, principal, head);
            // A single budget is not worth a look: taking from it is all or none already.
            if self.limits.len() > 1 && limit.mode() == Mode::Enforce {
                self.look(&share, now)?;
            }
            *key = Some(share.key);
        }
        let mut tightest: Option<(&Limit, Spent)> = None;
        for (number, (limit, key)) in self.limits.iter().zip(&keys).enumerate() {
            let Some(key) = *key else { continue };
            let bucket = limit.bucket(principal.grant().and_then(|grant| grant.tier));
            let share = Share { limit, bucket, key };
            match (self.take(&share, now), limit.mode()) {
                (Ok(spent), Mode::Enforce) => {
                    if tightest.is_none_or(|(_, other)| is_tighter(&spent, &other)) {
                        tightest = Some((limit, spent));
                    }
                }
                (Ok(_), Mode::Observe) => {}
                (Err(refusal), Mode::Observe) => observed.push(refusal),
                (Err(refusal), Mode::Enforce) => {
                    self.give_back(number, &keys, principal, observed.as_slice());
                    return Err(refusal);
                }
            }
        }
        let tightest = tightest.map(|(limit, spent)| (limit.origin().clone(), spent));
        Ok(Admission { permit, tightest, observed })
    }

    /// How every budget stands for a principal. Spends nothing, however often it is asked.
    pub fn explain(&self, principal: &Principal, head: &Head, now: Now) -> Vec<BudgetVerdict> {
        let verdict = |limit: &Arc<Limit>| {
            let share = self.share(limit, principal, head);
            let spent = share.bucket.spent(self.buckets.look(share.key), limit.cost(), now);
            let limit = limit.as_ref();
            BudgetVerdict {
                limit: limit.origin().clone(),
                fits: spent.retry_after == 0,
                spent,
                mode: limit.mode(),
            }
        };
        self.limits.iter().map(verdict).collect()
    }

    fn share<'a>(&'a self, limit: &'a Limit, principal: &Principal, head: &Head) -> Share<'a> {
        let bucket = limit.bucket(principal.grant().and_then(|grant| grant.tier));
        let owner = Owner {
            limit,
            bucket,
            principal,
            client: head.parties.client,
            route_hash: self.route_hash,
        };
        Share { limit, bucket, key: self.buckets.key(owner) }
    }

    fn look(&self, share: &Share<'_>, now: Now) -> Result<(), Refusal> {
        let word = self.buckets.look(share.key);
        match share.bucket.take(word, share.limit.cost(), now) {
            Some(_) => Ok(()),
            None => Err(share.empty(word, now)),
        }
    }

    fn take(&self, share: &Share<'_>, now: Now) -> Result<Spent, Refusal> {
        let cost = share.limit.cost();
        match self.buckets.take(share.key, share.bucket, cost, now) {
            Taken::Paid(word) => Ok(share.bucket.spent(word, cost, now)),
            Taken::Empty(word) => Err(share.empty(word, now)),
            Taken::NoRoom => Err(no_room(share.limit.origin())),
        }
    }

    /// Undoes what was taken from the first `count` budgets, but for those that gave nothing.
    fn give_back(
        &self,
        count: usize,
        keys: &[Option<BucketKey>; LIMITS_MAX],
        principal: &Principal,
        observed: &[Refusal],
    ) {
        let tier = principal.grant().and_then(|grant| grant.tier);
        for (limit, key) in self.limits.iter().zip(keys).take(count) {
            let gave_nothing =
                observed.iter().any(|refusal| refusal.rule.as_ref() == Some(limit.origin()));
            if let Some(key) = key
                && !gave_nothing
            {
                self.buckets.give_back(*key, limit.bucket(tier), limit.cost());
            }
        }
    }
}

impl Share<'_> {
    fn empty(&self, word: u64, now: Now) -> Refusal {
        let spent = self.bucket.spent(word, self.limit.cost(), now);
        // A budget can refill between the two looks; a refusal still says to come back later.
        let spent = Spent { retry_after: spent.retry_after.max(1), ..spent };
        Refusal::new(Reason::BudgetEmpty).by(self.limit.origin()).with(Extra::Budget(spent))
    }
}

/// Whether `one` has less left than `other`, in proportion; of equals the one with fewer tokens.
fn is_tighter(one: &Spent, other: &Spent) -> bool {
    let left = |spent: &Spent, of: &Spent| u128::from(spent.remaining) * u128::from(of.limit);
    (left(one, other), one.remaining) < (left(other, one), other.remaining)
}

/// Seconds after which it makes sense to try again when the store is full.
const NO_ROOM_RETRY_S: u32 = 5;

fn no_room(limit: &Origin) -> Refusal {
    Refusal::new(Reason::LimitStoreFull).by(limit).with(Extra::RetryAfter(NO_ROOM_RETRY_S))
}

/// Who owns a bucket: limit, shape, and what `per` names. Never a caller's bytes, only their hash.
struct Owner<'a> {
    limit: &'a Limit,
    bucket: &'a TokenBucket,
    principal: &'a Principal,
    client: IpAddr,
    route_hash: u64,
}

impl Hash for Owner<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Kind and length stand before each text, in one word, so that no two owners are written alike.
        let text = |per: Per, text: &str, state: &mut H| {
            state.write_u64(per as u64 | (text.len() as u64) << 8);
            state.write(text.as_bytes());
        };
        (self.limit.name_hash() ^ self.bucket.shape()).hash(state);
        for per in self.limit.per() {
            let grant = self.principal.grant();
            match (per, grant) {
                (Per::Principal, Some(grant)) => text(Per::Principal, &grant.subject, state),
                (Per::Key, Some(grant)) => text(Per::Key, &grant.credential, state),
                (Per::Principal | Per::Key, None) | (Per::Address, _) => {
                    (Per::Address as u64, network_of(self.client)).hash(state);
                }
                (Per::Route, _) => (Per::Route as u64, self.route_hash).hash(state),
            }
        }
    }
}

/// What counts as one address: IPv4 by itself, IPv6 by its /64, because one caller has all of that.
fn network_of(client: IpAddr) -> u64 {
    match client.to_canonical() {
        // Set apart from every /64 by a prefix that no IPv6 network has: ffff::/16 is multicast.
        IpAddr::V4(address) => 0xffff << 48 | u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default(),
    }
}

#[cfg(test)]
impl Admission {
    /// An admission for tests of later stages.
    pub(crate) fn for_tests(permit: Permit) -> Self {
        Self { permit, tightest: None, observed: Vec::new() }
    }
}
