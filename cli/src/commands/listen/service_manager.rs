//! Notifications to systemd, for `Type=notify` and `WatchdogSec=`. Without `NOTIFY_SOCKET`, nothing is sent.

use super::status::Status;
use crate::terminal::{log_line, one_line};
use sd_notify::NotifyState;
use std::{future::pending, time::Duration};
use tokio::time::{Interval, MissedTickBehavior, interval};

pub struct ServiceManager {
    is_ready: bool,
    watchdog: Option<Interval>,
}

impl ServiceManager {
    pub fn of_environment() -> Self {
        // Half the interval, as sd_watchdog_enabled(3) recommends.
        let period =
            sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|period| *period > Duration::ZERO);
        let watchdog = period.map(|period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { is_ready: false, watchdog }
    }

    /// Sends the status and, the first time that the daemon follows the changes, that it is ready.
    pub fn notify_status(&mut self, status: &Status) {
        let text = one_line(&status.to_string());
        let mut messages = vec![NotifyState::Status(&text)];
        match status {
            Status::Following if !self.is_ready => {
                self.is_ready = true;
                messages.push(NotifyState::Ready);
            }
            Status::Stopping => messages.push(NotifyState::Stopping),
            _ => {}
        }
        send(&messages);
    }

    /// Waits until the watchdog is due. Safe to cancel.
    pub async fn watchdog_due(&mut self) {
        match &mut self.watchdog {
            Some(ticks) => drop(ticks.tick().await),
            None => pending().await,
        }
    }

    /// Sends that the daemon is alive. Called only in the daemon's own loops, so that a hang is detected.
    pub fn notify_alive() {
        send(&[NotifyState::Watchdog]);
    }
}

fn send(messages: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(messages) {
        log_line("intcred: warning", &format!("cannot notify the service manager: {error}"));
    }
}
