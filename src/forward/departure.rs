//! A request that is ready to leave, but for the target's own words.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::authorize::Permit;
use crate::clock::Now;
use crate::forward::SendOptions;
use crate::forward::address::Address;
use crate::forward::attempt::unwritable;
use crate::forward::credential::Credential;
use crate::forward::credential::signing::Outgoing;
use crate::forward::headers::{self, Unwritable};
use crate::forward::http1;
use crate::forward::identity::{Facts, IDENTITY};
use crate::forward::outbound::Outbound;
use crate::forward::upstream::{HostSent, Protocol, Upstream};
use crate::head::Head;
use crate::listen::body::Body;
use crate::refusal::{Reason, Refusal};

/// A request that is ready to leave. It stays as it is until it has been sent for good.
pub(in crate::forward) struct Departure {
    method: Method,
    path: PathAndQuery,
    /// The host that the caller named, where the upstream is told it.
    host: Option<HeaderValue>,
    headers: HeaderMap,
    pub(in crate::forward) body: Outbound,
    pub(in crate::forward) upgrade: bool,
    now: Now,
}

impl Departure {
    /// Writes the headers anew.
    ///
    /// # Errors
    /// The upstream speaks no protocol that could be upgraded, or something cannot be written.
    pub(in crate::forward) fn new(
        mut head: Head,
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
        let body = Outbound::new(body, head.length);
        let host =
            headers::outgoing(&mut head, body.length(), settings.http, options.keep_credentials)
                .map_err(|Unwritable| unwritable())?;
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
        let host = match settings.host {
            HostSent::Callers => Some(host),
            HostSent::Targets => None,
        };
        let mut path = path_and_query(&mut head, options.path)?;
        // Last, so that nothing that a caller sends can stand in its place.
        if let Some(credential) = &settings.credential {
            path = credential.inject(&mut head.headers, path, options.now)?;
        }
        let Head { method, headers, upgrade, .. } = head;
        let (upgrade, now) = (upgrade.is_some(), options.now);
        Ok(Self { method, path, host, headers, body, upgrade, now })
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
        let outgoing = Outgoing {
            method: &self.method,
            path: &self.path,
            host: self.host.as_ref().unwrap_or_else(|| address.host_value()),
            secure: address.is_secure(),
            body: &self.body,
        };
        signing.sign(&outgoing, &mut self.headers, self.now)
    }

    /// Whether the request may be sent again although the target may have seen it.
    pub(in crate::forward) fn is_repeatable(&self) -> bool {
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        idempotent.contains(&self.method) && self.body.is_untouched() && self.body.is_in_memory()
    }

    /// The request in HTTP/1.
    pub(in crate::forward) fn http1<'a>(
        &'a mut self,
        address: &'a Address,
    ) -> (http1::send::Request<'a>, &'a mut Outbound) {
        let request = http1::send::Request {
            method: &self.method,
            path: &self.path,
            host: self.host.as_ref().unwrap_or_else(|| address.host_value()),
            headers: &self.headers,
        };
        (request, &mut self.body)
    }

    /// The request in HTTP/2, which says the host once, as `:authority` (RFC 9113, section 8.3.1).
    /// A body that does not lie in memory goes along. Nothing where the host is none.
    pub(in crate::forward) fn http2(
        &mut self,
        address: &Address,
    ) -> Option<http::Request<Outbound>> {
        let authority = match &self.host {
            Some(host) => host.as_bytes().try_into().ok()?,
            None => address.authority().clone(),
        };
        let uri = address.uri(authority, self.path.clone())?;
        let mut request = http::Request::new(self.body.take().watched());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }
}

/// The path that is forwarded, and the query as the caller sent it.
fn path_and_query(head: &mut Head, rewritten: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let path = match rewritten {
        Some(path) => path.into(),
        None => std::mem::take(&mut head.path),
    };
    let mut text = String::from(path);
    if let Some(query) = &head.query {
        text.reserve_exact(1 + query.len());
        text.push('?');
        text.push_str(query);
    }
    let length = text.len();
    let parsed = PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| unwritable())?;
    // What is forwarded is what was matched, byte for byte.
    if parsed.as_str().len() != length || !parsed.as_str().starts_with('/') {
        return Err(unwritable());
    }
    Ok(parsed)
}
