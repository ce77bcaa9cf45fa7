//! Explains a decision: what every stage said of one request, and by which line of the policy.

use serde::Serialize;

use crate::authorize::verdict::DoorVerdict;
use crate::forward::destination::Destination;
use crate::head;
use crate::limit::BudgetVerdict;
use crate::policy::case::Case;
use crate::policy::route::Route;
use crate::refusal::{Reason, Stage};
use crate::rehearse::caller::Caller;
use crate::rehearse::decision::Decision;
use crate::rehearse::{Rehearsal, peer};
use crate::units::Span;

/// The stages that are explained; the others have nothing to decide about one request.
const STAGES: [Stage; 7] = [
    Stage::Head,
    Stage::Route,
    Stage::Authenticate,
    Stage::Authorize,
    Stage::Limit,
    Stage::Inspect,
    Stage::Forward,
];

/// The reasons of attack filters, which an exception can allow on purpose.
const FILTERED: [Reason; 7] = [
    Reason::Sql,
    Reason::Nosql,
    Reason::Command,
    Reason::PathTraversal,
    Reason::Template,
    Reason::Script,
    Reason::EncodingLayers,
];

/// What became of one request, stage by stage.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// `allow` or `refuse`.
    pub decision: &'static str,
    /// The status that is answered.
    pub status: u16,
    /// Why it is refused.
    pub reason: Option<String>,
    /// The route that holds.
    pub route: Option<String>,
    /// Every stage that decides, in the order of the way.
    pub stages: Vec<StageSays>,
    /// What rules that only watch would have refused.
    pub observed: Vec<String>,
    /// How to allow it on purpose, where a filter refused it.
    pub hint: Option<String>,
}

/// What one stage says.
#[derive(Clone, Debug, Serialize)]
pub struct StageSays {
    /// The stage.
    pub stage: &'static str,
    /// `pass`, `refuse`, or `none` when the request did not get there.
    pub verdict: &'static str,
    /// What it says in a few words.
    pub says: String,
    /// The rule's address.
    pub rule: Option<String>,
    /// File and line of the rule.
    pub place: Option<String>,
    /// More, a line each.
    pub lines: Vec<String>,
}

impl Explanation {
    /// What the record alone can say.
    pub fn of(decision: &Decision) -> Self {
        let refused = decision.reason.as_deref().filter(|_| !decision.is_allowed());
        Self {
            decision: if decision.is_allowed() { "allow" } else { "refuse" },
            status: decision.status,
            reason: refused.map(str::to_owned),
            route: decision.is_routed().then(|| decision.route.clone()),
            stages: STAGES.iter().map(|stage| StageSays::of(*stage, decision)).collect(),
            observed: decision
                .observed
                .iter()
                .map(|seen| {
                    let rule = seen.rule.as_ref();
                    let rule = rule
                        .map_or(String::new(), |rule| format!("   {}   {}", rule.rule, rule.place));
                    format!("{}{rule}   {}", seen.reason, seen.detail)
                })
                .collect(),
            hint: refused
                .and_then(Reason::by_name)
                .and_then(|reason| hint(reason, &decision.detail)),
        }
    }

    /// Whether the request is let through.
    pub fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }

    fn stage(&mut self, stage: Stage) -> Option<&mut StageSays> {
        self.stages.iter_mut().find(|says| says.stage == stage.name())
    }
}

impl StageSays {
    fn of(stage: Stage, decision: &Decision) -> Self {
        let passed = decision.passed(stage);
        let refused = decision.stage.as_deref() == Some(stage.name());
        let rule = if refused {
            decision.rule.as_ref()
        } else {
            passed.and_then(|passed| passed.rule.as_ref())
        };
        let verdict = match passed.map(|passed| passed.verdict.as_str()) {
            _ if refused => "refuse",
            Some("pass") => "pass",
            _ => "none",
        };
        let says = match (verdict, stage) {
            ("refuse", _) => decision.reason.clone().unwrap_or_default(),
            ("none", _) => String::new(),
            (_, Stage::Head) => format!("{} {}", decision.method, decision.path),
            (_, Stage::Route) => decision.route.clone(),
            (_, Stage::Authenticate) => match &decision.subject {
                Some(subject) => format!("{}, {subject}", decision.scheme),
                None => "anonymous".to_owned(),
            },
            (_, Stage::Forward) => format!("answered {}", decision.status),
            (_, _) => rule.map(|rule| rule.rule.clone()).unwrap_or_default(),
        };
        let lines = if refused && !decision.detail.is_empty() {
            vec![decision.detail.clone()]
        } else {
            Vec::new()
        };
        Self {
            stage: stage.name(),
            verdict,
            says,
            rule: rule.map(|rule| rule.rule.clone()),
            place: rule.map(|rule| rule.place.clone()),
            lines,
        }
    }
}

