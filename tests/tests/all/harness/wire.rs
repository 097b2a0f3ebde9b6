//! An origin that says bytes: whole answers, halves, nonsense, silence. For what a proper server would never do.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What is done with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Says this and takes the next request.
    Say(String),
    /// Says this and closes.
    SayAndClose(String),
    /// Says this and resets the connection.
    SayAndReset(String),
    /// Says this and then nothing more, until the node or the test ends it.
    SayAndStall(String),
}

impl Act {
    /// A whole 200 that may be stored for an hour.
    pub(crate) fn ok(body: &str) -> Self {
        Self::Say(whole(body, "Cache-Control: max-age=3600\r\n"))
    }
}

/// A whole 200 with more fields.
pub(crate) fn whole(body: &str, fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

type Script = dyn Fn(&str) -> Act + Send + Sync;

struct State {
    script: Mutex<Arc<Script>>,
    heads: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// An origin on threads of its own.
pub(crate) struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

impl Wire {
    /// Starts one on 127.0.0.1 that treats each request, of which it is given the head, by a script.
    pub(crate) fn start(script: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// The same at an address.
    pub(crate) fn start_at(address: SocketAddr, script: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let state = State { script: Mutex::new(script), heads: Mutex::default(), over: AtomicBool::new(false) };
        let state = Arc::new(state);
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&serving);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Another script from now on.
    pub(crate) fn script(&self, script: impl Fn(&str) -> Act + Send + Sync + 'static) {
        *self.state.script.lock().unwrap() = Arc::new(script);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a config names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has seen.
    pub(crate) fn count(&self) -> usize {
        self.state.heads.lock().unwrap().len()
    }

    /// How many of them begin so.
    pub(crate) fn count_of(&self, beginning: &str) -> usize {
        self.state.heads.lock().unwrap().iter().filter(|head| head.starts_with(beginning)).count()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // wakes the one who accepts
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    drop(stream.set_nodelay(true));
    drop(stream.set_read_timeout(Some(Duration::from_millis(100))));
    let mut pending = Vec::new();
    while let Some(head) = next(&mut stream, &mut pending, state) {
        state.heads.lock().unwrap().push(head.clone());
        let script = Arc::clone(&state.script.lock().unwrap());
        let act = script(&head);
        let (Act::Say(text) | Act::SayAndClose(text) | Act::SayAndReset(text) | Act::SayAndStall(text)) = &act;
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
        match act {
            Act::Say(_) => {}
            Act::SayAndClose(_) => return,
            Act::SayAndReset(_) => {
                // what was said shall arrive before
                thread::sleep(Duration::from_millis(30));
                return reset(&stream);
            }
            Act::SayAndStall(_) => {
                while next(&mut stream, &mut pending, state).is_some() {}
                return;
            }
        }
    }
}

/// The next request's head; none at the end.
fn next(stream: &mut TcpStream, pending: &mut Vec<u8>, state: &State) -> Option<String> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = pending.drain(..end + 4).collect();
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => pending.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if state.over.load(Ordering::SeqCst) {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
}

/// Lets the connection end with RST instead of FIN when it is dropped.
fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
    // SAFETY: the option's value lives across the call, and its size is its own
    #[allow(unsafe_code, reason = "std has no way to say it")]
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast::<libc::c_void>(),
            length,
        )
    };
    assert_eq!(done, 0, "SO_LINGER");
}
