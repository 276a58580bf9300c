//! The options of a set call, as they come: a JSON object.

use crate::error::{ErrorCode, Refusal};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};

/// The longest document, in bytes.
pub const MAX_BYTES: usize = 4096;
/// The longest time that a previous value is kept: ten years of 365 days.
pub const LONGEST_KEPT: Duration = Duration::from_hours(24 * 3650);

const NAMES: &str = "The options are expectedRevision, expiresAt, keepPrevious, stage and dryRun.";

/// The options of a set call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// The revision that the credential must have; 0 if it must never have been set.
    pub expected_revision: Option<i64>,
    /// When the value expires at the vendor.
    pub expires_at: Option<SystemTime>,
    /// How long the value that is replaced is kept; without it, the catalog says.
    pub keep_previous: Option<Duration>,
    /// Whether the value becomes pending instead of current.
    pub is_staged: bool,
    /// Whether nothing is changed.
    pub is_dry_run: bool,
}

impl SetOptions {
    /// Reads the options. `now` is the time that an expiry must be after.
    pub fn parse(document: &str, now: SystemTime) -> Result<Self, Refusal> {
        let given: Map<String, Value> =
            serde_json::from_str(document).map_err(|_| refusal("options is not a JSON object"))?;
        let mut options = Self::default();
        for (name, value) in &given {
            // A NULL from a client's optional argument is as good as no option.
            if value.is_null() {
                continue;
            }
            match name.as_str() {
                "expectedRevision" => options.expected_revision = Some(revision(value)?),
                "expiresAt" => options.expires_at = Some(expiry(value, now)?),
                "keepPrevious" => options.keep_previous = Some(kept(value)?),
                "stage" => options.is_staged = flag(name, value)?,
                "dryRun" => options.is_dry_run = flag(name, value)?,
                _ => return Err(unknown(name)),
            }
        }
        if options.is_staged && options.keep_previous.is_some() {
            return Err(refusal("keepPrevious does not go with stage: a value is replaced by its promotion"));
        }
        Ok(options)
    }
}

/// Checks how long a previous value is to be kept.
pub fn check_kept(name: &str, kept: Duration) -> Result<Duration, Refusal> {
    if kept > LONGEST_KEPT {
        return Err(refusal(&format!("{name} is more than ten years")));
    }
    Ok(kept)
}

fn revision(value: &Value) -> Result<i64, Refusal> {
    let problem = "expectedRevision is not an integer of 0 or more";
    value.as_i64().filter(|revision| *revision >= 0).ok_or_else(|| refusal(problem))
}

fn expiry(value: &Value, now: SystemTime) -> Result<SystemTime, Refusal> {
    let problem = "expiresAt is not a time as 2027-01-31T12:00:00Z, nor a date as 2027-01-31";
    let moment = value.as_str().and_then(moment).ok_or_else(|| refusal(problem))?;
    if moment <= now {
        return Err(refusal("expiresAt is over"));
    }
    Ok(moment)
}

/// A time in RFC 3339, or the beginning of a date in UTC.
fn moment(text: &str) -> Option<SystemTime> {
    const DATE: usize = "2027-01-31".len();
    const OFFSET: usize = "+02:00".len();
    if text.len() == DATE {
        return humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(OFFSET)?)?;
    let &[sign @ (b'+' | b'-'), h @ b'0'..=b'2', hh @ b'0'..=b'9', b':', m @ b'0'..=b'5', mm @ b'0'..=b'9'] =
        offset.as_bytes()
    else {
        return humantime::parse_rfc3339(text).ok();
    };
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let number = |tens, ones| u64::from(tens - b'0') * 10 + u64::from(ones - b'0');
    let offset = Duration::from_mins(number(h, hh) * 60 + number(m, mm));
    if sign == b'+' { local.checked_sub(offset) } else { local.checked_add(offset) }
}

fn kept(value: &Value) -> Result<Duration, Refusal> {
    let problem =
        "keepPrevious is not a number of seconds of 0 or more, nor a time as \"12 hours\" or \"7 days\"";
    let kept = match value {
        Value::Number(seconds) => {
            seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        }
        Value::String(text) if text.trim() == "0" => Some(Duration::ZERO),
        Value::String(text) => humantime::parse_duration(text).ok(),
        _ => None,
    };
    check_kept("keepPrevious", kept.ok_or_else(|| refusal(problem))?)
}

