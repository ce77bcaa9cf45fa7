//! Sizes, durations, rates and networks, as operators write them: `"64KiB"`, `"15m"`, `"120/min"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::clock::Now;

/// A number of bytes: `"512B"`, `"64KiB"`, `"10MiB"`, `"1GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time: `"250ms"`, `"5s"`, `"15m"`, `"12h"`, `"30d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// So many per so long: `"10/s"`, `"120/min"`, `"1000/h"`, `"5000/d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In this time.
    pub per: Duration,
}

/// A network in CIDR form, or one address: `"10.8.0.0/16"`, `"2001:db8::/32"`, `"192.0.2.7"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub ipnet::IpNet);

impl Network {
    /// Whether `address` lies in this network. An IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether every address of the other network lies in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }
}

/// A day, as TOML writes it: `2026-12-15`, with or without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day(pub jiff::civil::Date);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Day {
    /// When it begins in UTC, in Unix seconds; nothing for a day before 1970.
    pub fn begins_unix_s(self) -> Option<u64> {
        let begins = self.0.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        u64::try_from(begins).ok()
    }

    /// Whether this day has begun, in UTC.
    pub fn has_come(self, now: Now) -> bool {
        let seconds = i64::try_from(now.unix_s()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds)
            .is_ok_and(|now| jiff::tz::TimeZone::UTC.to_datetime(now).date() >= self.0)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Date(toml::value::Datetime),
            Text(String),
        }
        let text = match Written::deserialize(from) {
            Ok(Written::Date(date)) => date.to_string(),
            Ok(Written::Text(text)) => text,
            Err(_) => String::new(),
        };
        text.parse().map(Self).map_err(|_| {
            serde::de::Error::custom("this is not a day; write for example 2026-12-15")
        })
    }
}

impl JsonSchema for Day {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Day".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date", "examples": ["2026-12-15"] })
    }
}

/// Splits `"64KiB"` into 64 and `"KiB"`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a size; write for example \"512B\", \"64KiB\" or \"10MiB\"")
        };
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let factor: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a length of time; write for example \"250ms\", \"5s\", \"15m\", \"12h\" or \"30d\""
            )
        };
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(millis)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(wrong)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a rate; write for example \"10/s\", \"120/min\" or \"1000/h\"")
        };
        let (count, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let seconds = match unit {
            "/s" => 1,
            "/min" => 60,
            "/h" => 3600,
            "/d" => 86_400,
            _ => return Err(wrong()),
        };
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a network; write for example \"10.8.0.0/16\", \"2001:db8::/32\" or \"192.0.2.7\""
            )
        };
        let network = if text.contains('/') {
            text.parse::<ipnet::IpNet>().map_err(|_| wrong())?
        } else {
            ipnet::IpNet::from(text.parse::<std::net::IpAddr>().map_err(|_| wrong())?)
        };
        if network.trunc() != network {
            return Err(format!(
                "`{text}` has bits set beyond its prefix; did you mean \"{}\"?",
                network.trunc()
            ));
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >> shift > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if millis >= size && millis.is_multiple_of(size) {
                return write!(f, "{}{unit}", millis / size);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "min",
            3600 => "h",
            _ => "d",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a unit from its text, with a hint for those who wrote a bare number.
struct Written<T> {
    example: &'static str,
    made: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err = String>> serde::de::Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text with its unit, for example \"{}\"", self.example)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Gives a unit its way in from TOML and its place in the JSON Schema.
macro_rules! written {
    ($unit:ty, $name:literal, $example:literal, $pattern:literal, $description:literal) => {
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Written { example: $example, made: std::marker::PhantomData })
            }
        }

        impl JsonSchema for $unit {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "examples": [$example], "description": $description })
            }
        }
    };
}

written!(Size, "Size", "64KiB", r"^\d+ ?(B|KiB|MiB|GiB)$", "A number of bytes with its unit.");
written!(Span, "Span", "15m", r"^\d+ ?(ms|s|m|h|d)$", "A length of time with its unit.");
written!(Rate, "Rate", "120/min", r"^\d+/(s|min|h|d)$", "So many per second, minute, hour or day.");
written!(
    Network,
    "Network",
    "10.8.0.0/16",
    r"^[0-9a-fA-F:.]+(/\d+)?$",
    "A network in CIDR form, or one address."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_as_they_are_written() {
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("15m".parse(), Ok(Span(Duration::from_secs(900))));
        assert_eq!("120/min".parse(), Ok(Rate { count: 120, per: Duration::from_secs(60) }));
        for text in ["64KiB", "1GiB", "3B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["250ms", "5s", "15m", "12h", "30d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_lacks_its_unit_is_refused() {
        for text in
            ["64", "", "KiB", "64kb", "-1B", "99999999999999999999B", "18446744073709551615GiB"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!("5".parse::<Span>().is_err());
        assert!("5/year".parse::<Rate>().is_err());
    }

    #[test]
    fn a_network_must_be_cut_at_its_prefix() {
        assert!("10.8.0.1/16".parse::<Network>().unwrap_err().contains("10.8.0.0/16"));
        let network: Network = "10.8.0.0/16".parse().unwrap();
        assert!(network.contains("10.8.3.4".parse().unwrap()));
        assert!(network.contains("::ffff:10.8.3.4".parse().unwrap()));
        assert!(!network.contains("10.9.0.0".parse().unwrap()));
    }
}
