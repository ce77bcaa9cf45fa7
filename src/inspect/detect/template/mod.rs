//! Template injection: expressions that a template engine, an expression language or a logger would run.

mod expression;

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::template::expression::{is_arithmetic, weigh};
use crate::inspect::detect::text::{at, find, holds, holds_any, part, skip, skip_space, stands};
use crate::inspect::detect::{Detector, View};

/// Finds expressions between the marks of template engines, and judges what they would do.
/// A mere placeholder such as `{{ name }}` does nothing.
pub(in crate::inspect::detect) struct Template;

/// Bytes of an expression that are looked at.
const EXPRESSION_BYTES_MAX: usize = 512;

/// Begin and end of an expression.
const DELIMITERS: [(&[u8], &[u8]); 13] = [
    (b"{{", b"}}"),
    (b"{%", b"%}"),
    (b"${", b"}"),
    (b"#{", b"}"),
    (b"*{", b"}"),
    (b"%{", b"}"),
    (b"@{", b"}"),
    (b"~{", b"}"),
    (b"<%", b"%>"),
    (b"@(", b")"),
    (b"[[", b"]]"),
    (b"[=", b"]"),
    (b"{=", b"}"),
];

impl Detector for Template {
    fn wants(&self, marks: Marks) -> bool {
        marks.any(Marks::BRACE | Marks::TEMPLATE_WORD)
            || marks.any(Marks::LESS) && marks.any(Marks::PERCENT | Marks::HASH)
            || marks.all(Marks::HASH | Marks::PAREN)
            || marks.any(Marks::LESS)
            || marks.all(Marks::BRACKET | Marks::EQUALS)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        let mut finding = Finding::default();
        let text = view.text;
        for (begin, end) in DELIMITERS {
            // Within the text that one expression covers there is no need to begin another.
            let mut from = 0;
            while let Some(place) = find(text, from, begin) {
                from = place + begin.len();
                let within = part(text, from, from + EXPRESSION_BYTES_MAX);
                let stop = find(within, 0, end);
                let expression = part(within, 0, stop.unwrap_or(within.len()));
                finding.note(weigh(begin, expression, stop.is_some()), "an expression", place);
                from += expression.len().saturating_sub(begin.len());
            }
        }
        lookups(text, &mut finding);
        directives(text, &mut finding);
        single_braces(text, &mut finding);
        bare(text, &mut finding);
        finding
    }
}

/// The lookups of Log4j and of Apache Commons Text: `${jndi:…}`, `${${lower:j}ndi:…}`.
fn lookups(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(place) = find(text, from, b"${") {
        from = place + 2;
        let name = skip(text, from, |byte| byte.is_ascii_alphanumeric());
        if stands(text, from, b"${") || stands(text, from, b"::") || stands(text, from, b":-") {
            let tail = part(text, from, from + EXPRESSION_BYTES_MAX);
            let telling =
                holds(tail, b":-") || holds_any(tail, &["lower:", "upper:", "env:", "jndi", "::"]);
            finding.note(if telling { CERTAIN } else { WEAK }, "a lookup within a lookup", place);
            continue;
        }
        let spliced = at(text, name) == b'$' && at(text, name + 1) == b'{';
        if spliced && holds_any(part(text, name, name + 64), &[":-", "lower:", "upper:", "::"]) {
            finding.note(CERTAIN, "a lookup within a lookup", place);
            continue;
        }
        if at(text, name) != b':' {
            continue;
        }
        let score = match part(text, from, name) {
            b"jndi" => CERTAIN,
            b"lower" | b"upper" | b"script" | b"dns" | b"url" | b"sys" | b"java" | b"main"
            | b"ctx" | b"log4j" | b"sd" | b"bundle" | b"marker" | b"urlencoder" | b"urldecoder"
            | b"base64decoder" | b"resourcebundle" | b"k8s" | b"docker" | b"spring" => {
                if at(text, name + 1) == b'-' { WEAK } else { LIKELY }
            }
            b"env" | b"date" | b"file" | b"const" | b"map" | b"web" => WEAK + 1,
            _ => 0,
        };
        finding.note(score, "a lookup", place);
    }
    if let Some(place) = find(text, 0, b"jndi:") {
        let scheme = ["ldap", "rmi", "dns", "nis", "iiop", "corba", "http"]
            .iter()
            .any(|scheme| stands(text, place + 5, scheme.as_bytes()));
        finding.note(if scheme { LIKELY } else { WEAK }, "a lookup", place);
    }
}

