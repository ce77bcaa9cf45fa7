//! Finds the address of the caller, from right to left through the proxies that are trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderName};

use crate::fields::Fields;
use crate::fields::value::Value;
use crate::units::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// More proxies in a row than this are not followed.
const HOPS_MAX: usize = 64;

/// The address of the caller.
///
/// A peer that is not trusted is the caller, whatever it says. A trusted one is asked whom it
/// forwards for: the right-most entry is what it wrote itself, everything left of it was handed to
/// it. So entries are followed from the right for as long as they are trusted proxies, and never
/// past one that is not an address. `Forwarded` (RFC 7239) is read only when there is no
/// `X-Forwarded-For`, because proxies that write the one hand on the other as the caller sent it.
pub(in crate::head) fn address(peer: IpAddr, headers: &Fields, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    if headers.contains_key(X_FORWARDED_FOR) {
        follow(peer, entries(headers, &X_FORWARDED_FOR).map(node), is_trusted)
    } else {
        follow(peer, entries(headers, &FORWARDED).map(forwarded_for), is_trusted)
    }
}

/// The scheme of the caller: what the connection is, unless a trusted proxy says what the one before
/// it was. The right-most entry of `X-Forwarded-Proto` is what that proxy wrote itself; one that is
/// neither `http` nor `https` says nothing.
pub(in crate::head) fn scheme(
    own: &'static str,
    peer_is_trusted: bool,
    headers: &Fields,
) -> &'static str {
    if !peer_is_trusted {
        return own;
    }
    match entries(headers, &X_FORWARDED_PROTO).next().map(str::trim_ascii) {
        Some(said) if said.eq_ignore_ascii_case("https") => "https",
        Some(said) if said.eq_ignore_ascii_case("http") => "http",
        Some(_) | None => own,
    }
}

fn follow(
    peer: IpAddr,
    entries: impl Iterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut last = peer;
    for entry in entries.take(HOPS_MAX) {
        let Some(address) = entry else { return last };
        last = address;
        if !is_trusted(address) {
            return last;
        }
    }
    last
}

/// The entries of a list header, the last one first. A line that is not text is one bad entry.
///
/// Cutting at commas from the right, without regard to quotes, is on purpose: a quote that the
/// caller leaves open cannot swallow what a proxy appended, and a quoted comma makes entries that
/// are no addresses, where the search stops.
fn entries<'a>(headers: &'a Fields, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).rev();
    lines.flat_map(|line: Value<'a>| line.to_str().unwrap_or_default().rsplit(','))
}

/// An address as proxies write it: plain, with a port, or IPv6 in brackets.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let has_port = after.strip_prefix(':').is_some_and(is_port);
        (after.is_empty() || has_port).then(|| address.parse::<Ipv6Addr>().ok())?.map(IpAddr::V6)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        Some(address)
    } else {
        let (address, port) = text.split_once(':')?;
        is_port(port).then(|| address.parse::<Ipv4Addr>().ok())?.map(IpAddr::V4)
    };
    address.map(|address| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The `for` of one element of `Forwarded`. It must stand exactly once.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    match value.strip_prefix('"') {
        Some(quoted) => node(quoted.strip_suffix('"')?),
        None => node(value),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn found(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted: Vec<Network> = ["10.0.0.0/8", "2001:db8:aaaa::/48"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let mut headers = Fields::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right() {
        for (list, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            ("6.6.6.6, 198.51.100.7", "198.51.100.7"),
            ("6.6.6.6, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("198.51.100.7, ::ffff:10.3.3.3", "198.51.100.7"),
            ("198.51.100.7, 2001:db8:aaaa::1", "198.51.100.7"),
            ("unknown", "10.0.0.1"),
            ("198.51.100.7, unknown", "10.0.0.1"),
            ("198.51.100.7, unknown, 10.4.4.4", "10.4.4.4"),
            ("_hidden", "10.0.0.1"),
            ("198.51.100.7,", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("198.51.100.7 10.0.0.2", "10.0.0.1"),
            ("198.51.100.7:99999", "10.0.0.1"),
            ("198.51.100.7:", "10.0.0.1"),
            ("[2001:db8::7", "10.0.0.1"),
            ("[2001:db8::7]x", "10.0.0.1"),
            ("[198.51.100.7]", "10.0.0.1"),
            ("010.1.1.1", "10.0.0.1"),
            ("é", "10.0.0.1"),
        ] {
            assert_eq!(found("10.0.0.1", &[("x-forwarded-for", list)]), expected, "{list}");
        }
    }

    #[test]
    fn lines_are_one_list() {
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7, 10.1.1.1")];
        assert_eq!(found("10.0.0.1", &lines), "198.51.100.7");
    }

    #[test]
    fn forwarded_is_read_when_it_stands_alone() {
        for (list, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=6.6.6.6, for=192.0.2.60, proto=https;FOR=10.5.5.5", "192.0.2.60"),
            ("for=\"6.6.6.6, for=192.0.2.60", "192.0.2.60"),
            ("for=unknown", "10.0.0.1"),
            ("for=_gazonk", "10.0.0.1"),
            ("for=1.2.3.4;for=5.6.7.8", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=\"1.2.3.4", "10.0.0.1"),
        ] {
            assert_eq!(found("10.0.0.1", &[("forwarded", list)]), expected, "{list}");
        }
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.60")];
        assert_eq!(found("10.0.0.1", &both), "192.0.2.60");
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_caller() {
        let lines = [("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(found("203.0.113.5", &lines), "203.0.113.5");
        assert_eq!(found("::ffff:203.0.113.5", &lines), "203.0.113.5");
        assert_eq!(found("::ffff:10.0.0.1", &lines), "6.6.6.6");
    }
}
