use std::sync::atomic::Ordering;

use super::rss::Rss;
use super::traits::Traits;
use super::{Port, driver, raw_info};
use crate::{Error, statistics};

/// What a port is and offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The driver's name, such as `net_af_packet`.
    pub driver: String,
    /// The device's own MAC.
    pub mac: [u8; 6],
    /// The most receive queues.
    pub max_rx_queues: u16,
    /// The most transmit queues.
    pub max_tx_queues: u16,
    /// The NUMA node the device is at, if it says so.
    pub socket: Option<u32>,
    /// The smallest MTU it can be told.
    pub min_mtu: u16,
    /// The largest MTU it can be told.
    pub max_mtu: u16,
    /// How it can spread packets over receive queues.
    pub rss: Rss,
    /// Whether the other end chooses among the queues: all there are must be polled,
    /// and of the transmit queues it may read the first only.
    pub peer_chooses_queue: bool,
    /// Whether checksums of what it receives may be partial without its telling.
    pub hides_partial_checksums: bool,
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub up: bool,
    /// Mbit/s, if the device says so.
    pub speed: Option<u32>,
}

impl Port {
    /// What it is and offers.
    ///
    /// # Errors
    /// [`Error::Call`] if the driver does not answer.
    pub fn info(&self) -> Result<PortInfo, Error> {
        let _one_at_a_time = self.0.control();
        let raw = raw_info(self.id()).map_err(|code| self.failed("asking", code))?;
        let mut mac = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: writes the address of a valid port.
        let code = unsafe { dpdk_sys::rte_eth_macaddr_get(self.id(), &mut mac) };
        self.check("asking for the MAC of", code)?;
        let driver = driver(&raw);
        let traits = Traits::of(&driver);
        Ok(PortInfo {
            driver,
            mac: mac.addr_bytes,
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            // SAFETY: reads a number of a valid port, -1 for any node.
            socket: u32::try_from(unsafe { dpdk_sys::rte_eth_dev_socket_id(self.id()) }).ok(),
            min_mtu: raw.min_mtu,
            max_mtu: raw.max_mtu,
            rss: Rss {
                packet_types: raw.flow_type_rss_offloads,
                key_bytes: raw.hash_key_size,
                table_entries: raw.reta_size,
            },
            peer_chooses_queue: traits == Traits::Guest,
            hides_partial_checksums: traits == Traits::KernelInterface,
        })
    }

    /// The state of the link; `None` if the driver does not say.
    pub fn link(&self) -> Option<Link> {
        let _one_at_a_time = self.0.control();
        let (mut speed, mut up) = (0, 0);
        // SAFETY: writes both for a valid port.
        let code = unsafe { dpdk_sys::sgs_link(self.id(), &mut speed, &mut up) };
        let known = speed != 0 && speed != u32::MAX;
        (code == 0).then_some(Link { up: up != 0, speed: known.then_some(speed) })
    }

    /// Has a bond that joins it when it is set up next look at its link, instead of
    /// waiting to be told: several drivers that offer to tell do not (DPDK 22.11:
    /// `net_tap`; by VFIO with MSI-X `net_e1000_em` and `net_vmxnet3`).
    pub fn watch_link_by_looking(&self) {
        let _one_at_a_time = self.0.control();
        let Ok(info) = raw_info(self.id()) else { return };
        let flags = info.dev_flags.cast_mut();
        if flags.is_null() {
            return;
        }
        // SAFETY: the flags of a valid port, in memory of DPDK's that may be written;
        // they are read by the control calls of this port and of the bond only.
        unsafe { *flags &= !dpdk_sys::SGS_DEV_INTR_LSC };
    }

    /// Of a bond in mode 1 (active backup) the port that it sends by now; `None` of all others.
    pub fn active_member(&self) -> Option<u16> {
        let _one_at_a_time = self.0.control();
        // SAFETY: asks about a valid port; of one that is no bond it answers -1.
        let mode = unsafe { dpdk_sys::rte_eth_bond_mode_get(self.id()) };
        if mode != dpdk_sys::SGS_BOND_ACTIVE_BACKUP {
            return None;
        }
        // It answers with the current one, not with the one that `primary=` names.
        // SAFETY: asks about a valid bond.
        u16::try_from(unsafe { dpdk_sys::rte_eth_bond_primary_get(self.id()) }).ok()
    }

    /// Whether the device is gone: unplugged, or its driver's other end.
    pub fn is_gone(&self) -> bool {
        let _one_at_a_time = self.0.control();
        // SAFETY: asks about a valid port.
        unsafe { dpdk_sys::rte_eth_dev_is_removed(self.id()) == 1 }
    }

    /// What the port has counted.
    ///
    /// # Errors
    /// [`Error::Call`] if the driver does not count.
    pub fn statistics(&self) -> Result<statistics::PortStatistics, Error> {
        let _one_at_a_time = self.0.control();
        let mut read =
            statistics::read(self.id()).map_err(|code| self.failed("reading the counters of", code))?;
        read.tx_errors += self.0.unprepared.load(Ordering::Relaxed);
        Ok(read)
    }

    /// The driver's own counters (DPDK's extended statistics); empty if it has none.
    pub fn xstats(&self) -> Vec<statistics::Xstat> {
        let _one_at_a_time = self.0.control();
        statistics::read_extended(self.id())
    }
}
