//! Asks a token endpoint for a token (RFC 6749, section 4.4), over a connection of its own.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::fields::Fields;
use crate::forward::attempt::refusal_of;
use crate::forward::connection::{Connection, Speech};
use crate::forward::dial::Wire;
use crate::forward::headers::Outgoing;
use crate::forward::http1::{self, Answered};
use crate::forward::outbound::Outbound;
use crate::forward::patience::Patience;
use crate::forward::upstream::Upstream;
use crate::listen::Length;
use crate::listen::body::Body;
use crate::secret::Secret;

/// From the first packet to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a token.
const TOKEN_BYTES_MAX: usize = 6 << 10;

/// What is sent to a token endpoint.
pub(in crate::forward::credential) struct Form {
    /// The client's own credential, where it stands in a header.
    pub(in crate::forward::credential) authorization: Option<HeaderValue>,
    /// The form.
    pub(in crate::forward::credential) body: Zeroizing<Vec<u8>>,
}

/// A token, as it goes into `Authorization`.
pub(in crate::forward::credential) struct Granted {
    pub(in crate::forward::credential) value: HeaderValue,
    /// How long it holds, where the endpoint says so.
    pub(in crate::forward::credential) lifetime: Option<Duration>,
}

/// Where tokens are to be had.
pub(in crate::forward::credential) struct Endpoint {
    /// One target, and how it is spoken to.
    pub(in crate::forward::credential) upstream: Arc<Upstream>,
    pub(in crate::forward::credential) path: PathAndQuery,
}

impl Endpoint {
    /// Asks once.
    ///
    /// # Errors
    /// Why there is no token, in words that hold nothing of the credential or of the answer but its
    /// registered error code.
    pub(in crate::forward::credential) async fn ask(&self, form: &Form) -> Result<Granted, String> {
        let limit = Instant::now() + TIMEOUT;
        let asked = timeout_at(limit, self.exchange(form, limit)).await;
        let (status, answer) =
            asked.map_err(|_| "the token endpoint did not answer in time".to_owned())??;
        read(status, &answer)
    }

    async fn exchange(
        &self,
        form: &Form,
        limit: Instant,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String> {
        let [target, ..] = self.upstream.targets() else {
            return Err("there is no token endpoint".to_owned());
        };
        let settings = self.upstream.settings();
        let connected = Connection::open(target, settings, limit).await;
        let mut connection =
            connected.map_err(|fault| refusal_of(&fault, target).private.into_owned())?;
        let Speech::Http1 { link, .. } = connection.speech() else {
            return Err("the token endpoint is spoken to with HTTP/1.1".to_owned());
        };
        let mut headers = Fields::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        headers.insert(CONTENT_LENGTH, form.body.len().into());
        if let Some(authorization) = &form.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let request = http1::send::Request {
            method: &Method::POST,
            path: self.path.path(),
            query: self.path.query(),
            host: target.address().authority().as_str(),
            headers: Outgoing::of_our_own(&headers),
        };
        let body = Body::Whole(Bytes::copy_from_slice(&form.body));
        let mut body = Outbound::new(body, Length::Exactly(form.body.len() as u64));
        let patience = Patience::new(Instant::now(), TIMEOUT, limit);
        let answered = link.ask(request, &mut body, patience).await;
        let answered =
            answered.map_err(|_| format!("{} gave no valid answer", target.address()))?;
        let status = answered.head.status;
        Ok((status, whole(link, answered).await?))
    }
}

/// Reads an answer to its end, bounded.
async fn whole(
    link: &mut http1::Link<Wire>,
    answered: Answered,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut framing = answered.head.framing;
    let mut bytes = Zeroizing::new(Vec::new());
    while let Some(data) = poll_fn(|context| link.poll_data(&mut framing, context)).await {
        let data = data.map_err(|_| "the token endpoint's answer broke off".to_owned())?;
        if bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return Err("the token endpoint's answer is too long".to_owned());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// RFC 6749, sections 5.1 and 5.2. What else stands in it is not ours to judge.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<Wiped>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
}

/// A text that is wiped.
struct Wiped(Zeroizing<String>);

impl<'de> Deserialize<'de> for Wiped {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Zeroizing::new(text)))
    }
}

