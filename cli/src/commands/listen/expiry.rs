//! The notices that a credential will expire: thirty days before, seven, one, and when it is over.

use intcred::{Snapshot, Timestamp};
use serde::Serialize;
use std::{collections::HashMap, time::Duration};

const DAY: Duration = Duration::from_hours(24);
/// So many days before, in the order of time.
const DAYS: [u32; 4] = [30, 7, 1, 0];

/// As JSON, one flat object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename = "expiring", rename_all = "camelCase")]
pub struct Notice {
    org: String,
    key: String,
    revision: i64,
    expires_at: Timestamp,
    /// There are so many days left at most; 0 once it is over.
    days: u32,
    at: Timestamp,
}

/// The notices given so far: for each key, the time of expiry and the days.
#[derive(Default)]
pub struct Notices(HashMap<String, (Timestamp, u32)>);

impl Notices {
    /// The notices that are due now. Each is given once; of several that are due, the last.
    pub fn due(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<Notice> {
        self.0.retain(|key, _| snapshot.get(key).is_some_and(|state| state.expires_at.is_some()));
        let mut due = Vec::new();
        for (key, state) in snapshot.iter().filter(|(_, state)| state.has_credentials) {
            let Some(expires_at) = state.expires_at else { continue };
            let left = expires_at.0.duration_since(now.0).unwrap_or_default();
            let Some(&days) = DAYS.iter().rev().find(|days| left <= DAY * **days) else { continue };
            if self.0.get(key).is_some_and(|(then, given)| *then == expires_at && *given <= days) {
                continue;
            }
            self.0.insert(key.to_owned(), (expires_at, days));
            let (org, key, revision) = (snapshot.org().to_owned(), key.to_owned(), state.revision);
            due.push(Notice { org, key, revision, expires_at, days, at: now });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use intcred::KeyState;
    use std::time::UNIX_EPOCH;

    fn snapshot(expires_at: Option<Timestamp>) -> Snapshot {
        let state =
            KeyState { revision: 3, has_credentials: true, is_enabled: true, updated_at: None, expires_at };
        Snapshot::of("acme", [("slack", state)])
    }

    #[test]
    fn each_notice_is_given_once_and_anew_for_another_date() {
        let day = |number: u32| Timestamp(UNIX_EPOCH + DAY * number);
        let mut notices = Notices::default();
        let mut due = |expires_at, now| {
            notices.due(&snapshot(expires_at), now).iter().map(|notice| notice.days).collect::<Vec<_>>()
        };
        assert!(due(None, day(0)).is_empty());
        let expiry = Some(day(100));
        let given: Vec<_> = (0..120).flat_map(|number| due(expiry, day(number))).collect();
        assert_eq!(given, [30, 7, 1, 0]);
        assert!(due(expiry, day(500)).is_empty());
        // Set again, with a date that is near.
        assert_eq!(due(Some(day(505)), day(500)), [7]);
        assert!(due(None, day(500)).is_empty());
        assert_eq!(due(Some(day(400)), day(500)), [0]);
    }

    #[test]
    fn a_notice_is_one_flat_object() {
        let now = Timestamp(UNIX_EPOCH);
        let notices = Notices::default().due(&snapshot(Some(now)), now);
        assert_eq!(
            serde_json::to_string(&notices[0]).unwrap(),
            r#"{"event":"expiring","org":"acme","key":"slack","revision":3,"expiresAt":"1970-01-01T00:00:00.000Z","days":0,"at":"1970-01-01T00:00:00.000Z"}"#
        );
    }
}
