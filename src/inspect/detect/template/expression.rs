//! What an expression of a template would do: nothing, arithmetic, or a reach into the runtime.

use crate::inspect::detect::finding::{CERTAIN, LIKELY, WEAK};
use crate::inspect::detect::text::{
    among, at, find, holds, holds_any, is_space, is_word, part, skip, skip_space,
};

/// Words that no placeholder needs.
const DANGERS: [&str; 62] = [
    "__",
    "getclass",
    "forname",
    "getruntime",
    "runtime",
    "processbuilder",
    "java.",
    "javax.",
    "freemarker",
    "objectconstructor",
    "exec",
    "eval",
    "system",
    "popen",
    "subprocess",
    "import",
    "constructor",
    "process.",
    "require",
    "file.",
    "file(",
    "passthru",
    "phpinfo",
    "file_get_contents",
    "assert",
    "alert(",
    "class.",
    "classloader",
    "#context",
    "#_memberaccess",
    "@java",
    "springframework",
    "objectspace",
    "kernel",
    "dir.",
    "io.",
    "os.",
    "|attr",
    "| attr",
    "|map",
    "|filter(",
    "|reduce",
    "|sort(",
    "cycler",
    "joiner",
    "lipsum",
    "url_for",
    "get_flashed",
    "_self",
    "self.",
    "self[",
    "config.",
    "settings.",
    "new ",
    "dump(",
    "app.request",
    "env[",
    "scriptengine",
    "pagecontext",
    "getsession",
    "servletcontext",
    "applicationscope",
];

/// Roots that show how an application is made.
const ROOTS: [&str; 15] = [
    "config",
    "self",
    "_self",
    "settings",
    "request",
    "cycler",
    "joiner",
    "lipsum",
    "url_for",
    "_context",
    "app",
    "debug",
    ".data_model",
    "this",
    "$",
];

/// How much an expression between these marks would do.
pub(in crate::inspect::detect) fn weigh(begin: &[u8], expression: &[u8], closed: bool) -> u8 {
    let whole = expression;
    let expression = whole.strip_prefix(b"{").unwrap_or(whole).trim_ascii();
    let expression = expression.strip_prefix(b"=").unwrap_or(expression).trim_ascii();
    if expression.is_empty() {
        return 0;
    }
    let calls = holds(expression, b"(");
    let danger = holds_any(expression, &DANGERS);
    let bracket = begin == b"[[" || begin == b"[=" || begin == b"{=" || begin == b"@(";
    if is_arithmetic(expression) && (closed || begin == b"{{") {
        return LIKELY;
    }
    if bracket && !(danger && (calls || holds(expression, b"__"))) && !holds(expression, b"${") {
        return 0;
    }
    if holds(expression, b"t(") && holds_any(expression, &["t(java", "t(org", "t (java"]) {
        return CERTAIN;
    }
    if begin == b"%{" && holds_any(expression, &["(#", "#a=", "@java", "#context", "#request"]) {
        return CERTAIN;
    }
    let members = holds(expression, b"__")
        || holds_any(
            expression,
            &["getclass", "#_memberaccess", ".constructor", "java.lang", "class.forname"],
        );
    if members && (closed || calls) {
        return CERTAIN;
    }
    match begin {
        b"{{" => mustache(expression, danger, calls),
        b"{%" => tag(expression, danger && calls),
        b"<%" => scriptlet(expression, danger || calls, closed),
        _ if danger && calls => LIKELY,
        _ if begin == b"${"
            && (calls || holds(expression, b"?"))
            && holds_any(expression, &["?new", "?api", "?eval", "?interpret"]) =>
        {
            LIKELY
        }
        _ if begin == b"#{" && holds_any(expression, &["%x", "`", "env["]) => LIKELY,
        _ if danger && holds_any(expression, &["class.", "java", ".data_model"]) => LIKELY,
        _ if calls => WEAK + 1,
        _ => 0,
    }
}

