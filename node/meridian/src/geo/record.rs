//! What a record of a database says, in any of the schemas that are in use.
//!
//! | schema | country | coordinates | AS number |
//! |---|---|---|---|
//! | MaxMind City, Country, Enterprise, ASN | `country.iso_code` | `location.latitude`, `.longitude`, `.accuracy_radius` | `autonomous_system_number`, `traits.autonomous_system_number` |
//! | flat: ip-location-db, DB-IP, IPinfo | `country_code` or `country` | `latitude`, `longitude` | `autonomous_system_number` or `asn` |
//!
//! `country` is used, not `registered_country`: that is where the holder is, not where the address is.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A record, as far as it is of use here. Every other field is read over, and must be sound all the same.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Record {
    #[serde(default)]
    country: Option<Country>,
    #[serde(default)]
    country_code: Option<Code>,
    #[serde(default)]
    location: Option<Spot>,
    #[serde(default)]
    latitude: Option<Degrees>,
    #[serde(default)]
    longitude: Option<Degrees>,
    #[serde(default)]
    autonomous_system_number: Option<Asn>,
    #[serde(default)]
    asn: Option<Asn>,
    #[serde(default)]
    traits: Option<Traits>,
}

#[derive(Debug, Default, Deserialize)]
struct Spot {
    #[serde(default)]
    latitude: Option<Degrees>,
    #[serde(default)]
    longitude: Option<Degrees>,
    #[serde(default)]
    accuracy_radius: Option<Whole>,
}

#[derive(Debug, Default, Deserialize)]
struct Traits {
    #[serde(default)]
    autonomous_system_number: Option<Asn>,
}

impl Record {
    /// ISO 3166-1 alpha-2, upper case.
    pub(super) fn country(&self) -> Option<[u8; 2]> {
        let nested = self.country.as_ref().and_then(|Country(code)| *code);
        nested.or_else(|| self.country_code.as_ref().and_then(|Code(code)| *code))
    }

    /// Degrees north and east, if they are on the Earth and not the origin, which stands for "unknown".
    pub(super) fn degrees(&self) -> Option<[f64; 2]> {
        let nested = self.location.as_ref().and_then(|spot| both(spot.latitude.as_ref(), spot.longitude.as_ref()));
        nested.or_else(|| both(self.latitude.as_ref(), self.longitude.as_ref()))
    }

    /// How far from there it may be, in kilometres.
    pub(super) fn accuracy_km(&self) -> Option<u16> {
        u16::try_from(self.location.as_ref()?.accuracy_radius.as_ref()?.0).ok()
    }

    /// Number of the autonomous system; 0 is none (RFC 7607).
    pub(super) fn asn(&self) -> Option<u32> {
        let traits = self.traits.as_ref().and_then(|traits| traits.autonomous_system_number.as_ref());
        let written = self.autonomous_system_number.as_ref().or(self.asn.as_ref()).or(traits);
        written.and_then(|Asn(number)| *number).filter(|number| *number > 0)
    }
}

fn both(north: Option<&Degrees>, east: Option<&Degrees>) -> Option<[f64; 2]> {
    let degrees = [north?.0, east?.0];
    let [north, east] = degrees;
    let earthly = (-90.0..=90.0).contains(&north) && (-180.0..=180.0).contains(&east);
    (earthly && degrees != [0.0, 0.0]).then_some(degrees)
}

fn code(text: &str) -> Option<[u8; 2]> {
    let code: [u8; 2] = text.as_bytes().try_into().ok()?;
    code.iter().all(u8::is_ascii_alphabetic).then(|| code.map(|letter| letter.to_ascii_uppercase()))
}

/// A country's code, where a text stands for it; what is no code counts as unknown.
#[derive(Debug)]
struct Code(Option<[u8; 2]>);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Code;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the code of a country")
            }

            fn visit_str<E>(self, text: &str) -> Result<Code, E> {
                Ok(Code(code(text)))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// A country: a map with `iso_code` in MaxMind's schema, a code in others.
#[derive(Debug)]
struct Country(Option<[u8; 2]>);

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default)]
            iso_code: Option<Code>,
        }

        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Country;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a country: its code, or a map with `iso_code`")
            }

            fn visit_str<E>(self, text: &str) -> Result<Country, E> {
                Ok(Country(code(text)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Country, A::Error> {
                let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Country(fields.iso_code.and_then(|Code(code)| code)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A number of degrees: MaxMind writes doubles, ip-location-db floats, others text.
#[derive(Debug)]
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = Degrees;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of degrees")
            }

            fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Degrees, E> {
                let number = text.trim().parse();
                number.map(Degrees).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// A whole number of any width.
#[derive(Debug)]
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// The number of an autonomous system, as a number or as text (`AS64496`); text without one counts as unknown.
#[derive(Debug)]
struct Asn(Option<u32>);

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = Asn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of an autonomous system")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Asn, E> {
                Ok(Asn(u32::try_from(number).ok()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Asn, E> {
                let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
                Ok(Asn(digits.parse().ok()))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[allow(clippy::type_complexity, reason = "all that a record says")]
    fn check(json: &str, expected: (Option<&[u8; 2]>, Option<[f64; 2]>, Option<u32>)) {
        let record: Record = serde_json::from_str(json).unwrap();
        let found = (record.country(), record.degrees(), record.asn());
        assert_eq!(found, (expected.0.copied(), expected.1, expected.2), "{json}");
    }

    #[test]
    fn every_schema_says_the_same() {
        let point = Some([50.5, 8.25]);
        check(
            r#"{"country":{"iso_code":"DE","names":{"de":"D"}},"location":{"latitude":50.5,"longitude":8.25,"time_zone":"x"}}"#,
            (Some(b"DE"), point, None),
        );
        check(r#"{"country":{"iso_code":"DE"},"registered_country":{"iso_code":"FR"}}"#, (Some(b"DE"), None, None));
        check(r#"{"registered_country":{"iso_code":"FR"}}"#, (None, None, None));
        check(r#"{"country_code":"de","latitude":50.5,"longitude":8.25,"city":"a"}"#, (Some(b"DE"), point, None));
        check(
            r#"{"country":"DE","lat":"1","latitude":"50.5","longitude":"8.25","asn":"AS64496"}"#,
            (Some(b"DE"), point, Some(64496)),
        );
        check(r#"{"autonomous_system_number":64496,"autonomous_system_organization":"a"}"#, (None, None, Some(64496)));
        check(r#"{"traits":{"autonomous_system_number":64496,"is_anycast":true}}"#, (None, None, Some(64496)));
    }

    #[test]
    fn what_stands_for_unknown_is_unknown() {
        check(r#"{"country_code":"","latitude":0.0,"longitude":0.0,"asn":""}"#, (None, None, None));
        check(r#"{"country_code":"EUR","latitude":91.5,"longitude":0.0,"asn":0}"#, (None, None, None));
        check(r#"{"latitude":1.5}"#, (None, None, None));
        check("{}", (None, None, None));
    }

    #[test]
    fn a_field_of_another_kind_is_a_fault() {
        for json in [r#"{"country":5}"#, r#"{"country_code":{}}"#, r#"{"latitude":"north"}"#, r#"{"asn":[1]}"#] {
            assert!(serde_json::from_str::<Record>(json).is_err(), "{json}");
        }
    }
}
