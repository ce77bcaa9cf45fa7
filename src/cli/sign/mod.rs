//! `sign`: signs a request (RFC 9421) as clients must, and shows why a signature does not verify.

mod verify;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Uri};

use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::Message;
use crate::authenticate::signature::rule::{DEFAULT, DEFAULT_WITH_BODY};
use crate::authenticate::signature::sign::{SignedHeaders, Terms, ToSign, sign};
use crate::cli::exit::{Exit, print};
use crate::cli::explain::{Header, body_bytes};
use crate::cli::{Ended, Globals};
use crate::clock::Clock;
use crate::fields::Fields;
use crate::mistake::suggest;
use crate::secret::Secret;
use crate::secret::reference::Reference;

/// A signing secret has so many bytes, written as base64.
const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 16;

/// Options of `sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis sign DELETE https://localhost:8443/v1/tasks/task_1 --key-id 7Fq2kT9x --secret file:partner.secret --curl\n  portcullis sign POST https://localhost:8443/v1/tasks --key-id 7Fq2kT9x --secret env:SECRET --body @task.json --explain\n  portcullis sign --verify request.http --explain\n  portcullis sign --verify request.http --secret file:partner.secret --theirs base.txt --explain"
)]
pub struct Options {
    /// The method.
    #[arg(required_unless_present = "verify", requires = "url")]
    method: Option<Method>,
    /// The whole URL, as it will be sent.
    url: Option<Uri>,
    /// The id of the signing key, as `keys create --signing` said it.
    #[arg(long, value_name = "ID", required_unless_present = "verify")]
    key_id: Option<String>,
    /// Where its secret is: file:PATH or env:NAME. Never the secret itself, which other users of
    /// this machine would see.
    #[arg(long, value_name = "REFERENCE", required_unless_present = "verify")]
    secret: Option<Reference>,
    /// The body, or @FILE.
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// A header of the request; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<Header>,
    /// A trailer, which is sent behind a chunked body, for a signature that covers it (as
    /// content-digest;tr); may be repeated.
    #[arg(long = "trailer", value_name = "NAME: VALUE")]
    trailers: Vec<Header>,
    /// What the signature covers; may be repeated. Default: @method @authority @path @query, and
    /// with a body content-digest and content-type.
    #[arg(long = "component", value_name = "NAME")]
    components: Vec<String>,
    /// What makes the signature unique; default: 16 random bytes.
    #[arg(long)]
    nonce: Option<String>,
    /// When it is made, in Unix seconds; default: now.
    #[arg(long, value_name = "SECONDS")]
    created: Option<u64>,
    /// The application that the signature is meant for.
    #[arg(long)]
    tag: Option<String>,
    /// Print a line for curl instead of headers.
    #[arg(long, conflicts_with = "trailers")]
    curl: bool,
    /// Print the signature base too: the text that both sides compute.
    #[arg(long)]
    explain: bool,
    /// Do not sign: show what the gateway makes of the signature of a request that came. FILE holds
    /// it as it was sent over HTTP/1.1; without FILE the method, the URL and -H tell it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key_id", "curl", "components"])]
    verify: Option<Option<PathBuf>>,
    /// With --verify: the signature base that the client says it signed.
    #[arg(long, value_name = "FILE", requires = "verify")]
    theirs: Option<PathBuf>,
    /// With --verify: the label of the signature, if there are several.
    #[arg(long, requires = "verify")]
    label: Option<String>,
    /// With --verify: the request came without TLS.
    #[arg(long, requires = "verify")]
    plain: bool,
    /// With --verify: a public key to verify with, as PEM, JWK or base64.
    #[arg(long, value_name = "FILE", requires_all = ["verify", "algorithm"], conflicts_with = "secret")]
    public_key: Option<PathBuf>,
    /// The algorithm of the public key.
    #[arg(long, value_name = "NAME", requires = "public_key", value_parser = algorithm)]
    algorithm: Option<Algorithm>,
}

