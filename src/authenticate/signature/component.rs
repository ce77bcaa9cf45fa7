//! What a signature can cover: derived components, header and trailer fields (RFC 9421, 2.1 and 2.2).

use std::borrow::Cow;
use std::fmt;

use crate::authenticate::signature::fields::Malformed;

/// One covered component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component<'a> {
    /// Derived from the head as a whole.
    Derived(Derived),
    /// `"@query-param";name="…"`: one parameter of the query, by its encoded name.
    QueryParameter(Cow<'a, str>),
    /// A header field, by its name in lower case.
    Field(Cow<'a, str>, Form<'a>),
    /// `;tr`: a trailer field, by its name in lower case.
    Trailer(Cow<'a, str>, Form<'a>, Beside),
}

/// The derived components of a request that take no parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the component of the same name")]
pub enum Derived {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
}

/// In which form a field is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// Its lines, trimmed and joined by a comma and a space.
    Lines,
    /// `;sf`: serialised anew as the structured field that it is.
    Structured,
    /// `;key="…"`: one member of it, serialised anew.
    Member(Cow<'a, str>),
    /// `;bs`: each line as a byte sequence.
    Bytes,
}

/// On which side of its form's parameter `tr` stands. It is written so again, and says nothing of
/// what is covered (RFC 9421, section 2): both are the same component.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the side that it says")]
pub enum Beside {
    Before,
    Behind,
}

impl PartialEq for Beside {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Beside {}

impl Derived {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Method,
        Self::TargetUri,
        Self::Authority,
        Self::Scheme,
        Self::RequestTarget,
        Self::Path,
        Self::Query,
    ];

    /// The name, for example `@method`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "@method",
            Self::TargetUri => "@target-uri",
            Self::Authority => "@authority",
            Self::Scheme => "@scheme",
            Self::RequestTarget => "@request-target",
            Self::Path => "@path",
            Self::Query => "@query",
        }
    }
}

impl<'a> Component<'a> {
    /// The component with this name and this one parameter; a parameter without text is a flag.
    ///
    /// # Errors
    /// When there is none: unknown names, `@status` and `@signature-params`, parameters that do not
    /// belong, and field names that are not in lower case.
    pub fn new(
        name: Cow<'a, str>,
        parameter: Option<(&str, Option<Cow<'a, str>>)>,
    ) -> Result<Self, Malformed> {
        if name.starts_with('@') {
            let derived = Derived::ALL.into_iter().find(|derived| derived.name() == name);
            return match (derived, parameter) {
                (Some(derived), None) => Ok(Self::Derived(derived)),
                (None, Some(("name", Some(parameter)))) if name == "@query-param" => {
                    Ok(Self::QueryParameter(parameter))
                }
                _ => Err(Malformed("an unknown derived component, or a parameter it has not")),
            };
        }
        let is_plain = |byte: u8| {
            matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
                || matches!(byte, b'^'..=b'`' | b'|' | b'~')
        };
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(Malformed("a component is no field name in lower case"));
        }
        let form = match parameter {
            None => Form::Lines,
            Some(("sf", None)) => Form::Structured,
            Some(("bs", None)) => Form::Bytes,
            Some(("key", Some(key))) => Form::Member(key),
            Some(("tr", None)) => return Ok(Self::Trailer(name, Form::Lines, Beside::Behind)),
            Some(("req", None)) => return Err(Malformed("req is for signatures of responses")),
            Some(_) => return Err(Malformed("a field has an unknown component parameter")),
        };
        Ok(Self::Field(name, form))
    }

    /// The same field, among the trailers.
    ///
    /// # Errors
    /// When it is no header field.
    pub fn among_trailers(self, tr: Beside) -> Result<Self, Malformed> {
        match self {
            Self::Field(name, form) => Ok(Self::Trailer(name, form, tr)),
            Self::Trailer(..) => Err(Malformed("tr stands twice")),
            Self::Derived(_) | Self::QueryParameter(_) => {
                Err(Malformed("only fields are trailers: nothing derived takes tr"))
            }
        }
    }

