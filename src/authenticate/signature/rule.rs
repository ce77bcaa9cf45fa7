//! What policies write under `[signatures.NAME]`, and how it becomes a scheme.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use sfv::KeyRef;

use crate::authenticate::SigningKeys;
use crate::authenticate::nonce::Nonces;
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::component::quoted;
use crate::authenticate::signature::component::{Component, Derived};
use crate::authenticate::signature::coverage::Demanded;
use crate::authenticate::signature::input::COMPONENTS_MAX;
use crate::authenticate::signature::parameter::TAG_BYTES_MAX;
use crate::authenticate::signature::verifier::Decoys;
use crate::authenticate::signature::{Choice, SignatureScheme};
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Mistake, Reading, suggest};
use crate::units::{Size, Span};

/// How requests must be signed (RFC 9421).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureRule {
    /// The only algorithm whose keys are accepted. Default: whatever a key is for; the message
    /// never chooses.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    /// What every signature must cover. Default: `@method`, `@authority`, `@path`, `@query`.
    #[serde(default)]
    pub components: Option<At<Vec<At<String>>>>,
    /// What it must cover also when the request has a body. Default: `content-digest`,
    /// `content-type`.
    #[serde(default)]
    pub body_components: Option<At<Vec<At<String>>>>,
    /// How old a signature may be, `1s` to `1h`. Default: `60s`.
    #[serde(default)]
    pub max_age: Option<At<Span>>,
    /// How far a caller's clock may be ahead of ours, at most `5m`. Default: `5s`.
    #[serde(default)]
    pub skew: Option<At<Span>>,
    /// Whether each signature needs a nonce, which is accepted once. Default: `required`.
    #[serde(default)]
    pub nonce: Option<At<NonceUse>>,
    /// Whether each signature must say itself when it ends. Default: `optional`; it ends with
    /// `max_age` in any case.
    #[serde(default)]
    pub expires: Option<ExpiresUse>,
    /// How much of a body may be held, before it is known who calls, for a signature that covers
    /// trailers (`content-digest;tr`), which come behind it. Default: nothing, so that such
    /// signatures are refused. Who is waited for learns that its key is known.
    #[serde(default)]
    pub trailers: Option<At<Size>>,
    /// The tag that a signature must have. It also says which of several signatures counts.
    #[serde(default)]
    pub tag: Option<At<String>>,
    /// The label of the signature that counts. Default: any, if there is only one.
    #[serde(default)]
    pub label: Option<At<String>>,
}

/// Whether signatures need a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NonceUse {
    /// Each needs one.
    Required,
    /// Without one a request can be sent again for as long as its signature holds.
    Optional,
}

/// Whether signatures must carry `expires`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiresUse {
    /// Each must.
    Required,
    /// One may.
    Optional,
}

impl SignatureRule {
    /// Compiles the rule `[signatures.NAME]`, whose name stands at `span`, to a scheme that finds
    /// its keys in `keys` and spends nonces of `nonces`, which all schemes of a process share.
    /// Nothing comes of it when a mistake was reported; advice does not count as one.
    pub fn compile(
        &self,
        name: &str,
        span: &Range<usize>,
        keys: Arc<dyn SigningKeys>,
        nonces: Arc<Nonces>,
        reading: &mut Reading<'_>,
    ) -> Option<SignatureScheme> {
        let Self {
            algorithm,
            components,
            body_components,
            max_age,
            skew,
            nonce,
            expires,
            trailers,
            tag,
            label,
        } = self;
        let always = covered(components.as_ref(), &DEFAULT, &[], reading);
        let earlier = always.as_deref().unwrap_or_default();
        let with_body = covered(body_components.as_ref(), &DEFAULT_WITH_BODY, earlier, reading);
        self.judge_coverage(earlier, with_body.as_deref(), reading);
        let trailers_come = self.judge_trailers(reading);
        let second = Duration::from_secs(1);
        let max_age_s = seconds(max_age.as_ref(), 60, second..=60 * 60 * second, reading);
        let skew_s = seconds(skew.as_ref(), 5, Duration::ZERO..=5 * 60 * second, reading);
        let tag = chosen(tag.as_ref(), is_tag, "a tag", reading);
        let label = chosen(label.as_ref(), is_label, "a label", reading);

        let (components, body_components) = (always?, with_body?);
        let choice = Choice { label: label?, tag: tag? };
        let expires_required = *expires == Some(ExpiresUse::Required);
        let terms = AcceptTerms { choice: &choice, algorithm: *algorithm, expires_required };
        let demanded = [
            Demanded::of(components.iter()),
            Demanded::of(components.iter().chain(&body_components)),
        ];
        let [bare, whole] = &demanded;
        let accept = [terms.written(bare)?, terms.written(whole)?];
        if components.is_empty() || !trailers_come {
            return None;
        }
        Some(SignatureScheme {
            name: format!("signature.{name}"),
            origin: reading.origin(format!("signatures.{name}"), span),
            keys,
            nonces,
            choice,
            algorithm: *algorithm,
            demanded,
            max_age_s: max_age_s?,
            skew_s: skew_s?,
            nonce_required: nonce.as_ref().is_none_or(|nonce| nonce.value == NonceUse::Required),
            expires_required,
            trailers_max: trailers.as_ref().map(|max| max.value.0),
            accept,
            decoys: Decoys::make(),
        })
    }

