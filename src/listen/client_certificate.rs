//! What a client certificate says: its names read strictly, its end, and whether it still holds.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::listen::ClientCertificate;
use crate::listen::der::{TextName, not_after, text_names};

/// A SPIFFE ID is at most this long (SPIFFE ID, section 2.3).
const SPIFFE_BYTES_MAX: usize = 2048;
/// And its trust domain at most this (section 2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// What a later stage made of a certificate, kept for as long as the connection lasts, so that it
/// is made once and not for every request. It holds one thing: that of whoever asked last.
#[derive(Default)]
pub struct Memo(ArcSwapOption<Made>);

struct Made {
    maker: u64,
    what: Arc<dyn Any + Send + Sync>,
}

impl Memo {
    /// What this maker kept.
    pub fn get<T: Any + Send + Sync>(&self, maker: u64) -> Option<Arc<T>> {
        let made = self.0.load();
        let made = made.as_ref().filter(|made| made.maker == maker)?;
        Arc::clone(&made.what).downcast().ok()
    }

    /// Keeps this for its maker, in place of whatever is kept.
    pub fn put<T: Any + Send + Sync>(&self, maker: u64, what: Arc<T>) {
        self.0.store(Some(Arc::new(Made { maker, what })));
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

/// A certificate in the words of RFC 9440.
#[derive(Clone, Debug)]
pub struct CertificateFields {
    /// The value of `Client-Cert` (section 2.2).
    pub certificate: HeaderValue,
    /// The value of `Client-Cert-Chain` (section 2.3); nothing when no others were shown.
    pub chain: Option<HeaderValue>,
}

impl ClientCertificate {
    /// What services are told of it. Made once for a connection; nothing of a certificate that is
    /// none, as those of rehearsals are.
    pub fn fields(&self) -> Option<&CertificateFields> {
        if let Some(made) = self.fields.get() {
            return Some(made);
        }
        let (own, others) = self.chain.split_first()?;
        // A byte sequence of RFC 8941, section 3.3.5: base64 between colons.
        let item = |der: &CertificateDer<'_>| format!(":{}:", STANDARD.encode(der));
        let list: Vec<String> = others.iter().map(item).collect();
        // Base64, colons, commas and spaces are always a value.
        let value = |text: String| HeaderValue::try_from(text).ok();
        let certificate = value(item(own))?;
        let chain = if list.is_empty() { None } else { Some(value(list.join(", "))?) };
        Some(self.fields.get_or_init(|| CertificateFields { certificate, chain }))
    }

    /// Reads a certificate that was verified. `chain` are the others that were shown with it.
    ///
    /// # Errors
    /// A few words, when its names could be read in more than one way.
    pub(in crate::listen) fn read(
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
    ) -> Result<Self, &'static str> {
        let names = text_names(certificate).ok_or("its alternative names are not valid")?;
        strict(&names)?;
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| "it is no certificate")?;
        let dns_names: Vec<&str> = parsed.valid_dns_names().collect();
        let uri_names: Vec<&str> = parsed.valid_uri_names().collect();
        let count =
            |kind: fn(&TextName<'_>) -> bool| names.iter().filter(|name| kind(name)).count();
        // Two readers that do not count alike do not read alike either.
        if dns_names.len() != count(|name| matches!(name, TextName::Dns(_)))
            || uri_names.len() != count(|name| matches!(name, TextName::Uri(_)))
        {
            return Err("one of its names is not valid");
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
        Ok(Self {
            sha256,
            dns_names: dns_names.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
            uri_names: uri_names.into_iter().map(Into::into).collect(),
            serial: parsed.serial().into(),
            issuer: parsed.issuer().into(),
            not_after_unix_s: not_after(certificate).ok_or("its end is not a date")?,
            chain: std::iter::once(certificate)
                .chain(chain)
                .map(|shown| shown.clone().into_owned())
                .collect(),
            ..Self::default()
        })
    }

    /// A certificate with one name, a SPIFFE ID or a DNS name, that never ends and that nobody
    /// issued: for policies that are rehearsed without any connection.
    pub fn rehearsed(name: &str) -> Self {
        let is_uri = name.contains("://");
        let (uri_names, dns_names) =
            if is_uri { (vec![name], vec![]) } else { (vec![], vec![name]) };
        let owned = |names: Vec<&str>| names.into_iter().map(Into::into).collect();
        Self {
            dns_names: owned(dns_names),
            uri_names: owned(uri_names),
            not_after_unix_s: u64::MAX,
            ..Self::default()
        }
    }

    /// The SPIFFE ID, when the certificate is an X.509 SVID: its only URI is one (X509-SVID, section
    /// 2). Nothing for a certificate without such a URI.
    ///
    /// # Errors
    /// A few words, when it has a `spiffe:` URI and is no SVID all the same.
    pub fn spiffe_id(&self) -> Result<Option<&str>, &'static str> {
        let begins =
            |uri: &str| uri.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("spiffe:"));
        match &*self.uri_names {
            [only] if is_spiffe_id(only) => Ok(Some(only)),
            [only] if begins(only) => Err("its SPIFFE ID is not valid"),
            several if several.iter().any(|uri| begins(uri)) => {
                Err("it has a SPIFFE ID beside other URIs")
            }
            _ => Ok(None),
        }
    }