impl Rehearsal {
    /// Sends the request of `case` and says what every stage thinks of it, the budgets as they
    /// stand before the request.
    ///
    /// # Errors
    /// A sentence when the request cannot be made, for example because of the caller's facts.
    pub fn explain(&self, case: &Case) -> Result<Explanation, String> {
        let happened = self.send(case)?;
        let mut explanation = Explanation::of(&happened.decision);
        explanation.status = happened.status.as_u16();
        let Some(route) = self
            .policy()
            .routes()
            .iter()
            .find(|route| explanation.route.as_deref() == Some(&*route.name))
        else {
            return Ok(explanation);
        };
        let (now, peer) = (self.clock(case).now(), peer(case));
        let caller = Caller::new(case.caller.as_ref(), (self.policy(), self.directory()), now)?;
        let raw = caller.raw(&case.request, self.policy(), &peer, now)?;
        let Ok(head) = head::read(raw, &peer, &peer.trusted, now) else { return Ok(explanation) };
        let Some((_, parameters)) = self.policy().route_of(&head) else { return Ok(explanation) };
        // A request of its own, with a nonce of its own, so that asking again spends nothing twice.
        if let Ok(principal) = route.authenticate.who(&head, now) {
            self.forget_budgets();
            let doors = route.doors.explain(&principal, &head, &parameters, now);
            explanation.add(Stage::Authorize, door_lines(&doors));
            let budgets = route.budgets.explain(&principal, &head, now);
            explanation.add(Stage::Limit, budgets.iter().map(budget_line).collect());
        }
        explanation.describe(route);
        Ok(explanation)
    }
}

impl Explanation {
    /// Puts lines in the place of those that the record had.
    fn add(&mut self, stage: Stage, lines: Vec<String>) {
        if let Some(says) = self.stage(stage).filter(|says| says.verdict != "none")
            && !lines.is_empty()
        {
            says.lines = lines;
        }
    }

    /// Adds what the policy asks at stages that the request came to.
    fn describe(&mut self, route: &Route) {
        let forward = match &route.destination {
            Destination::Upstream(upstream) => format!("upstream {}", upstream.name()),
            Destination::Keys(service) => format!("self-service: {}", service.describe()),
        };
        let asks = [
            (Stage::Route, route.pattern.text().to_owned()),
            (Stage::Authenticate, format!("asks for {}", route.authenticate.describe())),
            (Stage::Inspect, route.filters.describe()),
            (Stage::Forward, forward),
        ];
        for (stage, text) in asks {
            if let Some(says) = self.stage(stage).filter(|says| says.verdict != "none") {
                says.lines.insert(0, text);
            }
        }
    }
}

fn door_lines(verdicts: &[DoorVerdict]) -> Vec<String> {
    // Each kind is numbered on its own, as in the policy; those that deny stand first.
    let denies = verdicts.iter().filter(|verdict| verdict.denies).count();
    let number = |index: usize| index.checked_sub(denies).unwrap_or(index);
    let verdicts = verdicts.iter().enumerate();
    verdicts.flat_map(|(index, verdict)| one_door(number(index), verdict)).collect()
}

fn one_door(number: usize, verdict: &DoorVerdict) -> Vec<String> {
    let DoorVerdict { door, opens, denies, observed, conditions } = verdict;
    let (kind, word) = match (denies, opens) {
        (false, true) => ("door", "opens"),
        (false, false) => ("door", "stays shut"),
        (true, true) => ("deny", "refuses, whatever the doors say"),
        (true, false) => ("deny", "does not fit"),
    };
    let watched = if *observed { ", but is only watched" } else { "" };
    let place = format!("{}:{}", door.path(), door.line());
    let mut lines = vec![format!("{kind} {number} {word}{watched}   {place}")];
    if conditions.is_empty() {
        lines.push("  open to everybody who is authenticated".to_owned());
    }
    lines.extend(conditions.iter().map(|condition| {
        let answer =
            if condition.holds { "yes".to_owned() } else { format!("no: {}", condition.because) };
        format!("  {:<7} {}   {answer}", condition.key, condition.asks)
    }));
    lines
}

fn budget_line(verdict: &BudgetVerdict) -> String {
    let BudgetVerdict { limit, fits, spent, mode } = verdict;
    let fits = if *fits { "fits" } else { "does not fit" };
    let window = Span(std::time::Duration::from_secs(spent.window));
    format!(
        "{}   {} of {} left, {} in {window}, {fits} ({})   {}:{}",
        limit.rule(),
        spent.remaining,
        spent.limit,
        spent.limit,
        mode.name(),
        limit.path(),
        limit.line()
    )
}

/// `except = [{ field = "query.status", detect = ["sql"], why = "…" }]`
fn hint(reason: Reason, detail: &str) -> Option<String> {
    if !FILTERED.contains(&reason) || reason.stage() != Stage::Inspect {
        return None;
    }
    let (field, _) = detail.split_once(": ")?;
    // A TOML text in the quotes that it does not hold itself.
    let quote = ['"', '\''].into_iter().find(|quote| !field.contains([*quote, '\\']))?;
    Some(format!(
        "except = [{{ field = {quote}{field}{quote}, detect = [\"{}\"], why = \"…\" }}]",
        reason.name()
    ))
}
