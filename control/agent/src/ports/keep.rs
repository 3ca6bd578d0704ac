//! Looks after the ports while the switch runs.

use std::convert::Infallible;
use std::time::Duration;

use worker::{Announcement, Spreading};

use super::State;
use crate::inbox::Handle;
use crate::switch::Switch;

/// How often the ports are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Takes ports out of service whose device is gone, and up again when it is back.
pub async fn keep(handle: &Handle) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        // Without an answer the switch stops, or has said why not.
        handle.run(Switch::tend_ports).await.ok();
    }
}

impl Switch {
    /// One look.
    fn tend_ports(&mut self) {
        let names: Vec<String> = self.ports.known.keys().cloned().collect();
        for name in names {
            let known = &self.ports.known[&name];
            match &known.state {
                State::InService(interface) => {
                    let now = known.device.interface_index();
                    let reason = match (*interface != now, self.datapath.is_gone(known.index)) {
                        (true, _) => "its interface is gone",
                        (_, true) => "its device is gone",
                        _ => {
                            self.watch_spreading(&name);
                            self.watch_link(&name);
                            continue;
                        }
                    };
                    tracing::error!("the port '{name}' is out of service: {reason}");
                    self.datapath.unplug(known.index);
                    self.ports.failed(&name);
                    if let Some(known) = self.ports.known.get_mut(&name) {
                        known.state = State::failed(reason);
                        known.had_link = false;
                        known.change_over.lose();
                    }
                }
                state @ State::Failed { .. } => {
                    let is_due = state.is_due(known.device.interface_index());
                    if !is_due || known.device.missing().is_some() {
                        continue;
                    }
                    match self.ports.open(&mut self.datapath, &name) {
                        Ok(()) => tracing::info!("the port '{name}' is in service"),
                        Err(reason) => tracing::warn!("the port '{name}' cannot be opened: {reason}"),
                    }
                }
            }
        }
    }

    /// Says once how a port spreads packets over the workers, when it has shown.
    fn watch_spreading(&mut self, name: &str) {
        let Some(known) = self.ports.known.get_mut(name) else { return };
        let Some(Spreading::Port(deliveries)) = self.datapath.spreading(known.index) else { return };
        let are_right = deliveries.are_right();
        if are_right == known.spreads {
            return;
        }
        known.spreads = are_right;
        let (elsewhere, checked) = (deliveries.elsewhere(), deliveries.checked());
        match are_right {
            Some(true) => tracing::info!("the port '{name}' delivers packets to the owners of their flows"),
            Some(false) => tracing::warn!(
                "the port '{name}' does not spread packets as it was told: {elsewhere} of {checked} came to another \
                 worker than their flow's owner; workers hand them over, which costs speed"
            ),
            None => (),
        }
    }

    /// Counts a link that was there at the last look and is not now; when it is back, or
    /// another member of a bond sends, interfaces are announced.
    fn watch_link(&mut self, name: &str) {
        let Some(known) = self.ports.known.get_mut(name) else { return };
        // Where the driver does not say, nothing is known to be lost.
        let Some(link) = self.datapath.link(known.index) else { return };
        let is_over = known.change_over.look(link.up, self.datapath.active_member(known.index));
        if known.had_link && !link.up {
            known.link_losses += 1;
            tracing::warn!("the port '{name}' has lost its link");
        }
        known.had_link = link.up;
        if is_over && self.ports.announces {
            self.announce(name);
        }
    }

    /// Has interfaces announced by a port, if it is an uplink.
    fn announce(&self, name: &str) {
        let (Some(index), Some(current)) = (self.ports.index(name), &self.current) else { return };
        let list = Announcement::all(&current.snapshot, index);
        if !list.is_empty() {
            tracing::info!("the uplink '{name}' has changed over: {} interfaces are announced", list.len());
            self.datapath.announce(index, list);
        }
    }
}
