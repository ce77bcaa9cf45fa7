//! Reads the host that a request is for: exactly one, valid, and the same wherever it is said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::header::HOST;
use memchr::memchr;

use crate::fields::Fields;
use crate::listen::Peer;
use crate::parties::Parties;
use crate::refusal::{Reason, Refusal};

/// The longest host, in bytes (RFC 1035, section 2.3.4, without the root's dot).
pub const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host and the port that was named beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In lower case, without a trailing dot; IPv6 in brackets and in its shortest form.
    pub host: Box<str>,
    /// The port, when one was named and it is not the scheme's own.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host` or `host:port` (RFC 9110, section 7.2). A port of `port_default` counts as none.
    ///
    /// Names are letters, digits, hyphens and underscores, which names inside of companies and of
    /// container networks have. A name that ends in a number is refused unless it is
    /// an IPv4 address of four decimal parts, because resolvers read `127.1` and `0x7f.1` as one.
    ///
    /// # Errors
    /// What is wrong with it, in words for the record.
    pub fn read(text: &str, port_default: u16) -> Result<Self, &'static str> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or("the host has no closing ]")?;
                let address: Ipv6Addr =
                    address.parse().map_err(|_| "the host is not an IPv6 address")?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(read_port(port)?),
                    None if after.is_empty() => None,
                    None => return Err("the host has text after its ]"),
                };
                (format!("[{address}]").into_boxed_str(), port)
            }
            None => match memchr(b':', text.as_bytes()).and_then(|at| text.split_at_checked(at)) {
                Some((name, port)) => {
                    (read_name(name)?, Some(read_port(port.get(1..).unwrap_or_default())?))
                }
                None => (read_name(text)?, None),
            },
        };
        Ok(Self { host, port: port.filter(|port| *port != port_default) })
    }
}

/// The host that a request names, as it was just read or as its connection knows it.
#[derive(Debug)]
pub(in crate::head) enum Named<'a> {
    /// The same as in the connection's first request.
    Kept(&'a Arc<Parties>),
    Read(Authority),
}

impl<'a> Named<'a> {
    /// Reads `text`, unless it is what the connection keeps, letter for letter.
    ///
    /// # Errors
    /// As [`Authority::read`].
    pub(in crate::head) fn read(
        text: &[u8],
        kept: Option<&'a Arc<Parties>>,
        scheme: &str,
    ) -> Result<Self, &'static str> {
        if let Some(kept) = kept.filter(|kept| kept.authority().as_bytes() == text)
            && !text.is_empty()
        {
            return Ok(Self::Kept(kept));
        }
        // What is no text is no host, as nothing is.
        let text = std::str::from_utf8(text).unwrap_or_default();
        Authority::read(text, port_default(scheme)).map(Self::Read)
    }

    pub(in crate::head) fn host(&self) -> &str {
        match self {
            Self::Kept(parties) => parties.host(),
            Self::Read(authority) => &authority.host,
        }
    }

    fn port(&self) -> Option<u16> {
        match self {
            Self::Kept(parties) => parties.port,
            Self::Read(authority) => authority.port,
        }
    }

    /// The parties, of which this is the one that is asked. A connection keeps its first ones.
    pub(in crate::head) fn parties(
        &self,
        (client, scheme): (IpAddr, &'static str),
        peer: &Peer,
    ) -> Arc<Parties> {
        match self {
            Self::Kept(parties) if parties.client == client => Arc::clone(parties),
            named => {
                let parties = Arc::new(Parties::new(client, scheme, named.host(), named.port()));
                // Where there are some, they stay.
                let _ = peer.parties.set(Arc::clone(&parties));
                parties
            }
        }
    }
}

/// Where a request has to name its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::head) enum HostNeeded {
    /// In `Host`, as HTTP/1.1 demands (RFC 9112, section 3.2).
    InHost,
    /// There or in `:authority` (RFC 9113, section 8.3.1).
    InEither,
    /// Nowhere: HTTP/1.0 knows no `Host`.
    No,
}

