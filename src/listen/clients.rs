//! Whose client certificates are believed: authorities and revocation lists, read again when they change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::clock::Now;
use crate::listen::ClientCertificate;
use crate::listen::certificate::{read_file, stamp};
use crate::listen::der::{next_update, not_after};
use crate::listen::tls::provider;

/// Which client certificates a host asks for: as compiled, and equal when they ask for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Whether a caller without one is refused.
    pub(super) required: bool,
    /// The PEM file of the authorities.
    pub(super) authorities: PathBuf,
    /// The files of revocation lists.
    pub(super) revocations: Vec<PathBuf>,
}

/// Judges client certificates by files that are read again when they change.
#[derive(Debug)]
pub struct Clients {
    demand: Demand,
    current: ArcSwap<Trusted>,
    seen: Mutex<Seen>,
}

/// What the files say.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// Counts from 1; a certificate that was judged by another one is judged again.
    pub(super) generation: u64,
    /// When the first of the revocation lists ends, in Unix seconds.
    lists_end_unix_s: u64,
    /// When the first of the authorities ends.
    authorities_end_unix_s: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    stamps: Vec<Option<(SystemTime, u64)>>,
    content: u64,
}

/// Why a certificate that was good is not any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Its time is over.
    Expired,
    /// It was revoked, or nobody can say any longer that it was not.
    Revoked,
    /// Its issuer is trusted no longer.
    Unknown,
}

impl Clients {
    /// Reads authorities and revocation lists.
    ///
    /// # Errors
    /// A sentence that says which file is wrong and how.
    pub(super) fn read(demand: Demand) -> Result<Self, String> {
        let stamps = stamps(&demand);
        let (trusted, content) = read(&demand, 1)?;
        Ok(Self {
            demand,
            current: ArcSwap::from_pointee(trusted),
            seen: Mutex::new(Seen { stamps, content }),
        })
    }

    /// Reads the files again if they have changed since they were last looked at. True when they
    /// say something else now.
    ///
    /// # Errors
    /// They have changed and are no good; what they said before goes on. The same bad files are
    /// reported once.
    pub(super) fn reload_if_changed(&self) -> Result<bool, String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.demand);
        if stamps == seen.stamps {
            return Ok(false);
        }
        seen.stamps = stamps;
        let (trusted, content) = read(&self.demand, self.current.load().generation + 1)?;
        if content == seen.content {
            return Ok(false);
        }
        seen.content = content;
        self.current.store(Arc::new(trusted));
        Ok(true)
    }

    pub(super) fn demand(&self) -> &Demand {
        &self.demand
    }

    pub(super) fn trusted(&self) -> Arc<Trusted> {
        self.current.load_full()
    }

    /// When the first of the revocation lists ends, in Unix seconds: from then on no certificate is
    /// believed. Nothing where there are no lists.
    pub fn lists_end_unix_s(&self) -> Option<u64> {
        Some(self.current.load().lists_end_unix_s).filter(|end| *end != u64::MAX)
    }

    /// When the first of the authorities ends, in Unix seconds.
    pub fn authorities_end_unix_s(&self) -> u64 {
        self.current.load().authorities_end_unix_s
    }

    /// Judges a certificate again, unless it was judged by what holds now.
    fn judge(&self, certificate: &ClientCertificate, now: Now) -> Result<(), Distrust> {
        let trusted = self.current.load();
        let judged = certificate.judged_by.load(Ordering::Relaxed);
        if judged == trusted.generation && now.unix_s() < trusted.lists_end_unix_s {
            return Ok(());
        }
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.unix_ms));
        let Some((own, chain)) = certificate.chain.split_first() else {
            return Err(Distrust::Unknown);
        };
        match trusted.verifier.verify_client_cert(own, chain, time) {
            Ok(_) => {
                certificate.judged_by.store(trusted.generation, Ordering::Relaxed);
                Ok(())
            }
            Err(fault) => Err(match distrust_of(&fault) {
                Some(distrust) => distrust,
                None => Distrust::Unknown,
            }),
        }
    }
}

impl ClientCertificate {
    /// Whether the certificate still holds: it has not expired, and what its host trusts and what
    /// is revoked there now would let it in again. Reads memory only; a certificate is verified
    /// anew once after the files of its host have changed.
    ///
    /// # Errors
    /// Why it does not.
    pub fn still_holds(&self, now: Now) -> Result<(), Distrust> {
        if now.unix_s() > self.not_after_unix_s {
            return Err(Distrust::Expired);
        }
        match &self.clients {
            Some(clients) => clients.judge(self, now),
            None => Ok(()),
        }
    }
}

