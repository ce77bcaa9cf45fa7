//! The hosts that a route is for: one name, or every name under one.

use crate::head::host::Authority;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;

/// An element of a route's `hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host alone, in the form that heads have.
    Exact(Box<str>),
    /// Every host with at least one label before this suffix: `*.example.com` is for
    /// `a.example.com` and `a.b.example.com`, and not for `example.com`.
    Under(Box<str>),
}

impl HostPattern {
    /// Reads an element of `hosts`: `api.example.com` or `*.example.com`, without a port.
    /// Reports what is wrong with it as [`Code::WrongValue`].
    pub fn compile(written: &At<String>, reading: &mut Reading<'_>) -> Option<Self> {
        let suffix = written.strip_prefix("*.");
        let name = suffix.unwrap_or(written);
        match Authority::read(name, 0) {
            Ok(Authority { host, port: None }) if suffix.is_none() => Some(Self::Exact(host)),
            Ok(Authority { host, port: None }) if !is_address(&host) => Some(Self::Under(host)),
            Ok(Authority { port: Some(_), .. }) => {
                let says = format!("`{}` has a port, and routes are found by host", **written);
                let help = "leave the port out; which ports are served stands in gateway.toml";
                reading.wrong(Code::WrongValue, &written.span, says, help);
                None
            }
            Ok(_) => {
                let says = format!("`{}` is a wildcard over an address", **written);
                reading.wrong(Code::WrongValue, &written.span, says, "write the address itself");
                None
            }
            Err(why) => {
                let says = format!("`{}` cannot be a host: {why}", **written);
                let help = "write for example \"api.example.com\" or \"*.example.com\"";
                reading.wrong(Code::WrongValue, &written.span, says, help);
                None
            }
        }
    }

    /// Whether a head's host is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Under(suffix) => {
                host.strip_suffix(&**suffix).is_some_and(|before| before.ends_with('.'))
            }
        }
    }

    /// A host that this matches, for witness requests.
    pub fn example(&self) -> String {
        match self {
            Self::Exact(name) => name.to_string(),
            Self::Under(suffix) => format!("any.{suffix}"),
        }
    }
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}
