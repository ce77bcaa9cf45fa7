//! Reads `multipart/form-data` strictly: what two readers could read in two ways is refused.

use std::str;

use memchr::memmem::{self, Finder};

use crate::inspect::content::{is_token, unquote};

/// One part of a form.
pub(in crate::inspect::look) struct Part<'b> {
    /// The field's name.
    pub(in crate::inspect::look) name: String,
    /// The name of the file, if the part is one.
    pub(in crate::inspect::look) file: Option<String>,
    /// The bytes of the part.
    pub(in crate::inspect::look) content: &'b [u8],
}

/// How many parts a form may have.
const PARTS_MAX: usize = 1000;

/// How long the headers of a part may be.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The parts of a form, one after the other (RFC 7578, RFC 2046 section 5.1).
pub(in crate::inspect::look) struct Parts<'b> {
    rest: &'b [u8],
    /// `CRLF -- boundary`.
    delimiter: Finder<'static>,
    parts: usize,
    ended: bool,
}

impl<'b> Parts<'b> {
    /// The parts of a body; nothing if the boundary is none. There may be no preamble.
    pub(in crate::inspect::look) fn new(body: &'b [u8], boundary: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        if boundary.is_empty() || boundary.len() > 70 || !boundary.bytes().all(allowed) {
            return None;
        }
        let first = format!("--{boundary}");
        Some(Self {
            // A body that does not begin with the delimiter is found malformed at its first part.
            rest: body.strip_prefix(first.as_bytes()).unwrap_or_default(),
            delimiter: Finder::new(&format!("\r\n{first}")).into_owned(),
            parts: 0,
            ended: false,
        })
    }

    /// Reads from behind a delimiter to behind the next; nothing at the end of the form.
    fn part(&mut self) -> Result<Option<Part<'b>>, &'static str> {
        let behind = match self.rest {
            [b'-', b'-'] | [b'-', b'-', b'\r', b'\n'] => return Ok(None),
            [b'\r', b'\n', behind @ ..] => behind,
            _ => return Err("no part where one must stand"),
        };
        self.parts += 1;
        if self.parts > PARTS_MAX {
            return Err("too many parts");
        }
        let end = self.delimiter.find(behind).ok_or("a part without its end")?;
        let (part, after) = behind.split_at_checked(end).ok_or("a part without its end")?;
        self.rest = after.get(self.delimiter.needle().len()..).unwrap_or_default();
        let blank = memmem::find(part, b"\r\n\r\n").ok_or("a part without its headers")?;
        let head = part.get(..blank).filter(|head| head.len() <= HEAD_BYTES_MAX);
        let head = head.and_then(|head| str::from_utf8(head).ok()).ok_or("malformed headers")?;
        let content = part.get(blank + 4..).unwrap_or_default();
        let (name, file) = disposition(head)?;
        Ok(Some(Part { name, file, content }))
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = Result<Part<'b>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let part = self.part().transpose();
        self.ended = !matches!(part, Some(Ok(_)));
        part
    }
}

/// The name and the file name from a part's headers. Other headers than `Content-Disposition` and
/// `Content-Type` are deprecated there, and a transfer encoding would hide what is inspected.
fn disposition(head: &str) -> Result<(String, Option<String>), &'static str> {
    let mut found = None;
    let mut typed = false;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or("malformed headers")?;
        let value = value.trim_matches([' ', '\t']);
        if value.contains(|character: char| character.is_ascii_control()) {
            return Err("malformed headers");
        }
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if found.is_none() => {
                found = Some(names(value).ok_or("a malformed disposition")?);
            }
            "content-type" if !typed => {
                typed = true;
                if !is_utf8(value) {
                    return Err("a part whose character set is not UTF-8");
                }
            }
            _ => return Err("a header that parts do not have"),
        }
    }
    found.ok_or("a part without a name")
}

