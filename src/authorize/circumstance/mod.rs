//! What a door asks of the moment and of the connection: times of day, and names in the certificate.

use std::borrow::Cow;

use crate::authenticate::certificate::NamePattern;
use crate::authorize::zone::Zone;
use crate::clock::Now;
use crate::head::Head;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};
use crate::refusal::Reason;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u64 = 24 * 60;

/// One thing that a door asks of the moment or of the connection.
#[derive(Debug)]
pub(in crate::authorize) enum Circumstance {
    /// The connection's certificate has one of these names, and still holds.
    Certificate(Box<[NamePattern]>),
    /// It is such a time.
    Window(Window),
}

/// The keys of a door that become circumstances.
pub(in crate::authorize) struct Written<'r> {
    pub(in crate::authorize) certificates: &'r Option<At<Vec<At<String>>>>,
    pub(in crate::authorize) days: &'r Option<At<Vec<At<String>>>>,
    pub(in crate::authorize) hours: &'r Option<At<Vec<At<String>>>>,
    pub(in crate::authorize) zone: &'r Option<At<String>>,
}

/// Times of the week, as clocks somewhere show them.
#[derive(Debug)]
pub(in crate::authorize) struct Window {
    /// Which days, Monday first.
    days: [bool; 7],
    /// From the first minute of the day to before the second. One that ends before it begins goes
    /// on into the day after.
    hours: Box<[(u64, u64)]>,
    zone: Zone,
}

impl Circumstance {
    /// Compiles what is written; an element that is nothing was wrong.
    pub(in crate::authorize) fn compile(
        written: &Written<'_>,
        reading: &mut Reading<'_>,
    ) -> Vec<Option<Self>> {
        let Written { certificates, days, hours, zone } = written;
        let certificates = certificates.as_ref().map(|names| {
            let patterns = each("certificates", names, reading, |name, reading| {
                NamePattern::read(name).map_err(|why| {
                    let says = format!("`{}` is in no certificate: {why}", name.value);
                    let help = "write \"spiffe://example.org/ns/prod/*\" or \"*.partner.example\"";
                    reading.wrong(Code::WrongValue, &name.span, says, help);
                })
            })?;
            Some(Self::Certificate(patterns.into()))
        });
        let window = match (zone, days, hours) {
            (None, None, None) => None,
            (Some(zone), None, None) => {
                let help = "write `days` or `hours` beside it, or leave it out";
                let says = "`zone` says nothing without `days` or `hours`";
                reading.wrong(Code::WrongValue, &zone.span, says, help);
                Some(None)
            }
            _ => Some(Window::compile(written, reading).map(Self::Window)),
        };
        certificates.into_iter().chain(window).collect()
    }

    pub(in crate::authorize) fn holds(&self, head: &Head, now: Now) -> bool {
        match self {
            Self::Certificate(patterns) => {
                let tls = head.peer.tls.as_ref();
                let certificate = tls.and_then(|tls| tls.certificate.as_ref());
                certificate.is_some_and(|certificate| {
                    patterns.iter().any(|pattern| pattern.fits_any(certificate))
                        && certificate.still_holds(now).is_ok()
                })
            }
            Self::Window(window) => window.holds(now),
        }
    }

    pub(in crate::authorize) fn key(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificates",
            Self::Window(_) => "hours",
        }
    }

    pub(in crate::authorize) fn reason(&self) -> Reason {
        match self {
            Self::Certificate(_) => Reason::CertificateMissing,
            Self::Window(_) => Reason::TimeRefused,
        }
    }

    pub(in crate::authorize) fn asks(&self) -> String {
        match self {
            Self::Certificate(patterns) => {
                patterns.iter().map(NamePattern::text).collect::<Vec<_>>().join(", ")
            }
            Self::Window(window) => window.asks(),
        }
    }

    pub(in crate::authorize) fn lack(&self, now: Now) -> Cow<'static, str> {
        match self {
            Self::Certificate(_) => "the connection showed no certificate with such a name".into(),
            Self::Window(window) => {
                let (day, minute) = window.zone.day_and_minute(now);
                let day = DAYS.get(day).copied().unwrap_or_default();
                format!("it is {day} {} {}", clock_time(minute), window.zone.name()).into()
            }
        }
    }
}

