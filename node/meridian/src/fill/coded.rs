//! Codes a body once for all who want it so: the coder is a reader of the stored or arriving body, and a fill of its own
//! to its readers. Coding keeps a processor busy, so that it happens on other threads than those that serve.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use rules::{
    caching::{Freshness, coding::Coding},
    key::{BodyId, Key},
    purge::Position,
};
use wire::entry::{Entry, Object};

use super::{
    flight::Flight,
    keeper::{Collector, random_name},
    pieces::{BrokenOff, Pieces},
};
use crate::{
    edge::{body::Body, sites::Served},
    snapshot::Shared,
};

/// Bodies that are coded at a time; more clients than these get the bytes as they are.
const CODINGS_MAX: usize = 64;

/// As the body is coded once and sent often, more effort than usual pays. About 50 MB/s each.
const ZSTD_LEVEL: i32 = 9;
const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW: u32 = 20;
const BROTLI_BUFFER_BYTES: usize = 4096;
const GZIP_LEVEL: u32 = 6;

/// How many bodies are being coded.
#[derive(Debug, Default)]
pub struct Codings {
    running: AtomicUsize,
}

impl Codings {
    /// How many run now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

/// One of them, as long as it lives.
pub struct Running(Arc<Shared>);

/// Room for one more; none if too many are being coded.
#[must_use]
pub fn room(shared: &Arc<Shared>) -> Option<Running> {
    let before = shared.codings.running.fetch_add(1, Ordering::Relaxed);
    let running = Running(Arc::clone(shared));
    (before < CODINGS_MAX).then_some(running)
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.codings.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the coded form inherits from the response that it is made of.
#[derive(Debug, Clone)]
pub struct Origin {
    /// How long that may be reused.
    pub freshness: Freshness,
    /// The position that its fetch began at.
    pub stamp: Position,
    /// What a purge would name it by.
    pub purge_keys: Box<[u64]>,
}

/// What a body becomes.
pub struct Target {
    /// Where it is filed.
    pub key: Key,
    /// How it is coded.
    pub coding: Coding,
    /// Of what it is made.
    pub origin: Origin,
}

/// Starts to code a body, for the readers of `flight` and for the store.
pub fn start(running: Running, served: &Arc<Served>, flight: &Arc<Flight>, target: Target, body: Body) {
    let (owned, served, flight) = (Arc::clone(&running.0), Arc::clone(served), Arc::clone(flight));
    let Target { key, coding, origin } = target;
    running.0.tasks.clone().spawn("coding", async move {
        let landing = Landing { shared: &owned, flight: &flight };
        let mut collector = Collector::new(&owned, &served, BodyId(random_name()), None, None);
        let ended = run(&owned, coding, body, &mut collector, flight.body()).await;
        if ended.is_ok() {
            let object = Object {
                status: http::StatusCode::OK,
                headers: HeaderMap::new(),
                freshness: origin.freshness,
                stamp: origin.stamp,
                verified: AtomicU64::new(origin.stamp.0),
                confirmed_ms: 0,
                purge_keys: origin.purge_keys,
                made: BodyId(random_name()),
                body: collector.body(),
                site: served.site.name.clone(),
            };
            owned.objects.insert(&served.permit, key, Entry::Object(Arc::new(object)));
        }
        flight.body().end(ended);
        drop((landing, running));
    });
}

/// Takes the flight off the board however it ends.
struct Landing<'a> {
    shared: &'a Shared,
    flight: &'a Arc<Flight>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.shared.flights.land(self.flight);
        self.flight.abandon();
    }
}

async fn run(
    shared: &Shared,
    coding: Coding,
    mut body: Body,
    collector: &mut Collector,
    pieces: &Pieces,
) -> Result<(), BrokenOff> {
    let mut coder = Coder::new(coding).map_err(|_| BrokenOff)?;
    loop {
        let data = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(_)) => return Err(BrokenOff),
            None => break,
        };
        if data.is_empty() {
            continue;
        }
        let (back, coded) =
            shared.tasks.run_busy(move || coder.code(&data)).await.ok_or(BrokenOff)?.map_err(|_| BrokenOff)?;
        coder = back;
        give(coded, collector, pieces).await;
    }
    let rest = shared.tasks.run_busy(move || coder.finish()).await.ok_or(BrokenOff)?.map_err(|_| BrokenOff)?;
    give(rest, collector, pieces).await;
    Ok(())
}

async fn give(coded: Bytes, collector: &mut Collector, pieces: &Pieces) {
    if coded.is_empty() {
        return;
    }
    pieces.push(coded.clone());
    collector.take(&coded, pieces);
    pieces.room().await;
}

/// A coder that hands out what it has so far.
enum Coder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Coder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
        })
    }

    /// Codes some more; gives back what is ready.
    fn code(mut self, data: &[u8]) -> io::Result<(Self, Bytes)> {
        let ready = match &mut self {
            Self::Zstd(coder) => {
                coder.write_all(data)?;
                std::mem::take(coder.get_mut())
            }
            Self::Brotli(coder) => {
                coder.write_all(data)?;
                std::mem::take(coder.get_mut())
            }
            Self::Gzip(coder) => {
                coder.write_all(data)?;
                std::mem::take(coder.get_mut())
            }
        };
        Ok((self, ready.into()))
    }

    /// The rest.
    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Zstd(coder) => coder.finish()?,
            Self::Brotli(coder) => coder.into_inner(),
            Self::Gzip(coder) => coder.finish()?,
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Zstd => out = zstd::stream::decode_all(coded).unwrap(),
            Coding::Brotli => {
                brotli::Decompressor::new(coded, 4096).read_to_end(&mut out).unwrap();
            }
            Coding::Gzip => {
                flate2::read::GzDecoder::new(coded).read_to_end(&mut out).unwrap();
            }
        }
        out
    }

    #[test]
    fn what_is_coded_piece_by_piece_is_read_back() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| format!("line {} \n", n % 700).into_bytes()).collect();
        for coding in Coding::ALL {
            let mut coder = Coder::new(coding).unwrap();
            let mut coded = Vec::new();
            for piece in text.chunks(70_001) {
                let (next, ready) = coder.code(piece).unwrap();
                coder = next;
                coded.extend_from_slice(&ready);
            }
            coded.extend_from_slice(&coder.finish().unwrap());
            assert!(coded.len() < text.len() / 4, "{coding:?}: {} of {}", coded.len(), text.len());
            assert!(decoded(coding, &coded) == text, "{coding:?}");
        }
    }
}
