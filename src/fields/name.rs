//! The names of fields: how they are read, asked for and written.

use http::{HeaderName, header};

/// What a field can be asked for by: its name as a value, or as text in lower case.
pub trait Named {
    /// Whether this is that name.
    fn is(&self, name: &HeaderName) -> bool;
}

impl Named for HeaderName {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl Named for &HeaderName {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        *self == name
    }
}

impl Named for &str {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        name.as_str() == *self
    }
}

/// What a field can be named by when it is written: a name, or a constant text in lower case.
pub trait Naming {
    /// The name.
    fn name(self) -> HeaderName;
}

impl Naming for HeaderName {
    #[inline]
    fn name(self) -> HeaderName {
        self
    }
}

impl Naming for &HeaderName {
    #[inline]
    fn name(self) -> HeaderName {
        self.clone()
    }
}

impl Naming for &'static str {
    fn name(self) -> HeaderName {
        HeaderName::from_static(self)
    }
}

/// The name that these bytes spell, in any case (RFC 9110, section 5.1); nothing when they are no
/// token.
pub fn read_name(bytes: &[u8]) -> Option<HeaderName> {
    usual(bytes).or_else(|| HeaderName::from_bytes(bytes).ok())
}

/// Names that most messages have, in the two spellings that are in use. Few comparisons of whole
/// words tell them, where the general way looks at each byte.
pub(in crate::fields) fn usual(bytes: &[u8]) -> Option<HeaderName> {
    Some(match bytes.len() {
        4 => match bytes {
            b"Host" | b"host" => header::HOST,
            b"Date" | b"date" => header::DATE,
            b"ETag" | b"etag" => header::ETAG,
            b"Vary" | b"vary" => header::VARY,
            _ => return None,
        },
        6 => match bytes {
            b"Accept" | b"accept" => header::ACCEPT,
            b"Cookie" | b"cookie" => header::COOKIE,
            b"Server" | b"server" => header::SERVER,
            b"Origin" | b"origin" => header::ORIGIN,
            _ => return None,
        },
        10 => match bytes {
            b"User-Agent" | b"user-agent" => header::USER_AGENT,
            b"Connection" | b"connection" => header::CONNECTION,
            _ => return None,
        },
        12 => match bytes {
            b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
            _ => return None,
        },
        13 => match bytes {
            b"Authorization" | b"authorization" => header::AUTHORIZATION,
            b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
            _ => return None,
        },
        14 => match bytes {
            b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
            _ => return None,
        },
        15 => match bytes {
            b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
            b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
            _ => return None,
        },
        17 => match bytes {
            b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
            _ => return None,
        },
        _ => return None,
    })
}
