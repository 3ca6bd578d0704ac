//! Device arguments, as far as the switch reads them.

use std::borrow::Cow;

use anyhow::{Result, anyhow, bail, ensure};
use dpdk::{Eal, Error, Port};
use nix::net::if_::if_nametoindex;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// A device as it is given: a PCI address, or a virtual device and its arguments,
/// one of DPDK's or `packet_socket`, which is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    arguments: String,
}

/// Drivers over a kernel interface, `iface` of their arguments. With others that is
/// an interface which they make, and which may be moved to another namespace
/// (`net_tap`), or the path of a socket (`net_vhost`).
const OVER_INTERFACES: [&str; 4] = [PACKET_SOCKET, "net_af_packet", "net_af_xdp", "net_pcap"];

/// A kernel interface, by packet sockets with the virtio-net header.
const PACKET_SOCKET: &str = "packet_socket";

/// Before an MTU, in arguments.
const MTU: &str = "mtu=";

impl Device {
    pub fn new(arguments: impl Into<String>) -> Device {
        Device { arguments: arguments.into() }
    }

    /// As it was given.
    pub fn arguments(&self) -> &str {
        &self.arguments
    }

    /// EAL's name of it.
    pub fn name(&self) -> &str {
        self.arguments.split(',').next().unwrap_or_default()
    }

    /// Whether this name is of it too: PCI addresses have a short form, without the domain.
    pub fn is_named(&self, name: &str) -> bool {
        is_same(self.name(), name)
    }

    /// The kernel interface that it is over.
    fn interface(&self) -> Option<&str> {
        let is_over_one = OVER_INTERFACES.iter().any(|driver| self.name().starts_with(driver));
        let mut arguments = self.arguments.split(',').filter(|_| is_over_one);
        arguments.find_map(|argument| argument.strip_prefix("iface="))
    }

    /// The kernel's number of that interface, which another of its name does not
    /// have; `None` if it is over none, or there is none.
    pub fn interface_index(&self) -> Option<u32> {
        self.interface().and_then(|name| if_nametoindex(name).ok())
    }

    /// The devices that it joins, where it is DPDK's bond of others.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        let is_bond = self.name().starts_with("net_bonding");
        let arguments = self.arguments.split(',').filter(move |_| is_bond);
        arguments.filter_map(|argument| argument.strip_prefix("slave="))
    }

    /// Whether it joins the device of this name.
    pub fn joins(&self, name: &str) -> bool {
        self.members().any(|member| is_same(member, name))
    }

    /// The device that both are or join, so that only one of them can be a port.
    pub fn in_common(&self, other: &Device) -> Option<&str> {
        let mut own = std::iter::once(self.name()).chain(self.members());
        own.find(|name| other.is_named(name) || other.joins(name))
    }

    /// What it waits for: an interface that is not there.
    pub fn missing(&self) -> Option<&str> {
        self.interface().filter(|_| self.interface_index().is_none())
    }

    /// Whether it is the switch's own, and none of DPDK's.
    pub fn is_packet_socket(&self) -> bool {
        self.name().starts_with(PACKET_SOCKET)
    }

    /// Opens it, or takes the one that EAL has of this name.
    pub fn open(&self, eal: &Eal) -> Result<worker::Device> {
        if self.is_packet_socket() {
            return self.open_packet_socket();
        }
        let mtu = self.mtu()?;
        let card = std::iter::once(self.name()).chain(self.members()).find(|name| is_pci(name));
        if let Some(card) = card.filter(|_| !may_lock_memory()) {
            bail!(
                "'{card}' writes to memory that must stay where it is, and this process may lock little of it: it \
                 needs LimitMEMLOCK=infinity in its unit (ulimit -l unlimited), or CAP_IPC_LOCK"
            );
        }
        let port = match Port::by_name(eal, &full_name(self.name())) {
            Err(Error::NoPort(_)) => Port::attach(eal, &self.for_dpdk())?,
            known => known?,
        };
        let known = Port::all(eal);
        let is_member = |port: &&Port| self.joins(port.name());
        known.iter().filter(is_member).for_each(Port::watch_link_by_looking);
        // EAL keeps nothing of it: the next one of this name is new.
        port.remove_when_closed();
        Ok(worker::Device::Dpdk(port, mtu))
    }

    fn open_packet_socket(&self) -> Result<worker::Device> {
        ensure!(self.mtu()?.is_none(), "'{}': it follows the MTU of its interface", self.arguments);
        let mut arguments = self.arguments.split(',').skip(1);
        let (Some(Some(interface)), None) =
            (arguments.next().map(|argument| argument.strip_prefix("iface=")), arguments.next())
        else {
            bail!("'{}': expected packet_socketN,iface=INTERFACE", self.arguments);
        };
        Ok(packet_socket::Port::open(self.name(), interface)?.into())
    }

    /// The MTU that it is to have: an argument that is the switch's own.
    ///
    /// # Errors
    /// If it is none.
    pub fn mtu(&self) -> Result<Option<u16>> {
        let given = self.arguments.split(',').skip(1).find_map(|argument| argument.strip_prefix(MTU));
        let read = |text: &str| {
            let mtu = text.parse();
            mtu.map_err(|_| anyhow!("mtu={text}: expected a number of bytes, such as mtu=9000"))
        };
        given.map(read).transpose()
    }

    /// The same under another name of the device.
    pub fn under(&self, name: &str) -> Device {
        let rest = self.arguments.get(self.name().len()..).unwrap_or_default();
        Device::new(format!("{name}{rest}"))
    }

    /// The same, with the MTU of another.
    pub fn with_mtu_of(&self, other: &Device) -> Device {
        let mut mtu = other.arguments.split(',').skip(1).filter(|argument| argument.starts_with(MTU));
        match mtu.next() {
            Some(mtu) => Device::new(format!("{},{mtu}", self.arguments)),
            None => self.clone(),
        }
    }

    /// The arguments that DPDK is given: of vhost-user, guests may leave the cutting
    /// of super-frames to the switch, if nothing else is said.
    fn for_dpdk(&self) -> String {
        let mut given: Vec<&str> = self.arguments.split(',').filter(|a| !a.starts_with(MTU)).collect();
        let is_said = given.iter().any(|argument| argument.starts_with("tso="));
        if self.name().starts_with("net_vhost") && !is_said {
            given.push("tso=1");
        }
        given.join(",")
    }
}

