//! What a body says it is: its media type, its character set and its coding.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::fields::Fields;
use crate::refusal::{Reason, Refusal};

/// How a body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`, everything that ends in `+json`, and `text/json`, which servers read alike.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart,
    /// `text/…`, and XML of any name: one text.
    Text,
    /// Anything else, which nothing here can look into.
    Opaque,
}

/// A media type as it was sent, without its parameters (RFC 9110, section 8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `type/subtype`, in lower case.
    pub essence: Box<str>,
    /// The boundary of a multipart type.
    pub boundary: Option<Box<str>>,
}

impl Media {
    /// How a body of this type is to be read.
    pub fn kind(&self) -> Kind {
        kind(&self.essence)
    }
}

/// How a body of this type is to be read; `essence` is in lower case.
pub fn kind(essence: &str) -> Kind {
    let (_, subtype) = essence.split_once('/').unwrap_or_default();
    match essence {
        "application/json" | "text/json" => Kind::Json,
        "application/x-www-form-urlencoded" => Kind::Form,
        "multipart/form-data" => Kind::Multipart,
        _ if subtype.ends_with("+json") => Kind::Json,
        _ if essence.starts_with("text/") || subtype == "xml" || subtype.ends_with("+xml") => {
            Kind::Text
        }
        _ => Kind::Opaque,
    }
}

/// Whether `text` is `type/subtype` and nothing more.
pub fn is_essence(text: &str) -> bool {
    text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// The media type of a body; nothing when none was sent.
///
/// # Errors
/// `content-type-refused` when it was sent twice, when it is malformed, when a parameter stands in it
/// twice, or when the character set is not UTF-8. Two readers would take such a type for two things.
pub fn media(headers: &Fields) -> Result<Option<Media>, Refusal> {
    let refuse = |why: &'static str| Refusal::new(Reason::ContentTypeRefused).because(why);
    let mut values = headers.get_all(CONTENT_TYPE);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refuse("sent twice"));
    }
    let text = value.to_str().map_err(|_| refuse("not ASCII"))?;
    let (essence, mut rest) = match text.split_once(';') {
        Some((essence, rest)) => (essence, Some(rest)),
        None => (text, None),
    };
    let essence = essence.trim_matches(BLANK);
    if !is_essence(essence) {
        return Err(refuse("not a media type"));
    }
    let mut media = Media { essence: essence.to_ascii_lowercase().into(), boundary: None };
    let mut charset = false;
    let mut others: Vec<String> = Vec::new();
    while let Some(parameters) = rest {
        let (name, value, after) = parameter(parameters).ok_or_else(|| refuse("malformed"))?;
        rest = after;
        match name.as_str() {
            "charset" if charset => return Err(refuse("charset stands twice")),
            "charset" if value.eq_ignore_ascii_case("utf-8") => charset = true,
            "charset" => return Err(refuse("the character set is not UTF-8")),
            "boundary" if media.boundary.is_some() => return Err(refuse("boundary stands twice")),
            "boundary" => media.boundary = Some(value.into()),
            _ if others.contains(&name) => return Err(refuse("a parameter stands twice")),
            _ if others.len() >= PARAMETERS_MAX => return Err(refuse("too many parameters")),
            _ => others.push(name),
        }
    }
    Ok(Some(media))
}

/// Refuses a body that is coded in any way. Nothing here inflates, so nothing here could inspect it.
pub fn refuse_encoded(headers: &Fields) -> Result<(), Refusal> {
    refuse_encodings_but(headers, &[])
}

/// Refuses a body with a coding that is not among `accepted`, which are in lower case.
pub fn refuse_encodings_but(headers: &Fields, accepted: &[Box<str>]) -> Result<(), Refusal> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let known = |coding: &str| {
            let coding = coding.trim_matches(BLANK);
            coding.eq_ignore_ascii_case("identity")
                || accepted.iter().any(|known| coding.eq_ignore_ascii_case(known))
        };
        if !value.to_str().is_ok_and(|codings| codings.split(',').all(known)) {
            return Err(Refusal::new(Reason::ContentEncodingRefused));
        }
    }
    Ok(())
}

