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

/// The addresses of a listener, with what listens there.
#[derive(Debug)]
pub struct Sockets {
    addresses: Vec<SocketAddr>,
    /// For each address, one for each worker.
    listening: Vec<Vec<TcpListener>>,
}

/// Binds every address of a listener for so many workers, and listens at once: a socket that is
/// bound and does not listen yet keeps no other gateway from taking the address too. Connections
/// wait in the kernel's queue until the workers serve.
///
/// # Errors
/// The first address that is taken or that cannot be used.
pub fn bind(settings: &Settings, workers: usize) -> Result<Sockets, BindFault> {
    let only_v6 = settings
        .addresses
        .iter()
        .any(|address| matches!(address.ip(), IpAddr::V4(ip) if ip.is_unspecified()));
    let (mut addresses, mut listening) = (Vec::new(), Vec::new());
    for &address in &settings.addresses {
        let (concrete, sockets) =
            listen(address, workers, only_v6).map_err(|fault| BindFault { address, fault })?;
        addresses.push(concrete);
        listening.push(sockets);
    }
    Ok(Sockets { addresses, listening })
}

impl Sockets {
    /// The addresses, with the ports that the kernel chose where 0 was asked for.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// For each address, one listening socket for each worker; nothing the second time. The kernel
    /// spreads connections over them.
    pub fn take(&mut self) -> Vec<Vec<TcpListener>> {
        std::mem::take(&mut self.listening)
    }
}

/// Proves that an address is free, then takes it in a way that lets our own workers share it.
/// With `SO_REUSEPORT` alone a second gateway would silently take half of the first one's callers.
fn listen(
    address: SocketAddr,
    workers: usize,
    only_v6: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let probe = socket(address, false, only_v6)?;
    let unknown = || io::Error::other("the kernel gave no IP address");
    let concrete = probe.local_addr()?.as_socket().ok_or_else(unknown)?;
    drop(probe);
    let listening = |_| {
        let socket = socket(concrete, true, only_v6)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    Ok((concrete, (0..workers).map(listening).collect::<io::Result<_>>()?))
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
        let mut sockets = bind(&plain(), 2).unwrap();
        let address = sockets.local_addrs()[0];
        assert_ne!(address.port(), 0);
        let workers = sockets.take().remove(0);
        assert_eq!(workers.len(), 2);
        for worker in &workers {
            assert_eq!(worker.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn a_taken_port_is_a_fault_that_names_the_address() {
        let mut settings = plain();
        // Also while its workers have not begun.
        let first = bind(&settings, 1).unwrap();
        settings.addresses = first.local_addrs().to_vec();
        let fault = bind(&settings, 1).unwrap_err();
        assert_eq!(fault.address, settings.addresses[0]);
        assert_eq!(fault.fault.kind(), io::ErrorKind::AddrInUse);
        assert!(fault.to_string().contains(&settings.addresses[0].to_string()), "{fault}");
    }
}
