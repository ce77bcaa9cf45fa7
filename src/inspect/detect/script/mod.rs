//! Script injection: markup and code that a browser would run if the field were shown in a page.

mod code;
mod tag;

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::script::tag::{Tag, attributes, tag};
use crate::inspect::detect::text::{at, find, holds, holds_any, is_word, part, skip_space};
use crate::inspect::detect::{Detector, View};

/// Finds elements, handlers, addresses and code that run scripts.
pub(in crate::inspect::detect) struct Script;

impl Detector for Script {
    fn wants(&self, marks: Marks) -> bool {
        marks.any(Marks::LESS | Marks::SCRIPT_WORD)
            || marks.any(Marks::EQUALS) && marks.any(Marks::QUOTE | Marks::PAREN | Marks::TICK)
            || marks.any(Marks::PAREN | Marks::TICK)
            || marks.all(Marks::BRACKET) && marks.any(Marks::PAREN)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        let mut finding = Finding::default();
        markup(view.text, &mut finding);
        code::addresses(view.text, &mut finding);
        code::handlers(view.text, &mut finding);
        code::calls(view.text, &mut finding);
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
        return if matches!(
            name,
            b"script" | b"iframe" | b"noscript" | b"style" | b"title" | b"textarea"
        ) && !generic
        {
            (if name == b"script" { LIKELY } else { WEAK + 1 }, "the end of a script")
        } else {
            (0, "")
        };
    }
    let mut strongest = (0_u8, "");
    let mut note = |score: u8, what: &'static str| {
        if score > strongest.0 {
            strongest = (score, what);
        }
    };
    let bare = found.attributes.is_empty();
    if runs(name) && !(generic && bare) {
        note(if bare && found.open_ended { LIKELY } else { CERTAIN }, "an element that runs");
    } else if runs(name) {
        note(if name == b"script" { LIKELY } else { WEAK }, "an element that runs");
    }
    if loads(name) {
        note(if generic && bare { 0 } else { WEAK }, "an element that loads");
    }
    let mut named = 0;
    for attribute in attributes(text, found) {
        let value = attribute.value;
        if attribute.is_handler() {
            note(if attribute.valued { CERTAIN } else { WEAK }, "a handler of events");
        }
        match attribute.name {
            b"srcdoc" => note(CERTAIN, "a page within the page"),
            b"style"
                if holds_any(
                    value,
                    &[
                        "expression",
                        "javascript:",
                        "-moz-binding",
                        "behavior:",
                        "behaviour:",
                        "@import",
                        "url(",
                    ],
                ) =>
            {
                note(LIKELY, "a style that runs");
            }
            b"http-equiv" if name == b"meta" => note(LIKELY, "a header in the page"),
            b"rel" if name == b"link" && holds_any(value, &["stylesheet", "import", "preload"]) => {
                note(LIKELY, "a style sheet")
            }
            b"href" | b"xlink:href"
                if matches!(name, b"link" | b"base" | b"use" | b"image" | b"feimage") =>
            {
                note(LIKELY, "an address that is loaded")
            }
            b"data" | b"code" | b"codebase" | b"classid" if name == b"object" => {
                note(LIKELY, "an object that is loaded")
            }
            b"src" if matches!(name, b"frame" | b"xml" | b"input" | b"image") => {
                note(if name == b"input" { WEAK } else { LIKELY }, "an address that is loaded")
            }
            b"action" | b"formaction" if !value.is_empty() => {
                note(LIKELY, "a form that sends elsewhere")
            }
            b"attributename" if name == b"set" => note(LIKELY, "an attribute that changes"),
            b"background" | b"dynsrc" | b"lowsrc"
                if matches!(name, b"body" | b"table" | b"td" | b"img") =>
            {
                note(LIKELY - 1, "an address that is loaded")
            }
            b"id" | b"name"
                if matches!(name, b"a" | b"form" | b"img" | b"input" | b"object" | b"output") =>
            {
                named += 1
            }
            _ => {}
        }
        if code::is_running_address(value) {
            note(CERTAIN, "an address that runs");
        }
    }
    *clobbering += usize::from(
        named >= 1 && matches!(name, b"a" | b"form" | b"input" | b"output" | b"object"),
    ) + usize::from(named >= 2);
    let style = name == b"style"
        && !generic
        && holds_any(
            part(text, found.end, found.end + 256),
            &["@import", "expression", "url(", "javascript:", "</style", "behavior", "{"],
        );
    if style {
        note(LIKELY, "a style");
    }
    let nested = loads(name)
        && !generic
        && holds_any(
            part(text, found.end, found.end + 128),
            &[
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
            ],
        );
    if nested || name == b"svg" && found.slashed || name == b"svg" && !bare && found.open_ended {
        note(LIKELY, "an element that loads");
    }
    if name == b"img" && holds(found.attributes, b"src=x:")
        || name == b"img" && skip_space(found.attributes, 0) > found.attributes.len()
    {
        note(WEAK, "an image");
    }
    strongest
}
