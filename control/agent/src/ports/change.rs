//! Ports added and removed while the switch runs.

use super::{Device, Origin, no_more};
use crate::push::{Change, PushError, PushOptions};
use crate::store::StoredPort;
use crate::switch::Switch;

use policy::Binding;

/// Why a port was not added or removed. Nothing has changed then.
#[derive(Debug)]
pub enum PortError {
    /// The name or the device is none.
    Invalid(String),
    /// There is a port of this name, or another has the device.
    Duplicate(String),
    /// There is no such port.
    NotFound(String),
    /// The policy binds it.
    InUse(String),
    /// There are as many as there can be, of all or of DPDK's.
    Limit(String),
    /// The device cannot be opened.
    Device(String),
    /// The store or the policy did not take it.
    Push(PushError),
}

impl From<PushError> for PortError {
    fn from(error: PushError) -> PortError {
        PortError::Push(error)
    }
}

/// The longest name.
const MAX_NAME: usize = 64;

/// The longest device arguments.
const MAX_DEVICE: usize = 1024;

fn check(name: &str, device: &Device) -> Result<(), PortError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
        return Err(PortError::Invalid(format!(
            "Name: '{name}' is no name of a port: expected 1 to {MAX_NAME} letters, digits, '.', '_', ':' or '-'"
        )));
    }
    let arguments = device.arguments();
    if device.name().is_empty()
        || arguments.len() > MAX_DEVICE
        || arguments.contains(|c: char| c.is_control())
    {
        return Err(PortError::Invalid(
            "Device: expected device arguments, such as packet_socket0,iface=veth0 or 0000:01:00.0"
                .to_string(),
        ));
    }
    device.mtu().map_err(|error| PortError::Invalid(format!("Device: {error}")))?;
    Ok(())
}

impl Switch {
    /// Adds a port: opened, in service, remembered, and bound where the policy
    /// binds its name.
    pub fn add_port(&mut self, name: &str, device: &str, uid: Option<u32>) -> Result<(), PortError> {
        let device = Device::new(device);
        check(name, &device)?;
        if self.ports.known.contains_key(name) {
            return Err(PortError::Duplicate(format!("there is a port named '{name}'")));
        }
        let taken = self.ports.iter().find_map(|(other, known)| {
            let common = known.device.in_common(&device)?;
            Some(format!("the port '{other}' has the device '{common}'"))
        });
        if let Some(message) = taken {
            return Err(PortError::Duplicate(message));
        }
        let configured = self.ports.configured.get(name);
        if let Some(other) = configured.filter(|configured| **configured != device) {
            return Err(PortError::Duplicate(format!(
                "the configuration has '{name}' as '{}': change it there, or take another name",
                other.arguments()
            )));
        }
        let origin = if configured.is_some() { Origin::Configuration } else { Origin::Added };
        if let Some(limit) = self.ports.limit_of(&device) {
            return Err(PortError::Limit(limit));
        }
        if !self.ports.insert(name.to_string(), device, origin) {
            return Err(PortError::Limit(no_more()));
        }
        let added = self.put_into_service(name, uid);
        if added.is_err() {
            if let Some(index) = self.ports.index(name) {
                self.datapath.unplug(index);
            }
            self.ports.release(name);
        }
        added
    }

    fn put_into_service(&mut self, name: &str, uid: Option<u32>) -> Result<(), PortError> {
        self.ports.open(&mut self.datapath, name).map_err(PortError::Device)?;
        let known = &self.ports.known[name];
        let (name, device) = (name.to_string(), known.device.arguments().to_string());
        let before = self.store.ports().to_vec();
        let remembered = match known.origin {
            Origin::Added => {
                self.store.remember_port(StoredPort { name: name.clone(), device, present: true })
            }
            Origin::Configuration | Origin::Eal => self.store.forget_port(&name),
        };
        remembered.map_err(|error| PortError::Push(PushError::Store(format!("{error:#}"))))?;
        if let Err(error) = self.rebind(&name, &format!("port {name} added"), uid) {
            // The store may be what failed: what it holds then is the worst that is left.
            drop(self.store.replace_ports(before));
            return Err(error);
        }
        tracing::info!("the port '{name}' is added");
        Ok(())
    }

    /// Removes a port; one that the policy binds only if `force` says so: its
    /// interface has no port then.
    pub fn remove_port(&mut self, name: &str, force: bool, uid: Option<u32>) -> Result<(), PortError> {
        let Some(known) = self.ports.known.get(name) else {
            return Err(PortError::NotFound(format!("there is no port named '{name}'")));
        };
        if let (Some(bound), false) = (self.bound_to(name), force) {
            return Err(PortError::InUse(format!(
                "the port '{name}' serves {bound}: bind that elsewhere first, or force it"
            )));
        }
        let (index, device) = (known.index, known.device.arguments().to_string());
        let before = self.store.ports().to_vec();
        let remembered = match known.origin {
            Origin::Added => self.store.forget_port(name),
            // The configuration would bring it back.
            Origin::Configuration | Origin::Eal => {
                self.store.remember_port(StoredPort { name: name.to_string(), device, present: false })
            }
        };
        remembered.map_err(|error| PortError::Push(PushError::Store(format!("{error:#}"))))?;
        let Some(known) = self.ports.known.remove(name) else { return Ok(()) };
        // First the policy: nobody is to send to it when it goes.
        if let Err(error) = self.rebind(name, &format!("port {name} removed"), uid) {
            self.ports.known.insert(name.to_string(), known);
            drop(self.store.replace_ports(before));
            return Err(error);
        }
        self.ports.free.push_back(index.successor());
        if let Some(late @ 1..) = self.datapath.unplug(index) {
            tracing::warn!("{late} workers have not let go of the port '{name}' yet");
        }
        tracing::info!("the port '{name}' is removed");
        Ok(())
    }

    /// What the policy in force has the port for.
    fn bound_to(&self, name: &str) -> Option<String> {
        let mut bindings = self.current.iter().flat_map(|current| current.policy.bindings.iter());
        bindings.find_map(|binding| match binding {
            Binding::Interface { interface, port } if port == name => Some(interface.to_string()),
            Binding::Uplink { port, vpc, .. } if port == name => Some(format!("{vpc} as an uplink")),
            _ => None,
        })
    }

    /// The same policy with the ports as they are now, as a new generation, if it binds this one.
    fn rebind(&mut self, name: &str, words: &str, uid: Option<u32>) -> Result<(), PortError> {
        if self.bound_to(name).is_none() {
            return Ok(());
        }
        let options = PushOptions { uid, ..PushOptions::default() };
        match self.push(Change::Ports(words), options) {
            Ok(_) => Ok(()),
            // It is in force with those that turn.
            Err(PushError::NotEnforced(late)) => {
                tracing::warn!("{late}");
                Ok(())
            }
            Err(error) => Err(PortError::Push(error)),
        }
    }
}