/// An address on the PCI bus: domain, bus, device and function.
type PciAddress = (u32, u8, u8, u8);

/// The address on the PCI bus that a device's name is, with or without its domain, as
/// DPDK reads it (`rte_pci_addr_parse`): leading zeros and letters' case mean nothing.
fn pci_address(name: &str) -> Option<PciAddress> {
    let hex = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(part, 16).ok().filter(|_| digits)
    };
    let byte = |part: &str| u8::try_from(hex(part)?).ok();
    let (place, function) = name.split_once('.')?;
    let (place, device) = place.rsplit_once(':')?;
    let (domain, bus) = place.split_once(':').unwrap_or(("0", place));
    Some((hex(domain)?, byte(bus)?, byte(device)?, byte(function)?))
}

/// Whether a device's name is an address on the PCI bus.
fn is_pci(name: &str) -> bool {
    pci_address(name).is_some()
}

/// The name that EAL has for a device of this name.
fn full_name(name: &str) -> Cow<'_, str> {
    match pci_address(name) {
        Some((domain, bus, device, function)) => {
            Cow::Owned(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
        }
        None => Cow::Borrowed(name),
    }
}

/// Whether both names are of one device.
fn is_same(one: &str, other: &str) -> bool {
    one == other || pci_address(one).is_some_and(|address| pci_address(other) == Some(address))
}

/// Whether VFIO may pin all of DPDK's memory. Where it may not, DPDK says so in its log
/// and goes on, with memory that the card does not reach (22.11): it would read zeros.
fn may_lock_memory() -> bool {
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    unlimited || std::fs::read_to_string("/proc/self/status").is_ok_and(|status| has_ipc_lock(&status))
}