/// Whether a part's type names no character set, or UTF-8 and no other.
fn is_utf8(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    lower.split("charset").skip(1).all(|after| {
        let value = after.strip_prefix('=').unwrap_or_default();
        let end = value.find([';', ' ', '\t']).unwrap_or(value.len());
        matches!(value.get(..end), Some("utf-8" | "\"utf-8\""))
    })
}

/// Reads `form-data; name="…"; filename="…"`.
fn names(value: &str) -> Option<(String, Option<String>)> {
    let mut rest = value.strip_prefix("form-data")?;
    let (mut name, mut file) = (None, None);
    while !rest.is_empty() {
        let (key, after) =
            rest.strip_prefix(';')?.trim_start_matches([' ', '\t']).split_once('=')?;
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (token, after) =
                    after.split_at_checked(after.find(';').unwrap_or(after.len()))?;
                (is_token(token).then(|| token.to_owned())?, after)
            }
        };
        match key {
            "name" if name.is_none() => name = Some(text),
            "filename" if file.is_none() => file = Some(text),
            // `filename*` and whatever else: readers differ on which of two names holds.
            _ => return None,
        }
        rest = after;
    }
    Some((name?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = (String, Option<String>, String);

    fn read(body: &str) -> Result<Vec<Told>, &'static str> {
        Parts::new(body.as_bytes(), "XX")
            .unwrap()
            .map(|part| {
                let part = part?;
                let content = String::from_utf8(part.content.to_vec()).unwrap();
                Ok((part.name, part.file, content))
            })
            .collect()
    }

    #[test]
    fn parts_are_read() {
        let read = read(concat!(
            "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n",
            "--XX\r\ncontent-disposition: form-data; name=b; filename=\"x \\\"y\\\".txt\"\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n\r\n\r\n--X\r\n--XX--\r\n",
        ));
        assert_eq!(
            read.unwrap(),
            [
                ("a".to_owned(), None, "one".to_owned()),
                ("b".to_owned(), Some("x \"y\".txt".to_owned()), "\r\n--X".to_owned()),
            ]
        );
        assert!(Parts::new(b"--XX--", "XX").unwrap().next().is_none());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let good = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--XX--";
        assert!(read(good).is_ok());
        for (from, to) in [
            ("--XX\r\n", "preamble\r\n--XX\r\n"),
            ("--XX\r\n", "--XX \r\n"),
            ("--XX\r\n", "--XX\n"),
            ("\r\n\r\n", "\n\n"),
            ("one\r\n--XX--", "one"),
            ("--XX--", "--XX--\r\nepilogue"),
            ("--XX--", "--XX-"),
            ("--XX--", "--XXX--"),
            ("Content-Disposition", "Content-Disposition "),
            ("Content-Disposition", "X-A: b\r\nContent-Disposition"),
            ("Content-Disposition", "Content-Transfer-Encoding: base64\r\nContent-Disposition"),
            (
                "Content-Disposition",
                "Content-Type: text/plain; charset=utf-7\r\nContent-Disposition",
            ),
            (
                "Content-Disposition",
                "Content-Type: text/plain; charset=utf-7; x=utf-8\r\nContent-Disposition",
            ),
            ("Content-Disposition: form-data", "Content-Disposition: attachment"),
            ("; name=\"a\"", ""),
            ("; name=\"a\"", "; name=\"a\"; name=\"b\""),
            ("; name=\"a\"", "; name=\"a\"; filename*=utf-8''x"),
            ("; name=\"a\"", "; name=\"a\";"),
            ("; name=\"a\"", "; name=\"a"),
            ("; name=\"a\"", "; name =\"a\""),
            ("; name=\"a\"", "; name=\"a\nb\""),
            ("; name=\"a\"", "; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\""),
        ] {
            let odd = good.replacen(from, to, 1);
            assert!(read(&odd).is_err(), "{odd}");
        }
        for boundary in ["", " ", "a b", "a\"", &"x".repeat(71)] {
            assert!(Parts::new(good.as_bytes(), boundary).is_none(), "{boundary}");
        }
    }
}
