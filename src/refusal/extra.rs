//! What a refusal carries beside its reason, for the caller.

use http::HeaderValue;

/// What a refusal carries beside its reason, for the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    #[default]
    None,
    /// The methods that are allowed, for `Allow`.
    Allow(Box<str>),
    /// The fields that are wrong, each with a sentence, for 422.
    Fields(Box<[(Box<str>, Box<str>)]>),
    /// The budget that is empty, for 429.
    Budget(Spent),
    /// The only challenge of a 401, for `WWW-Authenticate`.
    Challenge(HeaderValue),
    /// The nonce that the next proof of possession must have, for `DPoP-Nonce`.
    DpopNonce(HeaderValue),
    /// Seconds after which it makes sense to try again, for 503.
    RetryAfter(u32),
}

/// The state of a budget, as limit headers and the body of 429 tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The whole budget (the burst), in requests.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// Unix time in seconds at which it is whole again.
    pub reset_at: u64,
    /// Seconds from now until it is whole again.
    pub reset_in: u64,
    /// Seconds after which one more request fits; nothing when one fits now.
    pub retry_after: u64,
    /// Seconds in which an empty budget becomes whole, the `w` of `RateLimit-Policy`.
    pub window: u64,
}
