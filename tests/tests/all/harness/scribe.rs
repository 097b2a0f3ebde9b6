//! An origin that writes bytes as they are: what no HTTP library would.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) target: String,
    /// The head, with the empty line behind it.
    pub(crate) head: String,
    /// The body, as it was framed.
    pub(crate) body: String,
    /// How often the target was asked for before.
    pub(crate) before: usize,
}

impl Asked {
    /// A field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        field(&self.head, name).unwrap_or("")
    }
}

/// What is done for an answer, one after the other.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Bytes are written, all at once.
    Write(Vec<u8>),
    /// Nothing happens for a while.
    Wait(Duration),
    /// The connection ends, as it should.
    Close,
    /// The connection is torn down.
    Reset,
    /// Nothing ever happens again, until the client goes.
    Stall,
}

impl From<String> for Step {
    fn from(text: String) -> Self {
        Self::Write(text.into_bytes())
    }
}

impl From<&str> for Step {
    fn from(text: &str) -> Self {
        Self::Write(text.as_bytes().to_vec())
    }
}

type Script = Arc<dyn Fn(&Asked) -> Vec<Step> + Send + Sync>;

/// The origin; it ends with the test.
pub(crate) struct Scribe {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scribe {
    /// Answers each request with what `script` makes of it.
    pub(crate) fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Asked>>>::default());
        let (seen, script): (_, Script) = (Arc::clone(&asked), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen, script) = (stream.unwrap(), Arc::clone(&seen), Arc::clone(&script));
                thread::spawn(move || serve(stream, &script, &seen));
            }
        });
        Self { address, asked }
    }

    /// Where it listens, as a config names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often a target was asked for.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.target == target).count()
    }

    /// Everything that it was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A 200 with a length.
pub(crate) fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Mutex<Vec<Asked>>) {
    let _ = stream.set_nodelay(true);
    while let Some(head) = until(&mut stream, b"\r\n\r\n") {
        let body = match field(&head, "content-length").and_then(|length| length.parse().ok()) {
            Some(length) => exactly(&mut stream, length),
            None if field(&head, "transfer-encoding").is_some() => until(&mut stream, b"0\r\n\r\n"),
            None => Some(String::new()),
        };
        let Some(body) = body else { return };
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let asked = {
            let mut seen = seen.lock().unwrap();
            let before = seen.iter().filter(|asked| asked.target == target).count();
            let asked = Asked { target, head, body, before };
            seen.push(asked.clone());
            asked
        };
        for step in script(&asked) {
            match step {
                Step::Write(bytes) if stream.write_all(&bytes).is_err() => return,
                Step::Write(_) => {}
                Step::Wait(time) => thread::sleep(time),
                Step::Close => return,
                Step::Reset => return reset(&stream),
                Step::Stall => {
                    let _ = stream.read_to_end(&mut Vec::new());
                    return;
                }
            }
        }
    }
}

/// Closes with RST: what is under way is lost.
fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd as _;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap();
    // SAFETY: the option's value is a `linger` of that length, and outlives the call
    #[allow(unsafe_code, reason = "the standard library cannot ask for a reset")]
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            length,
        )
    };
    assert_eq!(set, 0, "the connection can be reset");
}

fn until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(end) {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn exactly(stream: &mut TcpStream, length: usize) -> Option<String> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
