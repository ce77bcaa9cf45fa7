//! A request that is ready to leave, but for the target's own words.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use crate::authenticate::is_credential;
use crate::authorize::Permit;
use crate::clock::Now;
use crate::fields::Fields;
use crate::forward::SendOptions;
use crate::forward::address::Address;
use crate::forward::attempt::unwritable;
use crate::forward::credential::Credential;
use crate::forward::credential::signing::Outgoing as Signable;
use crate::forward::headers::{Outgoing, Told, is_grpc, told_length};
use crate::forward::http1;
use crate::forward::identity::{Facts, IDENTITY};
use crate::forward::outbound::Outbound;
use crate::forward::upstream::{ClientCertSent, HostSent, Protocol, Upstream};
use crate::head::Head;
use crate::listen::body::Body;
use crate::refusal::{Reason, Refusal};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// A request that is ready to leave. It stays as it is until it has been sent for good.
pub(in crate::forward) struct Departure {
    method: Method,
    /// The path that is forwarded, and the query as the caller sent it.
    path: Box<str>,
    query: Option<Box<str>>,
    /// Whether the service is told the host that the caller named.
    names_callers_host: bool,
    headers: Fields,
    keep_credentials: bool,
    told: Told,
    pub(in crate::forward) body: Outbound,
    now: Now,
}

impl Departure {
    /// Decides what is said to the upstream.
    ///
    /// # Errors
    /// The upstream speaks no protocol that could be upgraded, or something cannot be written.
    pub(in crate::forward) fn new(
        mut head: Box<Head>,
        body: Body,
        permit: &Permit,
        upstream: &Upstream,
        options: &SendOptions<'_>,
    ) -> Result<Self, Refusal> {
        let settings = &upstream.settings;
        if head.upgrade.is_some() && settings.http == Protocol::Http2 {
            return Err(Refusal::new(Reason::UpgradeUnsupported)
                .because("the upstream speaks HTTP/2, which knows no such upgrade"));
        }
        if let (true, Some(teller)) = (options.identity, &settings.identity) {
            let facts = Facts {
                grant: permit.principal().grant(),
                method: head.method.as_str(),
                path: options.path.unwrap_or(&head.path),
                query: head.query.as_deref().unwrap_or_default(),
                request_id: head.id.as_str(),
            };
            let identity = teller.tell(&facts, options.now).ok_or_else(unwritable)?;
            head.headers.insert(IDENTITY, identity);
        }
        tell_certificate(&mut head, settings.client_cert, options.now);
        let body = Outbound::new(body, head.length);
        let Head { method, path, query, parties, headers, upgrade, .. } = *head;
        let path = options.path.map_or(path, Box::from);
        if !path.starts_with('/')
            || !is_visible(&path)
            || !is_visible(query.as_deref().unwrap_or_default())
        {
            return Err(unwritable());
        }
        // Who named no host is told to the service by none.
        let names_callers_host =
            settings.host == HostSent::Callers && !parties.authority().is_empty();
        let told = Told {
            parties,
            id: head.id,
            trace: head.trace,
            upgrade,
            trailers: settings.http == Protocol::Http2 && is_grpc(&headers),
        };
        let (keep_credentials, now) = (options.keep_credentials, options.now);
        let mut departure = Self {
            method,
            path,
            query,
            names_callers_host,
            headers,
            keep_credentials,
            told,
            body,
            now,
        };
        if let Some(credential) = &settings.credential {
            departure.take(credential)?;
        }
        Ok(departure)
    }

    /// Puts our own credential in, last, so that nothing that a caller sends can stand in its place.
    fn take(&mut self, credential: &Credential) -> Result<(), Refusal> {
        if !std::mem::replace(&mut self.keep_credentials, true) {
            let callers: Vec<HeaderName> =
                self.headers.keys().filter(|name| is_credential(name)).cloned().collect();
            for name in callers {
                self.headers.remove(name);
            }
        }
        let path = self.path_and_query().ok_or_else(unwritable)?;
        let path = credential.inject(&mut self.headers, path, self.now)?;
        self.query = path.query().map(Box::from);
        Ok(())
    }

