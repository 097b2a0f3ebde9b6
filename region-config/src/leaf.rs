//! The smallest things an operator writes: names, addresses, countries, times, sizes, numbers.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use toml::{Spanned, de::DeValue};

use crate::{
    config::{CacheMode, Class, MisroutedTls, OriginProtocol, Portion, StatusFor, Verb},
    country::{self, Preset},
    ids::{JurisdictionId, NodeId, RealmId, RegionId, SiteId, TenantId, TokenId},
    shape::{Reader, Shape, Text, listed, nearest},
};

/// Longest path or target that is taken.
pub(crate) const PATH_BYTES_MAX: usize = 4096;

const NAME: &str = "a name: 1 to 63 characters of `a-z`, `0-9` and `-`, with a letter or digit at both ends";

macro_rules! names {
    ($($id:ident),+) => {$(
        impl Text for $id {
            fn expected() -> String {
                NAME.to_owned()
            }

            fn parse(text: &str) -> Result<Self, String> {
                $id::parse(text).map_err(|_| match text.to_ascii_lowercase().replace(['_', '.', ' '], "-") {
                    near if $id::parse(&near).is_ok() => format!("for example `{near}`"),
                    _ => String::new(),
                })
            }

            fn schema() -> Value {
                json!({ "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" })
            }
        }
    )+};
}
names!(NodeId, RegionId, JurisdictionId, TenantId, SiteId, RealmId, TokenId);

/// A closed set of words.
macro_rules! words {
    ($shape:ty, $($word:literal => $value:expr),+ $(,)?) => {
        impl Text for $shape {
            fn expected() -> String {
                listed(&[$($word),+])
            }

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)+
                    other => Err(nearest(other, [$($word),+]).map_or_else(String::new, |near| format!("did you mean `{near}`?"))),
                }
            }

            fn schema() -> Value {
                json!({ "enum": [$($word),+] })
            }
        }
    };
}
pub(crate) use words;
words!(CacheMode, "origin" => Self::Origin, "off" => Self::Off);
words!(Class, "static" => Self::Static, "standard" => Self::Standard, "tight" => Self::Tight, "live" => Self::Live);
words!(OriginProtocol, "http1" => Self::Http1, "http2" => Self::Http2, "auto" => Self::Auto);
words!(StatusFor, "always" => Self::All, "debug" => Self::Holders);
words!(MisroutedTls, "refuse" => Self::Refuse, "relay" => Self::Relay);
words!(Verb, "purge" => Self::Purge, "purge-everything" => Self::PurgeEverything, "read" => Self::Read);
words!(Preset, "EU" => Self::Eu, "EEA" => Self::Eea);

/// Text that is not looked into, but is not empty either.
#[derive(Debug, Clone)]
pub(crate) struct Words(pub(crate) String);

impl Text for Words {
    fn expected() -> String {
        "a name of 1 to 80 printable characters".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fits = (1..=80).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}

/// A header field's name: lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FieldName(pub(crate) String);

impl Text for FieldName {
    fn expected() -> String {
        "the name of a header field, such as \"x-plan\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        if name == DEBUG_FIELD {
            return Err("debug tokens are for the nodes alone, and in no key".to_owned());
        }
        if is_token(text) { Ok(Self(name)) } else { Err(String::new()) }
    }
}

/// The field that debug tokens come in.
const DEBUG_FIELD: &str = "x-meridian-debug";

/// A cookie's name; letter case counts (RFC 6265 section 4.1.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CookieName(pub(crate) String);

