//! The ports of the switch: those of the configuration, those that EAL was given,
//! and those added while it runs. A port whose device cannot be opened, or goes,
//! keeps its place and its bindings, and is taken up again when it can be.

mod api;
mod change;
mod change_over;
mod device;
mod keep;

pub use api::routes;
pub use change::PortError;
pub use keep::keep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dpdk::{Eal, Port};
use engine::ids::PortIndex;
use policy::{Binding, Validated};
use worker::{Datapath, MAX_PORTS};

use crate::config::Config;
use crate::store::StoredPort;
use change_over::ChangeOver;
use device::Device;

/// The first wait before a device is tried again; each that follows is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where a port comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// EAL's arguments.
    Eal,
    /// The configuration, or a flag.
    Configuration,
    /// It was added while the switch ran.
    Added,
}

impl Origin {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Origin::Eal => "eal",
            Origin::Configuration => "configuration",
            Origin::Added => "added",
        }
    }
}

/// Whether a port is in service.
#[derive(Clone, Debug)]
pub enum State {
    /// Workers poll it. With the kernel's number of the interface that it is over.
    InService(Option<u32>),
    /// It cannot be opened, or its device went.
    Failed {
        /// Why.
        reason: String,
        /// When it is tried again, and how long the wait after that is.
        next: Instant,
        wait: Duration,
        /// The kernel's number of its interface at the last try.
        tried: Option<u32>,
    },
}

impl State {
    /// Out of service from now on, and to be tried at once.
    fn failed(reason: &str) -> State {
        State::Failed { reason: reason.to_string(), next: Instant::now(), wait: FIRST_WAIT, tried: None }
    }

    /// Whether it is time to try again. An interface that was not there the last
    /// time is not kept waiting.
    fn is_due(&self, interface: Option<u32>) -> bool {
        match self {
            State::InService(_) => false,
            State::Failed { next, tried, .. } => {
                Instant::now() >= *next || (interface.is_some() && interface != *tried)
            }
        }
    }
}

/// A port that the switch is to have.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its number, in service or not.
    pub index: PortIndex,
    pub device: Device,
    pub origin: Origin,
    pub state: State,
    /// How often it went out of service, or could not be opened at first.
    pub failures: u64,
    /// Whether it spreads packets over the workers as it was told, as far as that was said.
    pub spreads: Option<bool>,
    /// Whether it had a link at the last look, while in service.
    had_link: bool,
    /// How often it had one and then had none.
    pub link_losses: u64,
    /// Whether those beyond it are to be told where interfaces are.
    change_over: ChangeOver,
}

/// All of them, by name.
pub struct Ports {
    eal: Eal,
    known: BTreeMap<String, Known>,
    /// Numbers to be given away; the one that was given back last comes last.
    free: VecDeque<PortIndex>,
    /// The configuration's, which win over what is stored.
    configured: BTreeMap<String, Device>,
    /// Whether interfaces are announced by uplinks that have changed over.
    announces: bool,
}