    /// Signs it for a target, where requests to the upstream are signed.
    ///
    /// # Errors
    /// It cannot be signed, and must not leave then.
    pub(in crate::forward) fn sign(
        &mut self,
        upstream: &Upstream,
        address: &Address,
    ) -> Result<(), Refusal> {
        let Some(signing) = upstream.credential().and_then(Credential::signing) else {
            return Ok(());
        };
        let path = self.path_and_query().ok_or_else(unwritable)?;
        let signable = Signable {
            method: &self.method,
            path: &path,
            host: host(self.names_callers_host, &self.told, address),
            secure: address.is_secure(),
            body: &self.body,
        };
        signing.sign(&signable, &mut self.headers, self.now)
    }

    /// Whether an upgrade was asked for.
    pub(in crate::forward) fn is_upgrade(&self) -> bool {
        self.told.upgrade.is_some()
    }

    /// Whether the request may be sent again although the target may have seen it.
    pub(in crate::forward) fn is_repeatable(&self) -> bool {
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        idempotent.contains(&self.method) && self.body.is_untouched() && self.body.is_in_memory()
    }

    fn outgoing(&self) -> Outgoing<'_> {
        let told = Some(&self.told);
        Outgoing { passing: &self.headers, keep_credentials: self.keep_credentials, told }
    }

    /// The request in HTTP/1.
    pub(in crate::forward) fn http1<'a>(
        &'a mut self,
        address: &'a Address,
    ) -> (http1::send::Request<'a>, &'a mut Outbound) {
        let Self { method, path, query, names_callers_host, headers, told, body, .. } = self;
        let request = http1::send::Request {
            method,
            path,
            query: query.as_deref(),
            host: host(*names_callers_host, told, address),
            headers: Outgoing {
                passing: headers,
                keep_credentials: self.keep_credentials,
                told: Some(told),
            },
        };
        (request, body)
    }

    /// The request in HTTP/2, which says the host once, as `:authority` (RFC 9113, section 8.3.1).
    /// A body that does not lie in memory goes along. Nothing where something cannot be written.
    pub(in crate::forward) fn http2(
        &mut self,
        address: &Address,
    ) -> Option<http::Request<Outbound>> {
        let authority = match self.names_callers_host {
            true => self.told.parties.authority().try_into().ok()?,
            false => address.authority().clone(),
        };
        let uri = address.uri(authority, self.path_and_query()?)?;
        let headers = self.header_map()?;
        let mut request = http::Request::new(self.body.take().watched());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Some(request)
    }

    /// The headers in a map, as HTTP/2 wants them.
    fn header_map(&self) -> Option<HeaderMap> {
        let outgoing = self.outgoing();
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 12);
        for (name, value) in self.headers.header_values().filter(|(name, _)| outgoing.passes(name))
        {
            headers.append(name.clone(), value);
        }
        let mut sound = true;
        let mut write = |name: &'static str, value: &[u8]| match HeaderValue::from_bytes(value) {
            Ok(value) => drop(headers.insert(HeaderName::from_static(name), value)),
            Err(_) => sound = false,
        };
        self.told.parties.told().for_each(|(name, value)| write(name, value.as_bytes()));
        self.told.each(write);
        if let Some(length) = told_length(&self.method, self.body.length()) {
            headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        sound.then_some(headers)
    }

    /// Path and query in one, byte for byte what was matched.
    fn path_and_query(&self) -> Option<PathAndQuery> {
        let text = match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        };
        let length = text.len();
        let parsed = PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()?;
        (parsed.as_str().len() == length).then_some(parsed)
    }
}

/// What `Host` says to a target.
fn host<'a>(names_callers: bool, told: &'a Told, address: &'a Address) -> &'a str {
    if names_callers { told.parties.authority() } else { address.authority().as_str() }
}

/// Tells the client certificate of the connection (RFC 9440), while it holds. `head` has taken out
/// what the caller wrote in these headers.
fn tell_certificate(head: &mut Head, what: ClientCertSent, now: Now) {
    if what == ClientCertSent::Nothing {
        return;
    }
    let shown = head.peer.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
    let Some(certificate) = shown.filter(|shown| shown.still_holds(now).is_ok()) else { return };
    let Some(fields) = certificate.fields() else { return };
    head.headers.insert(CLIENT_CERT, fields.certificate.clone());
    if let (ClientCertSent::Chain, Some(chain)) = (what, &fields.chain) {
        head.headers.insert(CLIENT_CERT_CHAIN, chain.clone());
    }
}

/// Whether every byte may stand in a request target: visible ASCII, without `#`.
fn is_visible(text: &str) -> bool {
    text.bytes().fold(true, |sound, byte| sound & matches!(byte, b'!'..=b'~') & (byte != b'#'))
}
