//! Opens a byte stream to a target: looks its name up, connects, and shakes hands over TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::forward::address::{Address, Host, same_ip};
use crate::forward::upstream::{Protocol, Settings};
use crate::listen::ahead::Ahead;
use crate::listen::pieces::Pieces;

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A byte stream to a target.
pub(in crate::forward) enum Wire {
    Plain(TcpStream),
    Tls(Box<Pieces<TlsStream<Ahead>>>),
}

/// Why no stream could be opened. Nothing of a request was sent.
#[derive(Debug)]
pub(in crate::forward) enum DialFault {
    /// The name is not known, or its lookup failed.
    Unknown(io::Error),
    /// Every address refused; this is what the last one said.
    Refused(io::Error),
    /// The name leads to the gateway's own admin listener.
    Forbidden,
    /// TLS failed: another name, an unknown authority, no common version.
    Tls(io::Error),
    /// The target speaks another version of HTTP.
    Protocol,
    /// It took too long.
    Timeout,
}

/// Connects to `address`. The caller bounds the time.
///
/// # Errors
/// As [`DialFault`] has them.
pub(in crate::forward) async fn dial(
    address: &Address,
    settings: &Settings,
) -> Result<Wire, DialFault> {
    let stream = match address.host() {
        Host::Ip(ip) => {
            TcpStream::connect((*ip, address.port())).await.map_err(DialFault::Refused)?
        }
        Host::Name(name) => {
            let found = tokio::net::lookup_host((&**name, address.port()))
                .await
                .map_err(DialFault::Unknown)?;
            connect(found, settings).await?
        }
    };
    // A request is one write; waiting for more to send would only delay it.
    stream.set_nodelay(true).map_err(DialFault::Refused)?;
    if !address.is_secure() {
        return Ok(Wire::Plain(stream));
    }
    let missing = || DialFault::Tls(io::Error::other("the target has no name to be proved"));
    let tls = settings.tls.as_ref().ok_or_else(missing)?;
    let name = tls.server_name(address).ok_or_else(missing)?;
    let stream = TlsConnector::from(tls.config())
        .connect(name, Ahead::new(stream))
        .await
        .map_err(DialFault::Tls)?;
    // HTTP/1.1 needs no agreement; HTTP/2 must have been agreed on.
    let agreed = stream.get_ref().1.alpn_protocol();
    if settings.http == Protocol::Http2 && agreed != Some(b"h2") {
        return Err(DialFault::Protocol);
    }
    Ok(Wire::Tls(Box::new(Pieces::new(stream))))
}

/// Tries the addresses in turn. Each has its share of the time, so that one that swallows packets does
/// not cost the others their chance.
async fn connect(
    addresses: impl IntoIterator<Item = SocketAddr>,
    settings: &Settings,
) -> Result<TcpStream, DialFault> {
    let addresses: Vec<SocketAddr> = addresses.into_iter().take(ADDRESSES_MAX).collect();
    let share = settings.timeout.connect / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut last = DialFault::Unknown(io::ErrorKind::NotFound.into());
    for address in addresses {
        // A name may be made to lead to ourselves after the configuration was checked.
        let ours = |listener: &SocketAddr| {
            same_ip(address.ip(), listener.ip()) && address.port() == listener.port()
        };
        if settings.forbidden.iter().any(ours) {
            last = DialFault::Forbidden;
            continue;
        }
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = DialFault::Refused(error),
            Err(_) => last = DialFault::Timeout,
        }
    }
    Err(last)
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