/// How many parameters beside `charset` and `boundary` a media type may have.
const PARAMETERS_MAX: usize = 8;

/// Optional white space.
const BLANK: [char; 2] = [' ', '\t'];

/// Reads `name=value`, and what comes behind its semicolon.
fn parameter(text: &str) -> Option<(String, String, Option<&str>)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_start_matches(BLANK);
    if !is_token(name) {
        return None;
    }
    let (value, after) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find(';').unwrap_or(rest.len());
            let (value, after) = rest.split_at_checked(end)?;
            let value = value.trim_end_matches(BLANK);
            if !is_token(value) {
                return None;
            }
            (value.to_owned(), after)
        }
    };
    let after = match after.trim_start_matches(BLANK) {
        "" => None,
        after => Some(after.strip_prefix(';')?),
    };
    Some((name.to_ascii_lowercase(), value, after))
}

/// Reads a quoted string from behind its opening quote (RFC 9110, section 5.6.4).
pub(in crate::inspect) fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// Whether `text` is a token (RFC 9110, section 5.6.2).
pub(in crate::inspect) fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &str) -> Option<Media> {
        let mut headers = Fields::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        media(&headers).ok().flatten()
    }

    #[test]
    fn media_types_are_read_strictly() {
        for (value, essence) in [
            ("application/json", "application/json"),
            ("Application/JSON", "application/json"),
            ("application/json; charset=utf-8", "application/json"),
            ("application/json;charset=\"UTF-8\"", "application/json"),
            ("application/json ; Charset=utf-8 ; version=1", "application/json"),
            ("application/json;profile=\"a;b\\\"c\"", "application/json"),
        ] {
            assert_eq!(&*read(value).unwrap().essence, essence, "{value}");
        }
        for value in [
            "",
            "json",
            "/json",
            "application/",
            "application/json/x",
            "application/json, text/plain",
            "application/json;",
            "application/json; charset",
            "application/json; charset=",
            "application/json; charset=utf-7",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset=utf-8; charset=utf-8",
            "application/json; a=1; A=2",
            "application/json; charset = utf-8",
            "application/json; charset=\"utf-8",
            "application/json; charset=\"utf-8\"x",
            "multipart/form-data; boundary=a; boundary=b",
            "application/json; a=1;b=1;c=1;d=1;e=1;f=1;g=1;h=1;i=1",
            "applic\u{e4}tion/json",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn two_types_are_refused() {
        let mut headers = Fields::new();
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert_eq!(media(&headers).unwrap_err().reason, Reason::ContentTypeRefused);
    }

    #[test]
    fn the_boundary_is_kept() {
        let media = read("multipart/form-data; boundary=\"a b\"").unwrap();
        assert_eq!(media.boundary.as_deref(), Some("a b"));
        assert_eq!(media.kind(), Kind::Multipart);
    }

    #[test]
    fn kinds_follow_from_the_type() {
        for (essence, expected) in [
            ("application/json", Kind::Json),
            ("application/merge-patch+json", Kind::Json),
            ("application/x-www-form-urlencoded", Kind::Form),
            ("text/csv", Kind::Text),
            ("application/xml", Kind::Text),
            ("application/atom+xml", Kind::Text),
            ("application/jsonx", Kind::Opaque),
            ("image/png", Kind::Opaque),
        ] {
            assert_eq!(kind(essence), expected, "{essence}");
        }
    }

    #[test]
    fn codings_pass_only_where_they_are_named() {
        let gzip: [Box<str>; 1] = ["gzip".into()];
        for (value, bare, named) in [
            ("identity", true, true),
            ("gzip", false, true),
            ("GZIP, identity", false, true),
            ("gzip, br", false, false),
            ("", false, false),
        ] {
            let mut headers = Fields::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(refuse_encoded(&headers).is_ok(), bare, "{value}");
            assert_eq!(refuse_encodings_but(&headers, &gzip).is_ok(), named, "{value}");
        }
    }
}