impl Window {
    fn compile(written: &Written<'_>, reading: &mut Reading<'_>) -> Option<Self> {
        let days = match written.days {
            None => Some([true; 7]),
            Some(names) => Self::days(names, reading),
        };
        let hours = match written.hours {
            None => Some(vec![(0, DAY_MINUTES)]),
            Some(spans) => each("hours", spans, reading, span_of_day),
        };
        let zone = match written.zone {
            None => Some(Zone::utc()),
            Some(name) => Zone::compile(name, jiff::tz::db(), reading),
        };
        Some(Self { days: days?, hours: hours?.into(), zone: zone? })
    }

    fn days(written: &At<Vec<At<String>>>, reading: &mut Reading<'_>) -> Option<[bool; 7]> {
        let numbers = each("days", written, reading, |name, reading| {
            DAYS.iter().position(|day| *day == name.value).ok_or_else(|| {
                let says = format!("`{}` is no day", name.value);
                reading.wrong(Code::WrongValue, &name.span, says, suggest(name, DAYS));
            })
        })?;
        Some(std::array::from_fn(|day| numbers.contains(&day)))
    }

    fn holds(&self, now: Now) -> bool {
        let (day, minute) = self.zone.day_and_minute(now);
        let is_on = |day: usize| self.days.get(day % 7).copied().unwrap_or_default();
        self.hours.iter().any(|&(from, to)| {
            if from < to {
                is_on(day) && (from..to).contains(&minute)
            } else {
                // What goes on past midnight belongs to the day on which it began.
                (is_on(day) && minute >= from) || (is_on(day + 6) && minute < to)
            }
        })
    }

    fn asks(&self) -> String {
        let days = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| *day);
        let hours = self.hours.iter();
        let hours = hours.map(|(from, to)| format!("{}-{}", clock_time(*from), clock_time(*to)));
        let (days, hours): (Vec<_>, Vec<_>) = (days.collect(), hours.collect());
        format!("{} on {} {}", hours.join(", "), days.join(", "), self.zone.name())
    }
}

fn clock_time(minute: u64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Reads `08:00-18:00`, in minutes of the day; the end may be `24:00`.
fn span_of_day(written: &At<String>, reading: &mut Reading<'_>) -> Result<(u64, u64), ()> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |text: &str| {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| is_plain)
        };
        let (hour, minute) = (two(hour)?, two(minute)?);
        let all = hour * 60 + minute;
        (minute < 60 && all <= DAY_MINUTES).then_some(all)
    };
    let span = written.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    match span {
        Some((from, to)) if from != to && from < DAY_MINUTES && to > 0 => Ok((from, to)),
        _ => {
            let says = format!("`{}` is no time of day", written.value);
            let help = "write for example \"08:00-18:00\", \"18:00-24:00\" or \"22:00-06:00\", in UTC or the door's `zone`";
            reading.wrong(Code::WrongValue, &written.span, says, help);
            Err(())
        }
    }
}

/// Reads every element of a list, which must have one. An element that fails was reported.
fn each<T>(
    key: &str,
    list: &At<Vec<At<String>>>,
    reading: &mut Reading<'_>,
    mut read: impl FnMut(&At<String>, &mut Reading<'_>) -> Result<T, ()>,
) -> Option<Vec<T>> {
    if list.is_empty() {
        let says = format!("`{key}` is empty, so this door never opens");
        let help = format!("name at least one, or leave `{key}` out");
        reading.wrong(Code::ClosedDoor, &list.span, says, help);
        return None;
    }
    let read: Vec<Result<T, ()>> = list.iter().map(|element| read(element, reading)).collect();
    read.into_iter().collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests;
