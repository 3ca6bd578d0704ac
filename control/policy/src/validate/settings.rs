use super::{keys, known};
use crate::model::{Quotas, Settings, TrackingTimeouts};
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
    settings.quotas = match node.get("Quotas") {
        Some(quotas) if quotas.value.as_str() == Some("unlimited") => None,
        Some(quotas) if quotas.value.is_object() => Some(self::quotas(&quotas, report)),
        Some(quotas) => {
            report.fault("InvalidParameterValue", quotas.path(), "expected \"unlimited\" or an object");
            None
        }
        None => settings.quotas,
    };
    settings
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