/// Directives that are no expression between marks: Freemarker, Velocity, SSI, ESI, PHP.
fn directives(text: &[u8], finding: &mut Finding) {
    const DIRECTIVES: [(&str, u8); 24] = [
        ("<#assign", LIKELY),
        ("<#list", LIKELY),
        ("<#import", LIKELY),
        ("<#include", LIKELY),
        ("<#attempt", LIKELY),
        ("<#local", LIKELY),
        ("<#global", LIKELY),
        ("[#assign", LIKELY),
        ("[#list", LIKELY),
        ("?new()", LIKELY),
        ("#set($", LIKELY),
        ("#set ($", LIKELY),
        ("#set( $", LIKELY),
        ("#evaluate(", LIKELY),
        ("#foreach($", LIKELY),
        ("#foreach ($", LIKELY),
        ("<!--#exec", CERTAIN),
        ("<!--#include", LIKELY),
        ("<!--#echo", LIKELY),
        ("<!--#config", LIKELY),
        ("<!--#printenv", LIKELY),
        ("<esi:", LIKELY),
        ("<?php", LIKELY),
        ("<?=", LIKELY),
    ];
    for (directive, score) in DIRECTIVES {
        if let Some(place) = find(text, 0, directive.as_bytes()) {
            finding.note(score, "a directive", place);
        }
    }
    for class in [
        "$class.inspect(",
        "$class.type",
        "$request.getclass",
        ".getclass().forname",
        "#include(\"/",
        "#parse(\"",
    ] {
        if let Some(place) = find(text, 0, class.as_bytes()) {
            finding.note(LIKELY, "a call on a class", place);
        }
    }
}

/// Smarty and its kin: `{php}`, `{$smarty.version}`, `{if phpinfo()}`, `{system('id')}`.
fn single_braces(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(place) = find(text, from, b"{") {
        from = place + 1;
        let within = part(text, from, from + 128);
        let Some(end) = memchr::memchr(b'}', within) else { continue };
        let expression = part(within, 0, end);
        let danger = [
            "system(",
            "exec(",
            "passthru(",
            "shell_exec(",
            "phpinfo(",
            "eval(",
            "file_get_contents(",
            "readfile(",
            "popen(",
        ]
        .iter()
        .any(|word| holds(part(expression, 0, 48), word.as_bytes()));
        let begins =
            |words: &[&str]| words.iter().any(|word| expression.starts_with(word.as_bytes()));
        if expression == b"php"
            || begins(&[
                "$smarty.",
                "smarty_internal",
                "self::",
                "include file=",
                "fetch file=",
                "literal}",
            ])
        {
            finding.note(LIKELY, "a tag of a template", place);
        } else if danger
            && begins(&[
                "if ",
                "system",
                "exec",
                "passthru",
                "shell_exec",
                "phpinfo",
                "eval",
                "file_get",
                "readfile",
                "popen",
                "'",
                "\"",
                "$",
            ])
        {
            finding.note(LIKELY, "a call in a template", place);
        } else if end <= 12
            && is_arithmetic(expression)
            && holds(expression, b"*")
            && place == skip_space(text, 0)
        {
            finding.note(LIKELY, "arithmetic in a template", place);
        }
    }
}

/// Fragments that give themselves away without any mark around them.
fn bare(text: &[u8], finding: &mut Finding) {
    const FRAGMENTS: [(&str, u8); 20] = [
        ("t(java.", CERTAIN),
        ("@java.lang.", CERTAIN),
        ("#_memberaccess", CERTAIN),
        ("class.module.classloader", CERTAIN),
        ("class.classloader", LIKELY),
        ("__subclasses__", LIKELY),
        ("__globals__", LIKELY),
        ("__import__('", LIKELY),
        ("__import__(\"", LIKELY),
        (".__class__.", LIKELY),
        ("__mro__[", LIKELY),
        ("__builtins__", LIKELY - 1),
        ("getruntime().exec", LIKELY),
        ("new java.lang.processbuilder", LIKELY),
        ("java.lang.runtime", LIKELY - 1),
        ("(#rt=", LIKELY),
        ("('#context", LIKELY),
        ("freemarker.template.utility", LIKELY),
        (".getclass().", LIKELY - 1),
        ("#context['", LIKELY),
    ];
    for (fragment, score) in FRAGMENTS {
        if let Some(place) = find(text, 0, fragment.as_bytes()) {
            finding.note(score, "a reach into the runtime", place);
        }
    }
}
