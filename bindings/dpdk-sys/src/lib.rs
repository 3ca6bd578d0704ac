//! Raw FFI to DPDK 22.11.
