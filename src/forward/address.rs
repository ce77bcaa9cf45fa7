//! The address of a target, as an operator writes it: `http://127.0.0.1:9000`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use http::Uri;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;

/// The most targets that one upstream may have.
const TARGETS_MAX: usize = 256;

/// Where a target is.
#[derive(Clone, Debug)]
pub struct Address {
    text: Box<str>,
    secure: bool,
    host: Host,
    port: u16,
    authority: Authority,
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address that needs no looking up.
    Ip(IpAddr),
    /// A name in lower case, looked up whenever a connection is opened.
    Name(Box<str>),
}

impl Address {
    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the address.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (secure, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err("begins with neither http:// nor https://"),
        };
        if rest.contains('@') {
            return Err("holds a user name; credentials have no place in an address");
        }
        if rest.contains(['/', '?', '#']) {
            return Err("holds a path; a target is a host and a port alone");
        }
        let (host, port) = split(rest)?;
        let port = match port {
            None => 80 + u16::from(secure) * 363,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or("names a port that is not from 1 to 65535")?,
            Some(_) => return Err("names a port that is not from 1 to 65535"),
        };
        let host = parse_host(host)?;
        let written = match (&host, secure, port) {
            (host, true, 443) | (host, false, 80) => host.to_string(),
            (host, _, port) => format!("{host}:{port}"),
        };
        let authority =
            Authority::try_from(written.as_str()).map_err(|_| "is not a valid address")?;
        Ok(Self { text: text.into(), secure, host, port, authority })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is spoken to with TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether it lies on this machine beyond doubt.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => &**name == "localhost",
        }
    }

    /// Whether it is `listener`, one of the gateway's own. A listener on every address of the
    /// machine is met on loopback, too.
    pub fn meets(&self, listener: SocketAddr) -> bool {
        let same = match &self.host {
            Host::Ip(ip) => same_ip(*ip, listener.ip()),
            Host::Name(_) if self.is_loopback() => {
                listener.ip().is_loopback() || listener.ip().is_unspecified()
            }
            Host::Name(_) => false,
        };
        same && self.port == listener.port()
    }

    /// What names the target itself: the authority of a URI, and the value of `Host`.
    pub(in crate::forward) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The URI of a path at this target, under the name `authority`, as HTTP/2 carries it.
    pub(in crate::forward) fn uri(&self, authority: Authority, path: PathAndQuery) -> Option<Uri> {
        let mut parts = Parts::default();
        parts.scheme = Some(if self.secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(authority);
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }
}

/// All addresses, or nothing when one of them cannot be used.
pub(in crate::forward) fn compile_all(
    written: &[At<String>],
    span: &Range<usize>,
    forbidden: &[SocketAddr],
    reading: &mut Reading<'_>,
) -> Option<Vec<Address>> {
    const EXAMPLE: &str = "write for example targets = [\"http://127.0.0.1:9000\"]";
    if written.is_empty() || written.len() > TARGETS_MAX {
        let says = format!("an upstream has from 1 to {TARGETS_MAX} targets");
        reading.wrong(Code::WrongValue, span, says, EXAMPLE);
        return None;
    }
    let mut sound = true;
    let mut addresses: Vec<Address> = Vec::with_capacity(written.len());
    for text in written {
        let address = match Address::parse(text) {
            Ok(address) => address,
            Err(fault) => {
                let says = format!("the target `{}` {fault}", text.value);
                reading.wrong(Code::BadAddress, &text.span, says, EXAMPLE);
                sound = false;
                continue;
            }
        };
        if forbidden.iter().any(|listener| address.meets(*listener)) {
            let says = format!("the target `{}` is the gateway's own admin listener", text.value);
            let help = "name the service behind; callers must never reach the admin listener";
            reading.wrong(Code::BadAddress, &text.span, says, help);
            sound = false;
        }
        let same =
            |known: &Address| known.host() == address.host() && known.port() == address.port();
        if addresses.iter().any(same) {
            let says = format!("the target `{}` stands there twice", text.value);
            reading.wrong(Code::DefinedTwice, &text.span, says, "remove one of the two");
            sound = false;
        }
        if !address.is_secure() && !address.is_loopback() {
            let says = format!("the target `{}` is spoken to without TLS", text.value);
            let help = "write https:// where the service has a certificate";
            reading.wrong(Code::PlainUpstream, &text.span, says, help);
        }
        addresses.push(address);
    }
    sound.then_some(addresses)
}

/// As it was written.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Whether connecting to `ip` reaches a listener at `listener`.
pub(in crate::forward) fn same_ip(ip: IpAddr, listener: IpAddr) -> bool {
    let (ip, listener) = (ip.to_canonical(), listener.to_canonical());
    ip == listener || (listener.is_unspecified() && ip.is_loopback())
}

fn split(rest: &str) -> Result<(&str, Option<&str>), &'static str> {
    if rest.starts_with('[') {
        let (host, after) = rest.split_once(']').ok_or("has a bracket that is never closed")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("has something between the host and the port"),
        };
    }
    match rest.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("has an IPv6 address without brackets; write http://[::1]:9000")
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((rest, None)),
    }
}

fn parse_host(host: &str) -> Result<Host, &'static str> {
    if let Some(ip) = host.strip_prefix('[') {
        return checked_ip(IpAddr::V6(ip.parse().map_err(|_| "has no valid IPv6 address")?));
    }
    if let Ok(ip) = host.parse::<std::net::Ipv4Addr>() {
        return checked_ip(IpAddr::V4(ip));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if host.is_empty() || host.len() > 253 || !host.split('.').all(label) {
        return Err("has no valid host");
    }
    // "127.1" and "0x7f000001" are names to us and addresses to a resolver.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("has a host that is neither a name nor a whole IP address");
    }
    Ok(Host::Name(host.to_ascii_lowercase().into()))
}

fn checked_ip(ip: IpAddr) -> Result<Host, &'static str> {
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("names no single machine");
    }
    Ok(Host::Ip(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for (text, host, port) in [
            ("http://127.0.0.1:9000", "127.0.0.1:9000", 9000),
            ("http://Tasks.internal", "tasks.internal", 80),
            ("https://tasks.internal", "tasks.internal", 443),
            ("https://[::1]:8443", "[::1]:8443", 8443),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.authority().as_str(), host);
            assert_eq!(address.port(), port);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for text in [
            "127.0.0.1:9000",
            "ftp://a",
            "http://",
            "http://user@a",
            "http://a/",
            "http://a?x",
            "http://a#x",
            "http://a:0",
            "http://a:65536",
            "http://a:+80",
            "http://a:",
            "http://::1:80",
            "http://[::1",
            "http://[::1]x",
            "http://[1.2.3.4]",
            "http://127.1",
            "http://2130706433",
            "http://0.0.0.0:80",
            "http://[::]:80",
            "http://a..b",
            "http://a b",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn our_own_listeners_are_recognised() {
        let meets = |text: &str, listener: &str| {
            Address::parse(text).unwrap().meets(listener.parse().unwrap())
        };
        assert!(meets("http://127.0.0.1:9901", "127.0.0.1:9901"));
        assert!(meets("http://localhost:9901", "127.0.0.1:9901"));
        assert!(meets("http://127.0.0.7:9901", "0.0.0.0:9901"));
        assert!(meets("http://[::ffff:127.0.0.1]:9901", "127.0.0.1:9901"));
        assert!(!meets("http://127.0.0.1:9000", "127.0.0.1:9901"));
        assert!(!meets("http://10.0.0.1:9901", "127.0.0.1:9901"));
    }
}
