//! TLS towards upstreams: roots, server name, ALPN and our own certificate. There is no switch that
//! turns checking off.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ring::digest::{self, SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::forward::address::{Address, Host};
use crate::forward::reference::{Surroundings, file};
use crate::forward::upstream::Protocol;
use crate::listen::der::not_after;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::secret::Secret;
use crate::secret::reference::{Reference, ReferenceFault};

/// More than any chain needs; keeps a wrong path from being read whole.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How https targets are proved, and what proves us to them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsRule {
    /// The authority that alone is trusted, `"file:PATH"` of a PEM file. Default: the public ones.
    pub ca: Option<At<String>>,
    /// The name that the certificate must hold. Default: the host of the target.
    pub server_name: Option<At<String>>,
    /// Our own certificate, which the service asks for (mutual TLS): `"file:PATH"` of a PEM file with
    /// the chain. Read again when it changes, like `ca` and `key`. Default: none.
    pub cert: Option<At<String>>,
    /// The key of `cert`, in PEM.
    pub key: Option<At<Reference>>,
}

/// How TLS is spoken to the targets of one upstream.
pub(in crate::forward) struct Tls {
    material: Material,
    current: ArcSwap<Made>,
    /// The fault of the files that was last told, so that it is told once.
    told: Mutex<Option<String>>,
    server_name: Option<ServerName<'static>>,
}

/// What the files have been made into.
struct Made {
    config: Arc<ClientConfig>,
    content: [u8; 32],
    /// When our own certificate expires, in Unix seconds.
    not_after_s: Option<u64>,
}

/// Where roots, certificate and key are, and what is spoken.
#[derive(Clone)]
struct Material {
    ca: Option<PathBuf>,
    own: Option<(PathBuf, Reference)>,
    base: PathBuf,
    protocol: &'static [u8],
}

/// The file that is wrong, and how.
enum Wrong {
    Ca(String),
    Certificate(String),
    Key(ReferenceFault),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(says) | Self::Certificate(says) => f.write_str(says),
            Self::Key(fault) => fault.fmt(f),
        }
    }
}

impl Tls {
    /// The prepared configuration.
    pub(in crate::forward) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// The name that the certificate of `address` must hold; nothing when there can be none.
    pub(in crate::forward) fn server_name(&self, address: &Address) -> Option<ServerName<'static>> {
        if let Some(name) = &self.server_name {
            return Some(name.clone());
        }
        match address.host() {
            Host::Ip(ip) => Some(ServerName::from(*ip)),
            Host::Name(name) => ServerName::try_from(name.to_string()).ok(),
        }
    }

    /// When our own certificate expires, in Unix seconds, where there is one.
    pub(in crate::forward) fn not_after_s(&self) -> Option<u64> {
        self.current.load().not_after_s
    }

    /// The same TLS without our own certificate, as a stranger would speak it.
    pub(in crate::forward) fn of_a_stranger(&self) -> Option<Self> {
        let material = Material { own: None, ..self.material.clone() };
        let made = material.made().ok()?;
        Some(Self::new(material, made, self.server_name.clone()))
    }

    /// Reads the files again, whatever their names lead to by now. True when they have changed and
    /// connections that are opened from now on go by them. It waits for the disk.
    ///
    /// # Errors
    /// The files are no good, and the ones that were read before stay in force. The same fault is
    /// told once.
    pub(in crate::forward) fn reload_if_changed(&self) -> Result<bool, String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match self.material.made() {
            Ok(made) => {
                *told = None;
                let changed = made.content != self.current.load().content;
                if changed {
                    self.current.store(Arc::new(made));
                }
                Ok(changed)
            }
            Err(wrong) => {
                let says = wrong.to_string();
                if told.as_ref() == Some(&says) {
                    return Ok(false);
                }
                *told = Some(says.clone());
                Err(says)
            }
        }
    }

    fn new(material: Material, made: Made, server_name: Option<ServerName<'static>>) -> Self {
        Self { material, current: ArcSwap::from_pointee(made), told: Mutex::default(), server_name }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.server_name)
    }
}