fn flag(name: &str, value: &Value) -> Result<bool, Refusal> {
    value.as_bool().ok_or_else(|| refusal(&format!("{name} is neither true nor false")))
}

/// The message names an option only if it may be a misspelt one: another name may be a misplaced secret.
fn unknown(name: &str) -> Refusal {
    let is_word = name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let name = if is_word { format!("option {name:?}") } else { "one of the options".to_owned() };
    refusal(&format!("{name} is unknown"))
}

fn refusal(problem: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, problem, NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The beginning of 1970-01-02.
    static NOW: std::sync::LazyLock<SystemTime> =
        std::sync::LazyLock::new(|| SystemTime::UNIX_EPOCH + Duration::from_hours(24));

    fn parse(options: &Value) -> Result<SetOptions, String> {
        SetOptions::parse(&options.to_string(), *NOW).map_err(|refusal| {
            assert_eq!(refusal.code, ErrorCode::InvalidRequest);
            refusal.message
        })
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&json!({})), Ok(SetOptions::default()));
        assert_eq!(parse(&json!({"stage": null, "expiresAt": null})), Ok(SetOptions::default()));
        let all = json!({"expectedRevision": 3, "expiresAt": "1970-01-03", "keepPrevious": "36 hours", "dryRun": true});
        assert_eq!(
            parse(&all),
            Ok(SetOptions {
                expected_revision: Some(3),
                expires_at: Some(*NOW + Duration::from_hours(24)),
                keep_previous: Some(Duration::from_hours(36)),
                is_staged: false,
                is_dry_run: true,
            })
        );
        assert!(parse(&json!({"stage": true})).unwrap().is_staged);
        for (kept, seconds) in [(json!(0), 0), (json!("0"), 0), (json!(90), 90), (json!("1 day"), 86_400)] {
            let options = parse(&json!({"keepPrevious": kept})).unwrap();
            assert_eq!(options.keep_previous, Some(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn expiry_may_have_an_offset() {
        for same in [
            "1970-01-02T12:00:00Z",
            "1970-01-02T12:00:00.000Z",
            "1970-01-02T14:00:00+02:00",
            "1970-01-02T08:30:00-03:30",
        ] {
            assert_eq!(moment(same), Some(*NOW + Duration::from_hours(12)), "{same}");
        }
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (options, message) in [
            (json!([]), "options is not a JSON object"),
            (json!("stage"), "options is not a JSON object"),
            (json!({"Stage": true}), "option \"Stage\" is unknown"),
            (json!({"value": "x"}), "option \"value\" is unknown"),
            (json!({"sk-live-0123456789": 1}), "one of the options is unknown"),
            (json!({"stage": "yes"}), "stage is neither true nor false"),
            (json!({"dryRun": 1}), "dryRun is neither true nor false"),
            (json!({"expectedRevision": -1}), "expectedRevision is not an integer of 0 or more"),
            (json!({"expectedRevision": 1.5}), "expectedRevision is not an integer of 0 or more"),
            (json!({"expectedRevision": "1"}), "expectedRevision is not an integer of 0 or more"),
            (json!({"expiresAt": "1970-01-01"}), "expiresAt is over"),
            (json!({"expiresAt": "1970-01-02T00:00:00Z"}), "expiresAt is over"),
            (json!({"keepPrevious": "11 years"}), "keepPrevious is more than ten years"),
            (json!({"keepPrevious": 1e18}), "keepPrevious is more than ten years"),
            (
                json!({"stage": true, "keepPrevious": 1}),
                "keepPrevious does not go with stage: a value is replaced by its promotion",
            ),
        ] {
            assert_eq!(parse(&options), Err(message.to_owned()), "{options}");
        }
        for wrong in [
            json!(1),
            json!("soon"),
            json!(""),
            json!("2027-13-01"),
            json!("2027-01-31T12:00:00"),
            json!("2027-01-31T12:00:00+99:00"),
            json!("infinity"),
            json!("€€€€€€"),
            json!("2027-01-31T12:00:00é00:00"),
        ] {
            assert!(parse(&json!({"expiresAt": wrong})).unwrap_err().starts_with("expiresAt is not a time"));
        }
        for wrong in [json!(-1), json!("-1 day"), json!("soon"), json!(""), json!(true), json!(1e300)] {
            let message = parse(&json!({"keepPrevious": wrong})).unwrap_err();
            assert!(message.starts_with("keepPrevious is"), "{wrong}: {message}");
        }
    }
}
