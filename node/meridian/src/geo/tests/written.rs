//! Writes databases in MaxMind's format, for tests: <https://maxmind.github.io/MaxMind-DB/>.
#![allow(dead_code, clippy::unwrap_used, reason = "tests of more than one crate use this file, each a part of it")]

use std::{collections::HashMap, net::IpAddr};

/// A value in a record.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Double(f64),
    Float(f32),
    Number(u32),
    Map(Vec<(&'static str, Value)>),
}

/// A database to be written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) kind: &'static str,
    pub(crate) built_unix_s: u64,
    /// 4 or 6; in a database for 6, IPv4 is at `::/96`.
    pub(crate) ip_version: u16,
    /// MaxMind's files have one; those of ip-location-db have not.
    pub(crate) described: bool,
    networks: Vec<(u128, u32, usize)>,
    records: Vec<u8>,
    known: HashMap<Vec<u8>, usize>,
}

impl Written {
    pub(crate) fn new(kind: &'static str, ip_version: u16, built_unix_s: u64) -> Self {
        let (networks, records, known) = (Vec::new(), Vec::new(), HashMap::new());
        Self { kind, built_unix_s, ip_version, described: true, networks, records, known }
    }

    /// Adds a network, such as `192.0.2.0/24`. Networks must not overlap.
    pub(crate) fn add(&mut self, network: &str, record: &Value) {
        let (address, length) = network.split_once('/').unwrap();
        let (address, length): (IpAddr, u32) = (address.parse().unwrap(), length.parse().unwrap());
        let mut bytes = Vec::new();
        encode(record, &mut bytes);
        let at = *self.known.entry(bytes).or_insert_with_key(|bytes| {
            let at = self.records.len();
            self.records.extend(bytes);
            at
        });
        // the bits in front, in a word of 128
        let (bits, length) = match (address, self.ip_version) {
            (IpAddr::V4(v4), 4) => (u128::from(v4.to_bits()) << 96, length),
            (IpAddr::V4(v4), _) => (u128::from(v4.to_bits()), length + 96),
            (IpAddr::V6(v6), _) => (v6.to_bits(), length),
        };
        self.networks.push((bits, length, at));
    }

    /// MaxMind's City schema.
    pub(crate) fn add_city(&mut self, network: &str, country: &str, [north, east]: [f64; 2]) {
        let location = Value::Map(vec![
            ("accuracy_radius", Value::Number(50)),
            ("latitude", Value::Double(north)),
            ("longitude", Value::Double(east)),
        ]);
        let country = Value::Map(vec![("iso_code", Value::Text(country.to_owned()))]);
        // not where the address is: must make no difference
        let registered = Value::Map(vec![("iso_code", Value::Text("AQ".to_owned()))]);
        self.add(
            network,
            &Value::Map(vec![("country", country), ("location", location), ("registered_country", registered)]),
        );
    }

    /// The City schema of ip-location-db.
    pub(crate) fn add_flat(&mut self, network: &str, country: &str, [north, east]: [f32; 2]) {
        let fields = vec![
            ("city", Value::Text("Somewhere".to_owned())),
            ("country_code", Value::Text(country.to_owned())),
            ("latitude", Value::Float(north)),
            ("longitude", Value::Float(east)),
        ];
        self.add(network, &Value::Map(fields));
    }

    /// MaxMind's ASN schema, which is also that of ip-location-db.
    pub(crate) fn add_asn(&mut self, network: &str, asn: u32) {
        let name = Value::Text(format!("Network {asn}"));
        let fields = vec![("autonomous_system_number", Value::Number(asn)), ("autonomous_system_organization", name)];
        self.add(network, &Value::Map(fields));
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        const NONE: usize = usize::MAX;
        /// Marks a leaf: the rest is where its record stands.
        const LEAF: usize = 1 << 48;
        let mut nodes = vec![[NONE; 2]];
        for (bits, length, at) in &self.networks {
            let mut node = 0;
            for depth in 0..*length {
                let side = usize::from(bits >> (127 - depth) & 1 == 1);
                if depth + 1 == *length {
                    nodes[node][side] = LEAF | at;
                } else {
                    if nodes[node][side] == NONE {
                        nodes[node][side] = nodes.len();
                        nodes.push([NONE; 2]);
                    }
                    node = nodes[node][side];
                    assert!(node & LEAF == 0, "networks overlap");
                }
            }
        }
        let count = nodes.len();
        let mut bytes = Vec::new();
        for record in nodes.iter().flatten() {
            let value = match *record {
                NONE => count,
                leaf if leaf & LEAF != 0 => count + 16 + (leaf & !LEAF),
                node => node,
            };
            bytes.extend(u32::try_from(value).unwrap().to_be_bytes());
        }
        bytes.extend([0; 16]);
        bytes.extend(&self.records);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        self.metadata(count, &mut bytes);
        bytes
    }

    fn metadata(&self, nodes: usize, bytes: &mut Vec<u8>) {
        let text = |text: &str| Value::Text(text.to_owned());
        head(7, 9, bytes);
        for (key, number) in [
            ("binary_format_major_version", 2),
            ("binary_format_minor_version", 0),
            ("ip_version", u32::from(self.ip_version)),
            ("node_count", u32::try_from(nodes).unwrap()),
            ("record_size", 32),
        ] {
            encode(&text(key), bytes);
            // of these, only the number of nodes may have more than 16 bits
            let kind = if key == "node_count" { 6 } else { 5 };
            head(kind, 4 - usize::from(kind == 5) * 2, bytes);
            bytes.extend(&number.to_be_bytes()[usize::from(kind == 5) * 2..]);
        }
        encode(&text("build_epoch"), bytes);
        head(9, 8, bytes);
        bytes.extend(self.built_unix_s.to_be_bytes());
        encode(&text("database_type"), bytes);
        encode(&text(self.kind), bytes);
        encode(&text("description"), bytes);
        let description = if self.described { vec![("en", text("made by a test"))] } else { Vec::new() };
        encode(&Value::Map(description), bytes);
        encode(&text("languages"), bytes);
        head(11, 0, bytes);
    }
}

fn encode(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            head(2, text.len(), bytes);
            bytes.extend(text.as_bytes());
        }
        Value::Double(number) => {
            head(3, 8, bytes);
            bytes.extend(number.to_be_bytes());
        }
        Value::Float(number) => {
            head(15, 4, bytes);
            bytes.extend(number.to_be_bytes());
        }
        Value::Number(number) => {
            head(6, 4, bytes);
            bytes.extend(number.to_be_bytes());
        }
        Value::Map(fields) => {
            head(7, fields.len(), bytes);
            for (key, value) in fields {
                encode(&Value::Text((*key).to_owned()), bytes);
                encode(value, bytes);
            }
        }
    }
}

/// Type and size in front of a value.
fn head(kind: u8, size: usize, bytes: &mut Vec<u8>) {
    let (size, more) = if size < 29 { (u8::try_from(size).unwrap(), None) } else { (29, Some(size - 29)) };
    if kind < 8 {
        bytes.push(kind << 5 | size);
    } else {
        bytes.extend([size, kind - 7]);
    }
    bytes.extend(more.map(|more| u8::try_from(more).unwrap()));
}
