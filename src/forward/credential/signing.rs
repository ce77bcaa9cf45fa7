//! Signs what goes out (RFC 9421), as the gateway's own schemes verify what comes in.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use crate::authenticate::digest::sha256_value;
use crate::authenticate::signature::base::Message;
use crate::authenticate::signature::sign::{Terms, ToSign, sign};
use crate::clock::Now;
use crate::fields::Fields;
use crate::forward::attempt::unwritable;
use crate::forward::outbound::Outbound;
use crate::refusal::{Reason, Refusal};
use crate::secret::reference::ReferenceFault;
use crate::secret::watched::Watched;
use crate::secret::{Secret, fill_random};

const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const NONCE_BYTES: usize = 18;

/// How requests to one upstream are signed.
pub(in crate::forward) struct Signing {
    pub(in crate::forward::credential) secret: Watched<Secret>,
    pub(in crate::forward::credential) keyid: Box<str>,
    pub(in crate::forward::credential) label: Box<str>,
    pub(in crate::forward::credential) tag: Option<Box<str>>,
    pub(in crate::forward::credential) components: Box<[Box<str>]>,
    pub(in crate::forward::credential) lifetime_s: u64,
}

/// A request as one target will see it.
pub(in crate::forward) struct Outgoing<'a> {
    /// The method.
    pub(in crate::forward) method: &'a Method,
    /// Path and query.
    pub(in crate::forward) path: &'a PathAndQuery,
    /// What `Host` or `:authority` will say.
    pub(in crate::forward) host: &'a str,
    /// Whether it goes over TLS.
    pub(in crate::forward) secure: bool,
    /// The body.
    pub(in crate::forward) body: &'a Outbound,
}

impl Signing {
    /// Signs a request anew: what was signed before is replaced, with its nonce.
    ///
    /// # Errors
    /// A component is not in the request, or the digest of a body that streams is wanted.
    pub(in crate::forward) fn sign(
        &self,
        outgoing: &Outgoing<'_>,
        headers: &mut Fields,
        now: Now,
    ) -> Result<(), Refusal> {
        for name in [SIGNATURE, SIGNATURE_INPUT] {
            headers.remove(name);
        }
        let mut components: Vec<&str> = self.components.iter().map(|name| &**name).collect();
        self.digest(&mut components, outgoing.body, headers)?;
        // The brackets of an IPv6 address hold colons, too.
        let (host, port) = match outgoing.host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (outgoing.host, None),
        };
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce).map_err(|_| unwritable())?;
        let nonce = URL_SAFE_NO_PAD.encode(nonce);
        let created = now.unix_s();
        let terms = Terms {
            label: &self.label,
            components: &components,
            keyid: &self.keyid,
            created,
            expires: Some(created + self.lifetime_s),
            nonce: Some(&nonce),
            tag: self.tag.as_deref(),
        };
        let message = Message {
            method: outgoing.method.as_str(),
            scheme: if outgoing.secure { "https" } else { "http" },
            host,
            port,
            target: outgoing.path.as_str(),
            headers,
            trailers: None,
        };
        let to_sign = ToSign { message, body: &[] };
        let signed = sign(&to_sign, &terms, &self.secret.load()).map_err(|says| {
            Refusal::new(Reason::UpstreamCredentialMissing)
                .because(format!("the request cannot be signed: {says}"))
        })?;
        for (name, text) in
            [(SIGNATURE_INPUT, signed.signature_input), (SIGNATURE, signed.signature)]
        {
            headers.insert(name, HeaderValue::try_from(text).map_err(|_| unwritable())?);
        }
        Ok(())
    }

    /// Writes the digest of a body that lies in memory, and covers it.
    fn digest(
        &self,
        components: &mut Vec<&str>,
        body: &Outbound,
        headers: &mut Fields,
    ) -> Result<(), Refusal> {
        let covered = components.contains(&"content-digest");
        match body.whole() {
            Some(whole) if covered || !whole.is_empty() => {
                let digest = HeaderValue::try_from(sha256_value(&whole));
                headers.insert(CONTENT_DIGEST, digest.map_err(|_| unwritable())?);
                if !covered {
                    components.push("content-digest");
                }
                if headers.contains_key(CONTENT_TYPE) && !components.contains(&"content-type") {
                    components.push("content-type");
                }
            }
            None if covered && !headers.contains_key(CONTENT_DIGEST) => {
                return Err(Refusal::new(Reason::UpstreamCredentialMissing)
                    .because("a body that streams has no digest that could be signed"));
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Follows the reference to the secret again.
    pub(in crate::forward::credential) fn reload_if_changed(&self) -> Result<bool, ReferenceFault> {
        self.secret.reload_if_changed()
    }
}