/// A statement between `{%` and `%}`.
fn tag(expression: &[u8], runs: bool) -> u8 {
    const TELLING: [&str; 8] =
        ["import ", "import(", "include ", "include'", "include\"", "debug", "extends ", "|attr"];
    if runs || expression.starts_with(b"debug") {
        return LIKELY;
    }
    if holds_any(expression, &TELLING) && !is_plain_tag(expression) { LIKELY } else { WEAK - 1 }
}

/// Code between `<%` and `%>`.
fn scriptlet(expression: &[u8], runs: bool, closed: bool) -> u8 {
    let declares = closed && expression.first().is_some_and(|first| among(*first, b"!@"));
    let telling = holds_any(expression, &["`", "@ page", "@page", "@ include"]);
    if runs || declares || telling { LIKELY } else { WEAK - 1 }
}

/// `{% include header.html %}` and the like, which documentation quotes.
fn is_plain_tag(expression: &[u8]) -> bool {
    !holds_any(expression, &["/", "\\", "(", "os", "import"])
}

/// What Jinja, Twig, Handlebars and Angular would run between `{{` and `}}`.
fn mustache(expression: &[u8], danger: bool, calls: bool) -> u8 {
    let end = skip(expression, 0, |byte| is_word(byte) || byte == b'$');
    let root = part(expression, 0, end);
    if danger && (calls || holds_any(expression, &["|attr", "| attr", "._", "[", "__", "\""])) {
        return LIKELY;
    }
    if expression.starts_with(b"#with")
        || expression.starts_with(b"php")
        || expression.starts_with(b"#lookup")
    {
        return LIKELY;
    }
    if ROOTS.iter().any(|known| known.as_bytes() == root) {
        let follows = at(expression, skip_space(expression, end));
        let whole = end == expression.len();
        let probing = matches!(
            root,
            b"config"
                | b"self"
                | b"_self"
                | b"settings"
                | b"_context"
                | b"cycler"
                | b"joiner"
                | b"lipsum"
                | b"url_for"
        );
        return match follows {
            _ if whole && probing => LIKELY,
            b'.' | b'[' | b'|' | b'(' if root != b"this" && root != b"app" => LIKELY,
            _ => WEAK,
        };
    }
    // A text or list instead of a name: people put names between braces.
    if matches!(root, b"") && matches!(at(expression, 0), b'\'' | b'"' | b'[' | b'(') {
        return if holds_any(expression, &["(", ".", "*", "|", "+", "%"]) { LIKELY } else { WEAK };
    }
    if calls {
        let open = find(expression, 0, b"(").unwrap_or(0);
        let argument = at(expression, skip_space(expression, open + 1));
        let own = matches!(
            root,
            b"range"
                | b"dict"
                | b"namespace"
                | b"source"
                | b"include"
                | b"constant"
                | b"phpversion"
                | b"id"
        );
        let filtered = find(expression, 0, b"|").is_some_and(|pipe| pipe < open);
        return match argument {
            _ if own => LIKELY,
            // `t('hello')` translates; a path or a longer program does not.
            b'"' | b'\'' | b'`'
                if !filtered
                    && holds_any(expression, &["/", "\\", "(\"id", "('id", "('ls", "return"]) =>
            {
                LIKELY
            }
            b')' => WEAK,
            _ => WEAK + 1,
        };
    }
    WEAK - 1
}

/// `7*7`, `7*'7'`, `(3+4)*2`, `191|add:2`: numbers and signs only, which no placeholder is.
pub(in crate::inspect::detect) fn is_arithmetic(expression: &[u8]) -> bool {
    let digits = expression.iter().filter(|byte| byte.is_ascii_digit()).count();
    let sign = expression.iter().any(|byte| matches!(byte, b'*' | b'+' | b'-' | b'/' | b'%'));
    let pure = expression.iter().all(|byte| {
        byte.is_ascii_digit()
            || is_space(*byte)
            || matches!(
                byte,
                b'*' | b'+'
                    | b'-'
                    | b'/'
                    | b'%'
                    | b'('
                    | b')'
                    | b'\''
                    | b'"'
                    | b'.'
                    | b'~'
                    | b'='
                    | b'@'
                    | b';'
                    | b'{'
                    | b'}'
                    | b'_'
            )
    });
    digits >= 2 && sign && pure
}
