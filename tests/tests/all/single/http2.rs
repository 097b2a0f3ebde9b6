//! HTTP/2 as a client with a will of its own meets it: windows, resets, silence.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Method, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{HOST, node};
use crate::harness::{
    Node,
    client::PATIENCE,
    origin::{Answer, Origin},
    stamped, until,
};

/// A connection whose streams have a window of so many bytes.
pub(crate) async fn over<S>(stream: S, window: u32) -> SendRequest<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = Builder::new().initial_window_size(window).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

async fn connect(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    over(TcpStream::connect(address).await.unwrap(), window).await
}

/// Sends a head; the body may follow if it does not end the request.
pub(crate) async fn begin(
    send: &SendRequest<Bytes>,
    method: Method,
    target: &str,
    end: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder().method(method).uri(format!("http://{HOST}{target}")).body(()).unwrap();
    send.clone().ready().await.unwrap().send_request(request, end).unwrap()
}

/// All that the server says before the answer, and the answer.
pub(crate) async fn told(mut answer: ResponseFuture) -> (Vec<Response<()>>, Response<RecvStream>) {
    let mut interim = Vec::new();
    let whole = poll_fn(|context| {
        while let Poll::Ready(Some(head)) = answer.poll_informational(context) {
            interim.push(head.unwrap());
        }
        Pin::new(&mut answer).poll(context)
    });
    let whole = timeout(PATIENCE, whole).await.expect("an answer in time").unwrap();
    (interim, whole)
}

/// The body, taken piece by piece.
async fn body(response: Response<RecvStream>) -> Result<Vec<u8>, h2::Error> {
    let (mut stream, mut bytes) = (response.into_body(), Vec::new());
    while let Some(piece) = timeout(PATIENCE, stream.data()).await.expect("a piece in time") {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn many_streams_with_small_windows_each_get_their_own_bytes() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let send = connect(node.http, 1000).await;
    let mut streams = JoinSet::new();
    for index in 0..60 {
        let send = send.clone();
        streams.spawn(async move {
            let length = 100 + index * 1777;
            let target = format!("/o/{length}/s{index}");
            let (answer, _) = begin(&send, Method::GET, &target, true).await;
            let (_, answer) = told(answer).await;
            assert_eq!(answer.headers()["content-length"], length.to_string().as_str());
            assert!(answer.headers().contains_key("date") && !answer.headers().contains_key("connection"));
            let bytes = body(answer).await.unwrap();
            assert_eq!(bytes.len(), length);
            stamped::check(&bytes).unwrap_or_else(|fault| panic!("{target}: {fault:?}"));
        });
    }
    streams.join_all().await;
}

#[tokio::test]
async fn a_stream_that_the_client_resets_takes_nothing_from_the_others() {
    let origin = Origin::start();
    let mut pours = origin.pours("/slow", |answer| answer.with("cache-control", "no-store"));
    let node = node(&origin, "");
    let send = connect(node.http, 1 << 20).await;
    let (slow, mut stream) = begin(&send, Method::GET, "/slow", true).await;
    let pour = pours.next().await;
    pour.piece("x");
    let (_, slow) = told(slow).await;
    stream.send_reset(Reason::CANCEL);
    drop((slow, stream));
    let (other, _) = begin(&send, Method::GET, "/o/5000/o", true).await;
    let bytes = body(told(other).await.1).await.unwrap();
    assert!(stamped::check(&bytes).is_ok());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_whole_one() {
    let origin = Origin::start();
    let mut pours = origin.pours("/broken", |answer| answer.with("cache-control", "no-store"));
    let node = node(&origin, "");
    let send = connect(node.http, 1 << 20).await;
    let (answer, _) = begin(&send, Method::GET, "/broken", true).await;
    let pour = pours.next().await;
    pour.piece("begun");
    let (_, answer) = told(answer).await;
    pour.break_off();
    assert!(body(answer).await.is_err(), "the stream ends as if all were there");
}

#[tokio::test]
async fn uploads_arrive_whole_or_not_at_all() {
    let origin = Origin::start();
    for path in ["/up", "/half"] {
        origin.on(path, |seen| Answer::ok(seen.body.len().to_string()));
    }
    let node = node(&origin, "");
    let send = connect(node.http, 1 << 20).await;
    let (answer, mut stream) = begin(&send, Method::POST, "/up", false).await;
    let piece = Bytes::from(vec![7; 300_000]);
    for last in [false, true] {
        stream.send_data(piece.clone(), last).unwrap();
    }
    assert_eq!(body(told(answer).await.1).await.unwrap(), b"600000");
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        let (answer, mut stream) = begin(&send, Method::POST, "/half", false).await;
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.send_reset(reason);
        assert!(answer.await.is_err());
    }
    let (answer, _) = begin(&send, Method::GET, "/o/10/after", true).await;
    assert_eq!(told(answer).await.1.status(), 200);
    assert_eq!(origin.count("/half"), 0, "a half body was taken for a whole one");
}

#[tokio::test]
async fn a_silent_client_is_asked_for_a_sign_of_life_and_then_cut() {
    let origin = Origin::start();
    let url = origin.url();
    let node = Node::alone(&format!(
        "[limits]\nidle_time = \"1s\"\nhead_time = \"1s\"\n\
         [[sites]]\nname = \"single\"\nhosts = [\"{HOST}\"]\norigin = \"{url}\"\n"
    ));
    // this one answers pings, as h2 does by itself
    let lively = connect(node.http, 1 << 20).await;
    let mut silent = TcpStream::connect(node.http).await.unwrap();
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (start, mut seen) = (Instant::now(), Vec::new());
    let read = timeout(Duration::from_secs(25), silent.read_to_end(&mut seen)).await;
    assert!(read.is_ok(), "it is not cut");
    assert!(start.elapsed() > Duration::from_secs(10), "it is cut after {:?} already", start.elapsed());
    // a PING frame: 8 bytes of type 6, without ACK
    assert!(seen.windows(5).any(|frame| frame == [0, 0, 8, 6, 0]), "no ping in {seen:?}");
    let (answer, _) = begin(&lively, Method::GET, "/o/10/a", true).await;
    assert_eq!(told(answer).await.1.status(), 200, "who answers pings stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_lets_streams_under_way_finish() {
    let origin = Origin::start();
    let mut pours = origin.pours("/long", |answer| answer.with("cache-control", "no-store"));
    let node = node(&origin, "");
    let send = connect(node.http, 1 << 20).await;
    let (answer, _) = begin(&send, Method::GET, "/long", true).await;
    let pour = pours.next().await;
    pour.piece("first ");
    let (_, answer) = told(answer).await;
    node.signal(libc::SIGTERM);
    let mut send = send;
    until("no new streams are taken", PATIENCE, || {
        let refused = send.poll_ready(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        matches!(refused, Poll::Ready(Err(_)))
    });
    pour.piece("last");
    drop(pour);
    assert_eq!(body(answer).await.unwrap(), b"first last");
}
