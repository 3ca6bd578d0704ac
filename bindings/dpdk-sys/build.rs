//! Finds DPDK by pkg-config, binds an allow-list of its headers and compiles
//! the shim for what headers alone cannot give: inline functions and macros.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The series that the bindings and the layout test are written for.
const SERIES: &str = "22.11";

/// Only what is called: drivers are loaded by EAL from the distribution's folder.
const LIBRARIES: [&str; 6] = ["rte_eal", "rte_ethdev", "rte_mempool", "rte_mbuf", "rte_ring", "rte_kvargs"];

fn pkg_config(what: &str) -> String {
    let output = Command::new("pkg-config").args([what, "libdpdk"]).output().unwrap_or_else(|e| {
        panic!("pkg-config cannot be run ({e}); on Debian: apt-get install pkg-config libdpdk-dev")
    });
    assert!(
        output.status.success(),
        "pkg-config does not find DPDK; on Debian 12: apt-get install libdpdk-dev\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("pkg-config prints text")
}

fn main() {
    println!("cargo::rerun-if-changed=c");
    let version = pkg_config("--modversion");
    assert!(version.starts_with(SERIES), "DPDK {SERIES} is needed, pkg-config finds {}", version.trim());

    // The `pkg-config` crate would lose `-include rte_config.h`. DPDK's -march is
    // the least it runs on; the shim is built for the same machine as the rest.
    let flags: Vec<String> = pkg_config("--cflags")
        .split_whitespace()
        .filter(|flag| !flag.starts_with("-march="))
        .map(String::from)
        .chain(["-march=x86-64-v3".to_string()])
        .collect();

    let mut shim = cc::Build::new();
    shim.file("c/shim.c").opt_level(3).flag("-Wno-deprecated-declarations");
    flags.iter().for_each(|flag| {
        shim.flag(flag);
    });
    shim.compile("sgs_shim");

    bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(&flags)
        .allowlist_function("sgs_.*")
        .allowlist_function("rte_eal_(init|cleanup)|rte_thread_(register|unregister)|rte_strerror")
        .allowlist_function("rte_lcore_(count|to_cpu_id|to_socket_id)|rte_get_(main_lcore|next_lcore|tsc_hz)")
        .allowlist_function("rte_pktmbuf_pool_create|rte_mempool_(free|avail_count|in_use_count)")
        .allowlist_function("rte_dev_probe|rte_ring_(create|free)")
        .allowlist_function("rte_eth_dev_(info_get|configure|start|stop|close|set_mtu|get_name_by_port)")
        .allowlist_function("rte_eth_dev_(get_port_by_name|adjust_nb_rx_tx_desc|socket_id)")
        .allowlist_function("rte_eth_promiscuous_enable|rte_pktmbuf_copy")
        .allowlist_function("rte_eth_(stats_get|xstats_get|xstats_get_names|find_next|macaddr_get)")
        .allowlist_type("rte_mbuf|rte_mempool|rte_ring|rte_eth_(conf|dev_info|stats|link|xstat|xstat_name)")
        .allowlist_var("sgs_.*|SGS_.*|RTE_ETH_NAME_MAX_LEN|RTE_PKTMBUF_HEADROOM")
        .opaque_type("rte_mempool|rte_ring|rte_device|rte_eth_fp_ops|rte_eth_dev")
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_unsafe_ops(true)
        .generate()
        .expect("bindgen reads DPDK's headers; it needs libclang (apt-get install libclang-dev)")
        .write_to_file(PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("bindings.rs"))
        .expect("the bindings can be written");

    for flag in pkg_config("--libs-only-L").split_whitespace() {
        println!("cargo::rustc-link-search=native={}", flag.trim_start_matches("-L"));
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}
