//! Times on the command line, such as `30d` and `2027-01-31`.

use intcred::Timestamp;
use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

/// A duration, such as `12h`, `30d` or `1day 6h`.
pub fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

/// A duration in few words, such as `3days 4h`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // Minutes say nothing beside days.
    let step = match seconds {
        86400.. => 3600,
        3600.. => 60,
        _ => 1,
    };
    humantime::format_duration(Duration::from_secs(seconds / step * step)).to_string()
}

/// When a value expires: a moment, a date, or a duration from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(pub Timestamp);

impl FromStr for Expiry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = humantime::parse_rfc3339(text)
            .or_else(|_| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")))
            .ok()
            .or_else(|| SystemTime::now().checked_add(duration(text).ok()?));
        moment.map(|moment| Self(Timestamp(moment))).ok_or("neither a moment, a date nor a duration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_moment_a_date_or_a_duration_from_now() {
        let shown = |text: &str| text.parse::<Expiry>().map(|expiry| expiry.0.to_string());
        assert_eq!(shown("2027-01-31T12:30:00Z").unwrap(), "2027-01-31T12:30:00.000Z");
        assert_eq!(shown("2027-01-31").unwrap(), "2027-01-31T00:00:00.000Z");
        let Timestamp(in_a_month) = "30d".parse::<Expiry>().unwrap().0;
        let left = in_a_month.duration_since(SystemTime::now()).unwrap();
        assert!(left <= Duration::from_hours(720) && left > Duration::from_hours(719));
        for text in ["", "soon", "2027-02-30", "31.1.2027", "-1d", "99999999999999999d"] {
            assert!(shown(text).is_err(), "{text}");
        }
    }

    #[test]
    fn long_durations_have_no_small_units() {
        let short = |seconds| short(Duration::from_secs(seconds));
        assert_eq!(short(59), "59s");
        assert_eq!(short(3661), "1h 1m");
        assert_eq!(short(90061), "1day 1h");
    }
}
