//! What lists of fields keep, and what they refuse.

use http::header::{ACCEPT, COOKIE, HOST};

use super::*;
use crate::fields::line::LineEnds;
use crate::fields::name::{read_name, usual};

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn some() -> Fields {
    Fields::from_iter([(COOKIE, value("a")), (HOST, value("h")), (COOKIE, value("b"))])
}

#[test]
fn fields_keep_the_order_of_the_wire() {
    let fields = some();
    let names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["cookie", "host", "cookie"]);
    assert_eq!(fields.get_all(COOKIE).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(fields.get("host").unwrap(), "h");
    assert!(!fields.contains_key(ACCEPT));
}

#[test]
fn what_is_set_stands_once_and_what_is_taken_out_is_gone() {
    let mut fields = some();
    fields.insert(COOKIE, value("c"));
    assert_eq!(fields.iter().map(|(_, value)| value).collect::<Vec<_>>(), ["c", "h"]);
    fields.insert(ACCEPT, value("*/*"));
    fields.append(COOKIE, value("d"));
    assert!(fields.remove(COOKIE));
    assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host", "accept"]);
    assert!(!fields.remove("cookie"));
}

#[test]
fn usual_names_are_what_the_general_way_reads() {
    for name in [
        "Host",
        "Date",
        "ETag",
        "Vary",
        "Accept",
        "Cookie",
        "Server",
        "Origin",
        "User-Agent",
        "Connection",
        "Content-Type",
        "Authorization",
        "Cache-Control",
        "Content-Length",
        "Accept-Encoding",
        "Accept-Language",
        "Transfer-Encoding",
    ] {
        for spelt in [name.to_owned(), name.to_lowercase()] {
            let usual = usual(spelt.as_bytes());
            assert_eq!(usual, HeaderName::from_bytes(spelt.as_bytes()).ok(), "{spelt}");
        }
        let upper = name.to_uppercase();
        assert_eq!(read_name(upper.as_bytes()), name.to_lowercase().parse().ok());
    }
    assert_eq!(read_name(b"Hos t"), None);
    assert_eq!(read_name(b""), None);
}

#[test]
fn lines_are_the_same_whether_their_ends_were_noted_or_not() {
    let text: String = (0..40).map(|number| format!("x-{number}: {number}\r\n")).collect();
    let block = Bytes::from(format!("{text}\r\n"));
    let mut ends = LineEnds::default();
    block.iter().enumerate().filter(|(_, byte)| **byte == b'\n').for_each(|(at, _)| ends.note(at));
    let noted = Fields::read(&block, (0, &ends), 0, (), |_, _| Ok(())).unwrap();
    assert_eq!(
        noted,
        Fields::read(&block, (0, &LineEnds::default()), 0, (), |_, _| Ok(())).unwrap()
    );
    assert_eq!((noted.len(), noted.get("x-39").unwrap().as_bytes()), (40, &b"39"[..]));
}

#[test]
fn short_values_are_those_that_fit_and_are_text() {
    let mut fields = Fields::new();
    fields.insert_short(HOST, Short::of(&[b"a", b"", b"b c"]).unwrap().passing());
    assert_eq!(fields.get(HOST).unwrap(), "ab c");
    assert!(HeaderMap::from(fields).get(HOST).unwrap().is_sensitive());
    assert!(Short::of(&[&[b'x'; 36]]).is_some());
    assert!(Short::of(&[&[b'x'; 36], b"x"]).is_none());
    assert!(Short::of(&[b"a\r\nb: c"]).is_none());
}

#[test]
fn lines_are_read_as_they_stand() {
    let read = |text: &'static str| {
        let block = Bytes::from_static(text.as_bytes());
        Fields::read(&block, (2, &LineEnds::default()), 4, "malformed", |_, _| Ok(()))
    };
    let fields = read("GET a:b\r\nEmpty:\r\nx-c: \t 1 2\t\r\n\r\nhidden: 1\r\n");
    assert_eq!(fields.err(), Some("malformed"), "a name holds no blank");
    let fields = read("..a:b\r\nEmpty:\r\nx-c: \t 1\t2\t\r\n\r\nhidden: 1\r\n").unwrap();
    let shown: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    assert_eq!(shown, [("a", &b"b"[..]), ("empty", b""), ("x-c", b"1\t2")]);
    for bad in [
        "..a: b\rc\r\n\r\n",
        "..a: \0\r\n\r\n",
        "..a: \x7f\r\n\r\n",
        "..a : b\r\n\r\n",
        ".. a: b\r\n\r\n",
        "..a\r\n\r\n",
        "..: b\r\n\r\n",
    ] {
        assert_eq!(read(bad).err(), Some("malformed"), "{bad:?}");
    }
}

#[test]
fn what_is_marked_as_sensitive_stays_so() {
    let mut cookie = value("a=1");
    cookie.set_sensitive(true);
    let mut fields = Fields::new();
    fields.append(COOKIE, cookie);
    assert!(fields.header_values().all(|(_, value)| value.is_sensitive()));
    assert!(HeaderMap::from(fields).get(COOKIE).unwrap().is_sensitive());
}

#[test]
fn values_never_print() {
    let mut fields = some();
    fields.insert_short(ACCEPT, Short::of(&[b"hidden"]).unwrap());
    let block = Bytes::from_static(b"authorization: Bearer hidden\r\n\r\n");
    let read = Fields::read(&block, (0, &LineEnds::default()), 1, (), |_, _| Ok(())).unwrap();
    let shown = format!("{fields:?} {read:?} {:?}", read.get("authorization"));
    assert!(!shown.contains("hidden") && shown.contains("authorization"), "{shown}");
}

#[test]
fn maps_and_fields_hold_the_same() {
    let map = HeaderMap::from(some());
    assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a", "b"]);
    let back = Fields::from(map);
    assert_eq!(back.len(), 3);
    assert_eq!(back.get_all("cookie").collect::<Vec<_>>(), ["a", "b"]);
}