    /// Reads a component as policies and commands write it: `@method`, `content-type`,
    /// `@query-param;name="page"`, `content-digest;tr`.
    ///
    /// # Errors
    /// As [`Component::new`].
    pub fn read(written: &str) -> Result<Component<'static>, Malformed> {
        let Some((name, parameter)) = written.split_once(';') else {
            return Component::new(Cow::Owned(written.to_owned()), None);
        };
        // A value ends with its quote, so what is cut off here is no part of one.
        let sides = [
            (parameter.strip_prefix("tr;"), Beside::Before),
            (parameter.strip_suffix(";tr"), Beside::Behind),
        ];
        for (form, tr) in sides {
            if let Some(form) = form {
                return Component::read(&format!("{name};{form}"))?.among_trailers(tr);
            }
        }
        let name = Cow::Owned(name.to_owned());
        let Some((key, value)) = parameter.split_once('=') else {
            return Component::new(name, Some((parameter, None)));
        };
        let text = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .filter(|text| text.bytes().all(|b| matches!(b, 0x20..0x7f) && b != b'"' && b != b'\\'))
            .ok_or(Malformed("a parameter's value must stand in quotes"))?;
        Component::new(name, Some((key, Some(Cow::Owned(text.to_owned())))))
    }

    /// Whether this is a header field of that name, in whatever form.
    pub fn is_field(&self, name: &str) -> bool {
        matches!(self, Self::Field(own, _) if own == name)
    }

    /// The name, without parameters.
    pub fn name(&self) -> &str {
        match self {
            Self::Derived(derived) => derived.name(),
            Self::QueryParameter(_) => "@query-param",
            Self::Field(name, _) | Self::Trailer(name, ..) => name,
        }
    }

    /// Whether this is a trailer.
    pub fn is_trailer(&self) -> bool {
        matches!(self, Self::Trailer(..))
    }
}

impl fmt::Display for Component<'_> {
    /// Writes it as a policy does, without the quotes around its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Derived(_) => Ok(()),
            Self::QueryParameter(name) => write!(f, ";name=\"{name}\""),
            Self::Field(_, form) => form.fmt(f),
            Self::Trailer(_, form, Beside::Before) => write!(f, ";tr{form}"),
            Self::Trailer(_, form, Beside::Behind) => write!(f, "{form};tr"),
        }
    }
}

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lines => Ok(()),
            Self::Structured => f.write_str(";sf"),
            Self::Bytes => f.write_str(";bs"),
            Self::Member(key) => write!(f, ";key=\"{key}\""),
        }
    }
}

/// Writes covered components as an inner list.
pub fn list(components: &[Component<'_>], out: &mut Vec<u8>) {
    out.push(b'(');
    for (number, component) in components.iter().enumerate() {
        if number > 0 {
            out.push(b' ');
        }
        identifier(component, out);
    }
    out.push(b')');
}

/// Writes a component identifier: its name as a string, and its parameters.
pub fn identifier(component: &Component<'_>, out: &mut Vec<u8>) {
    // No name of a component has anything to escape.
    out.push(b'"');
    out.extend_from_slice(component.name().as_bytes());
    out.push(b'"');
    match component {
        Component::Derived(_) => {}
        Component::QueryParameter(name) => text_parameter(b";name=", name, out),
        Component::Field(_, form) => form_parameter(form, out),
        Component::Trailer(_, form, Beside::Before) => {
            out.extend_from_slice(b";tr");
            form_parameter(form, out);
        }
        Component::Trailer(_, form, Beside::Behind) => {
            form_parameter(form, out);
            out.extend_from_slice(b";tr");
        }
    }
}

fn form_parameter(form: &Form<'_>, out: &mut Vec<u8>) {
    match form {
        Form::Lines => {}
        Form::Structured => out.extend_from_slice(b";sf"),
        Form::Bytes => out.extend_from_slice(b";bs"),
        Form::Member(key) => text_parameter(b";key=", key, out),
    }
}

/// Writes a parameter whose value is a string; `key` begins with `;` and ends with `=`.
pub fn text_parameter(key: &[u8], text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    quoted(text, out);
}

/// A string of RFC 9651: only the quote and the backslash are escaped.
pub fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.push(b'\\');
        out.extend(after.first());
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
