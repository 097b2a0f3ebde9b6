#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::atomic::Ordering;

use http::{HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*, string::string_regex};

use super::*;

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    encode(entry, &mut out).unwrap();
    assert_eq!(out.len(), encoded_bytes(entry), "the length is known beforehand");
    out
}

/// Every part that is kept; `verified` is not.
fn same(one: &Entry, other: &Entry) -> bool {
    match (one, other) {
        (Entry::Object(one), Entry::Object(other)) => {
            one.status == other.status
                && one.headers == other.headers
                && one.freshness == other.freshness
                && one.stamp == other.stamp
                && one.purge_keys == other.purge_keys
                && one.body == other.body
                && one.site == other.site
        }
        (Entry::Vary(one), Entry::Vary(other)) => one == other,
        (Entry::Search(one), Entry::Search(other)) => one == other,
        (
            Entry::HitForMiss { until_unix_ms: one, reason: why },
            Entry::HitForMiss { until_unix_ms: other, reason: because },
        ) => one == other && why == because,
        (Entry::Chunk(one), Entry::Chunk(other)) => one == other,
        _ => false,
    }
}

fn freshness() -> impl Strategy<Value = Freshness> {
    (any::<u32>(), any::<u64>(), any::<u32>(), option::of(any::<u32>()), any::<bool>(), any::<bool>()).prop_map(
        |(lifetime_s, age_zero_unix_ms, stale_while_revalidate_s, stale_if_error_s, must, always)| Freshness {
            lifetime_s,
            age_zero_unix_ms,
            stale_while_revalidate_s,
            stale_if_error_s,
            must_revalidate: must,
            always_revalidate: always,
        },
    )
}

fn name() -> impl Strategy<Value = HeaderName> {
    string_regex("[a-z][a-z0-9-]{0,30}").unwrap().prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let value = string_regex("[ -~\u{80}-\u{ff}]{0,80}").unwrap();
    vec((name(), value), 0..20).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        vec(any::<u8>(), 0..2000).prop_map(|bytes| Body::Inline(bytes.into())),
        (any::<u128>(), 0..u64::MAX >> 32, 1..=CHUNK_BYTES_MAX).prop_map(|(id, length, chunk_bytes)| Body::Chunked {
            id: BodyId(id),
            length,
            chunk_bytes
        }),
    ]
}

fn object() -> impl Strategy<Value = Object> {
    (
        100..=999u16,
        headers(),
        freshness(),
        any::<u64>(),
        vec(any::<u64>(), 0..40),
        any::<u128>(),
        body(),
        "[a-z0-9]{1,63}",
    )
        .prop_map(|(status, headers, freshness, stamp, keys, made, body, site)| Object {
            made: BodyId(made),
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            freshness,
            stamp: Position(stamp),
            verified: AtomicU64::new(stamp),
            confirmed_ms: 0,
            purge_keys: keys.into(),
            body,
            site: SiteId::parse(&site).unwrap(),
        })
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        4 => object().prop_map(|object| Entry::Object(Arc::new(object))),
        1 => (vec(vec(name(), 0..6), 0..=VARY_SPECS_MAX), vec(any::<u128>(), 0..9)).prop_map(|(specs, keys)| {
            let specs = specs.into_iter().map(|names| VarySpec(names.into())).collect();
            Entry::Vary(Arc::new(VaryIndex { specs, variants: keys.into_iter().map(Key).collect() }))
        }),
        1 => vec("[a-z&= ]{1,9}", 0..=SEARCH_VARIANCES_MAX).prop_map(|names| {
            let variance = |name| SearchVariance::parse(format!("key-order, params=(\"{name}\")").as_bytes());
            Entry::Search(Arc::new(SearchIndex { variances: names.iter().filter_map(variance).collect() }))
        }),
        1 => (any::<u64>(), any::<u16>()).prop_map(|(until_unix_ms, reason)| Entry::HitForMiss { until_unix_ms, reason }),
        1 => vec(any::<u8>(), 0..3000).prop_map(|bytes| Entry::Chunk(bytes.into())),
    ]
}