impl Text for CookieName {
    fn expected() -> String {
        "the name of a cookie, such as \"plan\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if is_token(text) { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}

/// RFC 9110 section 5.6.2, of at most 64 characters.
fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(token)
}

/// A query parameter's name, decoded, or the beginning of one and `*`; letter case counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueryName(pub(crate) String);

impl Text for QueryName {
    fn expected() -> String {
        "the name of a query parameter, such as \"page\", or the beginning of names, such as \"utm_*\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.strip_suffix('*').unwrap_or(text);
        if bare.contains('*') {
            return Err("`*` stands only at the end".to_owned());
        }
        if text.contains(['&', '=', '?', '#']) {
            return Err("the bare name, without `?`, `&` and `=`".to_owned());
        }
        let fits = (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}

/// A language: a tag without extensions (RFC 5646), lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Language(pub(crate) String);

impl Text for Language {
    fn expected() -> String {
        "a language, such as \"de\" or \"pt-BR\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut subtags = text.split('-');
        let first =
            subtags.next().is_some_and(|it| (2..=8).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_alphabetic()));
        let rest = subtags.all(|it| (2..=8).contains(&it.len()) && it.bytes().all(|b| b.is_ascii_alphanumeric()));
        if first && rest && text.len() <= 35 { Ok(Self(text.to_ascii_lowercase())) } else { Err(String::new()) }
    }
}

/// A file or folder; relative to the folder of the file it is written in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilePath(pub(crate) String);

impl std::fmt::Display for FilePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for FilePath {
    fn expected() -> String {
        "a path, relative to the folder of this file or absolute".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fits = (1..=PATH_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
        if fits { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}

impl Text for SocketAddr {
    fn expected() -> String {
        "an IP address and a port, such as \"0.0.0.0:80\" or \"[::]:80\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| match text {
            bare if bare.parse::<IpAddr>().is_ok() => "the port is missing".to_owned(),
            port if port.starts_with(':') && format!("0.0.0.0{port}").parse::<Self>().is_ok() => {
                format!("for every address: \"0.0.0.0{port}\"")
            }
            name if name.starts_with("localhost:") => name.replacen("localhost", "for example 127.0.0.1", 1),
            _ => String::new(),
        })
    }
}

impl Text for IpAddr {
    fn expected() -> String {
        "an IP address, such as \"192.0.2.1\" or \"2001:db8::1\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }
}

/// A country: ISO 3166-1 alpha-2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Country(pub(crate) [u8; 2]);

impl Text for Country {
    fn expected() -> String {
        "a country's two letters (ISO 3166-1), such as \"DE\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let known = |text: &str| country::known(text).map(Self);
        known(text).ok_or_else(|| match text.to_ascii_uppercase() {
            upper if known(&upper).is_some() => format!("did you mean `{upper}`?"),
            upper if upper == "UK" => "did you mean `GB`?".to_owned(),
            upper if upper == "EU" || upper == "EEA" => format!("did you mean `preset = \"{upper}\"`?"),
            _ => String::new(),
        })
    }

    fn schema() -> Value {
        json!({ "pattern": "^[A-Z]{2}$" })
    }
}

/// A time in ms, from `LEAST` to `MOST`: a number and a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time<const LEAST: u64, const MOST: u64>(pub(crate) u64);

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl<const LEAST: u64, const MOST: u64> Time<LEAST, MOST> {
    /// In whole seconds.
    pub(crate) fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }
}

impl<const LEAST: u64, const MOST: u64> Text for Time<LEAST, MOST> {
    fn expected() -> String {
        format!("a time from \"{}\" to \"{}\"", time_text(LEAST), time_text(MOST))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let ms = quantity(text, &TIME_UNITS).ok_or_else(|| "units are ms, s, m, h and d".to_owned())?;
        if (LEAST..=MOST).contains(&ms) { Ok(Self(ms)) } else { Err(String::new()) }
    }

