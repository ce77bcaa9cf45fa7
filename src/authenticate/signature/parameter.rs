//! The parameters of a signature (RFC 9421, 2.3), each at most once and in their order.

use std::borrow::Cow;

use crate::authenticate::signature::fields::Malformed;

/// The most bytes of a `keyid`.
pub const KEYID_BYTES_MAX: usize = 64;
/// The most bytes of a `tag`.
pub const TAG_BYTES_MAX: usize = 64;
/// The fewest bytes of a `nonce`: shorter ones repeat by accident.
pub const NONCE_BYTES_MIN: usize = 8;
/// The most bytes of a `nonce`.
pub const NONCE_BYTES_MAX: usize = 128;

/// How many there are.
const KINDS: usize = 6;

/// The parameters of one signature. Each kind has its place, so that nothing is searched for and
/// nothing allocated; their order is kept because the signature covers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// When it was made, in Unix seconds.
    pub created: Option<u64>,
    /// When it ceases to hold, in Unix seconds.
    pub expires: Option<u64>,
    /// What makes it unique.
    pub nonce: Option<Cow<'a, str>>,
    /// The algorithm that the signer says it used.
    pub algorithm: Option<Cow<'a, str>>,
    /// The key.
    pub keyid: Option<Cow<'a, str>>,
    /// The application that it is meant for.
    pub tag: Option<Cow<'a, str>>,
    order: [Option<Kind>; KINDS],
}

/// The kinds of parameter. Others are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Created,
    Expires,
    Nonce,
    Algorithm,
    KeyId,
    Tag,
}

/// What a parameter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'p> {
    /// A time, in Unix seconds.
    Time(u64),
    /// A text.
    Text(&'p str),
}

impl<'a> Parameters<'a> {
    /// Takes the parameter with this key and this number of seconds.
    ///
    /// # Errors
    /// When it is none or takes a text, or when it is there already.
    #[inline]
    pub fn time(&mut self, key: &str, seconds: u64) -> Result<(), Malformed> {
        let (kind, place) = match key {
            "created" => (Kind::Created, &mut self.created),
            "expires" => (Kind::Expires, &mut self.expires),
            _ => return Err(mismatch(key)),
        };
        once(place, seconds)?;
        self.ordered(kind);
        Ok(())
    }

    /// Takes the parameter with this key and this text.
    ///
    /// # Errors
    /// When it is none or takes a number, when the text is too short or too long for it, or when it
    /// is there already.
    #[inline]
    pub fn text(&mut self, key: &str, text: Cow<'a, str>) -> Result<(), Malformed> {
        let (kind, bounds, place) = match key {
            "nonce" => (Kind::Nonce, NONCE_BYTES_MIN..=NONCE_BYTES_MAX, &mut self.nonce),
            "alg" => (Kind::Algorithm, 1..=TAG_BYTES_MAX, &mut self.algorithm),
            "keyid" => (Kind::KeyId, 1..=KEYID_BYTES_MAX, &mut self.keyid),
            "tag" => (Kind::Tag, 1..=TAG_BYTES_MAX, &mut self.tag),
            _ => return Err(mismatch(key)),
        };
        if !bounds.contains(&text.len()) {
            return Err(mismatch(key));
        }
        once(place, text)?;
        self.ordered(kind);
        Ok(())
    }

    /// The parameters in their order, each under its key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Said<'_>)> {
        self.order.iter().flatten().filter_map(move |kind| {
            Some(match kind {
                Kind::Created => ("created", Said::Time(self.created?)),
                Kind::Expires => ("expires", Said::Time(self.expires?)),
                Kind::Nonce => ("nonce", Said::Text(self.nonce.as_deref()?)),
                Kind::Algorithm => ("alg", Said::Text(self.algorithm.as_deref()?)),
                Kind::KeyId => ("keyid", Said::Text(self.keyid.as_deref()?)),
                Kind::Tag => ("tag", Said::Text(self.tag.as_deref()?)),
            })
        })
    }

    /// Notes that a kind comes next. There are six, each once, so there is a place.
    fn ordered(&mut self, kind: Kind) {
        if let Some(place) = self.order.iter_mut().find(|place| place.is_none()) {
            *place = Some(kind);
        }
    }
}

/// Fills an empty place. RFC 9651 would keep the last of two; whoever sends two has no honest reason to.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if place.is_some() {
        return Err(Malformed("a signature parameter stands twice"));
    }
    *place = Some(value);
    Ok(())
}

/// What is wrong with the value under this key, whatever it is.
pub(super) fn mismatch(key: &str) -> Malformed {
    Malformed(match key {
        "created" | "expires" => "a time is no whole number of seconds",
        "nonce" | "alg" | "keyid" | "tag" => {
            "keyid, nonce, alg or tag is no string of an accepted length"
        }
        _ => "an unknown signature parameter",
    })
}
