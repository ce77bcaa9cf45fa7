//! A certificate for trying things on this machine, made on first run.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use zeroize::Zeroizing;

use crate::clock::Now;
use crate::config::state_files;

/// How long the certificate holds, in days.
const CERTIFICATE_DAYS: i64 = 90;

/// A CA whose key is used once and thrown away, so that trusting it can never be turned against
/// its user, and a certificate for this machine's loopback names.
///
/// # Errors
/// A sentence that says what could not be made or written.
pub fn certificate(dir: &Path, now: Now) -> Result<(), String> {
    let wrong =
        |error: rcgen::Error| format!("the development certificate cannot be made: {error}");
    let (not_before, not_after) = validity(now)?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = name("Portcullis development CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
            GeneralSubtree::IpAddress(CidrSubnet::V6(
                std::net::Ipv6Addr::LOCALHOST.octets(),
                [255; 16],
            )),
        ],
        excluded_subtrees: Vec::new(),
    });
    (ca.not_before, ca.not_after) = (not_before, not_after);
    let ca_key = KeyPair::generate().map_err(wrong)?;
    let ca_certificate = ca.self_signed(&ca_key).map_err(wrong)?;

    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = name("localhost");
    leaf.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into().map_err(wrong)?),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (not_before, not_after);
    let leaf_key = KeyPair::generate().map_err(wrong)?;
    let issuer = Issuer::new(ca, ca_key);
    let leaf_certificate = leaf.signed_by(&leaf_key, &issuer).map_err(wrong)?;

    write_new(&dir.join(state_files::DEV_CA), ca_certificate.pem().as_bytes(), 0o644)?;
    write_new(&dir.join(state_files::DEV_CERT), leaf_certificate.pem().as_bytes(), 0o644)?;
    let key = Zeroizing::new(leaf_key.serialize_pem());
    write_new(&dir.join(state_files::DEV_KEY), key.as_bytes(), 0o600)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From an hour ago, so that a clock a little behind accepts it, for as long as it holds.
fn validity(now: Now) -> Result<(time::OffsetDateTime, time::OffsetDateTime), String> {
    let seconds = i64::try_from(now.unix_s()).unwrap_or(i64::MAX);
    let now = time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|error| format!("the system's clock is not usable: {error}"))?;
    Ok((now - time::Duration::hours(1), now + time::Duration::days(CERTIFICATE_DAYS)))
}

/// Writes a file that must not be there yet.
///
/// # Errors
/// A sentence with the path.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let mut file = create_new(path, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| unwritten(path, &error))
}

/// Writes a file that must not be there yet with what is made once the file is there, and gives
/// what was made. So no secret is made that has no place; where making it fails, no file is left.
///
/// # Errors
/// A sentence with the path, or why nothing was made.
pub fn write_made<T, E: From<String>>(
    path: &Path,
    make: impl FnOnce() -> Result<T, E>,
    text: impl FnOnce(&T) -> Zeroizing<Vec<u8>>,
) -> Result<T, E> {
    let mut file = create_new(path, 0o600)?;
    let made = make().inspect_err(|_| drop(std::fs::remove_file(path)))?;
    let written = file.write_all(&text(&made)).and_then(|()| file.sync_all());
    written.map_err(|error| unwritten(path, &error))?;
    Ok(made)
}

fn create_new(path: &Path, mode: u32) -> Result<File, String> {
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(mode).open(path);
    made.map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be written: {error}", path.display())
}
