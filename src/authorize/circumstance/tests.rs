//! Protects times of day: where they begin and end, past midnight, and through changes of summer time.

use jiff::tz::TimeZoneDatabase;

use super::*;
use crate::mistake::Mistakes;
use crate::mistake::source::Source;

/// Monday 2026-11-23 00:00 UTC.
const MONDAY_MS: u64 = 1_795_392_000_000;

fn at(day: u64, hour: u64, minute: u64) -> Now {
    let minutes = (day * 24 + hour) * 60 + minute;
    Now { steady_ns: 0, unix_ms: MONDAY_MS + minutes * 60_000 }
}

/// A moment as it is written in UTC.
fn utc(text: &str) -> Now {
    let moment: jiff::Timestamp = text.parse().unwrap();
    Now { steady_ns: 0, unix_ms: u64::try_from(moment.as_millisecond()).unwrap() }
}

fn window(days: &[usize], hours: &[(u64, u64)]) -> Window {
    let days = std::array::from_fn(|day| days.contains(&day));
    Window { days, hours: hours.into(), zone: Zone::utc() }
}

/// The zone with this name, or what is said of it.
fn zone(name: &str, database: &TimeZoneDatabase) -> Result<Zone, String> {
    let source = Source::new("policy.toml", format!("zone = \"{name}\"\n"));
    let mut mistakes = Mistakes::default();
    let written = At { value: name.to_owned(), span: 7..9 + name.len() };
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let zone = Zone::compile(&written, database, &mut reading);
    zone.ok_or_else(|| mistakes.iter().map(|mistake| mistake.render(false)).collect())
}

fn in_zone(name: &str, window: Window) -> Window {
    Window { zone: zone(name, jiff::tz::db()).unwrap(), ..window }
}

#[test]
fn a_window_begins_with_its_first_minute_and_ends_before_its_last() {
    let office = window(&[0, 1, 2, 3, 4], &[(8 * 60, 12 * 60), (13 * 60, 18 * 60)]);
    for (now, wanted) in [
        (at(0, 7, 59), false),
        (at(0, 8, 0), true),
        (at(0, 11, 59), true),
        (at(0, 12, 0), false),
        (at(4, 17, 59), true),
        (at(4, 18, 0), false),
        (at(5, 10, 0), false),
        (at(6, 10, 0), false),
        (at(7, 10, 0), true),
    ] {
        assert_eq!(office.holds(now), wanted, "{now:?}");
    }
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_it_begins_on() {
    let night = window(&[6], &[(22 * 60, 6 * 60)]);
    for (now, wanted) in [
        (at(6, 21, 59), false),
        (at(6, 22, 0), true),
        (at(7, 5, 59), true),
        (at(7, 6, 0), false),
        (at(7, 22, 0), false),
        (at(6, 3, 0), false),
    ] {
        assert_eq!(night.holds(now), wanted, "{now:?}");
    }
    assert_eq!(night.asks(), "22:00-06:00 on sun UTC");
}

#[test]
fn a_window_follows_summer_time_in_its_zone() {
    let office = in_zone("Europe/Berlin", window(&[0, 1, 2, 3, 4], &[(8 * 60, 18 * 60)]));
    for (now, wanted) in [
        // Winter: an hour ahead of UTC.
        ("2026-03-27T06:59:59Z", false),
        ("2026-03-27T07:00:00Z", true),
        ("2026-03-27T16:59:59Z", true),
        ("2026-03-27T17:00:00Z", false),
        // Summer, from 2026-03-29 on: two hours.
        ("2026-03-30T05:59:59Z", false),
        ("2026-03-30T06:00:00Z", true),
        ("2026-03-30T16:00:00Z", false),
        // And back, from 2026-10-25 on.
        ("2026-10-26T06:59:59Z", false),
        ("2026-10-26T07:00:00Z", true),
    ] {
        assert_eq!(office.holds(utc(now)), wanted, "{now}");
    }
    assert_eq!(office.asks(), "08:00-18:00 on mon, tue, wed, thu, fri Europe/Berlin");
    let lack = Circumstance::Window(office).lack(utc("2026-03-30T05:59:00Z"));
    assert_eq!(lack, "it is mon 07:59 Europe/Berlin");
}

#[test]
fn the_hour_that_comes_twice_is_in_the_window_twice_and_the_one_that_is_left_out_never() {
    let early = in_zone("Europe/Berlin", window(&[6], &[(2 * 60, 3 * 60)]));
    for (now, wanted) in [
        // On 2026-10-25 clocks go from 03:00 back to 02:00, at 01:00 UTC.
        ("2026-10-24T23:59:59Z", false),
        ("2026-10-25T00:00:00Z", true),
        ("2026-10-25T00:59:59Z", true),
        ("2026-10-25T01:00:00Z", true),
        ("2026-10-25T01:59:59Z", true),
        ("2026-10-25T02:00:00Z", false),
        // On 2026-03-29 they go from 02:00 on to 03:00, at 01:00 UTC.
        ("2026-03-29T00:59:59Z", false),
        ("2026-03-29T01:00:00Z", false),
    ] {
        assert_eq!(early.holds(utc(now)), wanted, "{now}");
    }
}

#[test]
fn the_day_is_that_of_the_zone() {
    let monday = in_zone("Pacific/Auckland", window(&[0], &[(0, DAY_MINUTES)]));
    // It is Monday there from 2026-11-22 11:00 UTC on, a Sunday.
    for (now, wanted) in [
        ("2026-11-22T10:59:59Z", false),
        ("2026-11-22T11:00:00Z", true),
        ("2026-11-23T10:59:59Z", true),
        ("2026-11-23T11:00:00Z", false),
    ] {
        assert_eq!(monday.holds(utc(now)), wanted, "{now}");
    }
}

#[test]
fn a_night_that_loses_an_hour_still_belongs_to_the_day_it_begins_on() {
    let night = in_zone("America/New_York", window(&[5], &[(22 * 60, 6 * 60)]));
    // Saturday 2026-03-07 22:00 there to Sunday 06:00, with clocks set forward at 02:00.
    for (now, wanted) in [
        ("2026-03-08T02:59:59Z", false),
        ("2026-03-08T03:00:00Z", true),
        ("2026-03-08T09:59:59Z", true),
        ("2026-03-08T10:00:00Z", false),
    ] {
        assert_eq!(night.holds(utc(now)), wanted, "{now}");
    }
}

#[test]
fn an_unknown_zone_is_told_with_its_place_and_the_nearest_name() {
    let told = zone("Europe/Berln", jiff::tz::db()).unwrap_err();
    assert!(told.contains("`Europe/Berln` is no time zone that this machine knows"), "{told}");
    assert!(told.contains("policy.toml:1:8"), "{told}");
    assert!(told.contains("Europe/Berlin"), "{told}");
    for none in ["Etc/Unknown", "", "../zoneinfo/UTC", "/etc/localtime", "CET-1CEST", "+01:00"] {
        assert!(zone(none, jiff::tz::db()).is_err(), "{none}");
    }
}

#[test]
fn a_machine_without_a_database_is_told_as_such() {
    let told = zone("Europe/Berlin", &TimeZoneDatabase::none()).unwrap_err();
    assert!(told.contains("this machine has no database of time zones"), "{told}");
    assert!(told.contains("TZDIR") && told.contains("policy.toml:1:8"), "{told}");
    assert_eq!(zone("UTC", &TimeZoneDatabase::none()).unwrap().name(), "UTC");
}