/// Bytes whose head and checksum are right, so that the parts behind them are reached.
fn sealed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 14).unwrap();
    let mut out = vec![2, kind];
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(payload);
    let checksum = twox_hash::XxHash3_64::oneshot(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

proptest! {
    #[test]
    fn an_entry_comes_back_as_it_was(entry in entry()) {
        let bytes = encoded(&entry);
        let copied = decode(&bytes).unwrap();
        prop_assert!(same(&entry, &copied));
        prop_assert!(same(&entry, &decode_shared(&Bytes::from(bytes.clone())).unwrap()));
        prop_assert_eq!(encoded(&copied), bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..4000)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn arbitrary_payloads_under_a_right_checksum_never_panic(kind in 0..6u8, payload in vec(any::<u8>(), 0..4000)) {
        let _ = decode(&sealed(kind, &payload));
    }

    #[test]
    fn a_changed_payload_under_a_right_checksum_never_panics(entry in entry(), at in any::<prop::sample::Index>(), to: u8) {
        let bytes = encoded(&entry);
        let mut payload = bytes[6..bytes.len() - 8].to_vec();
        *at.get_mut(&mut payload) = to;
        if let Ok(entry) = decode(&sealed(bytes[1], &payload)) {
            let mut out = Vec::new();
            prop_assert!(encode(&entry, &mut out).is_ok(), "what is read can be written");
        }
    }

    #[test]
    fn every_cut_is_a_fault(entry in entry(), at in any::<prop::sample::Index>()) {
        let bytes = encoded(&entry);
        prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
    }
}

fn samples() -> Vec<Entry> {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("text/plain"));
    headers.append("x-tag", HeaderValue::from_static("one"));
    headers.append("x-tag", HeaderValue::from_static("two"));
    let object = |body| Object {
        made: BodyId(3),
        status: StatusCode::OK,
        headers: headers.clone(),
        freshness: Freshness {
            lifetime_s: 60,
            age_zero_unix_ms: 1_700_000_000_000,
            stale_while_revalidate_s: 5,
            stale_if_error_s: Some(0),
            must_revalidate: true,
            always_revalidate: false,
        },
        stamp: Position(1 << 40 | 7),
        verified: AtomicU64::new(u64::MAX),
        confirmed_ms: 0,
        purge_keys: vec![1, 2, 3].into(),
        body,
        site: SiteId::parse("shop").unwrap(),
    };
    let chunked = Body::Chunked { id: BodyId(5), length: 1 << 30, chunk_bytes: CHUNK_BYTES };
    vec![
        Entry::Object(Arc::new(object(Body::Inline(Bytes::from_static(b"hello, world"))))),
        Entry::Object(Arc::new(object(chunked))),
        Entry::Vary(Arc::new(VaryIndex {
            specs: vec![VarySpec(vec![http::header::ACCEPT_ENCODING].into())],
            variants: vec![Key(7), Key(u128::MAX)],
        })),
        Entry::Search(Arc::new(SearchIndex {
            variances: SearchVariance::parse(b"key-order, except=(\"id\")").into_iter().collect(),
        })),
        Entry::HitForMiss { until_unix_ms: 12, reason: 3 },
        Entry::Chunk(Bytes::from_static(b"some bytes of a body")),
    ]
}

#[test]
fn every_flipped_bit_is_a_fault() {
    for entry in samples() {
        let bytes = encoded(&entry);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit} of {entry:?}");
        }
    }
}

#[test]
fn another_version_is_a_fault() {
    let mut bytes = encoded(&Entry::Chunk(Bytes::from_static(b"x")));
    bytes[0] = 1;
    assert_eq!(decode(&bytes).unwrap_err(), EntryFault::Format(1));
}

#[test]
fn one_byte_too_many_is_a_fault() {
    for entry in samples() {
        let mut bytes = encoded(&entry);
        bytes.push(0);
        assert!(decode(&bytes).is_err());
    }
}

#[test]
fn what_is_verified_begins_again_at_the_stamp() {
    let entry = samples().remove(0);
    let Entry::Object(object) = decode(&encoded(&entry)).unwrap() else { panic!("an object") };
    assert_eq!(object.verified.load(Ordering::Relaxed), object.stamp.0);
}

#[test]
fn what_is_over_a_limit_is_refused_and_leaves_nothing_behind() {
    let Entry::Object(object) = samples().remove(0) else { panic!("an object") };
    let base = || object.freshened(object.headers.clone(), object.freshness, object.stamp);
    let too_large = Bytes::from(vec![0; INLINE_BYTES_MAX + 1]);
    let mut many_fields = HeaderMap::new();
    for _ in 0..=FIELDS_MAX {
        many_fields.append("x", HeaderValue::from_static("y"));
    }
    let objects = [
        Object { body: Body::Inline(too_large), ..base() },
        Object { headers: many_fields, ..base() },
        Object { purge_keys: vec![0; PURGE_KEYS_MAX + 1].into(), ..base() },
        Object { body: Body::Chunked { id: BodyId(0), length: 1, chunk_bytes: 0 }, ..base() },
        Object { body: Body::Chunked { id: BodyId(0), length: u64::MAX, chunk_bytes: 1 }, ..base() },
    ];
    let specs = vec![VarySpec(Box::default()); VARY_SPECS_MAX + 1];
    let others = [
        Entry::Vary(Arc::new(VaryIndex { specs, variants: Vec::new() })),
        Entry::Chunk(Bytes::from(vec![0; CHUNK_BYTES_MAX as usize + 1])),
    ];
    for entry in objects.map(|object| Entry::Object(Arc::new(object))).into_iter().chain(others) {
        let mut out = b"before".to_vec();
        assert!(matches!(encode(&entry, &mut out), Err(EntryFault::Limit(_))), "{entry:?}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn the_largest_object_fits_the_largest_entry() {
    let Entry::Object(object) = samples().remove(0) else { panic!("an object") };
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes(&[b'v'; 60_000]).unwrap();
    for _ in 0..8 {
        headers.append("x", value.clone());
    }
    let object = Object {
        made: BodyId(3),
        headers,
        body: Body::Inline(Bytes::from(vec![1; INLINE_BYTES_MAX])),
        purge_keys: vec![9; PURGE_KEYS_MAX].into(),
        ..object.freshened(HeaderMap::new(), object.freshness, object.stamp)
    };
    let entry = Entry::Object(Arc::new(object));
    assert!(same(&entry, &decode(&encoded(&entry)).unwrap()));
}

#[test]
fn a_decoded_body_shares_the_bytes_it_came_from() {
    let bytes = Bytes::from(encoded(&Entry::Chunk(Bytes::from(vec![7; 1000]))));
    let Entry::Chunk(chunk) = decode_shared(&bytes).unwrap() else { panic!("a chunk") };
    assert!(bytes.as_ptr_range().contains(&chunk.as_ptr()));
}

#[test]
fn debug_output_carries_no_data_of_a_site() {
    for entry in samples() {
        let text = format!("{entry:?}");
        assert!(!text.contains("hello") && !text.contains("text/plain") && !text.contains("shop"), "{text}");
    }
}
