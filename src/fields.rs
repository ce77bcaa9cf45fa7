//! The header fields of a message: a short list in the order in which they came.
//!
//! Messages have few fields and are asked for many that are not there. Going through a list of a
//! dozen names, nearly all of which are one byte to compare, costs less than one hash; and a list
//! keeps the order of the wire, which a map does not. How long it may grow is for whoever reads a
//! message to bound: all lookups walk through it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The header fields of a message, in the order in which they came. A name may stand more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

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

impl Fields {
    /// No fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No fields, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// How many fields there are; a name that stands twice counts twice.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of the field with this name.
    #[inline]
    pub fn get(&self, wanted: impl Named) -> Option<&HeaderValue> {
        self.0.iter().find(|(name, _)| wanted.is(name)).map(|(_, value)| value)
    }

    /// All values of the field with this name, in their order.
    #[inline]
    pub fn get_all<N: Named>(&self, wanted: N) -> All<'_, N> {
        All { rest: self.0.iter(), wanted }
    }

    /// Whether a field with this name is there.
    #[inline]
    pub fn contains_key(&self, wanted: impl Named) -> bool {
        self.0.iter().any(|(name, _)| wanted.is(name))
    }

    /// The names, each as often as it stands.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Adds a field behind all others, beside those of its name.
    #[inline]
    pub fn append(&mut self, name: impl Naming, value: HeaderValue) {
        self.0.push((name.name(), value));
    }

    /// Sets a field: the first of its name has this value then, and no other is left.
    pub fn insert(&mut self, name: impl Naming, value: HeaderValue) {
        let name = name.name();
        let Some(place) = self.0.iter().position(|(known, _)| *known == name) else {
            return self.0.push((name, value));
        };
        let mut seen = false;
        if let Some((_, old)) = self.0.get_mut(place) {
            *old = value;
        }
        self.0.retain(|(known, _)| *known != name || !std::mem::replace(&mut seen, true));
    }

    /// Takes out all fields of this name, and gives the first value.
    pub fn remove(&mut self, wanted: impl Named) -> Option<HeaderValue> {
        let place = self.0.iter().position(|(name, _)| wanted.is(name))?;
        let (_, first) = self.0.remove(place);
        self.0.retain(|(name, _)| !wanted.is(name));
        Some(first)
    }

    /// Keeps only the fields that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }
}

/// The name that these bytes spell, in any case (RFC 9110, section 5.1); nothing when they are no
/// token.
pub fn read_name(bytes: &[u8]) -> Option<HeaderName> {
    usual(bytes).or_else(|| HeaderName::from_bytes(bytes).ok())
}

/// Names that most messages have, in the two spellings that are in use. Few comparisons of whole
/// words tell them, where the general way looks at each byte.
fn usual(bytes: &[u8]) -> Option<HeaderName> {
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

/// The values of one field, in their order.
#[derive(Clone, Debug)]
pub struct All<'a, N> {
    rest: std::slice::Iter<'a, (HeaderName, HeaderValue)>,
    wanted: N,
}

impl<'a, N: Named> Iterator for All<'a, N> {
    type Item = &'a HeaderValue;

    #[inline]
    fn next(&mut self) -> Option<&'a HeaderValue> {
        self.rest.find(|(name, _)| self.wanted.is(name)).map(|(_, value)| value)
    }
}

impl<N: Named> DoubleEndedIterator for All<'_, N> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rest.rfind(|(name, _)| self.wanted.is(name)).map(|(_, value)| value)
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // A map names only the first of several.
            last = name.or(last);
            if let Some(name) = &last {
                fields.append(name.clone(), value);
            }
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields.0 {
            map.append(name, value);
        }
        map
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, (HeaderName, HeaderValue)>,
        fn(&'a (HeaderName, HeaderValue)) -> (&'a HeaderName, &'a HeaderValue),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl<N: Named> std::ops::Index<N> for Fields {
    type Output = HeaderValue;

    #[expect(clippy::panic, reason = "as every index does; tests read by it")]
    fn index(&self, wanted: N) -> &HeaderValue {
        match self.get(wanted) {
            Some(value) => value,
            None => panic!("the field is not there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST};

    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    fn some() -> Fields {
        Fields::from_iter([(COOKIE, value("a")), (HOST, value("h")), (COOKIE, value("b"))])
    }

    #[test]
    fn fields_keep_the_order_of_the_wire() {
        let fields = some();
        let names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["cookie", "host", "cookie"]);
        assert_eq!(fields.get_all(COOKIE).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields.get("host").unwrap(), "h");
        assert!(!fields.contains_key(ACCEPT));
    }

    #[test]
    fn what_is_set_stands_once_and_what_is_taken_out_is_gone() {
        let mut fields = some();
        fields.insert(COOKIE, value("c"));
        assert_eq!(fields.iter().map(|(_, value)| value).collect::<Vec<_>>(), ["c", "h"]);
        fields.insert(ACCEPT, value("*/*"));
        fields.append(COOKIE, value("d"));
        assert_eq!(fields.remove(COOKIE).unwrap(), "c");
        assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host", "accept"]);
        assert_eq!(fields.remove("cookie"), None);
    }

    #[test]
    fn usual_names_are_what_the_general_way_reads() {
        for name in [
            "Host",
            "Date",
            "ETag",
            "Vary",
            "Accept",
            "Cookie",
            "Server",
            "Origin",
            "User-Agent",
            "Connection",
            "Content-Type",
            "Authorization",
            "Cache-Control",
            "Content-Length",
            "Accept-Encoding",
            "Accept-Language",
            "Transfer-Encoding",
        ] {
            for spelt in [name.to_owned(), name.to_lowercase()] {
                let usual = usual(spelt.as_bytes());
                assert_eq!(usual, HeaderName::from_bytes(spelt.as_bytes()).ok(), "{spelt}");
            }
            let upper = name.to_uppercase();
            assert_eq!(read_name(upper.as_bytes()), name.to_lowercase().parse().ok());
        }
        assert_eq!(read_name(b"Hos t"), None);
        assert_eq!(read_name(b""), None);
    }

    #[test]
    fn maps_and_fields_hold_the_same() {
        let map = HeaderMap::from(some());
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a", "b"]);
        let back = Fields::from(map);
        assert_eq!(back.len(), 3);
        assert_eq!(back.get_all("cookie").collect::<Vec<_>>(), ["a", "b"]);
    }
}
