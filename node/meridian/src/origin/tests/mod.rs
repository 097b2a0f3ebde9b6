//! Origins as they are: slow, broken, hostile, gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod care;
mod connections;
mod http2;
mod mutual;
mod requests;
mod responses;
mod script;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use region_config::{HealthCheck, OriginProtocol};
use tokio::io::AsyncWriteExt;

use self::script::{House, Scripted, at, config, deaf, pause, request, until};
use super::{BoxError, OriginError, OriginState, RequestBody, empty_body};
use crate::{clock, tasks::Tasks};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn full(bytes: &'static str) -> RequestBody {
    BoxBody::new(Full::new(Bytes::from_static(bytes.as_bytes())).map_err(|never| match never {}))
}

/// A body of unknown length that comes in pieces, a moment before each.
fn pieces(pieces: Vec<Result<&'static str, &'static str>>) -> RequestBody {
    let frames = stream::iter(pieces).then(|piece| async move {
        pause(20).await;
        match piece {
            Ok(data) => Ok(Frame::data(Bytes::from_static(data.as_bytes()))),
            Err(why) => Err(BoxError::from(why)),
        }
    });
    BoxBody::new(StreamBody::new(frames))
}

/// The one origin's error for a GET whose answer is given.
async fn error_for(answer: &'static str) -> OriginError {
    let origin = Scripted::once(answer).await;
    House::new(vec![at("o", origin.address)]).whole().await.unwrap_err()
}
