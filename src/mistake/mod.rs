//! What is wrong in an operator's file: file, line, column, a sentence, and help.

pub mod code;
pub mod keys;
pub mod read;
pub mod source;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use crate::mistake::code::Code;
use crate::mistake::source::{Origin, Place, Source};

/// One thing that is wrong, or weak, in a file that an operator wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Which kind of mistake; `portcullis check --explain CODE` tells more.
    pub code: Code,
    /// What is so, in one sentence without a full stop.
    pub says: String,
    /// Where, when it stands in a file at all.
    pub place: Option<Place>,
    /// A few words at the place itself; may be empty.
    pub label: String,
    /// Other places that belong to it, each with a few words.
    pub also: Vec<(Place, String)>,
    /// What would be right.
    pub help: Option<String>,
}

impl Mistake {
    /// A mistake of this kind, with a sentence that says what is so.
    pub fn new(code: Code, says: impl Into<String>) -> Self {
        Self {
            code,
            says: says.into(),
            place: None,
            label: String::new(),
            also: Vec::new(),
            help: None,
        }
    }

    /// Adds the place where it stands.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Adds a few words that are shown under the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds another place that belongs to the mistake.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also.push((place, label.into()));
        self
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether this is advice only, which stops nothing.
    pub fn is_advice(&self) -> bool {
        self.code.is_advice()
    }

    /// The mistake as a terminal shows it: sentence, place, excerpt, help.
    pub fn render(&self, coloured: bool) -> String {
        let level = if self.is_advice() { Level::WARNING } else { Level::ERROR };
        let main = self.place.iter().map(|place| {
            let also = self.also.iter().filter(|(also, _)| also.is_beside(place));
            let also: Vec<_> = also.map(|(place, label)| (place, label.as_str())).collect();
            self.snippet(place, (AnnotationKind::Primary, &self.label), &also)
        });
        let title = level.primary_title(self.says.as_str()).id(self.code.number());
        let mut group = title.elements(main);
        let elsewhere = |also: &&(Place, String)| {
            self.place.as_ref().is_none_or(|place| !also.0.is_beside(place))
        };
        for (also, label) in self.also.iter().filter(elsewhere) {
            group = group.element(self.snippet(also, (AnnotationKind::Context, label), &[]));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The lines that a place and others in the same file stand on. Only these are handed to the
    /// renderer, which reads all of its text for each mistake.
    ///
    /// A secret that stands there is not shown: what a terminal shows ends in logs and in tickets.
    fn snippet<'p>(
        &self,
        place: &'p Place,
        (kind, label): (AnnotationKind, &'p str),
        also: &[(&'p Place, &'p str)],
    ) -> Snippet<'p, Annotation<'p>> {
        let spans = || also.iter().map(|(also, _)| &also.span).chain([&place.span]);
        let start = spans().map(|span| span.start).min().unwrap_or_default();
        let end = spans().map(|span| span.end).max().unwrap_or_default();
        let (lines, number) = place.source.lines(&(start..end));
        let text = place.source.text.get(lines.clone()).unwrap_or_default();
        let place_in = |at: usize| at.saturating_sub(lines.start).min(text.len());
        let within = |span: &Range<usize>| place_in(span.start)..place_in(span.end);
        let own = within(&place.span);
        let shown =
            match (self.code, text.get(..own.start), text.get(own.clone()), text.get(own.end..)) {
                (Code::InlineSecret, Some(before), Some(secret), Some(after)) => {
                    Cow::Owned([before, &"*".repeat(secret.len()), after].concat())
                }
                _ => Cow::Borrowed(text),
            };
        let mark = |kind: AnnotationKind, span: &Range<usize>, label: &'p str| {
            kind.span(within(span)).label((!label.is_empty()).then_some(label))
        };
        let mut snippet = Snippet::source(shown)
            .line_start(usize::try_from(number).unwrap_or(1))
            .path(place.source.path.as_str())
            .fold(true)
            .annotation(mark(kind, &place.span, label));
        for (also, label) in also {
            snippet = snippet.annotation(mark(AnnotationKind::Context, &also.span, label));
        }
        snippet
    }
}

/// All that was found wrong while reading. Nothing stops at the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
    /// Names that are defined by something with mistakes of its own, such as `limits.write`.
    broken: BTreeSet<String>,
}

impl Mistakes {
    /// Adds one.
    pub fn push(&mut self, mistake: Mistake) {
        self.list.push(mistake);
    }

    /// Adds all of another list.
    pub fn extend(&mut self, others: Self) {
        self.list.extend(others.list);
        self.broken.extend(others.broken);
    }

    /// All of them, in the order of files and lines.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }

    /// Whether there is one that must be mended before anything is loaded.
    pub fn any_error(&self) -> bool {
        self.list.iter().any(|mistake| !mistake.is_advice())
    }

    /// How many errors and how many pieces of advice there are.
    pub fn count(&self) -> (usize, usize) {
        let advice = self.list.iter().filter(|mistake| mistake.is_advice()).count();
        (self.list.len() - advice, advice)
    }

    /// Puts them into the order of files and lines, and drops repetitions.
    pub fn sort(&mut self) {
        let key = |mistake: &Mistake| {
            mistake.place.as_ref().map(|place| (place.source.path.clone(), place.span.start))
        };
        self.list.sort_by_key(|mistake| (key(mistake), mistake.code.number()));
        self.list.dedup();
    }

