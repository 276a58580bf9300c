//! What systemd is told, if it asks: `Type=notify` and `WatchdogSec=`. Without `NOTIFY_SOCKET` it is nothing.

use super::status::Status;
use crate::terminal::{one_line, say};
use sd_notify::NotifyState;
use std::{future::pending, time::Duration};
use tokio::time::{Interval, MissedTickBehavior, interval};

pub struct ServiceManager {
    is_ready: bool,
    watchdog: Option<Interval>,
}

impl ServiceManager {
    pub fn of_environment() -> Self {
        // Twice as often as is asked for, as sd_watchdog_enabled(3) recommends.
        let period =
            sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|period| *period > Duration::ZERO);
        let watchdog = period.map(|period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { is_ready: false, watchdog }
    }

    /// Says how the daemon stands; that it is ready, the first time that it is.
    pub fn tell(&mut self, status: &Status) {
        let text = one_line(&status.to_string());
        let mut news = vec![NotifyState::Status(&text)];
        match status {
            Status::Following if !self.is_ready => {
                self.is_ready = true;
                news.push(NotifyState::Ready);
            }
            Status::Stopping => news.push(NotifyState::Stopping),
            _ => {}
        }
        send(&news);
    }

    /// When the watchdog is due. Safe to cancel.
    pub async fn watchdog_due(&mut self) {
        match &mut self.watchdog {
            Some(ticks) => drop(ticks.tick().await),
            None => pending().await,
        }
    }

    /// Says that the daemon is alive. To be called where it would not be, were it not.
    pub fn alive() {
        send(&[NotifyState::Watchdog]);
    }
}

fn send(news: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(news) {
        say("intcred: warning", &format!("cannot tell the service manager: {error}"));
    }
}