impl Material {
    /// Reads everything and makes it ready.
    fn made(&self) -> Result<Made, Wrong> {
        let mut content = digest::Context::new(&SHA256);
        let mut taken = |bytes: &[u8]| {
            content.update(&(bytes.len() as u64).to_be_bytes());
            content.update(bytes);
        };
        let roots = match &self.ca {
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            Some(path) => {
                let text = read_file(path).map_err(Wrong::Ca)?;
                taken(&text);
                roots_from(&text, path).map_err(Wrong::Ca)?
            }
        };
        let own = match &self.own {
            None => None,
            Some((path, key)) => {
                let text = read_file(path).map_err(Wrong::Certificate)?;
                let key = key.read(&self.base).map_err(Wrong::Key)?;
                taken(&text);
                taken(key.expose());
                Some((path, text, key))
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let says = |path: &Path, fault| match fault {
            rustls::Error::InconsistentKeys(_) => {
                format!("`{}` is not the certificate of the key", path.display())
            }
            fault => format!("`{}` does not fit its key: {fault}", path.display()),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| Wrong::Ca(fault.to_string()))?
            .with_root_certificates(roots);
        let (mut config, not_after_s) = match own {
            None => (builder.with_no_client_auth(), None),
            Some((path, text, key)) => {
                let chain = certificates(&text, path).map_err(Wrong::Certificate)?;
                let not_after_s = chain.first().and_then(|leaf| not_after(leaf));
                let config = builder
                    .with_client_auth_cert(chain, private_key(&key)?)
                    .map_err(|fault| Wrong::Certificate(says(path, fault)))?;
                (config, not_after_s)
            }
        };
        config.alpn_protocols = vec![self.protocol.to_vec()];
        let mut hash = [0; 32];
        hash.copy_from_slice(content.finish().as_ref());
        Ok(Made { config: Arc::new(config), content: hash, not_after_s })
    }
}

/// TLS for an upstream that a rule describes; nothing where no target wants it, and nothing at all
/// when it is wrong.
pub(in crate::forward) fn compile(
    rule: Option<&At<TlsRule>>,
    secure: bool,
    http: Protocol,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Option<Tls>> {
    if !secure {
        if let Some(rule) = rule {
            let says = "`tls` is given, but no target is spoken to with TLS";
            reading.wrong(Code::WrongValue, &rule.span, says, "write https:// for the targets");
            return None;
        }
        return Some(None);
    }
    let usual = TlsRule { ca: None, server_name: None, cert: None, key: None };
    let (rule, span) = rule.map_or((&usual, 0..0), |rule| (&rule.value, rule.span.clone()));
    let server_name = server_name(rule.server_name.as_ref(), reading);
    let ca = rule.ca.as_ref().map(|ca| path_of(ca, surroundings, reading));
    let own = match (&rule.cert, &rule.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            Some(path_of(cert, surroundings, reading).map(|path| (path, key.value.clone())))
        }
        (Some(_), None) | (None, Some(_)) => {
            let says = "`cert` and `key` only work together";
            reading.wrong(Code::BadCertificate, &span, says, "name both, or neither");
            Some(None)
        }
    };
    let mut material = Material {
        ca: transposed(ca)?,
        own: transposed(own)?,
        base: surroundings.base_dir.to_owned(),
        protocol: match http {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        },
    };
    let made = match material.made() {
        // Systemd's credentials are there only when it has started the process.
        Err(Wrong::Key(ReferenceFault::NoCredentials(_))) if surroundings.only_looking => {
            material.own = None;
            material.made()
        }
        made => made,
    };
    let span_of = |at: Option<Range<usize>>| at.unwrap_or(span);
    match made {
        Ok(made) => Some(Some(Tls::new(material, made, server_name?))),
        Err(Wrong::Ca(says)) => {
            let span = span_of(rule.ca.as_ref().map(|ca| ca.span.clone()));
            let help = "name a PEM file with the authority's certificate: \"file:PATH\"";
            reading.wrong(Code::BadCertificate, &span, says, help);
            None
        }
        Err(Wrong::Certificate(says)) => {
            let span = span_of(rule.cert.as_ref().map(|cert| cert.span.clone()));
            let help = "name a PEM file with our own certificate and its chain: \"file:PATH\"";
            reading.wrong(Code::BadCertificate, &span, says, help);
            None
        }
        Err(Wrong::Key(fault)) => {
            let span = span_of(rule.key.as_ref().map(|key| key.span.clone()));
            fault.report(&span, "name the PEM file with the key of `cert`: \"file:PATH\"", reading);
            None
        }
    }
}

/// Turns "there, and wrong" into nothing at all.
fn transposed<T>(written: Option<Option<T>>) -> Option<Option<T>> {
    written.map_or(Some(None), |made| made.map(Some))
}

fn path_of(
    reference: &At<String>,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<PathBuf> {
    let path = file(reference, surroundings.base_dir);
    path.map_err(|says| {
        reading.wrong(Code::BadCertificate, &reference.span, says, "write \"file:PATH\"");
    })
    .ok()
}

fn server_name(
    written: Option<&At<String>>,
    reading: &mut Reading<'_>,
) -> Option<Option<ServerName<'static>>> {
    let Some(written) = written else { return Some(None) };
    match ServerName::try_from(written.value.clone()) {
        Ok(name) => Some(Some(name)),
        Err(_) => {
            let says = format!("`{}` is not a server name", written.value);
            let help = "write for example \"tasks.internal\"";
            reading.wrong(Code::WrongValue, &written.span, says, help);
            None
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let unreadable =
        |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("`{}` is larger than 1 MiB", path.display()));
    }
    Ok(text)
}

fn certificates(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| format!("`{}` is not valid PEM: {error}", path.display()))?;
    if read.is_empty() {
        return Err(format!("`{}` holds no certificate", path.display()));
    }
    Ok(read)
}

fn roots_from(text: &[u8], path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text, path)? {
        roots.add(certificate).map_err(|error| {
            format!("`{}` holds what is no certificate of an authority: {error}", path.display())
        })?;
    }
    Ok(roots)
}

fn private_key(key: &Secret) -> Result<PrivateKeyDer<'static>, Wrong> {
    // The parser's own words are not told: they might repeat what it read.
    let none = |_| Wrong::Key(ReferenceFault::Unfit("it holds no PEM private key".to_owned()));
    PrivateKeyDer::from_pem_slice(key.expose()).map_err(none)
}
