//! Script injection: markup and code that a browser would run if the field were shown in a page.

mod code;
mod tag;

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::script::tag::{Attribute, Tag, attributes, tag};
use crate::inspect::detect::text::{at, find, holds_any, is_word, part};
use crate::inspect::detect::{Detector, View};

/// Finds elements, handlers, addresses and code that run scripts.
pub(in crate::inspect::detect) struct Script;

impl Detector for Script {
    fn wants(&self, marks: Marks) -> bool {
        let signs = Marks::PAREN
            | Marks::TICK
            | Marks::COLON
            | Marks::EQUALS
            | Marks::BRACKET
            | Marks::QUOTE;
        marks.any(Marks::LESS)
            || marks.any(Marks::SCRIPT_WORD) && marks.any(signs)
            || marks.any(Marks::EQUALS) && marks.any(Marks::QUOTE | Marks::PAREN | Marks::TICK)
            || marks.all(Marks::PAREN | Marks::BRACKET)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        let mut finding = Finding::default();
        markup(view.text, &mut finding);
        code::addresses(view.text, &mut finding);
        code::handlers(view.text, &mut finding);
        if view.marks.any(Marks::SCRIPT_WORD) {
            code::calls(view.text, &mut finding);
        }
        code::symbols(view.text, &mut finding);
        finding
    }
}

/// Every `<` that begins a tag for a browser. `a < b`, `<3` and `<a@b.c>` begin none.
fn markup(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    let mut clobbering = 0_usize;
    while let Some(place) = find(text, from, b"<") {
        from = place + 1;
        if let Some(found) = tag(text, place) {
            // Attributes are read once: the next tag is looked for behind them.
            let generic = place > 0 && is_word(at(text, place - 1));
            let strength = weigh_tag(text, &found, generic, &mut clobbering);
            finding.note(strength.0, strength.1, place);
            from = found.end.max(from);
        } else {
            declaration(text, place, finding);
        }
    }
    if clobbering >= 2 {
        finding.note(LIKELY, "elements that overlay names of the page", 0);
    }
}

/// `<!--[if`, `<!entity`, `<![cdata[`.
fn declaration(text: &[u8], place: usize, finding: &mut Finding) {
    let rest = part(text, place + 1, place + 64);
    if rest.starts_with(b"!entity")
        || rest.starts_with(b"!doctype")
            && holds_any(
                part(text, place, place + 512),
                &["<!entity", " system ", " system\"", " public "],
            )
            && !rest.starts_with(b"!doctype html>")
    {
        finding.note(LIKELY, "an entity of XML", place);
    } else if rest.starts_with(b"?xml-stylesheet") {
        finding.note(LIKELY, "a style of XML", place);
    } else if rest.starts_with(b"!--[if") || rest.starts_with(b"![cdata[") {
        finding.note(WEAK, "a declaration", place);
    } else if rest.starts_with(b"%00script") || rest.starts_with(b"\0script") {
        finding.note(LIKELY, "a script", place);
    }
}

/// Elements that run or load something merely by standing there.
fn runs(name: &[u8]) -> bool {
    matches!(
        name,
        b"script"
            | b"iframe"
            | b"frameset"
            | b"applet"
            | b"embed"
            | b"bgsound"
            | b"xss"
            | b"layer"
            | b"ilayer"
            | b"portal"
            | b"isindex"
            | b"fencedframe"
            | b"svg:script"
            | b"xml:script"
            | b"html:script"
            | b"x:script"
            | b"foreignobject"
            | b"animate"
            | b"animatetransform"
            | b"noembed"
            | b"vmlframe"
            | b"handler"
    )
}

/// Elements that can run something but are also types, words, or harmless.
fn loads(name: &[u8]) -> bool {
    matches!(
        name,
        b"object"
            | b"svg"
            | b"math"
            | b"base"
            | b"link"
            | b"meta"
            | b"style"
            | b"form"
            | b"frame"
            | b"template"
            | b"marquee"
            | b"xml"
            | b"noscript"
            | b"set"
            | b"use"
            | b"image"
            | b"dialog"
            | b"keygen"
            | b"isindex"
    )
}

