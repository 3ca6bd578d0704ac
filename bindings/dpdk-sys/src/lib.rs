//! Raw FFI to DPDK 22.11: an allow-list of its functions and types, and a C
//! shim for its inline functions. The safe face is the crate `dpdk`.

#![allow(unsafe_code)]
#![allow(missing_docs, reason = "generated; DPDK's own documentation applies")]
#![allow(non_camel_case_types, non_upper_case_globals, non_snake_case, reason = "C's names")]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, unused_qualifications, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
