//! Sizes and offsets are those of the C compiler that built DPDK's users.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::mem::offset_of;

use dpdk_sys::{
    rte_eth_conf, rte_eth_dev_info, rte_eth_rxmode, rte_eth_stats, rte_eth_txmode, rte_eth_xstat,
    rte_eth_xstat_name, rte_mbuf, sgs_layouts, sgs_layouts_count,
};

macro_rules! layouts {
    ($($ty:ident { $($field:ident),* })*) => {
        BTreeMap::from([$(
            (stringify!($ty).to_string(), size_of::<$ty>()),
            $((concat!(stringify!($ty), ".", stringify!($field)).to_string(), offset_of!($ty, $field)),)*
        )*])
    };
}

#[test]
fn rust_lays_structures_out_as_c_does() {
    // SAFETY: two constants of the shim, and strings that live as long as the program.
    let of_c: BTreeMap<String, usize> = unsafe {
        std::slice::from_raw_parts(sgs_layouts.as_ptr(), sgs_layouts_count)
            .iter()
            .map(|l| (CStr::from_ptr(l.what).to_str().unwrap().to_string(), l.offset))
            .collect()
    };
    let of_rust = layouts! {
        rte_mbuf { buf_addr, data_off, refcnt, nb_segs, port, ol_flags, pkt_len, data_len, buf_len, pool, next }
        rte_eth_dev_info {
            device, driver_name, min_mtu, max_mtu, max_rx_queues, max_tx_queues, rx_offload_capa,
            tx_offload_capa, reta_size, hash_key_size, flow_type_rss_offloads
        }
        rte_eth_rxmode { mtu, offloads }
        rte_eth_txmode { offloads }
        rte_eth_conf { rxmode, txmode }
        rte_eth_stats { ipackets, oerrors, rx_nombuf }
        rte_eth_xstat { id, value }
        rte_eth_xstat_name { name }
    };
    assert_eq!(of_rust, of_c);
}
