//! Writes addresses as text, many times a second, without the machinery of formatting.

use std::io::Write;
use std::net::IpAddr;

/// The longest address: eight groups of IPv6 with an IPv4 address in the last two.
const ADDRESS_BYTES_MAX: usize = 45;

/// An address as text, on the stack: `192.0.2.7`, or IPv6 in its shortest form without brackets.
#[derive(Clone, Copy, Debug)]
pub struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    length: usize,
}

impl AddressText {
    /// Writes an address.
    pub fn of(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; ADDRESS_BYTES_MAX], length: 0 };
        match address {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                text.push(itoa::Buffer::new().format(first).as_bytes());
                for octet in rest {
                    text.push(b".");
                    text.push(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            IpAddr::V6(address) => {
                let mut room = text.bytes.as_mut_slice();
                // There is room for the longest.
                let _ = write!(room, "{address}");
                text.length = ADDRESS_BYTES_MAX - room.len();
            }
        }
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The text, as ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_the_library_writes_them() {
        for text in [
            "0.0.0.0",
            "192.0.2.7",
            "255.255.255.255",
            "::",
            "::1",
            "2001:db8::1",
            "2001:db8:1111:2222:3333:4444:5555:6666",
            "::ffff:255.255.255.255",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(AddressText::of(address).as_str(), address.to_string());
        }
    }
}
