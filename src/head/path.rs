//! Makes a path canonical, or says why two readers could understand it differently.

use percent_encoding::percent_decode_str;

/// The longest path that is read, in bytes.
pub const PATH_BYTES_MAX: usize = 8 * 1024;

/// The canonical form of an absolute path (RFC 3986, section 6.2.2): unreserved characters stand
/// for themselves, all other percent triplets are in upper case. Canonical paths stay as they are.
///
/// Nothing is repaired. Where servers are known to disagree (dot segments, empty segments, encoded
/// separators, a second layer of encoding, path parameters), the path is refused, because the
/// service behind might read another path than the one whose rules were applied. A slash at the
/// end is part of the path, and `%3F` and `%23` stay encoded: the path was cut from the query
/// before anything was decoded.
///
/// # Errors
/// What is ambiguous, in words for the record.
pub fn canonical(raw: &str) -> Result<Box<str>, &'static str> {
    if raw.len() > PATH_BYTES_MAX {
        return Err("the path is longer than 8 KiB");
    }
    let Some(segments) = raw.strip_prefix('/') else {
        return Err("the path does not begin with a slash");
    };
    let mut encoded = false;
    for byte in segments.bytes() {
        if byte == b'%' {
            encoded = true;
        } else if !stands_plain(byte) {
            return Err(why_not_plain(byte));
        }
    }
    if !encoded {
        check_segments(segments)?;
        return Ok(raw.into());
    }
    let path = decode_unreserved(raw)?;
    check_segments(path.get(1..).unwrap_or_default())?;
    Ok(path.into_boxed_str())
}

/// The byte that a percent triplet means, given what follows the `%`, and what follows the triplet.
pub(in crate::head) fn triplet(after_percent: &str) -> Option<(u8, &str)> {
    let (digits, rest) = after_percent.split_at_checked(2)?;
    let byte = digits.chars().try_fold(0, |byte, digit| Some(byte * 16 + digit.to_digit(16)?))?;
    Some((u8::try_from(byte).ok()?, rest))
}

/// Whether percent triplets beyond ASCII make valid UTF-8. Overlong forms do not.
pub(in crate::head) fn decodes_to_utf8(text: &str) -> bool {
    percent_decode_str(text).decode_utf8().is_ok()
}

/// The characters of a path (`pchar` and `/` of RFC 3986) without `;`, which some servers cut off.
fn stands_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
        || matches!(byte, b'*' | b'+' | b',' | b'=')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn why_not_plain(byte: u8) -> &'static str {
    match byte {
        b'\\' => "the path has a backslash",
        b';' => "the path has a semicolon",
        byte if byte.is_ascii_control() => "the path has a control character",
        byte if !byte.is_ascii() => "the path has a byte beyond ASCII that is not encoded",
        _ => "the path has a character that must be encoded",
    }
}

fn decode_unreserved(raw: &str) -> Result<String, &'static str> {
    let mut path = String::with_capacity(raw.len());
    let mut beyond_ascii = false;
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('%') {
        path.push_str(before);
        let Some((byte, after_triplet)) = triplet(after) else {
            return Err("the path has a malformed percent triplet");
        };
        match byte {
            b'/' => return Err("the path has an encoded slash"),
            b'\\' => return Err("the path has an encoded backslash"),
            b'%' => return Err("the path is encoded twice"),
            b';' => return Err("the path has an encoded semicolon"),
            0..=0x1F | 0x7F => return Err("the path has an encoded control character"),
            byte if is_unreserved(byte) => path.push(char::from(byte)),
            byte => {
                beyond_ascii |= !byte.is_ascii();
                path.push('%');
                path.extend(after.chars().take(2).map(|digit| digit.to_ascii_uppercase()));
            }
        }
        rest = after_triplet;
    }
    path.push_str(rest);
    if beyond_ascii {
        let Ok(text) = percent_decode_str(&path).decode_utf8() else {
            return Err("the path is not UTF-8");
        };
        if text.chars().any(char::is_control) {
            return Err("the path has an encoded control character");
        }
    }
    Ok(path)
}

