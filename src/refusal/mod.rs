//! Every way to say no: its stage, status, public code and private reason.

pub mod extra;

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::mistake::source::Origin;
use crate::refusal::extra::Extra;
use crate::secret::Secret;

/// The stages of the way, in its order. These are the only stage names there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each stage is the module of the same name")]
pub enum Stage {
    Listen,
    Head,
    Route,
    Authenticate,
    Authorize,
    Limit,
    Inspect,
    Forward,
    Respond,
    Record,
}

impl Stage {
    /// All stages, in the order of the way.
    pub const ALL: [Self; 10] = [
        Self::Listen,
        Self::Head,
        Self::Route,
        Self::Authenticate,
        Self::Authorize,
        Self::Limit,
        Self::Inspect,
        Self::Forward,
        Self::Respond,
        Self::Record,
    ];

    /// The name, as metrics, logs, tests and `explain` write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Head => "head",
            Self::Route => "route",
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Limit => "limit",
            Self::Inspect => "inspect",
            Self::Forward => "forward",
            Self::Respond => "respond",
            Self::Record => "record",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's.
    Caller,
    /// The service's behind the gateway.
    Upstream,
    /// The gateway's own, or that of load upon it.
    Gateway,
}

/// Whether a rule refuses, or only tells the record that it would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It refuses.
    #[default]
    Enforce,
    /// It only watches.
    Observe,
}

