//! Which addresses data sources may have.
//!
//! Whoever may make a data source chooses where this server connects to, from within the network it stands in.
//! So the operator says which networks are meant, and the addresses at which clouds give a machine its
//! credentials are denied unless he says otherwise. Names are resolved first and addresses judged, on each connect: a
//! name can be given another address later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{Error, Result};

/// Where clouds answer a machine's questions about itself, and give it its credentials: link-local networks, and the
/// addresses that AWS and Google have for IPv6, and Azure, Alibaba Cloud and Oracle of their own.
pub const METADATA: [&str; 7] = [
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
];

/// Networks that data sources may lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    /// Empty: all.
    allow: Vec<IpNet>,
    /// Wins over `allow`.
    deny: Vec<IpNet>,
}

impl Default for Networks {
    /// All but [`METADATA`].
    fn default() -> Self {
        let deny = METADATA.iter().filter_map(|network| parse(network).ok());
        Networks {
            allow: Vec::new(),
            deny: deny.collect(),
        }
    }
}

impl Networks {
    /// Those of `allow`, of an empty list all, without those of `deny`. Each is `address/bits`, or an address.
    /// A `Config` error names one that is neither.
    pub fn new<T: AsRef<str>>(allow: &[T], deny: &[T]) -> Result<Self> {
        let all = |list: &[T]| -> Result<Vec<IpNet>> {
            let networks = list.iter().map(|text| parse(text.as_ref()));
            networks.collect()
        };
        Ok(Networks {
            allow: all(allow)?,
            deny: all(deny)?,
        })
    }

    /// All.
    pub fn everywhere() -> Self {
        Networks {
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }

    /// Whether a data source may have this address. One of IPv4 that is written as one of IPv6, or reached
    /// through one, is one of IPv4; the address of no machine leads to this one.
    pub fn admits(&self, address: IpAddr) -> bool {
        let within = |networks: &[IpNet], address: IpAddr| {
            networks.iter().any(|network| network.contains(&address))
        };
        let meant = meant(address);
        (self.allow.is_empty() || within(&self.allow, meant))
            && !within(&self.deny, meant)
            && !within(&self.deny, address)
    }

    /// Those of a host's addresses that a data source may have. A `Config` error if it has others only, a
    /// `Transient` one if it has none.
    pub fn admitted(
        &self,
        host: &str,
        found: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Vec<IpAddr>> {
        let (mut admitted, mut denied) = (Vec::new(), None);
        for address in found {
            match self.admits(address) {
                true => admitted.push(address),
                false => denied = Some(address),
            }
        }
        match denied {
            Some(denied) if admitted.is_empty() => Err(Error::config(format!(
                "data sources may not lie at {denied}, which is the address of {host}"
            ))
            .with_hint(
                "choose another host; or have the operator of this server change allow_networks or \
                 deny_networks in its configuration",
            )),
            None if admitted.is_empty() => {
                Err(Error::transient(format!("the host {host} has no address")))
            }
            _ => Ok(admitted),
        }
    }
}

/// `address/bits`, or an address; a `Config` error if it is neither.
pub fn parse(text: &str) -> Result<IpNet> {
    let network = text.parse().or_else(|_| text.parse().map(IpAddr::into));
    let network: IpNet = network.map_err(|_| {
        Error::config(format!(
            "{text:?} is no network: give an address and its bits, such as 10.0.0.0/8"
        ))
    })?;
    // It would have no address in it, see `meant`.
    if meant(network.addr()).is_ipv4() != network.addr().is_ipv4() {
        return Err(Error::config(format!(
            "{text:?} is no network that is judged: addresses of IPv4 in ones of IPv6 are judged as what they are, so give \
             the network of IPv4"
        )));
    }
    Ok(network)
}

/// Where a connection to an address leads.
fn meant(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        // Translated to the last 32 bits (RFC 6052).
        IpAddr::V6(v6) if v6.segments().starts_with(&[0x64, 0xff9b, 0, 0, 0, 0]) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn metadata_addresses_are_denied_unless_said_otherwise() {
        let networks = Networks::default();
        for denied in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "64:ff9b::169.254.169.254",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
        ] {
            assert!(!networks.admits(ip(denied)), "{denied}");
        }
        for allowed in [
            "127.0.0.1",
            "10.1.2.3",
            "::1",
            "0.0.0.0",
            "fd00:ec3::1",
            "8.8.8.8",
        ] {
            assert!(networks.admits(ip(allowed)), "{allowed}");
        }
        let all: [&str; 0] = [];
        let all = Networks::new(&all, &all).unwrap();
        assert!(all.admits(ip("169.254.169.254")));
    }

    #[test]
    fn denied_wins_over_allowed() {
        let networks = Networks::new(&["10.0.0.0/8", "::1"], &["10.9.0.0/16"]).unwrap();
        for (address, admitted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.9.0.1", false),
            ("::1", true),
            ("::2", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(networks.admits(ip(address)), admitted, "{address}");
        }
        let outside = Networks::new(&[], &["127.0.0.0/8", "::1"]).unwrap();
        for here in [
            "127.0.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "::ffff:0.0.0.0",
            "64:ff9b::127.0.0.1",
        ] {
            assert!(!outside.admits(ip(here)), "{here}");
        }
        for wrong in [
            "",
            "::ffff:10.0.0.0/104",
            "64:ff9b::/96",
            "10.0.0.0/33",
            "db.example.org",
            "10.0.0.1-10.0.0.9",
        ] {
            let error = Networks::new(&[wrong], &[]).unwrap_err();
            assert!(error.message().contains("is no network"), "{error}");
        }
    }

    #[test]
    fn of_a_name_only_the_addresses_are_tried_that_are_allowed() {
        let networks = Networks::default();
        let (good, bad) = (ip("10.0.0.1"), ip("169.254.169.254"));
        let both = networks.admitted("db", [bad, good]).unwrap();
        assert_eq!(both, [good]);
        let none = networks.admitted("db", [bad]).unwrap_err();
        assert_eq!(none.kind(), crate::Kind::Config);
        assert!(none.message().contains("169.254.169.254"), "{none}");
        let nothing = networks.admitted("db", []).unwrap_err();
        assert_eq!(nothing.kind(), crate::Kind::Transient);
    }
}