    /// Objects to a coverage that proves nothing, and advises against one without the body.
    fn judge_coverage(
        &self,
        always: &[Component<'static>],
        with_body: Option<&[Component<'static>]>,
        reading: &mut Reading<'_>,
    ) {
        if let Some(written) = &self.components
            && written.is_empty()
        {
            reading.wrong(
                Code::WrongValue,
                &written.span,
                "a signature that covers nothing proves nothing",
                "leave the key out for the default: @method, @authority, @path, @query",
            );
        }
        if let (Some(written), Some(with_body)) = (&self.body_components, with_body)
            && !always.iter().chain(with_body).any(|component| component.name() == "content-digest")
        {
            reading.mistakes.push(
                Mistake::new(Code::WeakerThanDefault, "signatures do not cover the body")
                    .at(reading.source.place(written.span.clone()))
                    .help("add \"content-digest\", which binds the body to the signature"),
            );
        }
    }

    /// Objects to a demand for trailers that nobody could meet, and tells whether there is none.
    fn judge_trailers(&self, reading: &mut Reading<'_>) -> bool {
        let Self { components, body_components, trailers, .. } = self;
        let mut is_good = true;
        let mut wrong = |span: &Range<usize>, says: String, help: &str| {
            is_good = false;
            reading.wrong(Code::WrongValue, span, says, help);
        };
        let trailer = |written: &Option<At<Vec<At<String>>>>| {
            let mut all = written.iter().flat_map(|written| &written.value);
            all.find(|text| Component::read(text).is_ok_and(|read| read.is_trailer())).cloned()
        };
        if let Some(At { value: name, span }) = trailer(components) {
            let says =
                format!("`{name}` is demanded of all requests, and only bodies have trailers");
            wrong(&span, says, "demand it in `body_components`");
        }
        if let (Some(At { value: name, span }), None) = (trailer(body_components), trailers) {
            let help = "add `trailers = \"64KiB\"`: how much of a body may be held for them";
            wrong(&span, format!("`{name}` is demanded, and trailers are not waited for"), help);
        }
        if let Some(At { value: Size(0), span }) = trailers {
            wrong(span, "no body has zero bytes".to_owned(), "leave the key out if that is meant");
        }
        is_good
    }
}

/// What is covered when a policy says nothing.
pub const DEFAULT: [&str; 4] = ["@method", "@authority", "@path", "@query"];
/// What is covered also with a body, when a policy says nothing.
pub const DEFAULT_WITH_BODY: [&str; 2] = ["content-digest", "content-type"];

/// Reads a list of components, without those in `earlier`. Reports each that is none.
fn covered(
    written: Option<&At<Vec<At<String>>>>,
    default: &[&str],
    earlier: &[Component<'static>],
    reading: &mut Reading<'_>,
) -> Option<Vec<Component<'static>>> {
    let Some(written) = written else {
        let mut components: Vec<_> =
            default.iter().filter_map(|name| Component::read(name).ok()).collect();
        components.retain(|component| !earlier.contains(component));
        return Some(components);
    };
    let mut components = Vec::with_capacity(written.len());
    let mut is_good = true;
    for text in &written.value {
        match Component::read(text) {
            Ok(component) if components.contains(&component) => {
                is_good = false;
                let says = format!("`{}` stands twice", text.value);
                reading.wrong(Code::WrongValue, &text.span, says, "take one of them away");
            }
            Ok(component) => components.push(component),
            Err(fault) => {
                is_good = false;
                let says = format!("`{}` cannot be covered: {fault}", text.value);
                reading.wrong(Code::WrongValue, &text.span, says, help_for(text));
            }
        }
    }
    if written.len() > COMPONENTS_MAX / 2 {
        is_good = false;
        let says = format!("more than {} components are demanded", COMPONENTS_MAX / 2);
        reading.wrong(Code::WrongValue, &written.span, says, "demand only what must not change");
    }
    components.retain(|component| !earlier.contains(component));
    is_good.then_some(components)
}

fn help_for(written: &str) -> String {
    if written.starts_with("@query-param") {
        return "write it with its name: '@query-param;name=\"page\"'".to_owned();
    }
    if written.starts_with('@') {
        return suggest(written, Derived::ALL.map(Derived::name));
    }
    if written.contains(';') {
        return "a field can have one of ;sf, ;bs and ;key=\"…\", and ;tr".to_owned();
    }
    "write the name of a header in lower case, for example \"content-type\"".to_owned()
}

fn seconds(
    written: Option<&At<Span>>,
    default: u64,
    range: std::ops::RangeInclusive<Duration>,
    reading: &mut Reading<'_>,
) -> Option<u64> {
    let Some(At { value: Span(length), span }) = written else { return Some(default) };
    // Signatures tell time in whole seconds.
    if range.contains(length) && length.subsec_nanos() == 0 {
        return Some(length.as_secs());
    }
    reading.wrong(
        Code::WrongValue,
        span,
        format!("`{}` is out of range", Span(*length)),
        format!("write whole seconds from {} to {}", Span(*range.start()), Span(*range.end())),
    );
    None
}

/// A text that chooses a signature; the outer `None` says that it was wrong.
fn chosen(
    written: Option<&At<String>>,
    is_valid: fn(&str) -> bool,
    what: &str,
    reading: &mut Reading<'_>,
) -> Option<Option<Box<str>>> {
    let Some(text) = written else { return Some(None) };
    if is_valid(text) {
        return Some(Some(text.as_str().into()));
    }
    reading.wrong(
        Code::WrongValue,
        &text.span,
        format!("`{}` is not {what}", text.value),
        format!(
            "write 1 to {TAG_BYTES_MAX} characters; a tag takes any printable ASCII, a label only a-z, 0-9, -, _, . and *"
        ),
    );
    None
}

fn is_tag(text: &str) -> bool {
    (1..=TAG_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

fn is_label(text: &str) -> bool {
    text.len() <= TAG_BYTES_MAX && KeyRef::from_str(text).is_ok()
}

/// What `Accept-Signature` says beside the components.
struct AcceptTerms<'r> {
    choice: &'r Choice,
    algorithm: Option<Algorithm>,
    expires_required: bool,
}

impl AcceptTerms<'_> {
    /// Builds `sig1=("@method" …);created;expires;alg="hmac-sha256";tag="…"` (RFC 9421, 5.1).
    fn written(&self, demanded: &Demanded) -> Option<HeaderValue> {
        let mut value = self.choice.label.as_deref().unwrap_or("sig1").as_bytes().to_vec();
        value.push(b'=');
        value.extend_from_slice(demanded.written().as_bytes());
        value.extend_from_slice(b";created");
        if self.expires_required {
            value.extend_from_slice(b";expires");
        }
        if let Some(algorithm) = self.algorithm {
            value.extend_from_slice(b";alg=");
            quoted(algorithm.name(), &mut value);
        }
        if let Some(tag) = &self.choice.tag {
            value.extend_from_slice(b";tag=");
            quoted(tag, &mut value);
        }
        HeaderValue::from_bytes(&value).ok()
    }
}
