use super::{keys, known};
use crate::model::{ExemptService, InterfaceSettings, Quotas, Settings, TrackingTimeouts, Validated};
use crate::reader::Node;
use crate::report::Report;

/// Reads `Settings`.
pub(super) fn read(root: &Node<'_, '_>, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    let Some(node) = root.child(report, "Settings") else { return settings };
    known(&node, report, &keys::SETTINGS);
    settings.strict_rule_descriptions = node.flag(report, "StrictRuleDescriptions").unwrap_or(false);
    if let Some(timeouts) = node.child(report, "Timeouts") {
        settings.timeouts = self::timeouts(&timeouts, report);
    }
    settings.exempt_services = exempt_services(&node, report);
    if let Some(interfaces) = node.child(report, "NetworkInterfaces") {
        for id in interfaces.value.as_object().into_iter().flat_map(|object| object.keys()) {
            if let Some(chosen) = interfaces.child(report, id) {
                settings.interfaces.insert(id.into(), interface(&chosen, report));
            }
        }
    }
    settings.quotas = match node.get("Quotas") {
        Some(quotas) if quotas.value.as_str() == Some("unlimited") => None,
        Some(quotas) if quotas.value.as_object().is_some() => Some(self::quotas(&quotas, report)),
        Some(quotas) => {
            report.fault("InvalidParameterValue", quotas.path(), "expected \"unlimited\" or an object");
            None
        }
        None => settings.quotas,
    };
    settings
}

/// The most services that may be exempt: they are looked through one by one.
const MAX_EXEMPT_SERVICES: usize = 16;

fn exempt_services(node: &Node<'_, '_>, report: &mut Report) -> Vec<ExemptService> {
    let items: Vec<_> = node.list(report, "ExemptServices").collect();
    if items.len() > MAX_EXEMPT_SERVICES {
        let message = format!("expected {MAX_EXEMPT_SERVICES} services at most, found {}", items.len());
        report.fault("InvalidParameterValue", node.path_of("ExemptServices"), message);
        return vec![];
    }
    let mut services = Vec::new();
    for item in items {
        known(&item, report, &keys::EXEMPT_SERVICE);
        let address = item.required(report, "Address").and_then(|text| {
            let address = text.parse();
            if address.is_err() {
                let message = format!("expected an address, found '{text}'");
                report.fault("InvalidParameterValue", item.path_of("Address"), message);
            }
            address.ok()
        });
        let protocol = item.required(report, "Protocol").and_then(|text| match text {
            "tcp" => Some(6),
            "udp" => Some(17),
            _ => {
                let message = format!("expected tcp or udp, found '{text}'");
                report.fault("InvalidParameterValue", item.path_of("Protocol"), message);
                None
            }
        });
        if !item.has("Port") {
            item.missing(report, "Port");
        }
        let port = item.number(report, "Port", 1..=65535).and_then(|port| u16::try_from(port).ok());
        if let (Some(address), Some(protocol), Some(port)) = (address, protocol, port) {
            services.push(ExemptService { address, protocol, port });
        }
    }
    services.sort_unstable();
    services.dedup();
    services
}

fn interface(node: &Node<'_, '_>, report: &mut Report) -> InterfaceSettings {
    known(node, report, &keys::INTERFACE_SETTINGS);
    let icmp_errors_by_rules = match node.string(report, "IcmpErrors") {
        None | Some("related") => false,
        Some("rules") => true,
        Some(other) => {
            let message = format!("expected related or rules, found '{other}'");
            report.fault("InvalidParameterValue", node.path_of("IcmpErrors"), message);
            false
        }
    };
    let force_tracking = node.flag(report, "ForceTracking").unwrap_or(false);
    InterfaceSettings { force_tracking, icmp_errors_by_rules }
}

/// What is chosen for an interface needs that interface.
pub(super) fn check(report: &mut Report, all: &Validated) {
    for id in all.settings.interfaces.keys().filter(|id| !all.interfaces.contains_key(id)) {
        let message = format!("The networkInterface ID '{id}' does not exist");
        report.fault(
            "InvalidNetworkInterfaceID.NotFound",
            format!("Settings.NetworkInterfaces.{id}"),
            message,
        );
    }
}

/// EC2's quotas may be raised, their product up to what an interface may have (D20).
fn quotas(node: &Node<'_, '_>, report: &mut Report) -> Quotas {
    known(node, report, &keys::QUOTAS);
    let default = Quotas::default();
    let mut read = |key, default: usize, most| {
        node.number(report, key, 1..=most).map_or(default, |n| usize::try_from(n).unwrap_or(default))
    };
    let rules_per_group = read("RulesPerSecurityGroup", default.rules_per_group, 1000);
    let groups_per_interface = read("SecurityGroupsPerInterface", default.groups_per_interface, 16);
    if rules_per_group * groups_per_interface > Quotas::MAX_PRODUCT {
        let message = format!(
            "{rules_per_group} rules times {groups_per_interface} groups are more than the {} that an interface may have",
            Quotas::MAX_PRODUCT
        );
        report.fault("InvalidParameterValue", node.path(), message);
    }
    Quotas { rules_per_group, groups_per_interface }
}

/// Seconds within EC2's ranges (D18).
pub(super) fn timeouts(node: &Node<'_, '_>, report: &mut Report) -> TrackingTimeouts {
    known(node, report, &keys::TIMEOUTS);
    let mut read = |key, range| node.number(report, key, range).and_then(|n| u32::try_from(n).ok());
    TrackingTimeouts {
        tcp_established: read("TcpEstablishedTimeout", 60..=432_000),
        udp: read("UdpTimeout", 30..=60),
        udp_stream: read("UdpStreamTimeout", 60..=180),
    }
}
