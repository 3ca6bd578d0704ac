//! Receive side scaling: a device spreads packets over its receive queues by a hash
//! of their headers.

use super::{Port, raw_info};
use crate::Error;

/// What a port offers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The kinds of packets it can hash: DPDK's `RTE_ETH_RSS_` bits.
    pub packet_types: u64,
    /// Bytes of the hash's key; 0 if the driver does not say.
    pub key_bytes: u8,
    /// Entries of the table from hashes to queues; 0 if it has none.
    pub table_entries: u16,
}

impl Rss {
    /// Whether it offers any.
    pub fn is_offered(&self) -> bool {
        self.packet_types != 0
    }
}

/// Bytes of the key, where the driver does not say: as in Microsoft's specification.
const KEY_BYTES: u8 = 40;

const GROUP: usize = dpdk_sys::SGS_RETA_GROUP as usize;

type Group = dpdk_sys::rte_eth_rss_reta_entry64;

/// What a device is to be told in the beginning: to hash whatever it can of what is
/// asked for later.
pub(super) fn prepare(conf: &mut dpdk_sys::rte_eth_conf, info: &dpdk_sys::rte_eth_dev_info) {
    let types = info.flow_type_rss_offloads & dpdk_sys::SGS_RSS_TYPES;
    if types != 0 {
        conf.rxmode.mq_mode = dpdk_sys::SGS_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = types;
    }
}

impl Port {
    /// Has a started port spread packets by Toeplitz's hash under a key of two bytes
    /// that repeat, over addresses, and of TCP and UDP also ports: the lowest bits of
    /// the hash choose the queue from `queues`, whose length is a power of two.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it has no such hash, no table that `queues` repeats
    /// in, or says afterwards that it does otherwise; [`Error::Call`] with the
    /// driver's reason. It spreads somehow then.
    pub fn spread(&self, key: [u8; 2], queues: &[u16]) -> Result<(), Error> {
        let _one_at_a_time = self.0.control();
        let info = raw_info(self.id()).map_err(|code| self.failed("asking", code))?;
        let types = info.flow_type_rss_offloads & dpdk_sys::SGS_RSS_TYPES;
        if types == 0 {
            return Err(self.unsupported("does not spread packets by a hash"));
        }
        let entries = usize::from(info.reta_size);
        if !queues.len().is_power_of_two() || entries == 0 || !entries.is_multiple_of(queues.len()) {
            let what = format!("has a table of {entries} queues, not of a multiple of {}", queues.len());
            return Err(self.unsupported(what));
        }
        let bytes = if info.hash_key_size == 0 { KEY_BYTES } else { info.hash_key_size };
        let key: Vec<u8> = key.into_iter().cycle().take(bytes.into()).collect();
        let mut told = key.clone();
        let mut conf =
            dpdk_sys::rte_eth_rss_conf { rss_key: told.as_mut_ptr(), rss_key_len: bytes, rss_hf: types };
        // SAFETY: the port is valid, and the structure and its key live through the call.
        let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_update(self.id(), &mut conf) };
        self.check("setting the hash of", code)?;
        let table: Vec<u16> = queues.iter().copied().cycle().take(entries).collect();
        let mut groups = groups(&table);
        // SAFETY: as above; there are as many groups as hold the entries.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_update(self.id(), groups.as_mut_ptr(), info.reta_size) };
        self.check("setting the table of queues of", code)?;

        let mut kept = vec![0; bytes.into()];
        conf = dpdk_sys::rte_eth_rss_conf { rss_key: kept.as_mut_ptr(), rss_key_len: bytes, rss_hf: 0 };
        // SAFETY: as above; the key has room for as many bytes as the device has.
        let code = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(self.id(), &mut conf) };
        self.check("asking for the hash of", code)?;
        if kept != key {
            return Err(self.unsupported("has kept another key for its hash"));
        }
        groups.iter_mut().for_each(|group| group.reta = [u16::MAX; GROUP]);
        // SAFETY: as above.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(self.id(), groups.as_mut_ptr(), info.reta_size) };
        self.check("asking for the table of queues of", code)?;
        let kept = groups.iter().flat_map(|group| group.reta).take(entries);
        if !kept.eq(table) {
            return Err(self.unsupported("has kept another table of queues"));
        }
        Ok(())
    }
}

/// A table as DPDK takes it.
fn groups(table: &[u16]) -> Vec<Group> {
    let group = |queues: &[u16]| {
        let mut reta = [0; GROUP];
        reta[..queues.len()].copy_from_slice(queues);
        Group { mask: u64::MAX >> (GROUP - queues.len()), reta }
    };
    table.chunks(GROUP).map(group).collect()
}
