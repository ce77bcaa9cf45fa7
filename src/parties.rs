//! Who asks whom: read and written once for a connection, as services and the log are told of it.
//!
//! Nearly all requests of a connection are between the same two.

use std::net::IpAddr;

use crate::text::AddressText;

/// The headers by which a service is told of the parties.
const TOLD: [&str; 4] = ["forwarded", "x-forwarded-host", "x-forwarded-for", "x-forwarded-proto"];

/// Who asks whom.
#[derive(Debug)]
pub struct Parties {
    /// The address of the caller, found from right to left through trusted proxies.
    pub client: IpAddr,
    /// The same as text, IPv4 as such also where it came mapped.
    pub address: AddressText,
    /// `https` or `http`: what the caller's connection is, also where a trusted proxy ends its TLS.
    pub scheme: &'static str,
    /// The host and, unless it is the scheme's own, the port, in their one spelling.
    authority: Box<str>,
    host_ends: usize,
    /// The port that the caller named, if it named one other than the scheme's own.
    pub port: Option<u16>,
    /// How a service is told of them, as lines of HTTP/1.
    lines: Box<str>,
}

impl Parties {
    /// The parties of a request from `client` to this host, which is in lower case, without a
    /// trailing dot and, if it is an IPv6 address, in brackets. It is empty where none was named.
    pub fn new(client: IpAddr, scheme: &'static str, host: &str, port: Option<u16>) -> Self {
        let authority = match port {
            Some(port) => format!("{host}:{port}").into_boxed_str(),
            None => host.into(),
        };
        let address = AddressText::of(client.to_canonical());
        let lines = lines(client, address.as_str(), scheme, &authority);
        Self {
            client,
            address,
            scheme,
            host_ends: host.len(),
            authority,
            port,
            lines: lines.into_boxed_str(),
        }
    }

    /// The host in lower case, without port and without a trailing dot; IPv6 in brackets. Empty where
    /// HTTP/1.0 named none: then only routes match that are for all hosts.
    pub fn host(&self) -> &str {
        self.authority.get(..self.host_ends).unwrap_or_default()
    }

    /// Host and port as one text; a port that is the scheme's own is left out (RFC 9421, section
    /// 2.2.3, has the same form for `@authority`).
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// How a service is told of them, as lines of HTTP/1 with their ends: `Forwarded` (RFC 7239) and
    /// its elders.
    pub fn lines(&self) -> &str {
        &self.lines
    }

    /// The same, as names and values.
    pub fn told(&self) -> impl Iterator<Item = (&'static str, &str)> {
        TOLD.into_iter().filter_map(|name| {
            let mut lines = self.lines.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(told, _)| *told == name).map(|(_, value)| (name, value))
        })
    }
}

/// What is told of the parties. A colon stands in no token (RFC 7239, section 4), so that an IPv6
/// address and a host with a port are quoted.
fn lines(client: IpAddr, address: &str, scheme: &str, host: &str) -> String {
    let (open, close) = match client.to_canonical() {
        IpAddr::V4(_) => ("for=", ";proto="),
        IpAddr::V6(_) => ("for=\"[", "]\";proto="),
    };
    let quote = if host.contains(':') { "\"" } else { "" };
    let [forwarded, forwarded_host, forwarded_for, forwarded_proto] = TOLD;
    let host_parts = [";host=", quote, host, quote, "\r\n", forwarded_host, ": ", host];
    let host_parts = if host.is_empty() { &[][..] } else { &host_parts };
    let parts: [&[&str]; 3] = [
        &[forwarded, ": ", open, address, close, scheme],
        host_parts,
        &["\r\n", forwarded_for, ": ", address, "\r\n", forwarded_proto, ": ", scheme, "\r\n"],
    ];
    parts.concat().concat()
}
