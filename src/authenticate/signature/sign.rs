//! Signs requests, and shows the base that the gateway computes for a signature it received.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use ring::hmac;

use crate::authenticate::digest::sha256_value;
use crate::authenticate::signature::Choice;
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::{self, Message};
use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::coverage::Coverage;
use crate::authenticate::signature::fields::{FIELD_BYTES_MAX, Malformed, Texts, field_text};
use crate::authenticate::signature::input::Input;
use crate::authenticate::signature::parameter::Parameters;
use crate::authenticate::signature::reader::{inputs, signature};
use crate::authenticate::signature::verifier::Verifier;
use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// A request that is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct ToSign<'a> {
    /// Method, target and headers, as they will be sent.
    pub message: Message<'a>,
    /// The body, as it will be sent; empty when there is none.
    pub body: &'a [u8],
}

/// What a signature shall cover and say.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// The label of the signature.
    pub label: &'a str,
    /// The components, as policies write them.
    pub components: &'a [&'a str],
    /// The id of the key, 1 to 64 characters.
    pub keyid: &'a str,
    /// When it is made, in Unix seconds.
    pub created: u64,
    /// When it shall end, in Unix seconds.
    pub expires: Option<u64>,
    /// What makes it unique, 8 to 128 characters.
    pub nonce: Option<&'a str>,
    /// The application that it is meant for.
    pub tag: Option<&'a str>,
}

/// The headers to add to a signed request, and the base they were computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Content-Digest`, when it is covered and the request did not have it.
    pub content_digest: Option<String>,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
    /// The signature base.
    pub base: String,
}

/// A request that cannot be signed so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsignable(pub String);

impl fmt::Display for Unsignable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unsignable {}

impl From<Malformed> for Unsignable {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.0.to_owned())
    }
}

/// Signs a request as [`SignatureScheme`](crate::authenticate::signature::SignatureScheme) verifies
/// it: the base comes from the same code.
///
/// # Errors
/// When a component is unknown or not in the request, or a term is out of its bounds.
pub fn sign(
    request: &ToSign<'_>,
    terms: &Terms<'_>,
    secret: &Secret,
) -> Result<SignedHeaders, Unsignable> {
    sign_with(request, terms, Algorithm::HmacSha256, |base| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        Ok(hmac::sign(&key, base).as_ref().to_vec())
    })
}

/// As [`sign`], by whatever makes the signature of a base for this algorithm.
///
/// # Errors
/// As [`sign`], and when the signature cannot be made.
pub fn sign_with(
    request: &ToSign<'_>,
    terms: &Terms<'_>,
    algorithm: Algorithm,
    by: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unsignable>,
) -> Result<SignedHeaders, Unsignable> {
    let input = input_of(terms, algorithm)?;
    let covers_digest = input.coverage.covers_digest();
    let content_digest = (covers_digest && !request.message.headers.contains_key("content-digest"))
        .then(|| sha256_value(request.body));

    let mut headers: Cow<'_, Fields> = Cow::Borrowed(request.message.headers);
    if let Some(value) = &content_digest {
        let value = HeaderValue::from_str(value).map_err(|error| Unsignable(error.to_string()))?;
        headers.to_mut().insert(HeaderName::from_static("content-digest"), value);
    }
    let message = Message { headers: &headers, ..request.message };

    let mut base = Vec::new();
    base::write(&message, &input, &mut base)?;
    let mut signature_input = Vec::new();
    base::parameters(&input, &mut signature_input);
    let signature_input = format!("{}={}", terms.label, lossy(&signature_input));
    // What was written must read back as it was meant, within the verifier's own bounds.
    let read = inputs(&signature_input, &[])?;
    if let Some(fault) = read.iter().find_map(|input| input.fault) {
        return Err(fault.into());
    }
    let meant = Input { strict: read.first().and_then(|read| read.strict), ..input };
    if read.len() != 1 || read.first() != Some(&meant) || signature_input.len() > FIELD_BYTES_MAX {
        return Err(Unsignable("the terms cannot be written as a header".to_owned()));
    }
    let signature = STANDARD.encode(by(&base)?);
    let signature = format!("{}=:{signature}:", terms.label);
    Ok(SignedHeaders { content_digest, signature, base: lossy(&base), signature_input })
}

/// The signature base that the gateway computes for the signature that `choice` picks from a
/// request. Side by side with the signer's own it shows why the two do not agree.
///
/// # Errors
/// As verifying would: the signature is missing or malformed, or a covered component is missing.
pub fn explain(message: &Message<'_>, choice: &Choice) -> Result<Examined, Refusal> {
    let text = field_text(message.headers, "signature-input")?
        .ok_or(Malformed("there is no Signature-Input"))?;
    let inputs = inputs(&*text, &[])?;
    let input = choice.of(&inputs)?;
    if let Some(fault) = input.fault {
        return Err(fault.into());
    }
    let mut base = Vec::new();
    base::write(message, input, &mut base)?;
    Ok(Examined {
        label: input.label.to_owned(),
        keyid: input.keyid().map(str::to_owned),
        algorithm: input.algorithm().map(str::to_owned),
        created: input.created(),
        expires: input.expires(),
        base,
    })
}

/// Whether a key made the signature that `choice` picks from a request. Looks at nothing else:
/// neither at what is covered nor at the time.
///
/// # Errors
/// As [`explain`].
pub fn check(message: &Message<'_>, choice: &Choice, verifier: &Verifier) -> Result<bool, Refusal> {
    let Some(texts) = Texts::of(message.headers)? else {
        return Err(Malformed("there is no Signature").into());
    };
    let inputs = inputs(&texts.inputs, &[])?;
    let input = choice.of(&inputs)?;
    let signature = signature(&texts.signatures, input.label)?;
    Ok(verifier.verify(message, input, &signature)?)
}

/// What the gateway makes of a signature that it received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Its label.
    pub label: String,
    /// The key that it names.
    pub keyid: Option<String>,
    /// The algorithm that it names.
    pub algorithm: Option<String>,
    /// When it was made, in Unix seconds.
    pub created: Option<u64>,
    /// When it says that it ends, in Unix seconds.
    pub expires: Option<u64>,
    /// The signature base, byte for byte.
    pub base: Vec<u8>,
}

impl Examined {
    /// The base as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        lossy(&self.base)
    }
}

fn input_of<'a>(terms: &Terms<'a>, algorithm: Algorithm) -> Result<Input<'a>, Unsignable> {
    let mut components: Vec<Component<'a>> = Vec::with_capacity(terms.components.len());
    for written in terms.components {
        let component = Component::read(written)
            .map_err(|fault| Unsignable(format!("`{written}` cannot be covered: {fault}")))?;
        components.push(component);
    }
    let mut parameters = Parameters::default();
    parameters.time("created", terms.created)?;
    terms.expires.map_or(Ok(()), |expires| parameters.time("expires", expires))?;
    let texts = [
        ("nonce", terms.nonce),
        ("keyid", Some(terms.keyid)),
        ("alg", Some(algorithm.name())),
        ("tag", terms.tag),
    ];
    for (key, text) in texts {
        text.map_or(Ok(()), |text| parameters.text(key, text.into()))?;
    }
    let coverage = Coverage::Listed(components);
    Ok(Input { label: terms.label, coverage, parameters, strict: None, fault: None })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
