//! The JSON check against a table, against serde_json, and against its own limits.

mod table;

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::inspect::json::rule::Numbers;
use crate::inspect::json::tests::table::{BAD, GOOD};

fn reason(bytes: impl AsRef<[u8]>) -> Option<Reason> {
    reason_within(bytes, &Limits::default())
}

fn reason_within(bytes: impl AsRef<[u8]>, limits: &Limits) -> Option<Reason> {
    check(bytes.as_ref(), limits, &mut ()).err().map(|refusal| refusal.reason)
}

#[test]
fn good_texts_pass() {
    for text in GOOD {
        assert_eq!(check(text.as_bytes(), &Limits::default(), &mut ()), Ok(()), "{text}");
    }
}

#[test]
fn bad_texts_are_refused_for_their_reason() {
    assert!(GOOD.len() + BAD.len() > 150);
    for (text, expected) in BAD {
        assert_eq!(reason(text), Some(*expected), "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    for bytes in [
        &b"\"\xff\""[..],
        b"\"\xc0\xaf\"",
        b"\"\xe0\x80\xaf\"",
        b"\"\xed\xa0\x80\"",
        b"\"\xf4\x90\x80\x80\"",
        b"\"\xc3",
        b"\xff\xfe{\0}\0",
        b"{\"\x80\":1}",
    ] {
        assert_eq!(reason(bytes), Some(Reason::JsonText), "{bytes:?}");
    }
}

#[test]
fn every_control_character_is_found_wherever_it_stands() {
    for before in 0..20 {
        for byte in 0..=0x7f_u8 {
            let text = format!("\"{}{}{}\"", "x".repeat(before), char::from(byte), "y".repeat(12));
            let expected = match byte {
                0..0x20 => Some(Reason::JsonText),
                b'"' | b'\\' => Some(Reason::JsonMalformed),
                _ => None,
            };
            assert_eq!(reason(&text), expected, "{text:?}");
        }
    }
}

#[test]
fn limits_hold_at_their_edges() {
    let limits = Limits {
        depth_max: 3,
        members_max: 4,
        elements_max: 5,
        string_bytes_max: 6,
        numbers: Numbers::Safe,
    };
    for text in ["[[[]]]", "{\"a\":{\"b\":{}}}", "[1,2,3,4,5]", "\"123456\"", "{\"123456\":1}"] {
        assert_eq!(reason_within(text, &limits), None, "{text}");
    }
    assert_eq!(reason_within("{\"a\":1,\"b\":{\"c\":1,\"d\":1}}", &limits), None);
    for (text, expected) in [
        ("[[[[]]]]", Reason::JsonDepth),
        ("{\"a\":{\"b\":{\"c\":{}}}}", Reason::JsonDepth),
        ("[1,2,3,4,5,6]", Reason::JsonSize),
        ("[[1,2],[3,4]]", Reason::JsonSize),
        ("{\"a\":1,\"b\":{\"c\":1,\"d\":1,\"e\":1}}", Reason::JsonSize),
        ("\"1234567\"", Reason::JsonSize),
        ("\"\\u00e9\\n\"", Reason::JsonSize),
        ("{\"1234567\":1}", Reason::JsonSize),
    ] {
        assert_eq!(reason_within(text, &limits), Some(expected), "{text}");
    }
}

#[test]
fn any_number_passes_where_policy_says_so_but_none_of_any_length() {
    let limits = Limits { numbers: Numbers::Any, ..Limits::default() };
    for text in ["1e400", "18446744073709551616", &"1".repeat(64)] {
        assert_eq!(reason_within(text, &limits), None, "{text}");
    }
    assert_eq!(reason_within("1".repeat(65), &limits), Some(Reason::JsonNumber));
    assert_eq!(reason_within("01", &limits), Some(Reason::JsonMalformed));
}

#[test]
fn a_hundred_thousand_levels_cost_no_stack() {
    let wide = Limits { depth_max: usize::MAX, elements_max: u32::MAX, ..Limits::default() };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inside = if open == "[" { "" } else { "1" };
        let text = format!("{}{inside}{}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(reason(&text), Some(Reason::JsonDepth));
        let limits = Limits { members_max: u32::MAX, ..wide };
        assert_eq!(reason_within(&text, &limits), None);
        assert_eq!(reason_within(open.repeat(100_000), &limits), Some(Reason::JsonMalformed));
    }
}

#[test]
fn many_names_in_many_objects_are_told_apart() {
    let limits = Limits { members_max: u32::MAX, elements_max: u32::MAX, ..Limits::default() };
    let object = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"name-{n}\":{n}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let text = format!("[{},{},{}]", object(20_000), object(3), object(5000));
    // Twice, because the second time the table of the first is used again.
    for _ in 0..2 {
        assert_eq!(reason_within(&text, &limits), None);
        let twice = text.replacen("\"name-19999\":", "\"name-0\":", 1);
        assert_eq!(reason_within(&twice, &limits), Some(Reason::JsonDuplicate));
    }
}

#[test]
fn names_that_collide_under_a_known_hash_cost_no_more() {
    // The cost is probes. With an unknown key they stay few for any names; these, which differ in
    // their last characters alone, would meet in tables that hash by beginning or by length.
    let mut names = Names::default();
    names.begin();
    let object = names.object();
    let text: String = (0..10_000).map(|n| format!("{:>64}", n)).collect();
    for n in 0..10_000_u32 {
        let span = pointer::Span { start: n * 64, end: (n + 1) * 64, decoded: false };
        assert!(names.add(&text, object, span));
    }
    assert!(names.longest_run() < 200, "{}", names.longest_run());
}

#[test]
fn a_refusal_names_byte_and_member_and_no_more_than_a_little_of_them() {
    let refusal = check(b"{\"a\":{\"tags\":[1,2,01]}}", &Limits::default(), &mut ()).unwrap_err();
    assert_eq!(
        refusal.private,
        "no comma and no end where one must stand, at byte 19 in body.a.tags[2]"
    );
    let name = "x".repeat(100_000);
    let long = format!("{{\"{name}\\u0007.\":{{\"{name}\":}}}}");
    let refusal = check(long.as_bytes(), &Limits::default(), &mut ()).unwrap_err();
    assert!(refusal.private.len() < 250, "{}", refusal.private.len());
    assert!(!refusal.private.chars().any(char::is_control));
}

/// Collects what it is shown.
#[derive(Default)]
struct Shown(Vec<(String, Part, String)>);

impl Fields for Shown {
    const READS: bool = true;

    fn text(&mut self, at: &Pointer<'_>, part: Part, text: &str) -> Result<(), Refusal> {
        self.0.push((at.to_string(), part, text.to_owned()));
        if text == "stop" { Err(Refusal::new(Reason::Sql)) } else { Ok(()) }
    }
}

#[test]
fn names_and_texts_are_shown_unescaped_with_their_places() {
    let mut shown = Shown::default();
    let text =
        r#"{"title":"a\u0062\n\ud83d\ude00/\/","tags":["x",1,["y"]],"a.b":{"\u0063":"z"},"":"e"}"#;
    check(text.as_bytes(), &Limits::default(), &mut shown).unwrap();
    let shown: Vec<_> =
        shown.0.iter().map(|(at, part, text)| (at.as_str(), *part, text.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("body.title", Part::Name, "title"),
            ("body.title", Part::Value, "ab\n😀//"),
            ("body.tags", Part::Name, "tags"),
            ("body.tags[0]", Part::Value, "x"),
            ("body.tags[2][0]", Part::Value, "y"),
            ("body[\"a.b\"]", Part::Name, "a.b"),
            ("body[\"a.b\"].c", Part::Name, "c"),
            ("body[\"a.b\"].c", Part::Value, "z"),
            ("body[\"\"]", Part::Name, ""),
            ("body[\"\"]", Part::Value, "e"),
        ]
    );
    let refusal = check(b"[\"stop\",]", &Limits::default(), &mut Shown::default()).unwrap_err();
    assert_eq!(refusal.reason, Reason::Sql);
}

/// Whether a text is refused by our stricter rules alone, as far as serde_json's reading tells.
fn stricter(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::JsonDuplicate | Reason::JsonDepth | Reason::JsonNumber | Reason::JsonText
    )
}

