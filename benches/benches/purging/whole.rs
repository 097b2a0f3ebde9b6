//! Whole hits: over HTTP/1.1 and loopback sockets, answered by hyper on the measuring thread and asked for by another one.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rules::{
    caching,
    key::{self, Secret},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc as news};
use wire::entry::Body;

use super::{BODY_BYTES, World, site_of};

/// Connections that requests go over, one at a time on each.
const CONNECTIONS: usize = 16;

/// A server on the thread that made it, and a client on one of its own.
pub(super) struct Wire {
    runtime: Runtime,
    ask: mpsc::Sender<Vec<String>>,
    answered: news::UnboundedReceiver<()>,
}

impl Wire {
    pub(super) fn new(world: &Arc<World>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::clone(world);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let world = Arc::clone(&world);
                let answer = service_fn(move |request| {
                    let answer = answer(&world, &request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        let (ask, asked) = mpsc::channel();
        let (told, answered) = news::unbounded_channel();
        thread::spawn(move || client(address, &asked, &told));
        Self { runtime, ask, answered }
    }

    /// Asks for these objects, and returns when all are answered.
    pub(super) fn ask(&mut self, objects: &[u64]) {
        let request = |object: &u64| {
            let (target, site) = (World::target(*object), site_of(*object));
            format!(
                "GET {target} HTTP/1.1\r\nhost: www.site-{site}.example\r\nx-object: {object}\r\nuser-agent: bench\r\n\
                 accept: */*\r\naccept-encoding: gzip, deflate, br, zstd\r\n\r\n"
            )
        };
        self.ask.send(objects.iter().map(request).collect()).unwrap();
        self.runtime.block_on(self.answered.recv()).unwrap();
    }
}

fn answer(world: &World, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let host = request.headers()[header::HOST].to_str().unwrap();
    let place = &world.sites[world.hosts[host]];
    let (site, id, ..) = place;
    let target = key::target(request.uri()).unwrap();
    std::hint::black_box(caching::intent(request.method(), request.headers(), &world.policy));
    let key = key::primary(&Secret([7; 16]), &site.tenant, id, true, host, &target);
    if let Some((object, ttl_s)) = world.served(place, key, world.checks.load(Ordering::Relaxed))
        && let Body::Inline(body) = &object.body
    {
        let mut response = Response::new(Full::new(body.clone()));
        *response.headers_mut() = world.answered(&object, ttl_s);
        return response;
    }
    let number = request.headers()["x-object"].to_str().unwrap().parse().unwrap();
    world.gone.lock().unwrap().push(number);
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::GONE;
    response
}

fn client(address: SocketAddr, asked: &mpsc::Receiver<Vec<String>>, told: &news::UnboundedSender<()>) {
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    streams.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(requests) = asked.recv() {
        for some in requests.chunks(CONNECTIONS) {
            for (stream, request) in streams.iter_mut().zip(some) {
                stream.write_all(request.as_bytes()).unwrap();
            }
            for (stream, _) in streams.iter_mut().zip(some) {
                read(stream, &mut buffer);
            }
        }
        told.send(()).unwrap();
    }
}

/// Reads one response.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).unwrap();
        assert_ne!(count, 0, "the connection was closed");
        filled += count;
        let head = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n");
        let body = if buffer.starts_with(b"HTTP/1.1 200") { BODY_BYTES } else { 0 };
        if head.is_some_and(|head| filled >= head + 4 + body) {
            return;
        }
    }
}
