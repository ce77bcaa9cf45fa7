//! Binds a listener's addresses: proves first that they are free, then opens one socket a worker.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::listen::settings::Settings;

/// How many connections the kernel holds ready for one worker that is busy.
const BACKLOG: i32 = 1024;

/// An address that cannot be bound.
#[derive(Debug)]
pub struct BindFault {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    pub fault: io::Error,
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.fault)
    }
}

impl std::error::Error for BindFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// The addresses of a listener, held for this process.
#[derive(Debug)]
pub struct Sockets {
    /// Bound but not listening, so that the ports stay ours while workers come and go.
    held: Vec<(SocketAddr, Socket)>,
    only_v6: bool,
}

/// Binds every address of a listener.
///
/// # Errors
/// The first address that is taken or that cannot be used.
pub fn bind(settings: &Settings) -> Result<Sockets, BindFault> {
    let only_v6 = settings
        .addresses
        .iter()
        .any(|address| matches!(address.ip(), IpAddr::V4(ip) if ip.is_unspecified()));
    let mut held = Vec::with_capacity(settings.addresses.len());
    for &address in &settings.addresses {
        let one = hold(address, only_v6).map_err(|fault| BindFault { address, fault })?;
        held.push(one);
    }
    Ok(Sockets { held, only_v6 })
}

impl Sockets {
    /// The addresses, with the ports that the kernel chose where 0 was asked for.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.held.iter().map(|(address, _)| *address).collect()
    }

    /// For each address, one listening socket for each of so many workers. The kernel spreads
    /// connections over them.
    ///
    /// # Errors
    /// An address that has become unusable since it was bound.
    pub fn for_workers(&self, workers: usize) -> Result<Vec<Vec<TcpListener>>, BindFault> {
        self.held
            .iter()
            .map(|(address, _)| {
                let open = |_| {
                    let socket = socket(*address, true, self.only_v6)?;
                    socket.listen(BACKLOG)?;
                    Ok(socket.into())
                };
                let sockets: io::Result<_> = (0..workers).map(open).collect();
                sockets.map_err(|fault| BindFault { address: *address, fault })
            })
            .collect()
    }
}

/// Proves that an address is free, then takes it in a way that lets our own workers share it.
/// With `SO_REUSEPORT` alone a second gateway would silently take half of the first one's callers.
fn hold(address: SocketAddr, only_v6: bool) -> io::Result<(SocketAddr, Socket)> {
    let probe = socket(address, false, only_v6)?;
    let unknown = || io::Error::other("the kernel gave no IP address");
    let concrete = probe.local_addr()?.as_socket().ok_or_else(unknown)?;
    drop(probe);
    Ok((concrete, socket(concrete, true, only_v6)?))
}

fn socket(address: SocketAddr, shared: bool, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it, which spares a system call for each of them.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::settings::tests::plain;

    #[test]
    fn workers_share_the_port_that_the_kernel_chose() {
        let sockets = bind(&plain()).unwrap();
        let address = sockets.local_addrs()[0];
        assert_ne!(address.port(), 0);
        let workers = sockets.for_workers(2).unwrap().remove(0);
        assert_eq!(workers.len(), 2);
        for worker in &workers {
            assert_eq!(worker.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn a_taken_port_is_a_fault_that_names_the_address() {
        let mut settings = plain();
        let first = bind(&settings).unwrap();
        let _workers = first.for_workers(1).unwrap();
        settings.addresses = first.local_addrs();
        let fault = bind(&settings).unwrap_err();
        assert_eq!(fault.address, settings.addresses[0]);
        assert_eq!(fault.fault.kind(), io::ErrorKind::AddrInUse);
        assert!(fault.to_string().contains(&settings.addresses[0].to_string()), "{fault}");
    }
}
