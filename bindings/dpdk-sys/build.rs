//! Finds DPDK by pkg-config, binds an allow-list of its headers and compiles
//! the shim for what headers alone cannot give: inline functions and macros.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

/// The series that the bindings and the layout test are written for.
const SERIES: &str = "22.11";

/// Only what is called: drivers are loaded by EAL from the distribution's folder.
/// Of vhost-user, what tells what a guest has negotiated, and of bonds, by which member they
/// send; these drivers are found loaded then.
const LIBRARIES: [&str; 8] = [
    "rte_eal",
    "rte_ethdev",
    "rte_mempool",
    "rte_mbuf",
    "rte_ring",
    "rte_vhost",
    "rte_net_vhost",
    "rte_net_bond",
];

/// Ends the build with a sentence for people instead of a panic's trace.
fn refuse(why: &str) -> ! {
    for line in why.lines() {
        println!("cargo::error={line}");
    }
    exit(1)
}

fn pkg_config(what: &str) -> String {
    let output = Command::new("pkg-config").args([what, "libdpdk"]).output().unwrap_or_else(|e| {
        refuse(&format!(
            "pkg-config cannot be run: {e}. On Debian 12: apt-get install pkg-config libdpdk-dev"
        ))
    });
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        refuse(&format!("DPDK {SERIES} is needed. On Debian 12: apt-get install libdpdk-dev\n{said}"));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn main() {
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    let version = pkg_config("--modversion");
    if !version.starts_with(SERIES) {
        refuse(&format!("DPDK {SERIES} is needed, pkg-config finds {}", version.trim()));
    }

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

    let bindings = bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(&flags)
        .allowlist_function("sgs_.*")
        .allowlist_function("rte_eal_(init|cleanup)|rte_thread_(register|unregister)|rte_strerror")
        .allowlist_function("rte_lcore_to_cpu_id|rte_get_(main_lcore|next_lcore|tsc_hz)")
        .allowlist_function("rte_pktmbuf_(pool_create|copy)|rte_mempool_(free|avail_count|in_use_count)")
        .allowlist_function("rte_eth_bond_(mode|primary)_get")
        .allowlist_function("rte_dev_(probe|remove)|rte_ring_(create|free)")
        .allowlist_function("rte_eth_dev_(info_get|is_removed|configure|start|stop|close|set_mtu|socket_id)")
        .allowlist_function("rte_eth_dev_(get_name_by_port|get_port_by_name|adjust_nb_rx_tx_desc)")
        .allowlist_function("rte_eth_(find_next|find_next_of|macaddr_get|promiscuous_enable)")
        .allowlist_function("rte_eth_dev_rss_(hash_update|hash_conf_get|reta_update|reta_query)")
        .allowlist_function("rte_eth_(stats_get|xstats_get|xstats_get_names)")
        .allowlist_type("rte_mbuf|rte_mempool|rte_ring|rte_eth_(conf|dev_info|stats|xstat|xstat_name)")
        .allowlist_var("sgs_.*|SGS_.*|RTE_ETH_NAME_MAX_LEN|RTE_PKTMBUF_HEADROOM")
        .opaque_type("rte_mempool|rte_ring|rte_device")
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_unsafe_ops(true)
        .generate()
        .unwrap_or_else(|e| {
            refuse(&format!("bindgen does not read DPDK's headers (apt-get install clang libclang-dev): {e}"))
        });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("bindings.rs");
    bindings.write_to_file(out).expect("cargo's own folder can be written");

    for flag in pkg_config("--libs-only-L").split_whitespace() {
        println!("cargo::rustc-link-search=native={}", flag.trim_start_matches("-L"));
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}
