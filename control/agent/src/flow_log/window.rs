use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use engine::ids::InterfaceId;
use engine::pipeline::{Fate, PassClass};
use engine::verdict::DropReason;
use policy::Id;
use worker::Sighting;

use crate::accounts::{Book, Tuple};

/// Flows that one window tells apart.
pub const MAX_FLOWS: usize = 262_144;

/// Bytes of a frame that are not IP's.
const ETHERNET: u64 = 14;

/// Where a flow was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The interface.
    pub interface: Id,
    /// Its VPC.
    pub vpc: Id,
    /// Its subnet.
    pub subnet: Option<Id>,
    /// What it is attached to.
    pub instance: Option<Id>,
}

/// A flow at an interface, in one direction, with one verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where.
    pub place: Arc<Place>,
    /// Whether it left the interface's machine.
    pub egress: bool,
    /// Whether it might.
    pub accept: bool,
    /// Who spoke to whom.
    pub tuple: Tuple,
}

/// What of it there was.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub packets: u64,
    /// Bytes of IP.
    pub bytes: u64,
    /// All of TCP's flags that were seen, together.
    pub tcp_flags: u8,
    /// Whether its other end is an interface of this switch.
    pub is_local: bool,
    pub first: Option<SystemTime>,
    pub last: Option<SystemTime>,
}

/// What was seen in a time.
pub struct Window {
    begun: SystemTime,
    flows: HashMap<Key, Flow>,
    places: HashMap<InterfaceId, Arc<Place>>,
}

/// What flow logs say of a verdict: at the sender's interface, at the receiver's.
/// `None`: nothing is said there. What is not the interface's own traffic (forged,
/// malformed, unfiltered by groups) is not logged, as in EC2.
fn actions(fate: Fate, has_sender: bool) -> (Option<bool>, Option<bool>) {
    use DropReason::*;
    match fate {
        Fate::Passed(PassClass::Exempt) | Fate::HandedOver(_) | Fate::Waits => (None, None),
        Fate::Passed(_) => (Some(true), Some(true)),
        Fate::Dropped(OutboundDenied | AclOutbound) => (Some(false), None),
        Fate::Dropped(InboundDenied | AclInbound) => (Some(true), Some(false)),
        Fate::Dropped(RuleRevoked | InvalidTcp | UnrelatedError | ConntrackFull | AllowanceExceeded) => {
            if has_sender {
                (Some(false), None)
            } else {
                (None, Some(false))
            }
        }
        Fate::Dropped(TransmitFull | Segmented | ExceedsMtu | OffloadRefused | NoBuffer) => {
            (Some(true), Some(true))
        }
        Fate::Dropped(_) => (None, None),
    }
}

/// The interfaces that are plugged in.
pub fn served(book: &Book) -> Vec<Place> {
    let policy = book.policy();
    let ports = policy.ports_by_interface();
    let mut places: Vec<Place> =
        policy.interfaces.values().filter(|i| ports.contains_key(i.id.as_str())).map(place).collect();
    places.sort_by(|a, b| a.interface.cmp(&b.interface));
    places
}

fn place(interface: &policy::NetworkInterface) -> Place {
    Place {
        interface: interface.id.clone(),
        vpc: interface.vpc.clone(),
        subnet: interface.subnet.clone(),
        instance: interface.attachment.as_ref().and_then(|a| a.instance.clone()),
    }
}

impl Window {
    /// An empty one.
    pub fn since(begun: SystemTime) -> Window {
        Window { begun, flows: HashMap::new(), places: HashMap::new() }
    }

    /// When it began.
    pub fn begun(&self) -> SystemTime {
        self.begun
    }

    /// How many lines it will be.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// What there is.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Flow)> {
        self.flows.iter()
    }

    /// The interfaces that have flows.
    pub fn interfaces(&self) -> HashSet<&str> {
        self.flows.keys().map(|key| key.place.interface.as_str()).collect()
    }

    /// Packets that were judged. False if a flow of it has no room.
    pub fn note(&mut self, tuple: &Tuple, sighting: &Sighting, book: &Book) -> bool {
        let (at_sender, at_receiver) = actions(sighting.fate, sighting.sender.is_some());
        let is_local = sighting.sender.is_some() && sighting.receiver.is_some();
        let mut had_room = true;
        for (id, egress, action) in
            [(sighting.sender, true, at_sender), (sighting.receiver, false, at_receiver)]
        {
            let (Some(accept), true) = (action, id.is_some()) else { continue };
            let Some(place) = self.place(id, book) else { continue };
            let key = Key { place, egress, accept, tuple: *tuple };
            if !self.flows.contains_key(&key) && self.flows.len() >= MAX_FLOWS {
                had_room = false;
                continue;
            }
            let now = SystemTime::now();
            let flow = self.flows.entry(key).or_default();
            let packets = u64::from(sighting.packets);
            flow.packets += packets;
            flow.bytes += sighting.bytes.saturating_sub(packets * ETHERNET);
            flow.tcp_flags |= sighting.tcp_flags.0;
            flow.is_local = is_local;
            flow.first.get_or_insert(now);
            flow.last = Some(now);
        }
        had_room
    }

    fn place(&mut self, id: InterfaceId, book: &Book) -> Option<Arc<Place>> {
        if let Some(known) = self.places.get(&id) {
            return Some(known.clone());
        }
        let place = Arc::new(place(book.interface(id)?));
        self.places.insert(id, place.clone());
        Some(place)
    }
}