impl Ports {
    /// The ports that there are to be: none is open yet, but for those that EAL has opened.
    ///
    /// # Errors
    /// Two of one name, or more than there can be.
    pub fn new(eal: &Eal, config: &Config, stored: &[StoredPort]) -> Result<Ports> {
        let free = (0..MAX_PORTS as u16).map(PortIndex).collect();
        let mut ports = Ports {
            eal: eal.clone(),
            known: BTreeMap::new(),
            free,
            configured: BTreeMap::new(),
            announces: config.announces,
        };
        let mut found: Vec<(String, Device, Origin)> = Port::all(eal)
            .iter()
            .map(|port| (port.name().to_string(), eal_device(port.name(), &config.eal), Origin::Eal))
            .collect();
        for setting in &config.ports {
            let device = Device::new(&setting.device);
            // A device given to EAL as well is only to be named, and may be told its MTU.
            match found.iter_mut().find(|(_, given, _)| given.is_named(device.name())) {
                Some((name, given, _)) => {
                    *name = setting.name.clone().unwrap_or_else(|| name.clone());
                    *given = given.with_mtu_of(&device);
                }
                None => {
                    let name = setting.name.clone().unwrap_or_else(|| device.name().to_string());
                    found.push((name, device, Origin::Configuration));
                }
            }
        }
        // A card that was added while the switch ran is found by EAL at the next start.
        for StoredPort { name, device, .. } in stored.iter().filter(|s| s.present) {
            let device = Device::new(device);
            let is_it = |(found, given, origin): &&mut (String, Device, Origin)| {
                let is_unnamed = *origin == Origin::Eal && found == given.name();
                is_unnamed && given.is_named(device.name())
            };
            if let Some(found) = found.iter_mut().find(is_it) {
                *found = (name.clone(), device, Origin::Added);
            }
        }
        // What a bond joins is no port of its own.
        let bonds: Vec<Device> = found.iter().map(|(_, device, _)| device.clone()).collect();
        let is_member = |device: &Device| bonds.iter().any(|bond| bond.joins(device.name()));
        for (name, device, origin) in &found {
            let is_meant = *origin == Origin::Configuration || name != device.name();
            ensure!(
                !is_meant || !is_member(device),
                "the port '{name}' has the device '{}', which a bond joins",
                device.name()
            );
        }
        found.retain(|(_, device, _)| !is_member(device));
        let mut seen = BTreeSet::new();
        for (name, _, _) in &found {
            ensure!(seen.insert(name), "two ports are named '{name}'");
        }
        let configured = found.iter().filter(|(_, _, origin)| *origin != Origin::Added);
        ports.configured = configured.map(|(name, device, _)| (name.clone(), device.clone())).collect();
        for (name, device, origin) in found {
            if let Some(removed) = stored.iter().find(|s| s.name == name && !s.present)
                && removed.device == device.arguments()
            {
                tracing::warn!("the port '{name}' was removed by sgctl: 'sgctl port add' brings it back");
                if origin == Origin::Eal {
                    // Opened and dropped, it leaves EAL too.
                    drop(device.open(eal));
                }
                continue;
            }
            let has_place = ports.insert(name.clone(), device, origin);
            ensure!(has_place, "the port '{name}' has no place: {}", no_more());
        }
        for StoredPort { name, device, .. } in stored.iter().filter(|s| s.present) {
            let (name, device) = (name.clone(), Device::new(device));
            if ports.known.get(&name).is_some_and(|known| known.origin == Origin::Added) {
                continue;
            }
            if ports.configured.contains_key(&name) {
                tracing::warn!("the port '{name}' was added by sgctl, and is in the configuration now");
                continue;
            }
            let has_place = ports.insert(name.clone(), device, Origin::Added);
            ensure!(has_place, "the port '{name}', which sgctl has added, has no place: {}", no_more());
        }
        if ports.known.is_empty() {
            tracing::warn!("there are no ports: give some with --port, or by 'sgctl port add'");
        }
        Ok(ports)
    }

    /// Makes a port known, out of service yet. False if no number is left.
    fn insert(&mut self, name: String, device: Device, origin: Origin) -> bool {
        let Some(index) = self.free.pop_front() else { return false };
        let state = State::failed("not opened yet");
        let known = Known {
            index,
            device,
            origin,
            state,
            failures: 0,
            spreads: None,
            had_link: false,
            link_losses: 0,
            change_over: ChangeOver::default(),
        };
        self.known.insert(name, known);
        true
    }

    /// Why DPDK has no room for one more device, if it is to have one.
    fn limit_of(&self, device: &Device) -> Option<String> {
        let is_new = !device.is_packet_socket() && Port::by_name(&self.eal, device.name()).is_err();
        let is_full = is_new && Port::all(&self.eal).len() >= dpdk::MAX_PORTS;
        is_full.then(|| dpdk::Error::NoRoom(device.name().to_string()).to_string())
    }

    /// Forgets a port; its number is given away anew.
    fn release(&mut self, name: &str) {
        if let Some(known) = self.known.remove(name) {
            self.free.push_back(known.index.successor());
        }
    }

    /// All of them, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Known)> {
        self.known.iter().map(|(name, known)| (name.as_str(), known))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of a port.
    pub fn index(&self, name: &str) -> Option<PortIndex> {
        self.known.get(name).map(|known| known.index)
    }

    /// The name behind a number.
    pub fn name(&self, index: PortIndex) -> Option<&str> {
        self.iter().find(|(_, known)| known.index == index).map(|(name, _)| name)
    }

