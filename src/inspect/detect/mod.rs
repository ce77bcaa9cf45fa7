//! Detects attacks in single decoded fields: SQL, NoSQL, commands, path traversal, templates, scripts.

mod text;
mod marks;
mod words;
mod finding;
mod decode;
mod sql;
mod nosql;
mod command;
mod traversal;
mod template;
mod script;
mod work;
pub mod rule;

use std::cell::RefCell;

use crate::inspect::detect::decode::{Peeled, is_layered, peel, without_comments};
use crate::inspect::detect::finding::Finding;
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::rule::Exception;
use crate::inspect::detect::work::Work;
use crate::inspect::field::{Examine, Objection, Place, PlaceKind};
use crate::mistake::source::Origin;
use crate::refusal::Reason;

/// One kind of attack: one file, and one row in [`KINDS`].
pub(in crate::inspect::detect) struct Kind {
    /// The name that policies write.
    name: &'static str,
    /// Why a request is refused.
    reason: Reason,
    /// Makes its detector.
    make: fn() -> Box<dyn Detector>,
}

/// The kinds, in the order in which they are asked.
pub(in crate::inspect::detect) const KINDS: [Kind; 6] = [
    Kind { name: "sql", reason: Reason::Sql, make: || Box::new(sql::Sql) },
    Kind { name: "nosql", reason: Reason::Nosql, make: || Box::new(nosql::Nosql) },
    Kind { name: "command", reason: Reason::Command, make: || Box::new(command::Command) },
    Kind {
        name: "path-traversal",
        reason: Reason::PathTraversal,
        make: || Box::new(traversal::Traversal),
    },
    Kind { name: "template", reason: Reason::Template, make: || Box::new(template::Template) },
    Kind { name: "script", reason: Reason::Script, make: || Box::new(script::Script) },
];

/// Looks for one kind of attack. Work is linear in the length of the view.
pub(in crate::inspect::detect) trait Detector: Send + Sync {
    /// Whether a text with these marks could hold anything of this kind.
    fn wants(&self, marks: Marks) -> bool;

    /// The strongest sign of this kind.
    fn weigh(&self, view: &View<'_>) -> Finding;
}

/// One way to read a field: as it came, or with layers of encoding taken off.
pub(in crate::inspect::detect) struct View<'t> {
    /// The text, ASCII letters in lower case. Not always UTF-8 once it was decoded.
    pub(in crate::inspect::detect) text: &'t [u8],
    /// What its bytes promise.
    pub(in crate::inspect::detect) marks: Marks,
    /// Where the field stands.
    pub(in crate::inspect::detect) kind: PlaceKind,
    /// How many layers were taken off.
    pub(in crate::inspect::detect) layers: u8,
    /// What looking at it may still cost.
    pub(in crate::inspect::detect) work: &'t Work,
}

/// An attack filter, as policies name it under `[filters.NAME]`. Made by
/// [`FilterRule`](crate::inspect::detect::rule::FilterRule) alone.
pub struct Filter {
    pub(in crate::inspect::detect) origin: Origin,
    pub(in crate::inspect::detect) places: Box<[PlaceKind]>,
    pub(in crate::inspect::detect) detectors: Box<[(Kind, Box<dyn Detector>)]>,
    pub(in crate::inspect::detect) exceptions: Box<[Exception]>,
    /// Layers of encoding that are taken off.
    pub(in crate::inspect::detect) decode: u8,
    /// Findings from this score on are objections.
    pub(in crate::inspect::detect) threshold: u8,
    pub(in crate::inspect::detect) observe: bool,
}

/// Bytes examined at once. Longer fields are examined in windows that overlap.
const WINDOW_BYTES: usize = 64 << 10;
/// Bytes that two windows share; no attack needs more to be recognised.
const OVERLAP_BYTES: usize = 4 << 10;
/// Characters of the field that a record may show.
const EXCERPT_CHARS_MAX: usize = 60;

