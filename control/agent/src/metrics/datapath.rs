//! Workers, interfaces and ports.

use engine::pipeline::{InterfaceCounters, PassClass};
use engine::verdict::DropReason;
use worker::{BURST_SIZES, Spreading, WorkerStage};

use super::Page;
use crate::switch::Switch;
use crate::watchdog::{State, Watch};

/// A number of one worker.
type OfWorker = fn(&worker::WorkerView) -> u64;

pub fn workers(page: &Page, switch: &Switch) -> prometheus::Result<()> {
    let workers = || switch.datapath.workers().iter().enumerate().map(|(i, w)| (i.to_string(), w));
    let each = |of: OfWorker| workers().map(move |(i, w)| ([i], of(w))).collect::<Vec<_>>();
    page.gauges(
        "sgswitch_worker_generation",
        "The generation each worker judges by.",
        ["worker"],
        each(|w| w.statistics.generation.get()),
    )?;
    page.gauges(
        "sgswitch_connections",
        "Connections in the table.",
        ["worker"],
        each(|w| w.statistics.connections.get()),
    )?;
    page.gauges(
        "sgswitch_connections_capacity",
        "Connections the table has room for.",
        ["worker"],
        each(|w| w.capacity as u64),
    )?;
    let counters: [(&str, &str, OfWorker); 13] = [
        ("sgswitch_connections_inserted_total", "Connections that were opened.", |w| {
            w.statistics.connections_inserted.get()
        }),
        ("sgswitch_connections_expired_total", "Connections that were forgotten in time.", |w| {
            w.statistics.connections_expired.get()
        }),
        ("sgswitch_connections_shed_total", "Half-open connections given up for newcomers.", |w| {
            w.statistics.connections_shed.get()
        }),
        ("sgswitch_connections_killed_total", "Connections that an operator has ended.", |w| {
            w.statistics.connections_killed.get()
        }),
        ("sgswitch_sightings_total", "Packets told of for the accounts of rules and flows.", |w| {
            w.statistics.sightings.get()
        }),
        ("sgswitch_sightings_lost_total", "Packets that the accounts missed: too many at once.", |w| {
            w.statistics.sightings_lost.get()
        }),
        ("sgswitch_received_packets_total", "Packets received from ports.", |w| w.statistics.received.get()),
        ("sgswitch_transmitted_packets_total", "Packets that ports took.", |w| {
            w.statistics.transmitted.get()
        }),
        (
            "sgswitch_handed_over_packets_total",
            "Packets handed over to the worker that owns their flow.",
            |w| w.statistics.handed_over.get(),
        ),
        (
            "sgswitch_relayed_packets_total",
            "Judged packets passed to the worker that has the port's queue.",
            |w| w.statistics.relayed.get(),
        ),
        (
            "sgswitch_announcements_total",
            "Announcements of interfaces by uplinks that have changed over.",
            |w| w.statistics.announced.get(),
        ),
        ("sgswitch_table_hits_total", "Lookups that found their connection.", |w| {
            w.counters.table_hits.get()
        }),
        ("sgswitch_table_misses_total", "Lookups that found none.", |w| w.counters.table_misses.get()),
    ];
    for (name, help, of) in counters {
        page.counters(name, help, ["worker"], each(of))?;
    }
    let bursts = workers().flat_map(|(i, w)| {
        let sizes = BURST_SIZES.iter().zip(w.statistics.bursts());
        sizes.map(|(size, n)| ([i.clone(), size.to_string()], n)).collect::<Vec<_>>()
    });
    page.counters(
        "sgswitch_worker_bursts_total",
        "Bursts received from ports that had packets, by the upper bound of their size class.",
        ["worker", "size"],
        bursts,
    )?;
    let passed = workers().flat_map(|(i, w)| {
        PassClass::ALL.map(|class| ([i.clone(), class.label().to_string()], w.counters.passed(class)))
    });
    page.counters(
        "sgswitch_passed_packets_total",
        "Packets that passed, by why.",
        ["worker", "class"],
        passed,
    )?;
    let drops = workers().flat_map(|(i, w)| {
        DropReason::ALL.iter().map(move |r| ([i.clone(), r.label().to_string()], w.counters.drops.get(*r)))
    });
    page.counters(
        "sgswitch_dropped_packets_total",
        "Packets that were dropped, by reason.",
        ["worker", "reason"],
        drops,
    )?;
    let stages = |of: fn(&worker::WorkerView, WorkerStage) -> u64| {
        workers()
            .flat_map(move |(i, w)| WorkerStage::ALL.map(|s| ([i.clone(), s.label().to_string()], of(w, s))))
            .collect::<Vec<_>>()
    };
    page.counters(
        "sgswitch_stage_cycles_total",
        "TSC cycles by stage.",
        ["worker", "stage"],
        stages(|w, s| w.statistics.stage(s).cycles.get()),
    )?;
    page.counters(
        "sgswitch_stage_packets_total",
        "Packets by stage.",
        ["worker", "stage"],
        stages(|w, s| w.statistics.stage(s).packets.get()),
    )?;
    let turns = workers().flat_map(|(i, w)| {
        let (busy, idle) = (w.statistics.busy_cycles.get(), w.statistics.idle_cycles.get());
        [([i.clone(), "busy".to_string()], busy), ([i, "idle".to_string()], idle)]
    });
    page.counters(
        "sgswitch_worker_cycles_total",
        "TSC cycles of turns with and without packets.",
        ["worker", "state"],
        turns,
    )
}

