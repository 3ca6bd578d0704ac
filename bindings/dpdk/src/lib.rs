//! The safe face of DPDK: EAL, mempools, mbufs, ports, rings.