/// Bytes that look like JSON more often than chance would have it.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            " ",
            "\n",
            "null",
            "true",
            "false",
            "0",
            "1",
            "-",
            ".5",
            "e1",
            "E+3",
            "\"a\"",
            "\"b\":",
            "\"\\u0061\":",
            "\\u0000",
            "\\ud83d",
            "\\ude00",
            "\\n",
            "é",
            "\t",
            "1e999",
            "12345678901234567890",
            "\"abcdefgh\\\"\"",
        ])
        .prop_map(|token| token.as_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[^\u{0}]*".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            proptest::collection::hash_map("[^\u{0}]{0,12}", inner, 0..8)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// All member names and strings of a value.
fn texts(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => into.push(text.clone()),
        serde_json::Value::Array(elements) => elements.iter().for_each(|e| texts(e, into)),
        serde_json::Value::Object(members) => members.iter().for_each(|(name, member)| {
            into.push(name.clone());
            texts(member, into);
        }),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn our_verdict_is_that_of_serde_json_but_for_the_stricter_rules(bytes in nearly_json()) {
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes);
        match (reason(&bytes), theirs) {
            (None, Err(error)) => prop_assert!(false, "we accept what is wrong: {error}"),
            (Some(reason), Ok(_)) => prop_assert!(stricter(reason), "{reason:?}"),
            (None, Ok(theirs)) => {
                prop_assert_eq!(read(&bytes, &Limits::default(), &mut ()).unwrap(), theirs);
            }
            (Some(_), Err(_)) => {}
        }
    }

    #[test]
    fn what_serde_json_writes_passes_and_every_text_is_shown(value in json_value(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let mut shown = Shown::default();
        match read(text.unwrap().as_bytes(), &Limits::default(), &mut shown) {
            Ok(meant) => {
                prop_assert_eq!(&meant, &value);
                let mut expected = Vec::new();
                texts(&value, &mut expected);
                let mut seen: Vec<_> = shown.0.iter().map(|(_, _, text)| text.clone()).collect();
                expected.sort();
                seen.sort();
                prop_assert_eq!(seen, expected);
                // No two places of one kind are written alike.
                let places: HashSet<_> = shown.0.iter().map(|(at, part, _)| (at, *part == Part::Name)).collect();
                prop_assert_eq!(places.len(), shown.0.len());
            }
            Err(refusal) => prop_assert_eq!(refusal.reason, Reason::Sql),
        }
    }
}