/// CAP_IPC_LOCK (capabilities(7)) among the effective ones of a /proc/PID/status.
fn has_ipc_lock(status: &str) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_waited_for_where_the_driver_is_over_one() {
        let device = |text| Device::new(text);
        assert_eq!(device("net_af_packet0,iface=nosuch0,qpairs=1").missing(), Some("nosuch0"));
        assert_eq!(device("net_af_packet0,iface=lo").missing(), None);
        assert_eq!(device("net_tap0,iface=nosuch0").missing(), None);
        assert_eq!(device("net_tap0,iface=lo").interface_index(), None, "it may be in another namespace");
        assert_eq!(device("net_vhost0,iface=/run/vm1.sock").missing(), None);
        assert_eq!(device("net_null0").missing(), None);
        assert_eq!(device("0000:01:00.0").interface_index(), None);
        assert_eq!(device("net_af_packet0,iface=lo").interface_index(), Some(1));
        assert_eq!(device("net_af_xdp1,iface=lo,start_queue=0").name(), "net_af_xdp1");
        assert_eq!(device("packet_socket0,iface=nosuch0").missing(), Some("nosuch0"));
    }

    #[test]
    fn a_bond_has_its_members() {
        let bond = Device::new("net_bonding0,mode=1,slave=net_tap0,slave=0000:01:00.0");
        assert_eq!(bond.members().collect::<Vec<_>>(), ["net_tap0", "0000:01:00.0"]);
        assert_eq!(Device::new("net_tap0,slave=net_tap1").members().count(), 0);
        for other in ["net_tap0,iface=a", "0000:01:00.0", "net_bonding0", "net_bonding1,slave=net_tap0"] {
            let other = Device::new(other);
            assert!(bond.in_common(&other).is_some(), "{other:?}");
            assert_eq!(bond.in_common(&other), other.in_common(&bond));
        }
        for other in ["net_tap1", "net_bonding1,slave=net_tap1"] {
            assert_eq!(bond.in_common(&Device::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_member_of_a_bond_may_be_named_by_a_short_pci_address() {
        for member in ["01:00.0", "0000:01:00.0", "1:0.0", "0:1:00.0"] {
            let bond = Device::new(format!("net_bonding0,mode=1,slave={member},slave=0000:02:00.A"));
            for name in ["01:00.0", "0000:01:00.0", "02:00.a"] {
                assert!(bond.joins(name), "{member} {name}");
                for other in
                    [name.to_string(), format!("{name},mtu=9000"), format!("net_bonding1,slave={name}")]
                {
                    let other = Device::new(other);
                    assert!(
                        bond.in_common(&other).is_some() && other.in_common(&bond).is_some(),
                        "{other:?}"
                    );
                }
            }
            for name in ["01:00.1", "01:01.0", "0001:01:00.0", "10:00.0", "net_tap0", ""] {
                assert!(!bond.joins(name), "{member} {name}");
                let other = Device::new(name);
                assert!(bond.in_common(&other).is_none() && other.in_common(&bond).is_none(), "{other:?}");
            }
        }
    }

    #[test]
    fn a_card_is_known_by_its_address() {
        for (name, full) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:00.0", "0000:01:00.0"),
            ("10000:E1:00.7", "10000:e1:00.7"),
            ("net_tap0", "net_tap0"),
        ] {
            assert_eq!(full_name(name), full);
            assert_eq!(is_pci(name), name != "net_tap0", "{name}");
        }
        let card = Device::new("0000:01:00.0");
        assert!(card.is_named("01:00.0") && card.is_named("0000:01:00.0") && card.is_named("0:1:0.0"));
        assert!(!card.is_named("0001:01:00.0") && !card.is_named("01:00.1"));
        for name in [
            "net_null0",
            "01:00:00:00.0",
            "100:00.0",
            "+1:00.0",
            "packet_socket0",
            "a.b",
            "01:00",
            ":.",
            "0000:zz:00.0",
            "",
        ] {
            assert!(!is_pci(name), "{name}");
        }
    }

    #[test]
    fn the_capability_is_read_from_the_effective_ones() {
        let status = |effective| format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{effective}\n");
        assert!(has_ipc_lock(&status("000001ffffffffff")) && has_ipc_lock(&status("0000000000004000")));
        assert!(
            !has_ipc_lock(&status("000001ffffffbfff")) && !has_ipc_lock(&status("0")) && !has_ipc_lock("")
        );
    }

    #[test]
    fn guests_may_leave_their_segments_to_the_switch() {
        let given = |text| Device::new(text).for_dpdk();
        assert_eq!(given("net_vhost0,iface=/run/a.sock"), "net_vhost0,iface=/run/a.sock,tso=1");
        assert_eq!(given("net_vhost0,iface=/run/a.sock,tso=0"), "net_vhost0,iface=/run/a.sock,tso=0");
        assert_eq!(given("net_tap0"), "net_tap0");
    }

    #[test]
    fn an_mtu_is_the_switchs_own_argument() {
        let card = Device::new("0000:01:00.0,mtu=9000,x=1");
        assert_eq!((card.mtu().unwrap(), card.for_dpdk()), (Some(9000), "0000:01:00.0,x=1".to_string()));
        assert_eq!(Device::new("net_tap0,iface=mtu=9").mtu().unwrap(), None);
        for wrong in ["", "x", "-1", "70000"] {
            let refused = Device::new(format!("net_tap0,mtu={wrong}")).mtu().unwrap_err();
            assert!(refused.to_string().starts_with(&format!("mtu={wrong}: expected")), "{refused}");
        }
        let given = Device::new("0000:01:00.0,x=1");
        assert_eq!(given.with_mtu_of(&card), Device::new("0000:01:00.0,x=1,mtu=9000"));
        assert_eq!(given.with_mtu_of(&given), given);
        let refused = Device::new("packet_socket0,iface=lo,mtu=9000").open_packet_socket().unwrap_err();
        assert!(refused.to_string().contains("follows the MTU of its interface"), "{refused}");
    }

    #[test]
    fn a_packet_socket_has_an_interface_and_nothing_else() {
        for text in ["packet_socket0", "packet_socket0,iface=lo,queues=2", "packet_socket0,ifacelo"] {
            let refused = Device::new(text).open_packet_socket().unwrap_err().to_string();
            assert!(refused.contains("expected packet_socketN,iface=INTERFACE"), "{refused}");
        }
        let refused = Device::new("packet_socket0,iface=nosuch0").open_packet_socket().unwrap_err();
        assert_eq!(refused.to_string(), "there is no interface 'nosuch0'");
    }
}
