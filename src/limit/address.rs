//! The budgets of an address: for all its requests, and for its failed credentials.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Now;
use crate::limit::buckets::{Buckets, Taken, name_hash};
use crate::limit::rule::{BudgetRule, budget};
use crate::limit::token_bucket::TokenBucket;
use crate::limit::{network_of, no_room};
use crate::mistake::Reading;
use crate::mistake::source::{At, Origin};
use crate::refusal::extra::{Extra, Spent};
use crate::refusal::{Reason, Refusal};
use crate::units::Rate;

/// What an address may do before anybody knows who calls: `[address]`. IPv6 counts by its /64.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRule {
    /// How many requests at once. 1000 by default.
    #[serde(default)]
    pub burst: Option<u64>,
    /// How many requests over time. `"1000/s"` by default.
    #[serde(default)]
    pub refill: Option<Rate>,
    /// How many failed credentials. When they are spent, further failures are answered 429 instead
    /// of 401; a valid credential is never refused by it. `{ burst = 20, refill = "20/min" }` by default.
    #[serde(default)]
    pub failed_credentials: Option<At<BudgetRule>>,
}

/// The budgets of an address, asked right after `head` and after each failed credential.
#[derive(Debug)]
pub struct AddressBudgets {
    requests: AddressBudget,
    failures: AddressBudget,
    buckets: Arc<Buckets>,
}

#[derive(Debug)]
struct AddressBudget {
    name_hash: u64,
    origin: Origin,
    bucket: TokenBucket,
}

impl AddressBudgets {
    /// Compiles `[address]`. A policy without that table compiles the default rule, at the place
    /// where the policy begins.
    pub fn compile(
        rule: &At<AddressRule>,
        buckets: &Arc<Buckets>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let AddressRule { burst, refill, failed_credentials } = &rule.value;
        let minute = Rate { count: 20, per: std::time::Duration::from_secs(60) };
        let second = Rate { count: 1000, per: std::time::Duration::from_secs(1) };
        let at = |value| At { value, span: rule.span.clone() };
        let requests =
            at(BudgetRule { burst: burst.unwrap_or(1000), refill: refill.unwrap_or(second) });
        let failures = failed_credentials
            .clone()
            .unwrap_or_else(|| at(BudgetRule { burst: 20, refill: minute }));
        let origin = reading.origin("address", &rule.span);
        let failed_origin = reading.origin("address.failed_credentials", &failures.span);
        let (requests, failures) = (budget(&requests, 1, reading), budget(&failures, 1, reading));
        Some(Self {
            requests: AddressBudget { name_hash: name_hash(".address"), origin, bucket: requests? },
            failures: AddressBudget {
                name_hash: name_hash(".address.failed_credentials"),
                origin: failed_origin,
                bucket: failures?,
            },
            buckets: Arc::clone(buckets),
        })
    }

    /// Pays for one request from the address's budget. It is not given back, whatever comes later.
    ///
    /// # Errors
    /// `address-budget-empty` with when to return; `limit-store-full`.
    pub fn spend(&self, client: IpAddr, now: Now) -> Result<(), Refusal> {
        self.charge(&self.requests, Reason::AddressBudgetEmpty, client, now)
    }

    /// Charges a failed credential. Only to be asked once a credential did fail, so that it never
    /// stands in the way of a valid one.
    ///
    /// # Errors
    /// `failure-budget-empty`, which is answered in place of the 401; `limit-store-full`, because
    /// failures that cannot be counted could be tried without end.
    pub fn failed(&self, client: IpAddr, now: Now) -> Result<(), Refusal> {
        self.charge(&self.failures, Reason::FailureBudgetEmpty, client, now)
    }

    fn charge(
        &self,
        budget: &AddressBudget,
        empty: Reason,
        client: IpAddr,
        now: Now,
    ) -> Result<(), Refusal> {
        let key = self.buckets.key(Owner { budget, network: network_of(client) });
        match self.buckets.take(key, &budget.bucket, 1, now) {
            Taken::Paid(_) => Ok(()),
            Taken::Empty(word) => {
                let spent = budget.bucket.spent(word, 1, now);
                let spent = Spent { retry_after: spent.retry_after.max(1), ..spent };
                Err(Refusal::new(empty).by(&budget.origin).with(Extra::Budget(spent)))
            }
            Taken::NoRoom => Err(no_room(&budget.origin)),
        }
    }
}

struct Owner<'a> {
    budget: &'a AddressBudget,
    network: u64,
}

impl Hash for Owner<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Names of limits have no dot at their front, as these have.
        (self.budget.name_hash ^ self.budget.bucket.shape(), self.network).hash(state);
    }
}
