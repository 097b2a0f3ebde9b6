//! What `benches/dns.sh` compares DNS servers on: one database for all of them, the questions, and whether they agree.
//!
//! ```text
//! dns_world make DATABASE REGIONS DIR   writes into DIR: city.mmdb, questions, countries
//! dns_world agree DIR COUNT NAME=ADDRESS:PORT...
//! dns_world load DIR ADDRESS:PORT SECONDS
//! ```
//!
//! `DATABASE` is any file in MaxMind's format that has coordinates. One in a flat schema is written anew in that of MaxMind's
//! city databases, which is the one that gdnsd reads. `REGIONS` has a line
//! `name latitude longitude address` for each region. `questions` is for `dnsperf -B`: A for www.bench.test with the /24 of
//! a client out of the database. `countries` is Knot's geo table: for each country with its continent, the region nearest to
//! the middle of its places, and for each continent too.
//!
//! `load` asks as fast as it is answered, from 16 ports with 32 questions each on the way; it never sleeps, so that a server
//! pays for its own work and not for waking somebody up. It prints how many answers came, and fails if one is an error.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, reason = "a bench's tool")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    io::{BufWriter, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

mod load;

use maxminddb::{Reader, WithinOptions};
use region_config::Continent;
use serde::{Deserialize, Deserializer, de::Visitor};

/// Questions in the file.
const QUESTIONS: usize = 300_000;
/// Octets between a database's tree and its data, and before the pointers into the data (MaxMind DB 2.0).
const SEPARATOR: usize = 16;
/// Octets of a question; the last three are the client's /24.
const HEAD: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\x03www\x05bench\x04test\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x08\0\x07\0\x01\x18\0";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", database, regions, folder] => make(Path::new(database), Path::new(regions), Path::new(folder)),
        ["agree", folder, count, ref servers @ ..] => agree(Path::new(folder), count.parse().unwrap(), servers),
        ["load", folder, server, seconds] => {
            load::load(Path::new(folder), server.parse().unwrap(), Duration::from_secs(seconds.parse().unwrap()));
        }
        _ => panic!(
            "dns_world load DIR ADDRESS:PORT SECONDS | dns_world make DATABASE REGIONS DIR | dns_world agree DIR COUNT NAME=ADDRESS:PORT..."
        ),
    }
}

/// What a database says of a network, in MaxMind's schema or a flat one.
#[derive(Deserialize)]
struct Row {
    city: Option<Name>,
    state1: Option<String>,
    subdivisions: Option<Vec<Name>>,
    country: Option<Country>,
    country_code: Option<String>,
    location: Option<Location>,
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

#[derive(Deserialize)]
struct Country {
    iso_code: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Flat(String),
    Named { names: Option<BTreeMap<String, String>> },
}

impl Name {
    fn english(self) -> String {
        match self {
            Self::Flat(name) => name,
            Self::Named { names } => names.unwrap_or_default().remove("en").unwrap_or_default(),
        }
    }
}

/// Written with 32 bits or with 64.
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Degrees;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("degrees")
            }

            fn visit_f32<E>(self, degrees: f32) -> Result<Degrees, E> {
                Ok(Degrees(degrees.into()))
            }

            fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A network's place.
struct Spot {
    city: String,
    state: String,
    country: String,
    latitude: f64,
    longitude: f64,
}

impl Row {
    fn spot(self) -> Option<Spot> {
        let state = self.subdivisions.and_then(|all| all.into_iter().next()).map(Name::english).or(self.state1);
        let at = self.location.unwrap_or(Location { latitude: self.latitude, longitude: self.longitude });
        Some(Spot {
            city: self.city.map(Name::english).unwrap_or_default(),
            state: state.unwrap_or_default(),
            country: self.country.and_then(|country| country.iso_code).or(self.country_code).unwrap_or_default(),
            latitude: at.latitude?.0,
            longitude: at.longitude?.0,
        })
    }
}