impl Mode {
    /// The name, as policy and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// Defines the reasons: one row a reason, in the order of the way.
macro_rules! reasons {
    ($($name:ident $text:literal $stage:ident $status:literal $fault:ident $message:literal)*) => {
        /// Why a request is refused. The list is closed: metrics, logs, errors and policy tests use
        /// these names and no others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $message] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the way.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, for example `credential-missing`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The stage that refuses for this reason.
            pub fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)* }
            }

            /// The status that is answered.
            pub fn status(self) -> StatusCode {
                let code: u16 = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Whose fault it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// What the caller is told. It holds nothing of the request and nothing of the policy.
            pub fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

reasons! {
    // listen: framing. The message cannot be trusted to end where it says.
    RequestLineMalformed "request-line-malformed" Listen 400 Caller "The request line is not valid HTTP"
    VersionUnsupported "version-unsupported" Listen 505 Caller "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are served"
    HeaderMalformed "header-malformed" Listen 400 Caller "A header is not valid HTTP"
    FramingAmbiguous "framing-ambiguous" Listen 400 Caller "The length of the request is ambiguous"
    LengthMalformed "length-malformed" Listen 400 Caller "Content-Length is not one plain number"
    TransferCodingUnsupported "transfer-coding-unsupported" Listen 400 Caller "The only transfer coding accepted is chunked, on HTTP/1.1"
    ChunkMalformed "chunk-malformed" Listen 400 Caller "The chunked body is malformed"
    TargetTooLong "target-too-long" Listen 414 Caller "The request target is too long"
    HeadTooLarge "head-too-large" Listen 431 Caller "The request's headers are too large or too many"
    HeadTimeout "head-timeout" Listen 408 Caller "The request did not arrive in time"
    PlaintextRefused "plaintext-refused" Listen 400 Caller "This address speaks TLS only"
    // head: meaning of the head.
    MethodUnsupported "method-unsupported" Head 405 Caller "The method is not supported"
    HostMissing "host-missing" Head 400 Caller "Exactly one Host is required"
    HostMalformed "host-malformed" Head 400 Caller "The host is not valid"
    HostMismatch "host-mismatch" Head 421 Caller "The host is not served on this connection"
    TargetMalformed "target-malformed" Head 400 Caller "The request target is not valid"
    PathAmbiguous "path-ambiguous" Head 400 Caller "The path is ambiguous and is not forwarded"
    QueryMalformed "query-malformed" Head 400 Caller "The query is not valid"
    HeaderNameRefused "header-name-refused" Head 400 Caller "A header's name is ambiguous and is not forwarded"
    HeaderRepeated "header-repeated" Head 400 Caller "A header that may stand once was sent more than once"
    ExpectationUnsupported "expectation-unsupported" Head 417 Caller "The only expectation supported is 100-continue"
    UpgradeUnsupported "upgrade-unsupported" Head 400 Caller "The upgrade that was asked for is not supported"
    AddressBanned "address-banned" Head 403 Caller "Requests from this address are refused"
    // route.
    RouteUnknown "route-unknown" Route 404 Caller "There is nothing here"
    MethodNotAllowed "method-not-allowed" Route 405 Caller "The method is not allowed here"
    // authenticate. One body and one cost for every failure of identification.
    CredentialMissing "credential-missing" Authenticate 401 Caller "Invalid or missing API key"
    CredentialMalformed "credential-malformed" Authenticate 401 Caller "Invalid or missing API key"
    CredentialUnknown "credential-unknown" Authenticate 401 Caller "Invalid or missing API key"
    CredentialExpired "credential-expired" Authenticate 401 Caller "Invalid or missing API key"
    CredentialRevoked "credential-revoked" Authenticate 401 Caller "Invalid or missing API key"
    CredentialSuspended "credential-suspended" Authenticate 401 Caller "Invalid or missing API key"
    CredentialNetwork "credential-network" Authenticate 401 Caller "Invalid or missing API key"
    CredentialCanary "credential-canary" Authenticate 401 Caller "Invalid or missing API key"
    CredentialEnvironment "credential-environment" Authenticate 401 Caller "Invalid or missing API key"
    CredentialOwnerMismatch "credential-owner-mismatch" Authenticate 401 Caller "Invalid or missing API key"
    SignatureMissing "signature-missing" Authenticate 401 Caller "Invalid or missing API key"
    SignatureMalformed "signature-malformed" Authenticate 401 Caller "Invalid or missing API key"
    SignatureCoverage "signature-coverage" Authenticate 401 Caller "Invalid or missing API key"
    SignatureKeyUnknown "signature-key-unknown" Authenticate 401 Caller "Invalid or missing API key"
    SignatureAlgorithm "signature-algorithm" Authenticate 401 Caller "Invalid or missing API key"
    SignatureExpired "signature-expired" Authenticate 401 Caller "Invalid or missing API key"
    SignatureFuture "signature-future" Authenticate 401 Caller "Invalid or missing API key"
    SignatureWrong "signature-wrong" Authenticate 401 Caller "Invalid or missing API key"
    SignatureReplayed "signature-replayed" Authenticate 401 Caller "Invalid or missing API key"
    TokenMalformed "token-malformed" Authenticate 401 Caller "Invalid or missing API key"
    TokenAlgorithm "token-algorithm" Authenticate 401 Caller "Invalid or missing API key"
    TokenType "token-type" Authenticate 401 Caller "Invalid or missing API key"
    TokenKeyUnknown "token-key-unknown" Authenticate 401 Caller "Invalid or missing API key"
    TokenWrong "token-wrong" Authenticate 401 Caller "Invalid or missing API key"
    TokenExpired "token-expired" Authenticate 401 Caller "Invalid or missing API key"
    TokenFuture "token-future" Authenticate 401 Caller "Invalid or missing API key"
    TokenIssuer "token-issuer" Authenticate 401 Caller "Invalid or missing API key"
    TokenAudience "token-audience" Authenticate 401 Caller "Invalid or missing API key"
    TokenRevoked "token-revoked" Authenticate 401 Caller "Invalid or missing API key"
    TokenUnbound "token-unbound" Authenticate 401 Caller "Invalid or missing API key"
    ProofMalformed "proof-malformed" Authenticate 401 Caller "Invalid or missing API key"
    ProofWrong "proof-wrong" Authenticate 401 Caller "Invalid or missing API key"
    ProofReplayed "proof-replayed" Authenticate 401 Caller "Invalid or missing API key"
    ProofNonce "proof-nonce" Authenticate 401 Caller "Invalid or missing API key"
    TokenInactive "token-inactive" Authenticate 401 Caller "Invalid or missing API key"
    IntrospectionFailed "introspection-failed" Authenticate 503 Gateway "Tokens cannot be checked at the moment"
    TokenKeysMissing "token-keys-missing" Authenticate 503 Gateway "Tokens cannot be checked at the moment"
    NonceStoreFull "nonce-store-full" Authenticate 503 Gateway "Signed requests cannot be checked at the moment"
    CredentialRepeated "credential-repeated" Authenticate 400 Caller "Exactly one credential of a kind may be sent"
    CredentialInQuery "credential-in-query" Authenticate 400 Caller "A credential must never be sent in a URL"
    CredentialPlaintext "credential-plaintext" Authenticate 400 Caller "A credential must never be sent without TLS"
    FailureBudgetEmpty "failure-budget-empty" Authenticate 429 Caller "Too many failed credentials"
    // authorize.
    ScopeMissing "scope-missing" Authorize 403 Caller "The credential does not allow this"
    RoleMissing "role-missing" Authorize 403 Caller "The credential does not allow this"
    TierMissing "tier-missing" Authorize 403 Caller "The credential does not allow this"
    ClaimMissing "claim-missing" Authorize 403 Caller "The credential does not allow this"
    StepUpRequired "step-up-required" Authorize 401 Caller "Invalid or missing API key"
    NotOwner "not-owner" Authorize 403 Caller "The credential does not allow this"
    NetworkRefused "network-refused" Authorize 403 Caller "The credential does not allow this"
    CertificateMissing "certificate-missing" Authorize 403 Caller "The credential does not allow this"
    TimeRefused "time-refused" Authorize 403 Caller "This is not allowed at this time"
    DoorDenied "door-denied" Authorize 403 Caller "The credential does not allow this"
    // limit.
    AddressBudgetEmpty "address-budget-empty" Limit 429 Caller "Too many requests"
    BudgetEmpty "budget-empty" Limit 429 Caller "Too many requests"
    LimitStoreFull "limit-store-full" Limit 503 Gateway "The request cannot be counted at the moment"
    // inspect.
    BodyTooLarge "body-too-large" Inspect 413 Caller "The body is too large"
    BodyUnexpected "body-unexpected" Inspect 400 Caller "No body is accepted here"
    BodyRequired "body-required" Inspect 400 Caller "A body is required"
    BodyTimeout "body-timeout" Inspect 408 Caller "The body did not arrive in time"
    BodyIncomplete "body-incomplete" Inspect 400 Caller "The body ended early"
    BodyMalformed "body-malformed" Inspect 400 Caller "The body is not valid for its content type"
    BufferFull "buffer-full" Inspect 503 Gateway "The gateway has no room for the body at the moment"
    ContentTypeRefused "content-type-refused" Inspect 415 Caller "The content type is not accepted"
    ContentEncodingRefused "content-encoding-refused" Inspect 415 Caller "The content encoding is not accepted"
    DigestMissing "digest-missing" Inspect 400 Caller "Content-Digest is required"
    DigestUnsupported "digest-unsupported" Inspect 400 Caller "Content-Digest has no supported algorithm"
    DigestMismatch "digest-mismatch" Inspect 400 Caller "The body does not match its Content-Digest"
    JsonMalformed "json-malformed" Inspect 400 Caller "The body is not valid JSON"
    JsonDepth "json-depth" Inspect 400 Caller "The JSON is nested too deeply"
    JsonSize "json-size" Inspect 400 Caller "The JSON has too many members or elements, or too long a text"
    JsonDuplicate "json-duplicate" Inspect 400 Caller "The JSON has a member twice"
    JsonNumber "json-number" Inspect 400 Caller "The JSON has a number that is out of range"
    JsonText "json-text" Inspect 400 Caller "The JSON has text that is not valid"
    FieldUnknown "field-unknown" Inspect 422 Caller "The body has a field that is not accepted"
    SchemaMismatch "schema-mismatch" Inspect 422 Caller "The body does not have the form that is expected"
    QueryRefused "query-refused" Inspect 400 Caller "A query parameter is not accepted"
    HeaderRefused "header-refused" Inspect 400 Caller "A header is not accepted"
    Sql "sql" Inspect 400 Caller "The request was refused by an input filter"
    Nosql "nosql" Inspect 400 Caller "The request was refused by an input filter"
    Command "command" Inspect 400 Caller "The request was refused by an input filter"
    PathTraversal "path-traversal" Inspect 400 Caller "The request was refused by an input filter"
    Template "template" Inspect 400 Caller "The request was refused by an input filter"
    Script "script" Inspect 400 Caller "The request was refused by an input filter"
    EncodingLayers "encoding-layers" Inspect 400 Caller "The request was refused by an input filter"
    FieldComplex "field-complex" Inspect 400 Caller "The request was refused by an input filter"
    // forward.
    UpstreamUnreachable "upstream-unreachable" Forward 502 Upstream "The service could not be reached"
    UpstreamUnhealthy "upstream-unhealthy" Forward 503 Upstream "The service is not available at the moment"
    UpstreamBusy "upstream-busy" Forward 503 Upstream "The service is busy"
    UpstreamBroken "upstream-broken" Forward 502 Upstream "The service gave no valid answer"
    UpstreamCredentialMissing "upstream-credential-missing" Forward 503 Gateway "The service is not available at the moment"
    UpstreamTimeout "upstream-timeout" Forward 504 Upstream "The service did not answer in time"
    KeyCallRefused "key-call-refused" Forward 422 Caller "The call is not valid"
    KeyCallerRefused "key-caller-refused" Forward 403 Caller "The credential cannot manage keys so"
    KeyBeyond "key-beyond" Forward 403 Caller "The key would give more than the credential that asks for it"
    KeyUnknown "key-unknown" Forward 404 Caller "There is no such key"
    KeyUnfit "key-unfit" Forward 409 Caller "The key no longer holds, or already has a successor"
    KeysTooMany "keys-too-many" Forward 409 Caller "There are as many keys as there may be"
    KeysUnavailable "keys-unavailable" Forward 503 Gateway "Keys cannot be managed at the moment"
    // record: the gateway itself.
    ClientLeft "client-left" Record 499 Caller "The caller left before the answer"
    GatewayFault "gateway-fault" Record 500 Gateway "Something went wrong"
}

impl Reason {
    /// The public `code` of the error shape. It follows from the status alone, as the contract of
    /// the task API has it.
    pub fn code(self) -> &'static str {
        match self.status().as_u16() {
            400 | 417 => "invalid_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            405 => "method_not_allowed",
            408 => "request_timeout",
            409 => "conflict",
            410 => "gone",
            411 => "length_required",
            413 => "payload_too_large",
            414 => "uri_too_long",
            415 => "unsupported_media_type",
            421 => "misdirected_request",
            422 => "validation_error",
            429 => "rate_limit_exceeded",
            431 => "headers_too_large",
            499 => "client_left",
            502 => "bad_gateway",
            503 => "service_unavailable",
            504 => "gateway_timeout",
            505 => "version_not_supported",
            _ => "server_error",
        }
    }

    /// The reason with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

/// A *no* to a request: one reason, the rule that said it, and what only the record may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The rule of the policy that refused, when it was a rule.
    pub rule: Option<Origin>,
    /// What the record and `explain` say beside the reason. Never sent to a caller, and never
    /// built from a caller's bytes without being shortened and cleaned.
    pub private: Cow<'static, str>,
    /// What the caller is told beside the reason.
    pub extra: Extra,
    /// A text that holds a credential and stood where others can read it, for those who can tell
    /// whose it is. They take it away; it never gets to the record.
    pub exposed: Option<Box<Secret>>,
}

impl Refusal {
    /// A refusal for this reason.
    pub fn new(reason: Reason) -> Self {
        Self { reason, rule: None, private: Cow::Borrowed(""), extra: Extra::None, exposed: None }
    }

    /// Adds the rule that refused.
    #[must_use]
    pub fn by(mut self, rule: &Origin) -> Self {
        self.rule = Some(rule.clone());
        self
    }

    /// Adds what only the record may know.
    #[must_use]
    pub fn because(mut self, private: impl Into<Cow<'static, str>>) -> Self {
        self.private = private.into();
        self
    }

    /// Adds the text that was exposed.
    #[must_use]
    pub fn exposing(mut self, text: &str) -> Self {
        self.exposed = Some(Box::new(Secret::new(text.as_bytes().to_vec())));
        self
    }

    /// Adds what the caller is told beside the reason.
    #[must_use]
    pub fn with(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

#[cfg(test)]
mod tests;
