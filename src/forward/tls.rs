//! TLS towards upstreams: roots, server name and ALPN. There is no switch that turns checking off.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::forward::address::{Address, Host};

/// How TLS is spoken to the targets of one upstream.
#[derive(Clone, Debug)]
pub(in crate::forward) struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// TLS that trusts `roots` and offers `protocol` (ALPN) alone.
    ///
    /// # Errors
    /// When the cryptography knows no version of TLS that we speak, which no build of ours has.
    pub(in crate::forward) fn new(
        roots: RootCertStore,
        server_name: Option<ServerName<'static>>,
        protocol: &[u8],
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// The prepared configuration.
    pub(in crate::forward) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
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
}

/// The roots that browsers trust, as the build brought them along.
pub(in crate::forward) fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The certificates of a PEM file, as the only roots.
///
/// # Errors
/// What is wrong with the file.
pub(in crate::forward) fn roots_from(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    for certificate in certificates {
        let certificate = certificate
            .map_err(|error| format!("`{}` is not valid PEM: {error}", path.display()))?;
        roots.add(certificate).map_err(|error| {
            format!("`{}` holds what is no certificate of an authority: {error}", path.display())
        })?;
    }
    if roots.is_empty() {
        return Err(format!("`{}` holds no certificate", path.display()));
    }
    Ok(roots)
}