    fn schema() -> Value {
        json!({ "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

/// A size in bytes, from `LEAST` to `MOST`: a number and a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size<const LEAST: u64, const MOST: u64>(pub(crate) u64);

const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl<const LEAST: u64, const MOST: u64> Text for Size<LEAST, MOST> {
    fn expected() -> String {
        format!("a size from \"{}\" to \"{}\"", size_text(LEAST), size_text(MOST))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let bytes = quantity(text, &SIZE_UNITS).ok_or_else(|| "units are B, KiB, MiB, GiB and TiB".to_owned())?;
        if (LEAST..=MOST).contains(&bytes) { Ok(Self(bytes)) } else { Err(String::new()) }
    }

    fn schema() -> Value {
        json!({ "pattern": "^([0-9]+(B|KiB|MiB|GiB|TiB)|0)$" })
    }
}

/// A part of a node's cache, in percent or as a size.
impl Text for Portion {
    fn expected() -> String {
        "a part such as \"25%\", at most \"100%\", or a size such as \"4GiB\"".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.trim_end().parse::<u8>().ok().filter(|it| *it <= 100);
            return percent.map(Self::Percent).ok_or_else(|| "whole percents from 0 to 100".to_owned());
        }
        let bytes = quantity(text, &SIZE_UNITS);
        bytes.map(Self::Bytes).ok_or_else(|| "units are %, B, KiB, MiB, GiB and TiB".to_owned())
    }

    fn schema() -> Value {
        json!({ "pattern": "^([0-9]+(%|B|KiB|MiB|GiB|TiB)|0)$" })
    }
}

/// A whole number and a unit, multiplied; `0` needs no unit.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (text.get(..digits)?, text.get(digits..)?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn time_text(ms: u64) -> String {
    quantity_text(ms, &TIME_UNITS)
}

fn size_text(bytes: u64) -> String {
    quantity_text(bytes, &SIZE_UNITS)
}

/// The shortest way to write a quantity exactly.
fn quantity_text(amount: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().rev().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    fitting.map_or_else(|| amount.to_string(), |(unit, factor)| format!("{}{unit}", amount / factor))
}

/// A whole number from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<const LEAST: u64, const MOST: u64>(pub(crate) u64);

impl<const LEAST: u64, const MOST: u64> Whole<LEAST, MOST> {
    pub(crate) fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(crate) fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<const LEAST: u64, const MOST: u64> Shape for Whole<LEAST, MOST> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = value.get_ref().as_integer().and_then(|it| u64::from_str_radix(it.as_str(), it.radix()).ok());
        let read = number.filter(|number| (LEAST..=MOST).contains(number)).map(Self);
        if read.is_none() {
            reader.unexpected(value, &format!("a whole number from {LEAST} to {MOST}"), None);
        }
        read
    }

    fn schema() -> Value {
        json!({
            "type": "integer", "minimum": LEAST, "maximum": MOST,
            "description": format!("a whole number from {LEAST} to {MOST}"),
        })
    }
}

/// A share from 1 to 100 percent, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percent(pub(crate) Option<u32>);

const PERCENT: &str = "a whole number from 1 to 100, or \"off\"";

impl Shape for Percent {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        if value.get_ref().as_str() == Some("off") {
            return Some(Self(None));
        }
        let number = value.get_ref().as_integer().and_then(|it| u32::from_str_radix(it.as_str(), it.radix()).ok());
        let read = number.filter(|number| (1..=100).contains(number)).map(|number| Self(Some(number)));
        if read.is_none() {
            reader.unexpected(value, PERCENT, None);
        }
        read
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 100 }, { "const": "off" }], "description": PERCENT })
    }
}

/// Degrees from `-MOST` to `MOST`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Degrees<const MOST: u32>(pub(crate) f64);

impl<const MOST: u32> Shape for Degrees<MOST> {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Float(it) => it.as_str().parse::<f64>().ok(),
            DeValue::Integer(it) => i32::from_str_radix(it.as_str(), it.radix()).ok().map(f64::from),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                None
            }
        };
        let read = number.filter(|it| it.abs() <= f64::from(MOST)).map(Self);
        if read.is_none() {
            reader.unexpected(value, &format!("degrees from -{MOST} to {MOST}"), None);
        }
        read
    }

    fn schema() -> Value {
        let most = i64::from(MOST);
        json!({ "type": "number", "minimum": -most, "maximum": most, "description": format!("degrees from -{MOST} to {MOST}") })
    }
}

impl Shape for bool {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let read = value.get_ref().as_bool();
        if read.is_none() {
            reader.unexpected(value, "`true` or `false`", None);
        }
        read
    }

    fn schema() -> Value {
        json!({ "type": "boolean", "description": "`true` or `false`" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_a_unit_and_do_not_overflow() {
        assert_eq!(quantity("30s", &TIME_UNITS), Some(30_000));
        assert_eq!(quantity("256 MiB", &SIZE_UNITS), Some(256 << 20));
        assert_eq!(quantity("0", &SIZE_UNITS), Some(0));
        for bad in ["", "30", "s", "-1s", "1.5s", "30sec", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(quantity(bad, &TIME_UNITS), None, "{bad}");
        }
        assert_eq!((time_text(90_000), time_text(0), size_text(3 << 29)), ("90s".into(), "0".into(), "1536MiB".into()));
    }
}
