//! The little of DER that must be read by ourselves: dates, and the alternative names byte by byte.

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `id-ce-subjectAltName`, 2.5.29.17 (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 0x11];

/// An alternative name that is text by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextName<'a> {
    /// `rfc822Name`.
    Mail(&'a [u8]),
    /// `dNSName`.
    Dns(&'a [u8]),
    /// `uniformResourceIdentifier`.
    Uri(&'a [u8]),
}

/// When a certificate expires, in Unix seconds (RFC 5280, section 4.1). Nothing when the bytes are
/// no certificate, or it expires before 1970.
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    let (validity, _after) = element(after_issuer(certificate)?, SEQUENCE)?;
    let (_not_before, validity) = time(validity)?;
    let (not_after, _) = time(validity)?;
    Some(not_after)
}

/// When a revocation list must have been replaced by a newer one, in Unix seconds (RFC 5280,
/// section 5.1.2.5). Nothing when the bytes are no such list, or it has no end.
pub(super) fn next_update(list: &[u8]) -> Option<u64> {
    let (list, _) = element(list, SEQUENCE)?;
    let (signed, _) = element(list, SEQUENCE)?;
    let (_version, signed) = element(signed, INTEGER).unwrap_or((&[], signed));
    let (_algorithm, signed) = element(signed, SEQUENCE)?;
    let (_issuer, signed) = element(signed, SEQUENCE)?;
    let (_this_update, signed) = time(signed)?;
    time(signed).map(|(next_update, _)| next_update)
}

/// The alternative names of a certificate that are text, exactly as their bytes stand; none when it
/// has no such extension. Nothing when the bytes are not what RFC 5280 says they are.
pub(super) fn text_names(certificate: &[u8]) -> Option<Vec<TextName<'_>>> {
    let (_validity, rest) = element(after_issuer(certificate)?, SEQUENCE)?;
    let (_subject, rest) = element(rest, SEQUENCE)?;
    let (_key, rest) = element(rest, SEQUENCE)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let (extensions, _) = element(rest, EXTENSIONS)?;
    let (mut extensions, _) = element(extensions, SEQUENCE)?;
    while !extensions.is_empty() {
        let (extension, after) = element(extensions, SEQUENCE)?;
        let (kind, extension) = element(extension, OBJECT)?;
        let (_critical, extension) = element(extension, BOOLEAN).unwrap_or((&[], extension));
        if kind == ALTERNATIVE_NAMES {
            let (value, _) = element(extension, OCTETS)?;
            return names(value);
        }
        extensions = after;
    }
    Some(Vec::new())
}

fn names(value: &[u8]) -> Option<Vec<TextName<'_>>> {
    let (mut names, rest) = element(value, SEQUENCE)?;
    let mut found = Vec::new();
    while let Some(&tag) = names.first() {
        let (name, after) = element(names, tag)?;
        match tag {
            0x81 => found.push(TextName::Mail(name)),
            0x82 => found.push(TextName::Dns(name)),
            0x86 => found.push(TextName::Uri(name)),
            _ => {}
        }
        names = after;
    }
    rest.is_empty().then_some(found)
}

/// What follows the issuer in a certificate's signed part.
fn after_issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, rest) = element(certificate, SEQUENCE)?;
    if !rest.is_empty() {
        return None;
    }
    let (signed, _) = element(certificate, SEQUENCE)?;
    let (_version, signed) = element(signed, VERSION).unwrap_or((&[], signed));
    let (_serial, signed) = element(signed, INTEGER)?;
    let (_algorithm, signed) = element(signed, SEQUENCE)?;
    let (_issuer, signed) = element(signed, SEQUENCE)?;
    Some(signed)
}

/// The content of the DER element at the front, which must have this tag, and what follows it.
pub(super) fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, bytes) = bytes.split_first()?;
    let (&length, bytes) = bytes.split_first()?;
    if first != tag {
        return None;
    }
    if length < 0x80 {
        return bytes.split_at_checked(length.into());
    }
    let (length, bytes) = bytes.split_at_checked((length & 0x7f).into())?;
    // DER has one way to write a length: no leading zero, and the long form only where it is needed.
    if length.is_empty() || length.len() > 4 || length.first() == Some(&0) {
        return None;
    }
    let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    if length < 0x80 {
        return None;
    }
    bytes.split_at_checked(length)
}

/// A UTCTime or GeneralizedTime, both as RFC 5280 narrows them: seconds, and `Z`.
fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let (text, rest, century_known) = match element(bytes, UTC_TIME) {
        Some((text, rest)) => (text, rest, false),
        None => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, rest, true))?,
    };
    let digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    let wanted = if century_known { 14 } else { 12 };
    if digits.len() != wanted || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest_of_time) = digits.split_at_checked(wanted - 10)?;
    let year: i16 = year.parse().ok()?;
    let year = match (century_known, year) {
        (true, year) => year,
        (false, 50..) => 1900 + year,
        (false, year) => 2000 + year,
    };
    let two = |at: usize| rest_of_time.get(at..at + 2)?.parse::<i8>().ok();
    let civil =
        jiff::civil::DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    let stamp = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some((u64::try_from(stamp.as_second()).ok()?, rest))
}