    /// The serial number in hex, as records tell it: the 20 bytes that it may have at most (RFC 5280,
    /// section 4.1.2.2).
    pub fn serial_hex(&self) -> String {
        self.serial.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether a text is a SPIFFE ID, to the letter (SPIFFE ID, section 2): lower-case scheme and trust
/// domain, no port, query or fragment, and a path without empty, `.` and `..` segments.
pub fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    let domain_fits = !domain.is_empty()
        && domain.len() <= TRUST_DOMAIN_BYTES_MAX
        && domain
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'));
    let segment_fits = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(
                |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_'),
            )
    };
    text.len() <= SPIFFE_BYTES_MAX
        && domain_fits
        && path.is_none_or(|path| path.split('/').all(segment_fits))
}

/// Refuses names with a NUL, a control, a space or anything beyond ASCII: what one reader takes
/// whole, another takes as far as the NUL (CVE-2026-47778).
pub(in crate::listen) fn strict(names: &[TextName<'_>]) -> Result<(), &'static str> {
    let visible = |name: &TextName<'_>| {
        let (TextName::Mail(bytes) | TextName::Dns(bytes) | TextName::Uri(bytes)) = name;
        !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic)
    };
    if names.iter().all(visible) { Ok(()) } else { Err("one of its names is not plain ASCII") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_uris(uris: &[&str]) -> ClientCertificate {
        let uri_names = uris.iter().map(|uri| (*uri).into()).collect();
        ClientCertificate { uri_names, ..ClientCertificate::default() }
    }

    #[test]
    fn a_spiffe_id_is_taken_to_the_letter() {
        for good in [
            "spiffe://example.org",
            "spiffe://example.org/ns/prod/sa/api",
            "spiffe://a_b-c.1/X.y_Z-0",
        ] {
            assert_eq!(with_uris(&[good]).spiffe_id(), Ok(Some(good)));
        }
        let long = format!("spiffe://example.org/{}", "a".repeat(2048));
        let domain = format!("spiffe://{}/a", "a".repeat(256));
        for bad in [
            "spiffe://",
            "spiffe:///a",
            "spiffe://Example.org/a",
            "SPIFFE://example.org/a",
            "spiffe:example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/a%2fb",
            "spiffe://example.org:443/a",
            "spiffe://me@example.org/a",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://exämple.org/a",
            &long,
            &domain,
        ] {
            assert!(with_uris(&[bad]).spiffe_id().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_uris_are_no_identity_when_one_is_a_spiffe_id() {
        let spiffe = "spiffe://example.org/a";
        assert!(with_uris(&[spiffe, "https://example.org"]).spiffe_id().is_err());
        assert!(with_uris(&[spiffe, spiffe]).spiffe_id().is_err());
        assert_eq!(with_uris(&["https://example.org"]).spiffe_id(), Ok(None));
        assert_eq!(with_uris(&[]).spiffe_id(), Ok(None));
    }

    #[test]
    fn cve_2026_47778_a_nul_in_a_name_is_refused() {
        for name in ["a.example.com\0.evil.test", "a b", "", "ä.example.com", "a\u{7f}"] {
            for name in [
                TextName::Mail(name.as_bytes()),
                TextName::Dns(name.as_bytes()),
                TextName::Uri(name.as_bytes()),
            ] {
                assert!(strict(&[TextName::Dns(b"good.example.com"), name]).is_err(), "{name:?}");
            }
        }
        assert!(strict(&[TextName::Dns(b"*.a_b.example.com")]).is_ok());
    }

    /// The certificate of RFC 9440, appendix A, as it stands in RFC 9421, B.3.
    const RFC_9440: &str = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:";

    #[test]
    fn services_are_told_what_rfc_9440_writes() {
        let der = STANDARD.decode(RFC_9440.trim_matches(':')).unwrap();
        let certificate = CertificateDer::from(der);
        let alone = ClientCertificate::read(&certificate, &[]).unwrap();
        let fields = alone.fields().unwrap();
        assert_eq!(fields.certificate, RFC_9440);
        assert!(fields.chain.is_none());
        let others = [CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![4])];
        let chain = ClientCertificate::read(&certificate, &others).unwrap();
        let fields = chain.fields().unwrap();
        assert_eq!(
            (&fields.certificate, fields.chain.as_ref().unwrap()),
            (&alone.fields().unwrap().certificate, &HeaderValue::from_static(":AQID:, :BA==:"))
        );
        assert!(ClientCertificate::rehearsed("a.example.com").fields().is_none());
    }

    #[test]
    fn a_memo_is_for_its_maker_alone() {
        let memo = Memo::default();
        assert_eq!(memo.get::<String>(1), None);
        memo.put(1, Arc::new("one".to_owned()));
        assert_eq!(memo.get::<String>(1).as_deref().map(String::as_str), Some("one"));
        assert_eq!(memo.get::<String>(2), None);
        assert_eq!(memo.get::<u32>(1), None);
    }
}