    /// What a policy may bind: all ports, and those that are gone while this policy binds them.
    pub fn bindable(&self, bound_by: Option<&Validated>) -> policy::Ports {
        let mut bindable = policy::Ports::default();
        for binding in bound_by.iter().flat_map(|policy| policy.bindings.iter()) {
            let (Binding::Interface { port, .. } | Binding::Uplink { port, .. }) = binding else { continue };
            bindable.insert(port.clone(), None);
        }
        for (name, known) in &self.known {
            bindable.insert(name.clone(), Some(known.index));
        }
        bindable
    }

    /// Opens a port and puts it into service. Says why not, and notes it.
    fn open(&mut self, datapath: &mut Datapath, name: &str) -> Result<(), String> {
        let Some(known) = self.known.get_mut(name) else { return Ok(()) };
        let opened = match known.device.missing() {
            Some(interface) => Err(format!("there is no interface '{interface}'")),
            None => known
                .device
                .open(&self.eal)
                .map_err(|error| error.to_string())
                .and_then(|port| datapath.plug(known.index, port).map_err(|error| error.to_string())),
        };
        match opened {
            Ok(late) => {
                if late > 0 {
                    tracing::warn!("{late} workers have not taken up the port '{name}' yet");
                }
                known.state = State::InService(known.device.interface_index());
                Ok(())
            }
            Err(reason) => {
                let wait = match &known.state {
                    State::Failed { wait, .. } => *wait,
                    State::InService(_) => FIRST_WAIT,
                };
                let (next, wait) = (Instant::now() + wait, (wait * 2).min(LONGEST_WAIT));
                let tried = known.device.interface_index();
                known.state = State::Failed { reason: reason.clone(), next, wait, tried };
                Err(reason)
            }
        }
    }

    /// Opens all that are to be there at a start.
    pub fn open_all(&mut self, datapath: &mut Datapath) {
        let names: Vec<String> = self.known.keys().cloned().collect();
        for name in names {
            if let Err(reason) = self.open(datapath, &name) {
                self.failed(&name);
                tracing::error!("the port '{name}' cannot be opened: {reason}; it is tried again and again");
            }
        }
    }

    fn failed(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.failures += 1;
        }
    }
}

/// Why there is no place for one more.
fn no_more() -> String {
    format!("{MAX_PORTS} ports are the most there can be")
}

/// A device of EAL's with the arguments that EAL was given for it.
fn eal_device(name: &str, arguments: &[String]) -> Device {
    const FLAGS: [&str; 3] = ["--vdev", "--allow", "-a"];
    let joined = arguments.iter().filter_map(|argument| argument.split_once('='));
    let apart = arguments.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
    let named = apart.chain(joined).filter(|(flag, _)| FLAGS.contains(flag));
    let mut given = named.map(|(_, text)| Device::new(text));
    let found = given.find(|device| device.is_named(name));
    // Under EAL's name of it, whichever form was given.
    found.map_or_else(|| Device::new(name), |device| device.under(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_waits_and_a_new_interface_does_not() {
        let later = Instant::now() + LONGEST_WAIT;
        let state = State::Failed { reason: String::new(), next: later, wait: LONGEST_WAIT, tried: Some(7) };
        assert!(!state.is_due(Some(7)) && !state.is_due(None));
        assert!(state.is_due(Some(8)));
        assert!(State::failed("").is_due(None));
        assert!(!State::InService(Some(7)).is_due(Some(8)));
    }

    #[test]
    fn a_device_of_eals_has_its_arguments() {
        let arguments = [
            "--vdev",
            "net_null0,size=60",
            "-a",
            "0000:02:00.0,x=1",
            "--vdev=net_null1,no-rx=1",
            "--allow=03:00.0,x=2",
        ]
        .map(String::from);
        assert_eq!(eal_device("net_null0", &arguments).arguments(), "net_null0,size=60");
        assert_eq!(eal_device("net_null1", &arguments).arguments(), "net_null1,no-rx=1");
        assert_eq!(eal_device("0000:02:00.0", &arguments).arguments(), "0000:02:00.0,x=1");
        assert_eq!(eal_device("0000:01:00.0", &arguments).arguments(), "0000:01:00.0");
        assert_eq!(eal_device("0000:03:00.0", &arguments).arguments(), "0000:03:00.0,x=2");
    }
}
