//! Asks a server beside the way of requests: for keys, or what a token is worth. Guarded, bounded, never redirected.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::units::Network;

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// The largest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// A server and one path on it, and what may be done to reach it.
#[derive(Clone)]
pub struct Site {
    text: Box<str>,
    host: Box<str>,
    port: u16,
    path: Uri,
    authority: HeaderValue,
    /// Nothing for plain HTTP, which only loopback is spoken to by.
    tls: Option<Arc<ClientConfig>>,
    /// Networks that may be reached although they are not public.
    reachable: Box<[Network]>,
    roots: Option<Box<[u8]>>,
}

/// What a site answered.
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// The body, whole.
    pub body: Bytes,
}

/// Why a site gave no answer. Holds nothing that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent(pub String);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Site {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.reachable == other.reachable && self.roots == other.roots
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Site {
    /// Reads `https://HOST[:PORT]/PATH`. `roots` is PEM with the only authorities that are believed;
    /// without it those that browsers trust. Plain `http://` needs an address of this machine that
    /// `reachable` names.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the address.
    pub fn read(
        text: &str,
        reachable: &[Network],
        roots: Option<&[u8]>,
    ) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user name; credentials have no place in a URL");
        }
        let host: Box<str> = authority.host().trim_matches(['[', ']']).to_ascii_lowercase().into();
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_said_aloud(&host, reachable) => false,
            Some("http") => {
                return Err(
                    "is not https; plain http is for 127.0.0.1 and [::1] alone, and only where `reachable` names them",
                );
            }
            _ => return Err("is not https"),
        };
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(|_| "has no valid path")?;
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| "names no host")?;
        let tls = if is_secure { Some(tls(roots)?) } else { None };
        Ok(Self {
            text: text.into(),
            host,
            port,
            path,
            authority,
            tls,
            reachable: reachable.into(),
            roots: roots.map(Into::into),
        })
    }

    /// Sends one request and reads the whole answer, all within `limit`.
    ///
    /// # Errors
    /// When no address may be reached, or nothing good came in time.
    pub async fn ask(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Answered, Silent> {
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.authority.clone());
        timeout(limit, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(Silent(format!("no answer within {} ms", limit.as_millis()))))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answered, Silent> {
        let stream = self.connect().await?;
        let Some(tls) = &self.tls else { return converse(stream, request).await };
        let name = ServerName::try_from(self.host.to_string())
            .map_err(|_| Silent("the host is no name that a certificate has".to_owned()))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        let stream = stream.map_err(|error| Silent(format!("TLS failed: {error}")))?;
        converse(stream, request).await
    }

    /// Connects to the first address that may be reached and answers. Every address is looked at
    /// after the name was resolved, so no name leads inside.
    async fn connect(&self) -> Result<TcpStream, Silent> {
        let found = tokio::net::lookup_host((&*self.host, self.port)).await;
        let found = found.map_err(|error| Silent(format!("the name is not known: {error}")))?;
        let mut last = Silent("the name has no address".to_owned());
        for address in found.take(ADDRESSES_MAX) {
            if !self.may_reach(address) {
                last = Silent(format!(
                    "{} is not public, and `reachable` does not name it",
                    address.ip()
                ));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Silent(format!("{address} refused: {error}")),
            }
        }
        Err(last)
    }

    fn may_reach(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        is_public(ip) || self.reachable.iter().any(|network| network.contains(ip))
    }
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answered, Silent>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &dyn fmt::Display| Silent(format!("no valid answer: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let mut connection = std::pin::pin!(connection);
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        Ok(Answered { status, body })
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        answered = &mut answering => answered,
        // A connection that is over may have brought the whole answer before.
        _ = &mut connection => answering.await,
    }
}

fn tls(roots: Option<&[u8]>) -> Result<Arc<ClientConfig>, &'static str> {
    let trusted = match roots {
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Some(pem) => {
            let mut trusted = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let added = certificate.ok().map(|certificate| trusted.add(certificate));
                if !matches!(added, Some(Ok(()))) {
                    return Err("has `roots` with what is no certificate of an authority");
                }
            }
            if trusted.is_empty() {
                return Err("has `roots` without a certificate");
            }
            trusted
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| "cannot be spoken to with TLS")?;
    Ok(Arc::new(config.with_root_certificates(trusted).with_no_client_auth()))
}

/// Whether plain HTTP may be spoken: an address of this machine, which the policy names.
fn is_said_aloud(host: &str, reachable: &[Network]) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| {
        ip.to_canonical().is_loopback() && reachable.iter().any(|network| network.contains(ip))
    })
}

/// Whether the address is one of the public Internet (the registries of RFC 6890). Addresses that
/// carry an IPv4 address inside are judged by what they carry, or refused.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Translated to IPv4 (RFC 6052): what it is translated to counts.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        // Teredo, ORCHID, documentation, 6to4: nothing public answers there.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All global unicast addresses begin like this.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached_unsaid() {
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fe80::1",
            "fd00:ec2::254",
            "fc00::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_said_aloud() {
        let loopback: Network = "127.0.0.0/8".parse().unwrap();
        let read = |text: &str, reachable: &[Network]| Site::read(text, reachable, None);
        assert!(read("https://id.example.com/keys", &[]).is_ok());
        assert!(read("http://127.0.0.1:8080/keys", &[loopback]).is_ok());
        for (text, reachable) in [
            ("http://127.0.0.1:8080/keys", &[][..]),
            ("http://localhost/keys", &[loopback]),
            ("http://id.example.com/keys", &[loopback]),
            ("http://10.0.0.1/keys", &["10.0.0.0/8".parse().unwrap()]),
            ("ftp://id.example.com/keys", &[]),
            ("https://user:password@id.example.com/keys", &[]),
            ("/keys", &[]),
            ("id.example.com", &[]),
        ] {
            assert!(read(text, reachable).is_err(), "{text}");
        }
        assert!(Site::read("https://id.example.com/", &[], Some(b"no PEM")).is_err());
    }
}
