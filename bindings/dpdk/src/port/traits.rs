//! What is to be known of drivers and they do not say themselves (DPDK 22.11).

/// What a driver is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traits {
    /// vhost-user: the packets of guests come with their offloads, and go with
    /// them as far as the guest has negotiated; it also chooses among the queues.
    Guest,
    /// Over a kernel interface, without a word of which checksums are partial.
    KernelInterface,
    /// Its own offloads are software, and know no TCP over IPv6.
    Software,
    /// It joins devices, whose offloads may be so. What keeps them together (LACP) is
    /// spoken while queues are used, packets or not.
    Bond,
    /// As it says.
    Plain,
}

impl Traits {
    pub fn of(driver: &str) -> Traits {
        match driver {
            "net_vhost" => Traits::Guest,
            "net_af_packet" | "net_af_xdp" | "net_pcap" => Traits::KernelInterface,
            "net_tap" => Traits::Software,
            "net_bonding" => Traits::Bond,
            _ => Traits::Plain,
        }
    }

    /// The offloads that are used on the way in and on the way out, where they are offered.
    pub fn offloads(self) -> (u64, u64) {
        let (scatter, segments) = (dpdk_sys::SGS_RX_OFFLOAD_SCATTER, dpdk_sys::SGS_TX_OFFLOAD_MULTI_SEGS);
        let cuts = dpdk_sys::SGS_TX_OFFLOAD_IPV4_CKSUM | dpdk_sys::SGS_TX_OFFLOAD_TCP_TSO;
        let checksums = dpdk_sys::SGS_TX_OFFLOAD_CKSUM;
        match self {
            // Without the first, the driver completes each checksum itself.
            Traits::Guest => (scatter | dpdk_sys::SGS_RX_OFFLOAD_CKSUM, segments | checksums),
            Traits::Software | Traits::Bond => (scatter, segments),
            Traits::KernelInterface | Traits::Plain => (scatter, segments | checksums | cuts),
        }
    }
}
