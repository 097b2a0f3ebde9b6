//! Asks as fast as it is answered.
#![allow(unsafe_code, reason = "recvmmsg and segmentation have no safe form in the standard library")]

use std::{
    array, fs, io,
    mem::{size_of, zeroed},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    ptr,
    time::{Duration, Instant},
};

use super::HEAD;

const SOCKETS: usize = 16;
/// Questions that one system call sends: the kernel cuts them apart, which costs this side less than the other.
const BURST: usize = 16;
/// Questions of a socket that may be on the way.
const WINDOW: usize = 2 * BURST;
/// Answers that one system call takes.
const TAKEN: usize = TAKEN_C as usize;
/// The same as the kernel counts.
const TAKEN_C: libc::c_uint = 32;
/// After this without an answer, what is on the way is lost.
const PATIENCE: Duration = Duration::from_millis(100);

struct Asker {
    socket: UdpSocket,
    on_the_way: usize,
    heard: Instant,
}

pub(super) fn load(folder: &Path, server: SocketAddr, time: Duration) {
    let file = fs::read(folder.join("questions")).unwrap();
    let question = HEAD.len() + 3;
    let questions: Vec<u8> =
        file.chunks_exact(2 + question).flat_map(|with_length| &with_length[2..]).copied().collect();
    let mut bursts = questions.chunks_exact(BURST * question).cycle();
    let start = Instant::now();
    let mut askers: Vec<Asker> = (0..SOCKETS).map(|_| Asker::new(server, question, start)).collect();
    let (mut answered, mut lost) = (0, 0);
    while start.elapsed() < time {
        for asker in &mut askers {
            if asker.on_the_way + BURST <= WINDOW {
                asker.socket.send(bursts.next().unwrap()).unwrap();
                asker.on_the_way += BURST;
            }
            let taken = take(&asker.socket);
            answered += taken;
            asker.on_the_way = asker.on_the_way.saturating_sub(taken);
            if taken > 0 {
                asker.heard = Instant::now();
            } else if asker.heard.elapsed() > PATIENCE {
                lost += asker.on_the_way;
                (asker.on_the_way, asker.heard) = (0, Instant::now());
            }
        }
    }
    println!("answered {answered} lost {lost} rate {:.0}", answered as f64 / start.elapsed().as_secs_f64());
}

impl Asker {
    fn new(server: SocketAddr, question: usize, heard: Instant) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        let length = libc::c_int::try_from(question).unwrap();
        // SAFETY: the value is an int that outlives the call, and its length is given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const length).cast(),
                libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap(),
            )
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        Self { socket, on_the_way: 0, heard }
    }
}

/// Takes the answers that are there, and looks at each: NOERROR, and one record.
fn take(socket: &UdpSocket) -> usize {
    let mut answers = [[0u8; 128]; TAKEN];
    let mut buffers: [libc::iovec; TAKEN] =
        array::from_fn(|at| libc::iovec { iov_base: answers[at].as_mut_ptr().cast(), iov_len: answers[at].len() });
    // SAFETY: an mmsghdr is plain numbers and pointers, for which all zeros are a value.
    let mut headers: [libc::mmsghdr; TAKEN] = unsafe { zeroed() };
    for (header, buffer) in headers.iter_mut().zip(&mut buffers) {
        header.msg_hdr.msg_iov = buffer;
        header.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: each header points to a buffer of the length it says, all of which outlive the call.
    let count = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), TAKEN_C, libc::MSG_DONTWAIT as _, ptr::null_mut())
    };
    let count = usize::try_from(count).unwrap_or(0);
    for answer in &answers[..count] {
        assert_eq!((answer[3] & 15, answer[7]), (0, 1), "NOERROR and one answer: {answer:02x?}");
    }
    count
}