fn make(database: &Path, regions: &Path, folder: &Path) {
    let bytes = fs::read(database).unwrap();
    let reader = Reader::from_source(bytes.as_slice()).unwrap();
    let all = if reader.metadata().ip_version == 4 { "0.0.0.0/0" } else { "::/0" };
    let mut spots: BTreeMap<usize, Option<Spot>> = BTreeMap::new();
    for found in reader.within(all.parse().unwrap(), WithinOptions::default()).unwrap() {
        let found = found.unwrap();
        let offset = found.offset().unwrap();
        spots.entry(offset).or_insert_with(|| found.decode::<Row>().unwrap().and_then(Row::spot));
    }
    if reader.metadata().database_type.ends_with("-City") {
        fs::write(folder.join("city.mmdb"), &bytes).unwrap();
    } else {
        let file = in_city_schema(&bytes, &reader, &spots);
        Reader::from_source(file.as_slice()).unwrap().verify().unwrap();
        fs::write(folder.join("city.mmdb"), &file).unwrap();
    }
    fs::write(folder.join("countries"), countries(&spots, &read_regions(regions))).unwrap();

    let mut out = BufWriter::new(fs::File::create(folder.join("questions")).unwrap());
    let (mut state, mut left) = (0x2545_f491_4f6c_dd1d_u64, QUESTIONS);
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [a, b, c, ..] = state.to_be_bytes();
        let found = reader.lookup(Ipv4Addr::new(a, b, c, 0).into()).unwrap();
        if found.offset().is_some_and(|offset| spots[&offset].is_some()) {
            let question = [HEAD, &[a, b, c]].concat();
            out.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
            out.write_all(&question).unwrap();
            left -= 1;
        }
    }
    out.flush().unwrap();
    println!("{} places, {} nodes, {QUESTIONS} questions", spots.len(), reader.metadata().node_count);
}

/// The same tree, with records of 32 bits, in front of the same places in the schema of a city database.
fn in_city_schema(bytes: &[u8], reader: &Reader<&[u8]>, spots: &BTreeMap<usize, Option<Spot>>) -> Vec<u8> {
    let (mut data, mut moved) = (Vec::new(), HashMap::new());
    for (old, spot) in spots {
        moved.insert(*old, data.len());
        match spot {
            Some(Spot { city, state, country, latitude, longitude }) => {
                map(&mut data, 5);
                text(&mut data, "city");
                named(&mut data, city);
                text(&mut data, "continent");
                map(&mut data, 1);
                text(&mut data, "code");
                text(&mut data, continent(country));
                text(&mut data, "country");
                map(&mut data, 1);
                text(&mut data, "iso_code");
                text(&mut data, country);
                text(&mut data, "location");
                map(&mut data, 2);
                for (name, degrees) in [("latitude", latitude), ("longitude", longitude)] {
                    text(&mut data, name);
                    data.push(3 << 5 | 8);
                    data.extend(degrees.to_be_bytes());
                }
                text(&mut data, "subdivisions");
                // an array of one; above type 7, the type is written as what it is above it
                data.extend([1, 11 - 7]);
                named(&mut data, state);
            }
            None => map(&mut data, 0),
        }
    }
    let metadata = reader.metadata();
    let nodes = usize::try_from(metadata.node_count).unwrap();
    let bits = usize::from(metadata.record_size);
    let mut file = Vec::with_capacity(nodes * 8 + data.len());
    for node in bytes.chunks_exact(bits / 4).take(nodes) {
        let [left, right] = match (bits, node) {
            (24, &[a, b, c, d, e, f]) => [[0, a, b, c], [0, d, e, f]],
            (28, &[a, b, c, m, d, e, f]) => [[m >> 4, a, b, c], [m & 15, d, e, f]],
            (32, &[a, b, c, d, e, f, g, h]) => [[a, b, c, d], [e, f, g, h]],
            _ => panic!("records of {bits} bits"),
        };
        for record in [left, right].map(|record| usize::try_from(u32::from_be_bytes(record)).unwrap()) {
            let record = match record.checked_sub(nodes) {
                None | Some(0) => record,
                Some(behind) => nodes + SEPARATOR + moved[&(behind - SEPARATOR)],
            };
            file.extend(u32::try_from(record).unwrap().to_be_bytes());
        }
    }
    file.extend([0; SEPARATOR]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    map(&mut file, 9);
    // types 5, 6 and 9 are numbers of 2, 4 and 8 octets
    let mut number = |name: &str, kind: &[u8], octets: &[u8]| {
        text(&mut file, name);
        file.extend(kind);
        file.extend(octets);
    };
    number("node_count", &[6 << 5 | 4], &metadata.node_count.to_be_bytes());
    number("record_size", &[5 << 5 | 2], &[0, 32]);
    number("ip_version", &[5 << 5 | 2], &metadata.ip_version.to_be_bytes());
    number("binary_format_major_version", &[5 << 5 | 2], &[0, 2]);
    number("binary_format_minor_version", &[5 << 5 | 2], &[0, 0]);
    number("build_epoch", &[8, 9 - 7], &metadata.build_epoch.to_be_bytes());
    number("languages", &[0, 11 - 7], &[]);
    text(&mut file, "database_type");
    text(&mut file, "GeoLite2-City");
    text(&mut file, "description");
    map(&mut file, 1);
    text(&mut file, "en");
    text(&mut file, "a bench's copy");
    file
}

fn map(out: &mut Vec<u8>, entries: u8) {
    out.push(7 << 5 | entries);
}

fn named(out: &mut Vec<u8>, name: &str) {
    map(out, 1);
    text(out, "names");
    map(out, 1);
    text(out, "en");
    text(out, name);
}

/// Of at most 284 octets: up to 28 the length stands with the type, what is above 29 in an octet of its own.
fn text(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()).unwrap() {
        length @ 0..29 => out.push(2 << 5 | length),
        length => out.extend([2 << 5 | 29, length - 29]),
    }
    out.extend(text.as_bytes());
}

