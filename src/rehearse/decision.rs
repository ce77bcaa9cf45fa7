//! A decision as the record tells it: of a rehearsed request here, or of one at a running gateway.

use serde::Deserialize;

use crate::refusal::Stage;

/// What the record says of one request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// When, in RFC 3339.
    pub time: String,
    /// The request's name.
    pub id: String,
    /// The caller's address.
    pub client: String,
    /// The method.
    pub method: String,
    /// The canonical path; empty when the bytes were no request.
    pub path: String,
    /// Names of the query's parameters.
    pub query: Vec<String>,
    /// The route, or `unmatched`.
    pub route: String,
    /// Who called.
    pub subject: Option<String>,
    /// How the caller was proved.
    pub scheme: String,
    /// `allow` or `refuse`.
    pub decision: String,
    /// The stage that refused.
    pub stage: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The rule that refused.
    pub rule: Option<RuleAt>,
    /// What only the record may know.
    pub detail: String,
    /// The status that was answered.
    pub status: u16,
    /// What rules that only watch would have refused.
    pub observed: Vec<Objected>,
    /// Every stage, in the order of the way.
    pub stages: Vec<Passed>,
    /// The upstream's target.
    pub upstream: Option<String>,
    /// The policy's hash.
    pub policy: String,
}

/// What a rule that only watches would have refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Objected {
    /// Why.
    pub reason: String,
    /// The rule.
    pub rule: Option<RuleAt>,
    /// What only the record may know.
    pub detail: String,
}

/// A stage of one request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Passed {
    /// The stage.
    pub stage: String,
    /// `pass`, `refuse` or `none`.
    pub verdict: String,
    /// The rule by which it was passed.
    pub rule: Option<RuleAt>,
}

/// A rule and where it stands, read from `limits.write, policies/policy.toml:39`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct RuleAt {
    /// The rule's address.
    pub rule: String,
    /// File and line.
    pub place: String,
}

impl From<String> for RuleAt {
    fn from(text: String) -> Self {
        // Addresses of rules hold no comma; paths may.
        let (rule, place) = text.split_once(", ").unwrap_or((&text, ""));
        Self { rule: rule.to_owned(), place: place.to_owned() }
    }
}

impl Decision {
    /// Reads what the record wrote.
    ///
    /// # Errors
    /// When it is no decision, as only another version's record can be.
    pub fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("the record cannot be read: {error}"))
    }

    /// Whether the request was let through.
    pub fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }

    /// The rule that decided: the one that refused, or the door that let the request in.
    pub fn rule(&self) -> Option<&RuleAt> {
        if self.is_allowed() {
            return self.passed(Stage::Authorize).and_then(|passed| passed.rule.as_ref());
        }
        self.rule.as_ref()
    }

    /// What became of the request at a stage.
    pub fn passed(&self, stage: Stage) -> Option<&Passed> {
        self.stages.iter().find(|passed| passed.stage == stage.name())
    }

    /// Whether a route was found.
    pub fn is_routed(&self) -> bool {
        self.passed(Stage::Route).is_some_and(|passed| passed.verdict == "pass")
    }
}
