//! What the service manager is told (sd_notify(3)); nothing where there is none.

use std::time::Duration;

use sd_notify::NotifyState;

/// The API answers and packets are judged.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// All is well. The manager restarts a daemon that does not say so in time.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The end is meant.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The longest that the manager waits for [`alive`]; `None`: it does not.
pub fn patience() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
