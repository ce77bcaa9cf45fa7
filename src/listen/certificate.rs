//! A certificate and its key: read, checked, and swapped while connections go on.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::listen::der::not_after;

/// More than any chain needs; keeps a wrong path from being read whole.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate chain and its key, read from two PEM files and read again when they change.
#[derive(Debug)]
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Pair>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Pair {
    certified: Arc<CertifiedKey>,
    not_after_unix_s: u64,
}

/// What the two files were when they were last read, good or bad.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    stamps: [Option<(SystemTime, u64)>; 2],
    content: u64,
}

impl Certificates {
    /// Reads a certificate chain and the key of its first certificate.
    ///
    /// # Errors
    /// A sentence that says which file is wrong and how. Nothing secret is in it.
    pub fn read(
        certificate: PathBuf,
        key: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let stamps = [stamp(&certificate), stamp(&key)];
        let (pair, content) = read_pair(&certificate, &key, &provider)?;
        Ok(Self {
            certificate,
            key,
            provider,
            current: ArcSwap::from_pointee(pair),
            seen: Mutex::new(Seen { stamps, content }),
        })
    }

    /// Reads the files again if they have changed since they were last looked at. True when
    /// handshakes use a new pair from now on.
    ///
    /// # Errors
    /// The files have changed and are no good; handshakes go on with the pair they have. The same
    /// bad files are reported once.
    pub fn reload_if_changed(&self) -> Result<bool, String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [stamp(&self.certificate), stamp(&self.key)];
        if stamps == seen.stamps {
            return Ok(false);
        }
        seen.stamps = stamps;
        let (pair, content) = read_pair(&self.certificate, &self.key, &self.provider)?;
        if content == seen.content {
            return Ok(false);
        }
        seen.content = content;
        self.current.store(Arc::new(pair));
        Ok(true)
    }

    /// When the certificate in use expires, in Unix seconds.
    pub fn not_after_unix_s(&self) -> u64 {
        self.current.load().not_after_unix_s
    }

    /// The file of the certificate chain.
    pub fn path(&self) -> &Path {
        &self.certificate
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
    }
}

pub(super) fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read_pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(Pair, u64), String> {
    let chain_text = read_file(certificate)?;
    let key_text = read_file(key)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_text)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{} is not a PEM certificate", certificate.display()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| format!("{} holds no PEM certificate", certificate.display()))?;
    let not_after_unix_s = not_after(leaf)
        .ok_or_else(|| format!("{} holds no valid X.509 certificate", certificate.display()))?;
    let private = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|_| format!("{} holds no PEM private key", key.display()))?;
    let certified =
        CertifiedKey::from_der(chain, private, provider).map_err(|fault| match fault {
            rustls::Error::InconsistentKeys(_) => {
                format!("{} is not the key of {}", key.display(), certificate.display())
            }
            fault => format!("{} does not fit {}: {fault}", key.display(), certificate.display()),
        })?;
    let mut hasher = DefaultHasher::new();
    (chain_text.as_slice(), key_text.as_slice()).hash(&mut hasher);
    Ok((Pair { certified: Arc::new(certified), not_after_unix_s }, hasher.finish()))
}

pub(super) fn read_file(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    let unreadable = |fault: std::io::Error| format!("{} cannot be read: {fault}", path.display());
    if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(format!("{} is larger than 1 MiB", path.display()));
    }
    fs::read(path).map(zeroize::Zeroizing::new).map_err(unreadable)
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::listen::tls::provider;

    /// Writes a new pair into `folder`, for `localhost`, expiring at this time. Gives the paths.
    pub(in crate::listen) fn write_pair(folder: &Path, year_of_end: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year_of_end, 3, 4);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let paths = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&paths.0, certificate.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    fn read(paths: (PathBuf, PathBuf)) -> Result<Certificates, String> {
        Certificates::read(paths.0, paths.1, provider())
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        let folder = tempfile::tempdir().unwrap();
        let soon = read(write_pair(folder.path(), 2031)).unwrap();
        assert_eq!(soon.not_after_unix_s(), 1_930_348_800);
        let far = read(write_pair(folder.path(), 2150)).unwrap();
        assert_eq!(far.not_after_unix_s(), 5_685_638_400);
    }

    #[test]
    fn a_new_pair_is_taken_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let paths = write_pair(folder.path(), 2031);
        let certificates = read(paths.clone()).unwrap();
        assert_eq!(certificates.reload_if_changed(), Ok(false));

        write_pair(folder.path(), 2032);
        assert_eq!(certificates.reload_if_changed(), Ok(true));
        let end = certificates.not_after_unix_s();
        assert!(end > 1_930_348_800);

        fs::write(&paths.0, "not a certificate, and of another length").unwrap();
        assert!(certificates.reload_if_changed().unwrap_err().contains("cert.pem"));
        assert_eq!(certificates.reload_if_changed(), Ok(false), "reported once");
        assert_eq!(certificates.not_after_unix_s(), end);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (certificate, _) = write_pair(one.path(), 2031);
        let (_, key) = write_pair(other.path(), 2031);
        assert!(read((certificate, key)).unwrap_err().contains("is not the key of"));
    }

    #[test]
    fn a_cut_certificate_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, _) = write_pair(folder.path(), 2031);
        let der = CertificateDer::from_pem_file(certificate).unwrap();
        assert!(not_after(&der).is_some());
        for length in 0..der.len() {
            assert_eq!(not_after(&der[..length]), None, "{length}");
        }
    }
}