/// Signs.
pub fn run(_globals: &Globals, options: &Options) -> Ended {
    if let Some(file) = &options.verify {
        return verify::run(options, file.as_deref());
    }
    let (Some(key_id), Some(reference)) = (&options.key_id, &options.secret) else {
        return Err(Exit::CouldNot("name a key and its secret".to_owned()));
    };
    let secret = secret(reference)?;
    let request = Request::of(options)?;
    let nonce = match &options.nonce {
        Some(nonce) => nonce.clone(),
        None => {
            let bytes =
                Secret::random(NONCE_BYTES).map_err(|fault| Exit::CouldNot(fault.to_string()))?;
            bytes.expose().iter().map(|byte| format!("{byte:02x}")).collect()
        }
    };
    let with_body = (!request.body.is_empty()).then_some(DEFAULT_WITH_BODY);
    let components: Vec<&str> = if options.components.is_empty() {
        DEFAULT.into_iter().chain(with_body.into_iter().flatten()).collect()
    } else {
        options.components.iter().map(String::as_str).collect()
    };
    let terms = Terms {
        label: "sig1",
        components: &components,
        keyid: key_id,
        created: options.created.unwrap_or_else(|| Clock::system().now().unix_s()),
        expires: None,
        nonce: Some(&nonce),
        tag: options.tag.as_deref(),
    };
    let to_sign = ToSign { message: request.message(), body: &request.body };
    let signed = sign(&to_sign, &terms, &secret).map_err(|fault| {
        let lacks =
            request.trailers.is_empty() && components.iter().any(|name| name.contains(";tr"));
        let help = if lacks { ": give it with --trailer" } else { "" };
        Exit::CouldNot(format!("the request cannot be signed: {fault}{help}"))
    })?;
    if options.explain {
        print("signature base, byte for byte (no line break at its end):");
        signed.base.lines().for_each(|line| print(&format!("  {line}")));
        print("");
    }
    let headers = request.written(&signed);
    if options.curl {
        print(&curl(options, &request, &headers));
    } else {
        headers.iter().for_each(|(name, value)| print(&format!("{name}: {value}")));
    }
    Ok(Exit::Fine)
}

/// The secret behind a reference: 32 bytes, written as base64.
fn secret(reference: &Reference) -> Result<Secret, Exit> {
    let text = reference.read(Path::new("")).map_err(|fault| Exit::CouldNot(fault.sentence()))?;
    let bytes = BASE64.decode(text.expose().trim_ascii()).map(Secret::new);
    // Nothing of what was found is repeated: it may be another secret.
    let wrong = || {
        Exit::CouldNot(format!(
            "{reference} is not the base64 of 32 bytes, as `keys create --signing` prints it"
        ))
    };
    bytes.ok().filter(|secret| secret.expose().len() == SECRET_BYTES).ok_or_else(wrong)
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let names = Algorithm::ALL.map(Algorithm::name);
    Algorithm::by_name(name).ok_or_else(|| suggest(name, names.into_iter().skip(1)))
}

/// The request that is signed.
struct Request {
    method: Method,
    scheme: &'static str,
    host: String,
    port: Option<u16>,
    target: String,
    headers: Fields,
    trailers: Fields,
    body: Vec<u8>,
    /// The headers that are added because there is a body.
    added: Vec<(String, String)>,
}

