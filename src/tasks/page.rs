//! Lists, one page at a time: `limit`, `offset`, `sort`, filters, and the `Link` header.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use crate::tasks::answer::{Answer, Failure, page};

/// Items on a page when nothing is said, and at most.
const LIMIT_DEFAULT: usize = 10;
const LIMIT_MAX: usize = 100;

/// The query of a list, decoded.
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Decodes a query.
    ///
    /// # Errors
    /// 400 when it is not UTF-8 or names something that this list does not know.
    pub fn parse(text: &'a str, known: &[&str]) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if !known.contains(&&*name) && !["limit", "offset", "sort"].contains(&&*name) {
                return Err(Failure::invalid("The query has a parameter that is not known"));
            }
            pairs.push((name, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Whether `has` holds for one of the comma-separated values of a parameter, or it is not there.
    pub fn any(&self, name: &str, has: impl Fn(&str) -> bool) -> bool {
        self.get(name).is_none_or(|values| values.split(',').any(has))
    }

    /// The field to sort by, and whether it descends.
    pub fn sort(&self) -> Option<(&str, bool)> {
        let sort = self.get("sort")?;
        Some(sort.strip_prefix('-').map_or((sort, false), |field| (field, true)))
    }

    /// The page of `items` that was asked for.
    ///
    /// # Errors
    /// 400 for a limit or offset out of range.
    pub fn page(&self, path: &str, items: &[Value]) -> Result<Answer, Failure> {
        let number = |name: &str, default: usize, least: usize, most: usize| match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| Failure::invalid("limit is 1 to 100, offset is 0 or more")),
        };
        let limit = number("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)?;
        let offset = number("offset", 0, 0, usize::MAX / 2)?;
        let total = items.len();
        let shown: Vec<&Value> = items.iter().skip(offset).take(limit).collect();
        let has_more = offset + shown.len() < total;
        let body = json!({
            "data": shown,
            "pagination": { "total": total, "limit": limit, "offset": offset, "hasMore": has_more },
        });
        let last = total.saturating_sub(1) / limit * limit;
        let mut links =
            vec![self.link(path, limit, 0, "first"), self.link(path, limit, last, "last")];
        if has_more {
            links.push(self.link(path, limit, offset + limit, "next"));
        }
        if offset > 0 {
            links.push(self.link(path, limit, offset.saturating_sub(limit), "prev"));
        }
        Ok(page(&body, &links.join(", ")))
    }

    fn link(&self, path: &str, limit: usize, offset: usize, rel: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut target = format!("{path}?limit={limit}&offset={offset}");
        for (name, value) in self.0.iter().filter(|(name, _)| name != "limit" && name != "offset") {
            target.push_str(&format!("&{}={}", encode(name), encode(value)));
        }
        format!("<{target}>; rel=\"{rel}\"")
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Failure> {
    let wrong = || Failure::invalid("The query is not UTF-8");
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| wrong())?;
        return Ok(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(text).decode_utf8().map_err(|_| wrong())
}