fn weigh_tag(
    text: &[u8],
    found: &Tag<'_>,
    generic: bool,
    clobbering: &mut usize,
) -> (u8, &'static str) {
    let name = found.name;
    if found.closes {
        let breaks =
            matches!(name, b"script" | b"iframe" | b"noscript" | b"style" | b"title" | b"textarea");
        let score = if name == b"script" { LIKELY } else { WEAK + 1 };
        return (if breaks && !generic { score } else { 0 }, "the end of a script");
    }
    let bare = found.attributes.is_empty();
    let mut strongest = match (runs(name), loads(name)) {
        (true, _) if !(generic && bare) => {
            (if bare && found.open_ended { LIKELY } else { CERTAIN }, "an element that runs")
        }
        (true, _) => (if name == b"script" { LIKELY } else { WEAK }, "an element that runs"),
        (_, true) if !(generic && bare) => (WEAK, "an element that loads"),
        _ => (0, ""),
    };
    let mut named = 0;
    for attribute in attributes(found) {
        named += usize::from(overlays(name) && matches!(attribute.name, b"id" | b"name"));
        let weighed = weigh_attribute(name, &attribute);
        if weighed.0 > strongest.0 {
            strongest = weighed;
        }
    }
    *clobbering += usize::from(named >= 1 && name != b"img") + usize::from(named >= 2);
    let opened = name == b"svg" && (found.slashed || !bare && found.open_ended);
    if strongest.0 < LIKELY && !generic && (opened || holds_code(text, found)) {
        return (LIKELY, "an element that loads");
    }
    strongest
}

/// Elements whose `id` or `name` becomes a name of the page's own scripts.
fn overlays(name: &[u8]) -> bool {
    matches!(name, b"a" | b"form" | b"img" | b"input" | b"object" | b"output")
}

/// Whether what an element contains runs.
fn holds_code(text: &[u8], found: &Tag<'_>) -> bool {
    const STYLES: [&str; 7] =
        ["@import", "expression", "url(", "javascript:", "</style", "behavior", "{"];
    const CHILDREN: [&str; 10] = [
        "<script",
        "onload",
        "<animate",
        "<set",
        "onbegin",
        "<style",
        "<mglyph",
        "<mtext",
        "<p title=",
        "<desc",
    ];
    let inside = part(text, found.end, found.end + 128);
    found.name == b"style" && holds_any(inside, &STYLES)
        || loads(found.name) && holds_any(inside, &CHILDREN)
}

fn weigh_attribute(name: &[u8], attribute: &Attribute<'_>) -> (u8, &'static str) {
    const STYLES: [&str; 7] =
        ["expression", "javascript:", "-moz-binding", "behavior:", "behaviour:", "@import", "url("];
    let value = attribute.value;
    if code::is_running_address(value) {
        return (CERTAIN, "an address that runs");
    }
    if attribute.is_handler() {
        // `onClick={save}` is how React is written; with a call it would run here too.
        let component = value.first() == Some(&b'{') && !holds_any(value, &["(", "`"]);
        let score = if attribute.valued && !component { CERTAIN } else { WEAK };
        return (score, "a handler of events");
    }
    let loaded = match attribute.name {
        b"srcdoc" => return (CERTAIN, "a page within the page"),
        b"style" => holds_any(value, &STYLES),
        b"http-equiv" => name == b"meta",
        b"rel" => name == b"link" && holds_any(value, &["stylesheet", "import", "preload"]),
        b"href" | b"xlink:href" => {
            matches!(name, b"link" | b"base" | b"use" | b"image" | b"feimage")
        }
        b"data" | b"code" | b"codebase" | b"classid" => name == b"object",
        b"src" => matches!(name, b"frame" | b"xml" | b"image"),
        b"action" | b"formaction" => !value.is_empty(),
        b"attributename" => name == b"set",
        _ => false,
    };
    (if loaded { LIKELY } else { 0 }, "an attribute that loads or sends")
}
