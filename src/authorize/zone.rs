//! The time zone that a door's days and hours are told in.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::clock::Now;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};

/// A time zone of the machine's database, read when policy compiles: requests read no file.
#[derive(Debug)]
pub(in crate::authorize) struct Zone(TimeZone);

impl Zone {
    /// What holds where nothing is written.
    pub(in crate::authorize) fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone with this name, such as `Europe/Berlin`.
    pub(in crate::authorize) fn compile(
        written: &At<String>,
        database: &TimeZoneDatabase,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        if written.value == "UTC" {
            return Some(Self::utc());
        }
        // `Etc/Unknown` is the name for not knowing, and would be UTC in silence.
        if let Some(zone) = database.get(written).ok().filter(|zone| !zone.is_unknown()) {
            return Some(Self(zone));
        }
        let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
        let (code, says, help) = if names.is_empty() {
            let says = format!(
                "`{}` cannot be looked up: this machine has no database of time zones",
                written.value
            );
            let help = "install `tzdata`, or name the directory of such a database in TZDIR";
            (Code::Unreadable, says, help.to_owned())
        } else {
            let says = format!("`{}` is no time zone that this machine knows", written.value);
            let help = suggest(written, names.iter().map(String::as_str));
            (Code::WrongValue, says, help)
        };
        reading.wrong(code, &written.span, says, help);
        None
    }

    /// Its name: `UTC`, `Europe/Berlin`.
    pub(in crate::authorize) fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The day of the week, Monday being 0, and the minute of the day, as clocks there show them.
    pub(in crate::authorize) fn day_and_minute(&self, now: Now) -> (usize, u64) {
        let seconds = i64::try_from(now.unix_s()).unwrap_or(i64::MAX);
        let local = self.0.to_datetime(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX));
        let day = local.weekday().to_monday_zero_offset();
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        (usize::try_from(day).unwrap_or_default(), u64::try_from(minute).unwrap_or_default())
    }
}
