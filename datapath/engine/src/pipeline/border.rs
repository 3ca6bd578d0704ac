//! The borders of subnets: network ACLs judge each packet that passes one,
//! whatever its connection (S49).

use super::police::Question;
use super::{Refused, Work};
use crate::forward::Interface;
use crate::packet::{Ip, protocol};
use crate::policy::Direction;
use crate::verdict::DropReason;

/// Whether this end's subnet is guarded.
#[inline]
pub(super) fn is_guarded(interface: Option<&Interface>) -> bool {
    interface.is_some_and(|interface| interface.border.is_some())
}

/// Whether a packet may leave its sender's subnet and enter its receiver's.
#[inline]
pub(super) fn cross_borders(work: &Work<'_>, receiver: Option<&Interface>) -> Result<(), Refused> {
    match is_guarded(work.link.sender) || is_guarded(receiver) {
        true => judge_borders(work, receiver),
        false => Ok(()),
    }
}

#[cold]
fn judge_borders(work: &Work<'_>, receiver: Option<&Interface>) -> Result<(), Refused> {
    let (sender, ip) = (work.link.sender, &work.ip);
    let subnet = |interface: Option<&Interface>| interface?.border.as_ref().map(|border| border.subnet);
    if subnet(sender).is_some() && subnet(sender) == subnet(receiver) {
        return Ok(());
    }
    let question = Question::of(work.link.vpc, ip);
    let service = (!is_later_icmp(ip, &question)).then_some(question.service());
    let ends = [
        (sender, Direction::Outbound, ip.dst, DropReason::AclOutbound),
        (receiver, Direction::Inbound, ip.src, DropReason::AclInbound),
    ];
    for (end, direction, remote, refusal) in ends {
        let Some(interface) = end else { continue };
        let Some(border) = &interface.border else { continue };
        if !border.acl.permits(direction, remote, service) {
            return Err(Refused(refusal, interface.id));
        }
    }
    Ok(())
}

/// A later fragment of ICMP, whose type only its first has.
fn is_later_icmp(ip: &Ip, question: &Question) -> bool {
    question.later_fragment && matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6)
}