/// Room for the views of a field, kept by each thread. None grows far beyond a window.
#[derive(Default)]
struct Scratch {
    current: Vec<u8>,
    decoded: Vec<u8>,
    next: Vec<u8>,
    lower: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Examine for Filter {
    fn looks_in(&self, kind: PlaceKind) -> bool {
        self.places.contains(&kind)
    }

    fn examine(&self, place: &Place<'_>, text: &str) -> Option<Objection> {
        if !self.looks_in(place.kind) {
            return None;
        }
        let bytes = text.as_bytes();
        let (mut from, work) = (0, Work::of(bytes.len()));
        loop {
            let end = bytes.len().min(from + WINDOW_BYTES);
            let window = bytes.get(from..end).unwrap_or_default();
            if let Some(objection) = self.examine_window(place, window, &work) {
                return Some(objection);
            }
            if end == bytes.len() {
                return None;
            }
            from = end - OVERLAP_BYTES;
        }
    }
}

impl Filter {
    /// The rule's address and place.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn examine_window(&self, place: &Place<'_>, text: &[u8], work: &Work) -> Option<Objection> {
        let marks = Marks::of(text);
        let layered = is_layered(marks, text);
        if !layered && !marks.all(Marks::SLASH | Marks::STAR) && !self.wants(marks) {
            return None;
        }
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.examine_views(place, text, marks, (&mut scratch, work)),
            // A name that is displayed never examines a field itself; were it to, it pays.
            Err(_) => self.examine_views(place, text, marks, (&mut Scratch::default(), work)),
        })
    }

    fn wants(&self, marks: Marks) -> bool {
        self.detectors.iter().any(|(_, detector)| detector.wants(marks))
    }

    fn examine_views(
        &self,
        place: &Place<'_>,
        text: &[u8],
        marks: Marks,
        (scratch, work): (&mut Scratch, &Work),
    ) -> Option<Objection> {
        let Scratch { current, decoded, next, lower } = scratch;
        current.clear();
        current.extend_from_slice(text);
        let mut marks = marks;
        let mut percents = 0;
        for layer in 0..=self.decode.saturating_add(1) {
            if layer <= self.decode
                && let Some(objection) =
                    self.examine_view(place, current, marks, (layer, lower, work))
            {
                return Some(objection);
            }
            if layer <= self.decode
                && marks.all(Marks::SLASH | Marks::STAR)
                && without_comments(current, next)
            {
                let marks = Marks::of(next);
                if let Some(objection) = self.examine_view(place, next, marks, (layer, lower, work))
                {
                    return Some(objection);
                }
            }
            if !is_layered(marks, current) {
                return None;
            }
            let Peeled { changed, percent } = peel(current, decoded, next);
            percents += u8::from(percent);
            if !changed {
                return None;
            }
            std::mem::swap(current, next);
            marks = Marks::of(current);
        }
        let too_many = percents > self.decode.saturating_add(1);
        (too_many && !self.is_excepted(place, Reason::EncodingLayers)).then(|| {
            let detail = format!("percent-encoded more than {} times", percents - 1);
            self.objection(Reason::EncodingLayers, detail)
        })
    }

    fn examine_view(
        &self,
        place: &Place<'_>,
        text: &[u8],
        marks: Marks,
        (layers, lower, work): (u8, &mut Vec<u8>, &Work),
    ) -> Option<Objection> {
        if !self.wants(marks) {
            return None;
        }
        lower.clear();
        lower.extend(text.iter().map(u8::to_ascii_lowercase));
        let view = View { text: lower, marks, kind: place.kind, layers, work };
        for (kind, detector) in &self.detectors {
            if !detector.wants(marks) {
                continue;
            }
            let finding = detector.weigh(&view);
            // What could not be looked at to its end is refused, however little was found in it.
            let found = finding.score >= self.threshold;
            if (found || finding.unfinished) && !self.is_excepted(place, kind.reason) {
                let reason = if found { kind.reason } else { Reason::FieldComplex };
                return Some(self.objection(reason, detail(kind, &view, finding)));
            }
        }
        None
    }

    fn is_excepted(&self, place: &Place<'_>, reason: Reason) -> bool {
        self.exceptions.iter().any(|exception| exception.covers(place, reason))
    }

    fn objection(&self, reason: Reason, detail: String) -> Objection {
        Objection {
            reason,
            origin: self.origin.clone(),
            detail: detail.into_boxed_str(),
            observe: self.observe,
        }
    }
}

/// What the record says: kind, view, structure, and a short excerpt without controls.
fn detail(kind: &Kind, view: &View<'_>, finding: Finding) -> String {
    let tail = view.text.get(finding.place..).unwrap_or_default();
    let shown = tail.get(..tail.len().min(EXCERPT_CHARS_MAX * 4)).unwrap_or_default();
    let excerpt: String = String::from_utf8_lossy(shown)
        .chars()
        .take(EXCERPT_CHARS_MAX)
        .map(|character| if character.is_control() { '\u{b7}' } else { character })
        .collect();
    let decoded = match view.layers {
        0 => "as sent".to_owned(),
        1 => "decoded once".to_owned(),
        times => format!("decoded {times} times"),
    };
    format!("{}, {decoded}: {} at `{excerpt}`", kind.name, finding.what)
}

#[cfg(test)]
mod tests;