    /// Keeps in mind that `name` is defined, by something with mistakes of its own. Whoever uses
    /// the name did nothing wrong.
    pub fn broke(&mut self, name: impl Into<String>) {
        self.broken.insert(name.into());
    }

    /// Whether `name` is defined by something with mistakes of its own.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// Whether the text of a file is not TOML, so that what was read of it means little.
    pub fn any_syntax_in(&self, source: &Source) -> bool {
        self.list.iter().filter(|mistake| mistake.code == Code::Syntax).any(|mistake| {
            mistake.place.as_ref().is_some_and(|place| place.source.path == source.path)
        })
    }

    /// How many there are, in words: `1 error, 2 warnings`.
    pub fn tally(&self) -> String {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let (errors, advice) = self.count();
        format!("{}, {}", counted(errors, "error"), counted(advice, "warning"))
    }
}

/// A file that is being compiled, and the list that collects what is wrong in it.
pub struct Reading<'a> {
    /// The file whose byte offsets the rules carry.
    pub source: &'a Arc<Source>,
    /// What was found so far, in this file and others.
    pub mistakes: &'a mut Mistakes,
}

impl Reading<'_> {
    /// Reports a mistake at a byte range of this file.
    pub fn wrong(
        &mut self,
        code: Code,
        span: &Range<usize>,
        says: impl Into<String>,
        help: impl Into<String>,
    ) {
        let mistake = Mistake::new(code, says).at(self.source.place(span.clone())).help(help);
        self.mistakes.push(mistake);
    }

    /// The rule with this address, standing at a byte range of this file.
    pub fn origin(&self, rule: impl Into<String>, span: &Range<usize>) -> Origin {
        Origin::new(rule, &self.source.place(span.clone()))
    }
}

/// The word of `known` that `written` was probably meant to be.
pub fn meant<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let begins =
        |word: &str| word.len() >= 3 && (written.starts_with(word) || word.starts_with(written));
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(written, word), word))
        .filter(|(distance, word)| {
            let close = *distance <= 1 + word.len() / 4 && *distance < word.len();
            close || (written.len() >= 3 && begins(word))
        })
        .min()
        .map(|(_, word)| word)
}

/// A sentence for `help`: the word that was meant, or all that are known.
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(word) = meant(written, known.clone()) {
        return format!("did you mean `{word}`?");
    }
    let mut words: Vec<&str> = known.into_iter().collect();
    words.sort_unstable();
    if words.is_empty() {
        return "none is defined yet".to_owned();
    }
    format!("known are: {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_shows_its_place_and_its_help() {
        let source = Source::new("policies/tasks.toml", "[routes.a]\nlimts = []\n");
        let mistake = Mistake::new(Code::UnknownKey, "unknown key `limts` in a route")
            .at(source.place(11..16))
            .label("not a key of a route")
            .help(suggest("limts", ["limits", "match"]));
        let shown = mistake.render(false);
        assert!(shown.contains("error[P0102]: unknown key `limts` in a route"), "{shown}");
        assert!(shown.contains("policies/tasks.toml:2:1"), "{shown}");
        assert!(shown.contains("did you mean `limits`?"), "{shown}");
    }

    #[test]
    fn an_excerpt_shows_its_own_lines_wherever_it_lies() {
        let source = Source::new("p.toml", "one = 1\ntwo = [\n  2,\n]\nthree = 3");
        let shown = |span: Range<usize>, also: Option<Range<usize>>| {
            let mut mistake = Mistake::new(Code::UnknownKey, "odd").at(source.place(span));
            if let Some(also) = also {
                mistake = mistake.also(source.place(also), "first here");
            }
            mistake.render(false)
        };
        for (span, line, text) in [
            (0..3, "p.toml:1:1", "1 | one = 1"),
            (8..11, "p.toml:2:1", "2 | two = ["),
            (14..22, "p.toml:2:7", "3 | |   2,"),
            (23..28, "p.toml:5:1", "5 | three = 3"),
            // Where the file ends, and one byte beyond.
            (32..32, "p.toml:5:10", "5 | three = 3"),
            (33..34, "p.toml:5:10", "5 | three = 3"),
        ] {
            let shown = shown(span, None);
            assert!(shown.contains(line) && shown.contains(text), "{shown}");
        }
        let both = shown(23..28, Some(0..3));
        assert!(both.contains("1 | one = 1") && both.contains("5 | three = 3"), "{both}");
        assert!(both.contains("first here") && both.contains("p.toml:5:1"), "{both}");
    }

    #[test]
    fn a_secret_in_a_file_is_not_repeated_in_the_excerpt() {
        let source = Source::new("gateway.toml", "pepper = \"hunter2\"\nnext = 1\n");
        let mistake = Mistake::new(Code::InlineSecret, "a secret").at(source.place(9..18));
        let shown = mistake.render(false);
        assert!(!shown.contains("hunter2") && shown.contains("pepper = *********"), "{shown}");
    }

    #[test]
    fn beginnings_are_suggested() {
        assert_eq!(meant("directory", ["dir", "watch"]), Some("dir"));
        assert_eq!(meant("wor", ["workers"]), Some("workers"));
        assert_eq!(meant("to", ["tokens"]), None);
    }

    #[test]
    fn far_words_are_not_suggested() {
        assert_eq!(meant("frobnicate", ["limits", "match"]), None);
        assert_eq!(suggest("frobnicate", ["match", "limits"]), "known are: limits, match");
    }
}
