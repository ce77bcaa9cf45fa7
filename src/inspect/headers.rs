//! Which headers a route demands, refuses and accepts with which values.

use std::collections::BTreeMap;

use http::header::HeaderName;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fields::Fields;
use crate::fields::value::Value;
use crate::inspect::pattern;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::refusal::{Reason, Refusal};
use crate::units::Size;

/// Which headers are demanded, refused and accepted with which values.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadersRule {
    /// Headers that must be there: `["x-client-version"]`.
    #[serde(default)]
    pub require: Vec<At<String>>,
    /// Headers that must not be there: `["x-debug"]`.
    #[serde(default)]
    pub refuse: Vec<At<String>>,
    /// Regular expressions that each whole value of a header must match.
    #[serde(default)]
    pub patterns: BTreeMap<String, At<String>>,
    /// How long a value of any header may be. Default: as long as the listener lets a head be.
    #[serde(default)]
    pub max_value: Option<Size>,
}

/// Which headers are demanded, refused and accepted with which values.
#[derive(Debug)]
pub struct HeaderFilter {
    origin: Origin,
    require: Box<[HeaderName]>,
    refuse: Box<[HeaderName]>,
    patterns: Box<[(HeaderName, Regex)]>,
    value_bytes_max: usize,
}

impl HeaderFilter {
    /// The filter that a rule describes; `address` is what it refuses under.
    pub fn compile(
        rule: &At<HeadersRule>,
        address: &str,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let HeadersRule { require, refuse, patterns, max_value } = &rule.value;
        let demanded = names(require, reading);
        let refused = names(refuse, reading);
        let mut sound = true;
        for name in
            refuse.iter().filter(|name| require.iter().any(|other| other.value == name.value))
        {
            reading.wrong(
                Code::ClosedDoor,
                &name.span,
                format!("the header `{}` is demanded and refused", name.value),
                "take it out of one of the two lists",
            );
            sound = false;
        }
        let mut compiled = Vec::new();
        for (name, written) in patterns {
            let name = At { value: name.clone(), span: written.span.clone() };
            match (header_name(&name, reading), pattern::compile(written, reading)) {
                (Some(name), Some(pattern)) => compiled.push((name, pattern)),
                _ => sound = false,
            }
        }
        let (require, refuse) = (demanded?, refused?);
        sound.then(|| Self {
            origin: reading.origin(address, &rule.span),
            require,
            refuse,
            patterns: compiled.into(),
            value_bytes_max: max_value
                .map_or(usize::MAX, |size| usize::try_from(size.0).unwrap_or(usize::MAX)),
        })
    }

    /// Looks at the headers of a request.
    ///
    /// # Errors
    /// `header-refused`, with the header's name for the record.
    pub fn check(&self, headers: &Fields) -> Result<(), Refusal> {
        let refuse = |name: &HeaderName, why: &str| {
            Err(Refusal::new(Reason::HeaderRefused)
                .by(&self.origin)
                .because(format!("`{name}` {why}")))
        };
        if let Some(name) = self.require.iter().find(|name| !headers.contains_key(*name)) {
            return refuse(name, "is missing");
        }
        if let Some(name) = self.refuse.iter().find(|name| headers.contains_key(*name)) {
            return refuse(name, "is refused");
        }
        for (name, pattern) in &self.patterns {
            let fits = |value: Value<'_>| {
                std::str::from_utf8(value.as_bytes()).is_ok_and(|value| pattern.is_match(value))
            };
            if !headers.get_all(name).all(fits) {
                return refuse(name, "does not match its pattern");
            }
        }
        if self.value_bytes_max < usize::MAX
            && headers.values().any(|value| value.len() > self.value_bytes_max)
        {
            return Err(Refusal::new(Reason::HeaderRefused)
                .by(&self.origin)
                .because(format!("a value of more than {} bytes", self.value_bytes_max)));
        }
        Ok(())
    }
}

fn names(written: &[At<String>], reading: &mut Reading<'_>) -> Option<Box<[HeaderName]>> {
    let names: Vec<_> = written.iter().map(|name| header_name(name, reading)).collect();
    names.into_iter().collect()
}

fn header_name(written: &At<String>, reading: &mut Reading<'_>) -> Option<HeaderName> {
    let name = HeaderName::try_from(written.value.as_str()).ok();
    if name.is_none() {
        reading.wrong(
            Code::WrongValue,
            &written.span,
            format!("`{}` is not the name of a header", written.value),
            "write it as it stands in a request, for example \"x-client-version\"",
        );
    }
    name
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::mistake::Mistakes;
    use crate::mistake::read;
    use crate::mistake::source::Source;

    fn compile(text: &str) -> (Option<HeaderFilter>, usize) {
        let source = Source::new("p.toml", text);
        let mut mistakes = Mistakes::default();
        let entry = read::top(&source, &mut mistakes).remove(0);
        let rule = read::rule::<At<HeadersRule>>("headers", entry.node, &source, &mut mistakes);
        let mut reading = Reading { source: &source, mistakes: &mut mistakes };
        let filter =
            rule.and_then(|rule| HeaderFilter::compile(&rule, "routes.a.headers", &mut reading));
        (filter, mistakes.iter().count())
    }

    fn check(filter: &HeaderFilter, headers: &[(&'static str, &'static [u8])]) -> Option<Reason> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
            })
            .collect();
        filter.check(&headers).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn headers_are_demanded_refused_and_matched_whole() {
        let filter = compile(concat!(
            "[headers]\nrequire = [\"X-Client-Version\"]\nrefuse = [\"x-debug\"]\nmax_value = \"20B\"\n",
            "patterns = { x-client-version = \"[0-9.]+\" }\n",
        ))
        .0
        .unwrap();
        let refused = Some(Reason::HeaderRefused);
        assert_eq!(check(&filter, &[("x-client-version", b"1.2")]), None);
        assert_eq!(check(&filter, &[]), refused);
        assert_eq!(check(&filter, &[("x-client-version", b"1.2 x")]), refused);
        assert_eq!(check(&filter, &[("x-client-version", b"1.\xff")]), refused);
        assert_eq!(check(&filter, &[("x-client-version", b"1"), ("x-debug", b"")]), refused);
        assert_eq!(
            check(&filter, &[("x-client-version", b"1"), ("a", b"123456789012345678901")]),
            refused
        );
    }

    #[test]
    fn all_mistakes_of_a_rule_are_told() {
        let (filter, mistakes) = compile(concat!(
            "[headers]\nrequire = [\"x a\", \"x-b\"]\nrefuse = [\"x-b\", \"\"]\n",
            "patterns = { \"x:y\" = \"a\", x-c = \"(\" }\n",
        ));
        assert!(filter.is_none());
        assert_eq!(mistakes, 5);
    }
}