/// What a failed verification says about the certificate, where it says something simple.
pub(super) fn distrust_of(fault: &Error) -> Option<Distrust> {
    let Error::InvalidCertificate(fault) = fault else { return None };
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some(Distrust::Expired)
        }
        CertificateError::Revoked
        | CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => Some(Distrust::Revoked),
        CertificateError::UnknownIssuer => Some(Distrust::Unknown),
        _ => None,
    }
}

/// Verifies as webpki does, and refuses names that could be read in two ways.
#[derive(Debug)]
struct Strict(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Strict {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match ClientCertificate::read(end_entity, &[]) {
            Ok(_) => Ok(verified),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}

fn stamps(demand: &Demand) -> Vec<Option<(SystemTime, u64)>> {
    let files = std::iter::once(&demand.authorities).chain(&demand.revocations);
    files.map(|path| stamp(path)).collect()
}

fn read(demand: &Demand, generation: u64) -> Result<(Trusted, u64), String> {
    let mut hasher = DefaultHasher::new();
    let mut roots = RootCertStore::empty();
    let text = read_file(&demand.authorities)?;
    text.hash(&mut hasher);
    let shown = demand.authorities.display();
    let mut authorities_end_unix_s = u64::MAX;
    for authority in CertificateDer::pem_slice_iter(&text) {
        let authority = authority.map_err(|_| format!("{shown} is not PEM from end to end"))?;
        let end = not_after(&authority)
            .ok_or_else(|| format!("{shown} holds something that is no X.509 certificate"))?;
        authorities_end_unix_s = authorities_end_unix_s.min(end);
        roots.add(authority).map_err(|fault| format!("{shown} holds no authority: {fault}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{shown} holds no PEM certificate, so nobody could be believed"));
    }
    let mut lists = Vec::new();
    let mut lists_end_unix_s = u64::MAX;
    for path in &demand.revocations {
        let text = read_file(path)?;
        text.hash(&mut hasher);
        let (mut found, end) = revocations(&text, &path.display().to_string())?;
        lists_end_unix_s = lists_end_unix_s.min(end);
        lists.append(&mut found);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(lists)
        // Otherwise whoever keeps us from newer lists brings revoked certificates back.
        .enforce_revocation_expiration();
    let builder = if demand.required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|fault| format!("{shown} cannot be used: {fault}"))?;
    let verifier: Arc<dyn ClientCertVerifier> = Arc::new(Strict(verifier));
    let trusted = Trusted { verifier, generation, lists_end_unix_s, authorities_end_unix_s };
    Ok((trusted, hasher.finish()))
}

type Lists = Vec<CertificateRevocationListDer<'static>>;

/// The revocation lists of a file, in PEM or in DER, and when the first of them ends.
fn revocations(text: &[u8], shown: &str) -> Result<(Lists, u64), String> {
    let lists: Lists = if text.first() == Some(&0x30) {
        vec![CertificateRevocationListDer::from(text.to_vec())]
    } else {
        CertificateRevocationListDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("{shown} is not PEM from end to end"))?
    };
    if lists.is_empty() {
        return Err(format!("{shown} holds no revocation list"));
    }
    let mut end = u64::MAX;
    for list in &lists {
        let wrong = || format!("{shown} holds something that is no revocation list with an end");
        webpki::BorrowedCertRevocationList::from_der(list).map_err(|_| wrong())?;
        end = end.min(next_update(list).ok_or_else(wrong)?);
    }
    Ok((lists, end))
}

/// A count of the handshakes that ended for want of a good client certificate, by the reason.
#[derive(Debug, Default)]
pub struct Turned {
    /// A certificate was demanded, and none was shown.
    pub missing: AtomicU64,
    /// No authority of the host issued it.
    pub unknown: AtomicU64,
    /// Its time is over.
    pub expired: AtomicU64,
    /// It was revoked, or there is no valid list that says it was not.
    pub revoked: AtomicU64,
    /// It is wrong in another way: its purpose, a constraint, its names, its encoding.
    pub unfit: AtomicU64,
    /// No server name was sent where each host has demands of its own.
    pub nameless: AtomicU64,
}

impl Turned {
    /// The counter for a handshake that failed for this reason; nothing when it was another.
    pub(super) fn by(&self, fault: &Error) -> Option<&AtomicU64> {
        match (distrust_of(fault), fault) {
            (Some(Distrust::Unknown), _) => Some(&self.unknown),
            (Some(Distrust::Expired), _) => Some(&self.expired),
            (Some(Distrust::Revoked), _) => Some(&self.revoked),
            (None, Error::NoCertificatesPresented) => Some(&self.missing),
            (None, Error::InvalidCertificate(_)) => Some(&self.unfit),
            (None, _) => None,
        }
    }
}