fn read(status: StatusCode, answer: &[u8]) -> Result<Granted, String> {
    let read: Option<Answer> = serde_json::from_slice(answer).ok();
    if status != StatusCode::OK {
        let code = read.and_then(|read| read.error).filter(|code| is_code(code));
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        return Err(format!("the token endpoint answered {}{code}", status.as_u16()));
    }
    let Some(read) = read else {
        return Err("the token endpoint's answer is not what RFC 6749 says".to_owned());
    };
    let bearer = read.token_type.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !bearer {
        return Err("the token endpoint gave a token of another type than Bearer".to_owned());
    }
    let token = read.access_token.ok_or("the token endpoint's answer holds no token")?.0;
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !visible {
        return Err("the token endpoint gave a token that is none (RFC 6750)".to_owned());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {}", *token))
        .map_err(|_| "the token endpoint gave a token that is none (RFC 6750)".to_owned())?;
    value.set_sensitive(true);
    let lifetime = match read.expires_in {
        None | Some(serde_json::Value::Null) => None,
        // Some endpoints write the number as a text.
        Some(serde_json::Value::String(text)) => Some(text.parse::<u64>().ok()),
        Some(number) => Some(number.as_u64()),
    };
    let lifetime = lifetime
        .map(|seconds| seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs))
        .map(|span| span.ok_or("the token endpoint gave a token that holds for no time"))
        .transpose()?;
    Ok(Granted { value, lifetime })
}

/// Whether a text is an error code that may be shown, and not something that an answer repeats.
fn is_code(code: &str) -> bool {
    code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// How a client proves itself to a token endpoint (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// `client_secret_basic`.
    #[default]
    Basic,
    /// `client_secret_post`.
    Post,
}

/// What is sent to the token endpoint. Id and secret are encoded before they are joined (RFC 6749,
/// section 2.3.1).
pub(in crate::forward::credential) fn form(
    auth: ClientAuth,
    id: &Secret,
    secret: &Secret,
    scope: Option<&str>,
    audience: Option<&str>,
) -> Result<Form, String> {
    let text = |secret: &Secret| {
        let text = std::str::from_utf8(secret.expose()).map(|text| Zeroizing::new(text.to_owned()));
        text.map_err(|_| "a client's id and secret are texts".to_owned())
    };
    let (id, secret) = (text(id)?, text(secret)?);
    let encoded =
        |text: &str| Zeroizing::new(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
    let mut body = Zeroizing::new("grant_type=client_credentials".to_owned());
    let mut add = |name: &str, value: &str| {
        let value = encoded(value);
        for part in ["&", name, "=", &value] {
            body.push_str(part);
        }
    };
    scope.into_iter().for_each(|scope| add("scope", scope));
    audience.into_iter().for_each(|audience| add("audience", audience));
    let mut authorization = None;
    match auth {
        ClientAuth::Post => {
            add("client_id", &id);
            add("client_secret", &secret);
        }
        ClientAuth::Basic => {
            let pair = Zeroizing::new(format!("{}:{}", *encoded(&id), *encoded(&secret)));
            let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            let mut value = HeaderValue::from_str(&text).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
    }
    Ok(Form { authorization, body: Zeroizing::new(body.as_bytes().to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, answer: &str) -> Result<Granted, String> {
        read(StatusCode::from_u16(status).unwrap(), answer.as_bytes())
    }

    #[test]
    fn only_a_bearer_token_that_fits_a_header_is_taken() {
        let granted =
            told(200, r#"{"access_token":"abc","token_type":"bearer","expires_in":"60"}"#).unwrap();
        assert_eq!(granted.value, "Bearer abc");
        assert!(granted.value.is_sensitive());
        assert_eq!(granted.lifetime, Some(Duration::from_secs(60)));
        for answer in [
            "",
            "{}",
            r#"{"access_token":"abc"}"#,
            r#"{"access_token":"abc","token_type":"mac"}"#,
            r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":0}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":-1}"#,
        ] {
            assert!(told(200, answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_code_and_nothing_else_of_the_answer() {
        let says = told(401, r#"{"error":"invalid_client","error_description":"hunter2"}"#);
        assert_eq!(says.err().unwrap(), "the token endpoint answered 401 (invalid_client)");
        let says = told(400, r#"{"error":"Basic aHVudGVyMg=="}"#).err().unwrap();
        assert_eq!(says, "the token endpoint answered 400");
    }
}