struct Region {
    at: (f64, f64),
    address: String,
}

fn read_regions(file: &Path) -> Vec<Region> {
    let text = fs::read_to_string(file).unwrap();
    let region = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, latitude, longitude, address] => {
            Region { at: (latitude.parse().unwrap(), longitude.parse().unwrap()), address: address.to_owned() }
        }
        _ => panic!("expected `name latitude longitude address`, found `{line}`"),
    };
    text.lines().map(region).collect()
}

/// As databases call it; empty if it has none.
fn continent(country: &str) -> &'static str {
    let code = <[u8; 2]>::try_from(country.as_bytes()).ok();
    code.and_then(Continent::of).map_or("", Continent::as_str)
}

/// Knot's table for www.bench.test: every country, and every continent, with the region nearest to the mean of its places.
fn countries(spots: &BTreeMap<usize, Option<Spot>>, regions: &[Region]) -> String {
    let mut sums: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    for Spot { country: code, latitude, longitude, .. } in spots.values().flatten() {
        if continent(code).is_empty() {
            continue;
        }
        for key in [format!("{};{code}", continent(code)), format!("{};*", continent(code))] {
            let (north, east, count) = sums.entry(key).or_default();
            *north += latitude;
            *east += longitude;
            *count += 1.0;
        }
    }
    let mut text = String::from("www.bench.test:\n");
    for (code, (north, east, count)) in sums {
        let at = (north / count, east / count);
        let nearest = regions.iter().min_by(|a, b| apart(at, a.at).total_cmp(&apart(at, b.at))).unwrap();
        text += &format!("  - geo: \"{code}\"\n    A: {}\n", nearest.address);
    }
    text
}

/// How far two places are from each other, in radians (haversine).
fn apart(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [north_a, east_a, north_b, east_b] = [a.0, a.1, b.0, b.1].map(f64::to_radians);
    let h = ((north_b - north_a) / 2.0).sin().powi(2)
        + north_a.cos() * north_b.cos() * ((east_b - east_a) / 2.0).sin().powi(2);
    2.0 * h.sqrt().min(1.0).asin()
}

/// Asks all servers the same questions, and tells for how many each of them answers as the first one does.
fn agree(folder: &Path, count: usize, servers: &[&str]) {
    let file = fs::read(folder.join("questions")).unwrap();
    let step = 2 + HEAD.len() + 3;
    let questions: Vec<&[u8]> = file.chunks_exact(step).map(|with_length| &with_length[2..]).collect();
    let every = (questions.len() / count.max(1)).max(1);
    let asked = |server: &&str| -> Vec<Ipv4Addr> {
        let address: SocketAddr = server.split_once('=').unwrap().1.parse().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        questions.iter().step_by(every).map(|question| ask(&socket, question)).collect()
    };
    let answers: Vec<_> = servers.iter().map(asked).collect();
    for (server, theirs) in servers.iter().zip(&answers).skip(1) {
        let same = theirs.iter().zip(&answers[0]).filter(|(a, b)| a == b).count();
        let (server, first) = (server.split('=').next().unwrap(), servers[0].split('=').next().unwrap());
        println!(
            "{server} answers as {first} does: {same} of {} ({:.2} %)",
            theirs.len(),
            100.0 * same as f64 / theirs.len() as f64
        );
    }
}

/// The first address of an answer without error, whose record stands behind the question.
fn ask(socket: &UdpSocket, question: &[u8]) -> Ipv4Addr {
    let mut answer = [0; 1232];
    socket.send(question).unwrap();
    let length = socket.recv(&mut answer).unwrap();
    let answer = &answer[..length];
    assert_eq!((answer[3] & 15, answer[7]), (0, 1), "NOERROR and one answer: {answer:02x?}");
    // after the question: the owner (a pointer of two octets, or the name again), then type, class, TTL and length
    let name = HEAD[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
    let owner = 12 + name + 4;
    let data = owner + if answer[owner] >= 0xc0 { 2 } else { name } + 10;
    Ipv4Addr::from_octets(answer[data..data + 4].try_into().unwrap())
}
