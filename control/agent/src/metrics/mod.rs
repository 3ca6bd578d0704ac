//! Prometheus metrics. Workers count on their own; what they have counted is
//! read when it is scraped, so that a scrape costs the packet path nothing.
//! Each family is explained in docs/metrics.md, and a test holds the two together.

mod datapath;
mod push;

pub use push::{PushMetrics, Step};

use std::sync::atomic::Ordering::Relaxed;

use prometheus::core::Collector;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::switch::Switch;

/// Families that are filled anew for each scrape.
struct Page(Registry);

impl Page {
    /// A family of counters, each with its labels' values.
    fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: impl IntoIterator<Item = ([String; N], u64)>,
    ) -> prometheus::Result<()> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        for (labels, value) in values {
            family.with_label_values(&labels.each_ref().map(String::as_str)).inc_by(value);
        }
        self.add(family)
    }

    /// The same for what goes up and down.
    fn gauges<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: impl IntoIterator<Item = ([String; N], u64)>,
    ) -> prometheus::Result<()> {
        let family = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        for (labels, value) in values {
            family.with_label_values(&labels.each_ref().map(String::as_str)).set(value as i64);
        }
        self.add(family)
    }

    fn add(&self, family: impl Collector + 'static) -> prometheus::Result<()> {
        self.0.register(Box::new(family))
    }
}

/// The page, in Prometheus' text format.
pub fn render(switch: &Switch) -> prometheus::Result<String> {
    let page = Page(Registry::new());
    page.add(switch.metrics.seconds.clone())?;
    page.add(switch.metrics.pushes.clone())?;
    page.add(switch.metrics.enforced.clone())?;
    page.add(switch.metrics.tables.clone())?;
    page.add(switch.metrics.together.clone())?;
    switch_wide(&page, switch)?;
    datapath::workers(&page, switch)?;
    datapath::stalls(&page, switch)?;
    datapath::interfaces(&page, switch)?;
    datapath::ports(&page, switch)?;
    accounts(&page, switch)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&page.0.gather(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn switch_wide(page: &Page, switch: &Switch) -> prometheus::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_string();
    page.gauges("sgswitch_build_info", "The version that runs; always 1.", ["version"], [([version], 1)])?;
    page.gauges(
        "sgswitch_start_time_seconds",
        "When the daemon started, in seconds since 1970.",
        [],
        [([], switch.metrics.started())],
    )?;
    page.gauges("sgswitch_tsc_hertz", "Cycles of the TSC in a second.", [], [([], dpdk::tsc_hz())])?;
    let [groups, rules, interfaces] = switch.current.as_ref().map_or([0; 3], |current| current.counts);
    let objects = [("groups", groups), ("rules", rules), ("interfaces", interfaces)];
    page.gauges(
        "sgswitch_policy_objects",
        "Groups, rules and interfaces of the policy in force.",
        ["kind"],
        objects.map(|(kind, n)| ([kind.to_string()], n as u64)),
    )?;
    page.gauges(
        "sgswitch_generation",
        "The generation of the policy in force; 0 without one.",
        [],
        [([], switch.generation())],
    )?;
    page.counters(
        "sgswitch_store_faults_total",
        "Stores that were damaged and put aside.",
        [],
        [([], switch.store.faults())],
    )?;
    let (used, free) = (u64::from(switch.pool.in_use()), u64::from(switch.pool.available()));
    let mbufs = [(["in_use".to_string()], used), (["available".to_string()], free)];
    page.gauges("sgswitch_mbufs", "Mbufs of the packet pool.", ["state"], mbufs)
}

fn accounts(page: &Page, switch: &Switch) -> prometheus::Result<()> {
    let counters = switch.accounts.counters();
    page.counters(
        "sgswitch_unattributed_packets_total",
        "Packets that rules let pass and that the accounts count at no rule: of a forgotten generation.",
        [],
        [([], counters.unattributed.load(Relaxed))],
    )?;
    page.counters(
        "sgswitch_untracked_flows_refused_total",
        "Packets of untracked flows that the list of those had no room for.",
        [],
        [([], counters.untracked_refused.load(Relaxed))],
    )?;
    let log = switch
        .accounts
        .flow_log(|log| (log.counters().written.load(Relaxed), log.counters().lost.load(Relaxed)));
    let (written, lost) = log.unwrap_or_default();
    page.counters("sgswitch_flow_log_lines_total", "Lines of flow logs written.", [], [([], written)])?;
    page.counters(
        "sgswitch_flow_log_lost_total",
        "Lines of flow logs lost: a sink did not take them, or there were too many.",
        [],
        [([], lost)],
    )
}