pub fn stalls(page: &Page, switch: &Switch) -> prometheus::Result<()> {
    let of = |number: fn(&Watch, usize) -> u64| {
        let workers = 0..switch.datapath.workers().len();
        workers.map(|worker| ([worker.to_string()], number(&switch.watch, worker))).collect::<Vec<_>>()
    };
    page.gauges(
        "sgswitch_worker_stalled",
        "Whether the worker makes no progress; one that has ended never will.",
        ["worker"],
        of(|watch, worker| u64::from(watch.state(worker) != State::Running)),
    )?;
    page.counters(
        "sgswitch_worker_stalls_total",
        "How often the worker was found without progress.",
        ["worker"],
        of(Watch::stalls),
    )
}

pub fn interfaces(page: &Page, switch: &Switch) -> prometheus::Result<()> {
    let workers = switch.datapath.workers();
    let mut names: Vec<_> = switch.compiler.interface_names().iter().map(|(id, name)| (*id, name)).collect();
    names.sort();
    let (mut packets, mut bytes, mut drops) = (Vec::new(), Vec::new(), Vec::new());
    let (mut available, mut exceeded) = (Vec::new(), Vec::new());
    let (mut exempt, mut late) = (Vec::new(), Vec::new());
    for (id, name) in names {
        let name = name.to_string();
        let counters: Vec<_> = workers.iter().filter_map(|w| w.counters.interface(id)).collect();
        let sum = |of: fn(&InterfaceCounters) -> u64| counters.iter().map(|c| of(c)).sum::<u64>();
        let (inbound, outbound) =
            ([name.clone(), "inbound".to_string()], [name.clone(), "outbound".to_string()]);
        packets.push((inbound.clone(), sum(|c| c.inbound_packets.get())));
        packets.push((outbound.clone(), sum(|c| c.outbound_packets.get())));
        bytes.push((inbound, sum(|c| c.inbound_bytes.get())));
        bytes.push((outbound, sum(|c| c.outbound_bytes.get())));
        let interface = switch.current.as_ref().and_then(|c| c.snapshot.interfaces.get(id));
        let room = |worker: &worker::WorkerView| {
            let most = interface.map_or(0, |i| u64::from(i.settings.connections)).min(worker.capacity as u64);
            let used = worker.counters.interface(id).map_or(0, |c| c.connections.get());
            most.saturating_sub(used)
        };
        available.push(([name.clone()], workers.iter().map(room).sum()));
        let refused = |c: &InterfaceCounters| {
            c.drops.get(DropReason::AllowanceExceeded) + c.drops.get(DropReason::ConntrackFull)
        };
        exceeded.push(([name.clone()], sum(refused)));
        exempt.push(([name.clone()], sum(|c| c.drops.get(DropReason::ExemptRate))));
        let not_taken = |c: &InterfaceCounters| {
            c.drops.get(DropReason::TransmitFull) + c.drops.get(DropReason::HandOverFull)
        };
        late.push(([name.clone()], sum(not_taken)));
        for reason in DropReason::ALL {
            let count: u64 = counters.iter().map(|c| c.drops.get(*reason)).sum();
            // Of ten thousand interfaces, most have dropped for few reasons.
            if count > 0 {
                drops.push(([name.clone(), reason.label().to_string()], count));
            }
        }
    }
    page.gauges(
        "sgswitch_conntrack_allowance_available",
        "Connections that an interface may still track before new ones are dropped.",
        ["interface"],
        available,
    )?;
    page.counters(
        "sgswitch_conntrack_allowance_exceeded_total",
        "Packets dropped because they opened a connection beyond the interface's allowance or the table.",
        ["interface"],
        exceeded,
    )?;
    page.counters(
        "sgswitch_linklocal_allowance_exceeded_total",
        "Packets that groups do not filter (ARP, ND, DHCP, exempt services), dropped above the interface's allowance.",
        ["interface"],
        exempt,
    )?;
    page.counters(
        "sgswitch_pps_allowance_exceeded_total",
        "Packets for the interface that its port's queue, or the ring on the way to it, did not take.",
        ["interface"],
        late,
    )?;
    let labels = ["interface", "direction"];
    page.counters(
        "sgswitch_interface_packets_total",
        "Packets that passed to (inbound) and from (outbound) an interface.",
        labels,
        packets,
    )?;
    page.counters("sgswitch_interface_bytes_total", "Their bytes, Ethernet header included.", labels, bytes)?;
    page.counters(
        "sgswitch_interface_dropped_packets_total",
        "Packets of and for an interface that were dropped.",
        ["interface", "reason"],
        drops,
    )
}

