//! Tries the targets of an upstream: can they be reached, and do they let strangers in?

use std::error::Error as _;
use std::sync::Arc;

use http::StatusCode;
use http::uri::PathAndQuery;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::time::Instant;

use crate::forward::connection::Connection;
use crate::forward::dial::DialFault;
use crate::forward::patience::Patience;
use crate::forward::question;
use crate::forward::upstream::{ClientCertSent, Settings, Target, Upstream};

/// What a target did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No connection could be opened, and this is why and what may mend it.
    Unreachable(String),
    /// It answered somebody who came around the gateway, and did not say that it wants to know who.
    Unguarded(StatusCode),
    /// It answered somebody who came around the gateway by asking who that is, with 401 or 403.
    Guarded(StatusCode),
    /// It gave somebody who came around the gateway no answer that says anything: no connection, or a
    /// status that is neither 2xx nor 4xx.
    Silent,
}

/// Tries one target: with all that proves us, and then as a stranger who asks for `path` and has
/// neither certificate, nor identity, nor credential.
pub async fn probe(upstream: &Upstream, target: &Arc<Target>, path: &PathAndQuery) -> Found {
    let settings = upstream.settings();
    let limit = Instant::now() + settings.timeout.connect;
    if let Err(fault) = Connection::open(target, settings, limit).await {
        return Found::Unreachable(why(&fault));
    }
    let Some(stranger) = of_a_stranger(settings) else { return Found::Silent };
    let limit = Instant::now() + settings.timeout.connect;
    let Ok(mut connection) = Connection::open(target, &stranger, limit).await else {
        return Found::Silent;
    };
    let begun = Instant::now();
    let first_byte = settings.timeout.first_byte;
    let patience = Patience::new(begun, first_byte, begun + first_byte);
    match question::ask(&mut connection, target, path, patience).await {
        Some(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => Found::Guarded(status),
        Some(status) if status.is_success() || status.is_client_error() => Found::Unguarded(status),
        Some(_) | None => Found::Silent,
    }
}

/// The settings without anything that proves us.
fn of_a_stranger(settings: &Settings) -> Option<Settings> {
    let tls = match &settings.tls {
        None => None,
        Some(tls) => Some(tls.of_a_stranger()?),
    };
    Some(Settings {
        balance: settings.balance,
        http: settings.http,
        host: settings.host,
        pool: settings.pool,
        timeout: settings.timeout,
        retries_max: 0,
        health: settings.health.clone(),
        tls,
        identity: None,
        client_cert: ClientCertSent::Nothing,
        credential: None,
        forbidden: settings.forbidden.clone(),
    })
}

/// Why no connection could be opened, in a sentence without a full stop.
fn why(fault: &DialFault) -> String {
    match fault {
        DialFault::Unknown(error) => format!("its name cannot be looked up: {error}"),
        DialFault::Refused(error) => format!("it takes no connection: {error}"),
        DialFault::Forbidden => "its name leads to the gateway's own admin listener".to_owned(),
        DialFault::Timeout => "it took no connection within `timeout.connect`".to_owned(),
        DialFault::Protocol => "it does not agree to HTTP/2; write http = \"1.1\"".to_owned(),
        DialFault::Tls(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
            inner.map_or_else(|| format!("TLS failed: {error}"), tls)
        }
    }
}

fn tls(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "nobody whom we trust has signed its certificate; name its authority in `tls.ca`".into()
        }
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired; renew it there".into(),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name; write that in `tls.server_name`".into(),
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a certificate of ours; name one in `tls.cert` and `tls.key`".into()
        }
        TlsError::InvalidMessage(_) => "it does not speak TLS there; write http://".into(),
        other => format!(
            "TLS failed: {}",
            other.source().map_or_else(|| other.to_string(), ToString::to_string)
        ),
    }
}