fn check_segments(segments: &str) -> Result<(), &'static str> {
    let mut segments = segments.as_bytes().split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"." | b".." => return Err("the path has a dot segment"),
            b"" if segments.peek().is_some() => return Err("the path has an empty segment"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_clear_becomes_canonical() {
        for (raw, expected) in [
            ("/", "/"),
            ("/v1/tasks", "/v1/tasks"),
            ("/v1/tasks/", "/v1/tasks/"),
            ("/%61dmin", "/admin"),
            ("/ADMIN", "/ADMIN"),
            ("/a%2db%7ec%5Fd%2E", "/a-b~c_d."),
            ("/a/...", "/a/..."),
            ("/a%3fb%23c", "/a%3Fb%23c"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
            ("/%3Adone", "/%3Adone"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for (raw, why) in [
            ("", "slash"),
            ("admin", "slash"),
            ("/a/../admin", "dot segment"),
            ("/a/..", "dot segment"),
            ("/./a", "dot segment"),
            ("/admin/.", "dot segment"),
            ("/%2e%2e/admin", "dot segment"),
            ("/.%2E/admin", "dot segment"),
            ("/a/..%2fadmin", "encoded slash"),
            ("/a%2Fb", "encoded slash"),
            ("//admin", "empty segment"),
            ("/a//b", "empty segment"),
            ("/a//", "empty segment"),
            ("//", "empty segment"),
            ("/admin;x", "semicolon"),
            ("/..;/admin", "semicolon"),
            ("/admin%3bx", "semicolon"),
            ("/\\admin", "backslash"),
            ("/a%5c..%5cadmin", "encoded backslash"),
            ("/%252e%252e/admin", "twice"),
            ("/%25%32%65", "twice"),
            ("/a%25", "twice"),
            ("/%c0%af", "not UTF-8"),
            ("/%e0%80%af", "not UTF-8"),
            ("/%c3", "not UTF-8"),
            ("/%c3/%a9", "not UTF-8"),
            ("/%ed%a0%80", "not UTF-8"),
            ("/%ff", "not UTF-8"),
            ("/a%00", "control"),
            ("/a%0d%0ab", "control"),
            ("/a%7f", "control"),
            ("/a%c2%85", "control"),
            ("/a\u{1}", "control"),
            ("/a\0b", "control"),
            ("/é", "beyond ASCII"),
            ("/a b", "must be encoded"),
            ("/a\"b", "must be encoded"),
            ("/a{b}", "must be encoded"),
            ("/a#b", "must be encoded"),
            ("/a?b", "must be encoded"),
            ("/%", "triplet"),
            ("/%4", "triplet"),
            ("/%zz", "triplet"),
            ("/%+1", "triplet"),
            ("/%4é", "beyond ASCII"),
        ] {
            let refused = canonical(raw).expect_err(raw);
            assert!(refused.contains(why), "{raw}: {refused}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert!(canonical(&long).is_err());
    }

    proptest! {
        #[test]
        fn canonical_paths_stay_as_they_are(raw in "/([a-c./~%]|%[2-7c][0-9a-fA-F]|%[cC]3%[aA][0-9])*") {
            if let Ok(once) = canonical(&raw) {
                prop_assert_eq!(canonical(&once), Ok(once.clone()));
                let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
                prop_assert_eq!(decode(&raw), decode(&once));
            }
        }

        #[test]
        fn no_text_is_read_as_a_path_that_climbs(raw in "([a./;]|\\.\\./|%2[eEfF]|%5[cC]|%25|\\PC){0,6}") {
            if let Ok(path) = canonical(&format!("/{raw}")) {
                let decoded = percent_decode_str(&path).decode_utf8().unwrap().into_owned();
                prop_assert!(decoded.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(decoded.matches('/').count(), path.matches('/').count());
                prop_assert!(!decoded.contains(['\\', ';', '\0']) && !decoded.contains("//"));
            }
        }
    }
}
