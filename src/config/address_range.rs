//! Ranges of network addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// An address range such as `10.0.0.0/8`; one address is a range of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AddressRange {
    network: IpAddr,
    bits: u8,
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not an address or a range such as 10.0.0.0/8");
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let network: IpAddr = address.trim().parse().map_err(|_| bad())?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |b| b.trim().parse().map_err(|_| bad()))?;
        if bits <= width { Ok(Self { network, bits }) } else { Err(bad()) }
    }
}

impl AddressRange {
    /// Whether the address lies in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - self.bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - self.bits)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_ranges_hold_what_they_say() {
        let range: AddressRange = "192.168.4.0/22".parse().unwrap();
        assert!(range.contains("192.168.7.255".parse().unwrap()));
        assert!(!range.contains("192.168.8.0".parse().unwrap()));
        assert!(range.contains("::ffff:192.168.5.1".parse().unwrap()), "IPv4 seen through an IPv6 socket");
        assert!("0.0.0.0/0".parse::<AddressRange>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!("fd00::/8".parse::<AddressRange>().unwrap().contains("fd12::1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "x", "10.0.0.0/x", "::/129"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
    }
}
