use std::ffi::CStr;
use std::ptr;

/// What a port has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets lost because nobody polled in time.
    pub rx_missed: u64,
    /// Packets received broken.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets lost because the pool was empty.
    pub rx_no_mbuf: u64,
}

/// A counter of the driver's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xstat {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// The counters every port has, or the driver's error.
pub(crate) fn read(id: u16) -> Result<PortStatistics, i32> {
    let mut raw = dpdk_sys::rte_eth_stats::default();
    // SAFETY: fills the structure for a valid port.
    match unsafe { dpdk_sys::rte_eth_stats_get(id, &mut raw) } {
        0 => Ok(PortStatistics {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_mbuf: raw.rx_nombuf,
        }),
        code => Err(code),
    }
}

/// The driver's own counters.
pub(crate) fn read_extended(id: u16) -> Vec<Xstat> {
    // SAFETY: without a buffer, only the number is returned.
    let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, ptr::null_mut(), 0) };
    let count = usize::try_from(count).unwrap_or(0);
    let mut names = vec![dpdk_sys::rte_eth_xstat_name { name: [0; 64] }; count];
    let mut values = vec![dpdk_sys::rte_eth_xstat { id: 0, value: 0 }; count];
    // SAFETY: each writes at most `count` items, or none and says how many there are.
    let (named, valued) = unsafe {
        (
            dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count as u32),
            dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count as u32),
        )
    };
    let filled = |n: i32| usize::try_from(n).ok().filter(|n| *n <= count).unwrap_or(0);
    values.truncate(filled(named).min(filled(valued)));
    let name_of = |id: u64| {
        let raw = names.get(id as usize)?;
        // SAFETY: DPDK ends names with a zero within their 64 bytes.
        Some(unsafe { CStr::from_ptr(raw.name.as_ptr()) }.to_string_lossy().into_owned())
    };
    values.iter().filter_map(|v| Some(Xstat { name: name_of(v.id)?, value: v.value })).collect()
}
