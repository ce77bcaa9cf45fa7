//! Turns a request's first part into a `Head`, or refuses it as ambiguous.

pub mod bans;
pub mod client;
pub mod headers;
pub mod host;
pub mod id;
pub mod path;
pub mod query;
pub mod target;
pub mod trace;

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Version};

use crate::clock::Now;
use crate::fields::Fields;
use crate::fields::value::Value;
use crate::head::host::{HostNeeded, Named, port_default};
use crate::listen::{Length, Peer, RawHead};
use crate::parties::Parties;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::units::Network;

/// The methods that are served at all. CONNECT would tunnel, TRACE would echo credentials.
pub static METHODS: [Method; 7] = [
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
];
const METHODS_ALLOWED: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// The first part of a request: unambiguous, canonical, and without anything that the caller has no
/// business to say.
#[derive(Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The canonical path. This one string is matched, inspected and forwarded.
    pub path: Box<str>,
    /// The query without its `?`, as sent; nothing when there was no `?`.
    pub query: Option<Box<str>>,
    /// Who asks, and which host.
    pub parties: Arc<Parties>,
    /// The request target byte for byte as sent, for signatures.
    pub target: Box<str>,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The headers, without `Host`, `Expect`, hop-by-hop ones, and the managed ones, which only we
    /// may write.
    pub headers: Fields,
    /// How long the body says it is.
    pub length: Length,
    /// The protocol that the caller wants to upgrade to; only `websocket` gets this far.
    pub upgrade: Option<HeaderValue>,
    /// The connection's other end.
    pub peer: Arc<Peer>,
    /// The name of this request everywhere: answer, log, upstream.
    pub id: RequestId,
    /// The trace that this request belongs to (W3C Trace Context).
    pub trace: Trace,
}

/// The name of one request: 26 characters, sortable by time (ULID).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub(crate) [u8; 26]);

/// The trace that a request belongs to: the caller's when it sent a valid one, otherwise a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The value of `traceparent` for the upstream: same trace, our own parent id.
    pub parent: [u8; trace::PARENT_BYTES],
    /// The caller's `tracestate`, passed on only with a valid `traceparent`.
    pub state: Option<HeaderValue>,
}

/// Makes a head of what arrived. `trusted` are the networks whose proxies are believed when they
/// say whom they forward for.
///
/// What is cheap to refuse is refused first. Hop-by-hop headers go before the managed ones, so
/// that `Connection` can take nothing away that is added later.
///
/// # Errors
/// A refusal of the stage `head` when the request is not one unambiguous HTTP request, and
/// [`Reason::CredentialInQuery`] when its query or its path holds a credential.
pub fn read(
    raw: RawHead,
    peer: &Arc<Peer>,
    trusted: &[Network],
    now: Now,
) -> Result<Box<Head>, Refusal> {
    let RawHead { method, target, version, authority, mut headers, length } = raw;
    if !METHODS.contains(&method) {
        return Err(
            Refusal::new(Reason::MethodUnsupported).with(Extra::Allow(METHODS_ALLOWED.into()))
        );
    }
    let address = peer.address.ip().to_canonical();
    let peer_is_trusted = trusted.iter().any(|network| network.contains(address));
    let own_scheme = if peer.tls.is_some() { "https" } else { "http" };
    let scheme = client::scheme(own_scheme, peer_is_trusted, &headers);
    let parts = target::split(&target, &method, version)?;
    let kept = peer.parties.get().filter(|kept| kept.scheme == scheme);
    let stated = match authority {
        Some(text) => Some(
            Named::read(text.as_bytes(), kept, scheme)
                .map_err(|why| Refusal::new(Reason::HostMalformed).because(why))?,
        ),
        None => parts.authority.map(Named::Read),
    };
    // A listener that only redirects has to know where to.
    let may_be_unknown = version == Version::HTTP_10 && peer.redirect_port.is_none();
    let needed = match version {
        Version::HTTP_2 => HostNeeded::InEither,
        Version::HTTP_10 if may_be_unknown => HostNeeded::No,
        _ => HostNeeded::InHost,
    };
    let named = host::agree(&mut headers, stated, needed, |text| Named::read(text, kept, scheme))?;
    let name_binds = peer.tls.as_ref().is_some_and(|tls| tls.name_binds);
    let is_unknown = named.host().is_empty() && !name_binds;
    let is_bound = (name_binds || !peer_is_trusted) && !is_unknown;
    if is_bound && !is_asked_for(peer, named.host()) {
        return Err(Reason::HostMismatch.into());
    }
    let path = match parts.path {
        "*" => "*".into(),
        path if path.len() > path::PATH_BYTES_MAX => return Err(Reason::TargetTooLong.into()),
        path => {
            path::canonical(path).map_err(|why| Refusal::new(Reason::PathAmbiguous).because(why))?
        }
    };
    if query::holds_key(&path) {
        let refusal = Refusal::new(Reason::CredentialInQuery).because("the path holds a key");
        return Err(refusal.exposing(&path));
    }
    parts.query.map_or(Ok(()), query::check)?;
    let query = parts.query.map(Box::from);

    headers::check(&headers)?;
    headers::expectation(&mut headers)?;
    let upgrade = headers::upgrade(&headers, &method, version, (length, peer.tls.is_some()))?;
    let client = client::address(address, &headers, trusted);
    let parties = named.parties((client, scheme), peer);
    let trace = Trace::carry_on(&headers);
    headers::strip(&mut headers)?;

    // The box comes first, so that the head is made in it and not moved there.
    let place = Box::new_uninit();
    let head = Head {
        method,
        path,
        query,
        parties,
        target,
        version,
        headers,
        length,
        upgrade,
        peer: Arc::clone(peer),
        id: RequestId::new(now),
        trace,
    };
    Ok(Box::write(place, head))
}

/// Whether the connection was made for this host: TLS settings and certificates go by the name in
/// the handshake, so a request for another host must not come in behind it (RFC 9110, section
/// 7.4). Peers that named nobody, by address or without TLS, are held to nothing, and neither are
/// trusted proxies, which name the gateway and forward for others, unless hosts demand different
/// certificates of callers: then nobody comes to one host by the name of another.
fn is_asked_for(peer: &Peer, host: &str) -> bool {
    peer.tls
        .as_ref()
        .and_then(|tls| tls.server_name.as_deref())
        .is_none_or(|name| name.strip_suffix('.').unwrap_or(name) == host)
}

impl Head {
    /// The value of a header that stands once; the first value of one that stands more often.
    pub fn header(&self, name: &HeaderName) -> Option<Value<'_>> {
        self.headers.get(name)
    }

    /// All values of a header, in their order.
    pub fn all<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = Value<'a>> {
        self.headers.get_all(name)
    }

    /// The port that the caller means: the one it named, or the scheme's own.
    pub fn effective_port(&self) -> u16 {
        self.parties.port.unwrap_or_else(|| port_default(self.parties.scheme))
    }

    /// Where a listener that only redirects sends this request: the same target over TLS.
    pub fn redirect(&self) -> Option<HeaderValue> {
        let (host, path) = (self.parties.host(), if &*self.path == "*" { "/" } else { &self.path });
        let mut location = match self.peer.redirect_port? {
            443 => format!("https://{host}{path}"),
            port => format!("https://{host}:{port}{path}"),
        };
        if let Some(query) = &self.query {
            location.push('?');
            location.push_str(query);
        }
        HeaderValue::try_from(location).ok()
    }

    /// The parameters of the query, decoded; at most 256. See [`query::pairs`].
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        query::pairs(self.query.as_deref().unwrap_or_default())
    }
}