pub fn ports(page: &Page, switch: &Switch) -> prometheus::Result<()> {
    let (mut packets, mut errors, mut up) = (Vec::new(), Vec::new(), Vec::new());
    let (mut failures, mut spread, mut link_losses) = (Vec::new(), Vec::new(), Vec::new());
    for (name, known) in switch.ports.iter() {
        let label = |what: &str| [name.to_string(), what.to_string()];
        failures.push(([name.to_string()], known.failures));
        link_losses.push(([name.to_string()], known.link_losses));
        let Some(port) = switch.datapath.port(known.index) else {
            up.push(([name.to_string()], 0));
            continue;
        };
        if let Some(s) = port.statistics {
            packets.extend([(label("rx"), s.rx_packets), (label("tx"), s.tx_packets)]);
            let kinds = [
                ("rx_missed", s.rx_missed),
                ("rx_errors", s.rx_errors),
                ("tx_errors", s.tx_errors),
                ("rx_no_mbuf", s.rx_no_mbuf),
            ];
            errors.extend(kinds.map(|(kind, n)| (label(kind), n)));
        }
        if let Spreading::Port(deliveries) = &port.spreading {
            let elsewhere = deliveries.elsewhere();
            let at_owner = deliveries.checked().saturating_sub(elsewhere);
            spread.extend([(label("owner"), at_owner), (label("elsewhere"), elsewhere)]);
        }
        if let Some(link) = port.link {
            up.push(([name.to_string()], u64::from(link.up)));
        }
    }
    page.counters(
        "sgswitch_port_packets_total",
        "Packets that the port's driver has counted.",
        ["port", "direction"],
        packets,
    )?;
    page.counters(
        "sgswitch_port_errors_total",
        "What the port's driver has lost.",
        ["port", "kind"],
        errors,
    )?;
    page.counters(
        "sgswitch_port_failures_total",
        "How often the port could not be opened at the start, or went out of service.",
        ["port"],
        failures,
    )?;
    page.counters(
        "sgswitch_port_spread_packets_total",
        "Samples of packets from a port that was told to deliver to the owners of flows, by where they came.",
        ["port", "at"],
        spread,
    )?;
    page.counters(
        "sgswitch_port_link_losses_total",
        "How often the port had a link and then had none, seen once a second.",
        ["port"],
        link_losses,
    )?;
    page.gauges("sgswitch_port_up", "Whether the port is in service and has a link.", ["port"], up)
}