impl Request {
    fn of(options: &Options) -> Result<Self, Exit> {
        let wrong = || {
            Exit::CouldNot(
                "write a whole URL, for example https://localhost:8443/v1/tasks".to_owned(),
            )
        };
        let (Some(method), Some(url)) = (&options.method, &options.url) else {
            return Err(wrong());
        };
        let scheme = match url.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            _ => return Err(wrong()),
        };
        let mut headers = Fields::new();
        for Header(name, value) in &options.headers {
            headers.append(name.clone(), value.clone());
        }
        let trailers =
            options.trailers.iter().map(|Header(name, value)| (name.clone(), value.clone()));
        let body = options.body.as_deref().map(body_bytes).transpose()?.unwrap_or_default();
        let mut added = Vec::new();
        if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            added.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        // Clients send the host that the URL names; another one is signed when it is sent.
        let authority = match headers.get(HOST) {
            Some(host) => host.to_str().ok().and_then(|host| host.parse().ok()),
            None => url.authority().cloned(),
        };
        headers.remove(HOST);
        let authority: http::uri::Authority = authority.ok_or_else(wrong)?;
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self {
            method: method.clone(),
            scheme,
            host: authority.host().to_ascii_lowercase(),
            port: authority.port_u16(),
            target: target.to_owned(),
            headers,
            trailers: trailers.collect(),
            body,
            added,
        })
    }

    fn message(&self) -> Message<'_> {
        Message {
            method: self.method.as_str(),
            scheme: self.scheme,
            host: &self.host,
            port: self.port,
            target: &self.target,
            headers: &self.headers,
            trailers: (!self.trailers.is_empty()).then_some(&self.trailers),
        }
    }

    /// The headers to add to the request.
    fn written(&self, signed: &SignedHeaders) -> Vec<(String, String)> {
        let mut headers = self.added.clone();
        let digest = signed.content_digest.as_ref();
        headers.extend(digest.map(|digest| ("Content-Digest".to_owned(), digest.clone())));
        headers.push(("Signature-Input".to_owned(), signed.signature_input.clone()));
        headers.push(("Signature".to_owned(), signed.signature.clone()));
        headers
    }
}

/// The request as a line for a POSIX shell.
fn curl(options: &Options, request: &Request, signed: &[(String, String)]) -> String {
    let url = options.url.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut words = vec![format!("curl -X {} {}", request.method, quoted(&url))];
    for Header(name, value) in &options.headers {
        words.push(format!(
            "-H {}",
            quoted(&format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        ));
    }
    words.extend(
        signed.iter().map(|(name, value)| format!("-H {}", quoted(&format!("{name}: {value}")))),
    );
    if let Some(body) = &options.body {
        // `--data-binary` reads @FILE itself, and changes no byte.
        words.push(format!("--data-binary {}", quoted(body)));
    }
    words.join(" \\\n  ")
}

/// A word that a POSIX shell leaves as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        let line = [&["sign"], words, &["--key-id", "7Fq2kT9x", "--secret", "env:X"]].concat();
        Line::try_parse_from(line).unwrap().options
    }

    #[test]
    fn the_message_is_what_a_client_sends() {
        let options =
            options(&["POST", "https://API.example.com:8443/v1/tasks?x=1", "--body", "{}"]);
        let request = Request::of(&options).unwrap();
        let message = request.message();
        assert_eq!((message.host, message.port), ("api.example.com", Some(8443)));
        assert_eq!((message.target, message.scheme), ("/v1/tasks?x=1", "https"));
        assert_eq!(request.headers.get(CONTENT_TYPE).unwrap(), "application/json");
    }

    #[test]
    fn a_url_without_a_scheme_is_refused() {
        assert!(Request::of(&options(&["GET", "/v1/tasks"])).is_err());
    }

    #[test]
    fn a_line_for_curl_survives_the_shell() {
        let options =
            options(&["POST", "https://localhost/v1/tasks", "--body", "{\"title\": \"it's\"}"]);
        let request = Request::of(&options).unwrap();
        let line = curl(&options, &request, &[("Signature".to_owned(), "sig1=:AA==:".to_owned())]);
        assert_eq!(
            line,
            "curl -X POST 'https://localhost/v1/tasks' \\\n  -H 'Signature: sig1=:AA==:' \\\n  --data-binary '{\"title\": \"it'\\''s\"}'"
        );
    }

    #[test]
    fn only_the_base64_of_32_bytes_is_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let write = |text: &str| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            secret(&Reference::File(path.clone()))
        };
        assert_eq!(write(&format!("{}\n", BASE64.encode([7; 32]))).unwrap().expose(), [7; 32]);
        let Err(Exit::CouldNot(says)) = write("hunter2hunter2") else { panic!("it was taken") };
        assert!(!says.contains("hunter2"), "{says}");
        assert!(write(&BASE64.encode([7; 16])).is_err());
    }
}