/// The port that a scheme has when none is named.
pub fn port_default(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// The one host of a request. `stated` is the authority of HTTP/2 or of an absolute-form target,
/// already read. `Host` is taken out of the headers: what it says is in the head from here on.
///
/// # Errors
/// [`Reason::HostMissing`] when there is none, or more than one `Host`; [`Reason::HostMalformed`]
/// when it is not valid or when the two disagree (RFC 9112, section 3.2; RFC 9113, section 8.3.1).
pub(in crate::head) fn agree<'a>(
    headers: &mut Fields,
    stated: Option<Named<'a>>,
    needed: HostNeeded,
    read: impl FnOnce(&[u8]) -> Result<Named<'a>, &'static str>,
) -> Result<Named<'a>, Refusal> {
    let mut lines = headers.get_all(HOST);
    let written = match (lines.next(), lines.next()) {
        (Some(value), None) => Some(
            read(value.as_bytes())
                .map_err(|why| Refusal::new(Reason::HostMalformed).because(why))?,
        ),
        (None, _) => None,
        (Some(_), Some(_)) => {
            return Err(Refusal::new(Reason::HostMissing).because("Host stands more than once"));
        }
    };
    drop(lines);
    if written.is_some() {
        headers.remove(HOST);
    }
    match (written, stated) {
        (Some(written), Some(stated))
            if written.host() == stated.host() && written.port() == stated.port() =>
        {
            Ok(written)
        }
        (Some(_), Some(_)) => {
            Err(Refusal::new(Reason::HostMalformed)
                .because("Host and the target's authority disagree"))
        }
        (Some(written), None) => Ok(written),
        (None, Some(stated)) if needed != HostNeeded::InHost => Ok(stated),
        (None, None) if needed == HostNeeded::No => {
            Ok(Named::Read(Authority { host: "".into(), port: None }))
        }
        (None, _) => Err(Refusal::new(Reason::HostMissing).because("there is no Host")),
    }
}

fn read_port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the port is not a number from 1 to 65535");
    }
    text.parse().map_err(|_| "the port is not a number from 1 to 65535")
}

fn read_name(text: &str) -> Result<Box<str>, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err("the host is empty");
    }
    if name.len() > HOST_BYTES_MAX {
        return Err("the host is longer than 253 bytes");
    }
    const MALFORMED: &str =
        "the host has a label that is not letters, digits, hyphens and underscores";
    // One pass: where the last label begins, and what stood before.
    let (mut label_start, mut before) = (0, b'.');
    for (at, byte) in name.bytes().enumerate() {
        let fits = match byte {
            b'.' => !matches!(before, b'.' | b'-') && at - label_start <= LABEL_BYTES_MAX,
            b'-' => before != b'.',
            byte => byte.is_ascii_alphanumeric() || byte == b'_',
        };
        if !fits {
            return Err(MALFORMED);
        }
        if byte == b'.' {
            label_start = at + 1;
        }
        before = byte;
    }
    let last = name.get(label_start..).unwrap_or_default();
    if matches!(before, b'.' | b'-') || last.len() > LABEL_BYTES_MAX {
        return Err(MALFORMED);
    }
    // Only what begins with a digit can be read as a number.
    if last.starts_with(|first: char| first.is_ascii_digit()) {
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
            || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if numeric && name.parse::<Ipv4Addr>().is_err() {
            return Err("the host is a number that is not an IPv4 address");
        }
    }
    let mut host: Box<str> = name.into();
    host.make_ascii_lowercase();
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_spelling() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("EXAMPLE.com", "example.com", None),
            ("example.com.", "example.com", None),
            ("example.com:443", "example.com", None),
            ("Example.COM.:443", "example.com", None),
            ("example.com:8443", "example.com", Some(8443)),
            ("localhost:80", "localhost", Some(80)),
            ("192.0.2.7", "192.0.2.7", None),
            ("[2001:DB8:0::1]:9", "[2001:db8::1]", Some(9)),
            ("[::1]", "[::1]", None),
            ("Task_Service.internal:9000", "task_service.internal", Some(9000)),
            ("_acme.example", "_acme.example", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ] {
            let read = Authority::read(text, 443).expect(text);
            assert_eq!((&*read.host, read.port), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a.".repeat(127);
        for text in [
            "",
            ".",
            ":80",
            "a..b",
            ".a",
            "a b",
            " a",
            "a\t",
            "user@example.com",
            "ex%61mple.com",
            "-a.example",
            "a-.example",
            "a:",
            "a:0",
            "a:080",
            "a:65536",
            "a:+1",
            "a:8o",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "::1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "127.0.0.0x1",
            "1.2.3.4.5",
            "01.2.3.4",
            "a/b",
            "a?b",
            "a,b",
            "é.example",
            "a\\b",
            "*.example.com",
            "example.com..",
        ] {
            assert!(Authority::read(text, 443).is_err(), "{text:?}");
        }
        assert!(Authority::read(&"a".repeat(64), 443).is_err());
        assert!(Authority::read(&format!("{long}a"), 443).is_err(), "255 bytes");
        assert!(Authority::read(&long, 443).is_ok(), "253 bytes and the root's dot");
    }
}
