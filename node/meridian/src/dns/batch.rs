//! Batches of UDP messages: `recvmmsg` and `sendmmsg`, which no safe library offers for distinct peers.
#![allow(unsafe_code, reason = "recvmmsg and sendmmsg take pointers; all of them live in this file")]

use std::{
    array, io,
    mem::{size_of, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

/// Most messages in a batch.
pub(super) const MESSAGES: usize = MESSAGES_C as usize;
/// The same as the kernel counts.
const MESSAGES_C: libc::c_uint = 32;
/// Longest query that is read, in bytes; the rest of a longer one is cut off, which makes it malformed.
const QUERY_BYTES: usize = 1232;
/// Room for the address that a message was sent to, in bytes: one `in6_pktinfo` with its header, and to spare.
const CONTROL_BYTES: usize = 64;

/// A message that came, and the place for its answer.
pub(super) struct Message<'a> {
    /// The message.
    pub(super) query: &'a [u8],
    /// Who sent it.
    pub(super) peer: SocketAddr,
    /// The answer; none is sent if it is empty.
    pub(super) reply: &'a mut Vec<u8>,
}

/// Buffers for one batch, used again and again.
pub(super) struct Batch {
    slots: Vec<Slot>,
    received: usize,
}

/// Aligned for a control message's header.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

struct Slot {
    query: Box<[u8; QUERY_BYTES]>,
    query_bytes: usize,
    peer: libc::sockaddr_storage,
    peer_bytes: libc::socklen_t,
    control: Control,
    control_bytes: usize,
    reply: Vec<u8>,
}

impl Slot {
    fn new() -> Self {
        Self {
            query: Box::new([0; QUERY_BYTES]),
            query_bytes: 0,
            // SAFETY: a sockaddr_storage is plain numbers, for which all zeros are a value.
            peer: unsafe { zeroed() },
            peer_bytes: 0,
            control: Control([0; CONTROL_BYTES]),
            control_bytes: 0,
            reply: Vec::with_capacity(wire::dns::UDP_BYTES_MAX),
        }
    }

    /// The peer's address, as the kernel wrote it.
    fn peer(&self) -> Option<SocketAddr> {
        let from: *const libc::sockaddr_storage = &raw const self.peer;
        match libc::c_int::from(self.peer.ss_family) {
            libc::AF_INET if self.peer_bytes as usize >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the family says that a sockaddr_in stands there, the length that it is whole; a
                // sockaddr_storage is large enough and aligned for every kind of address.
                let v4 = unsafe { from.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 if self.peer_bytes as usize >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above, for a sockaddr_in6.
                let v6 = unsafe { from.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }

    /// Makes the control message that came with a query ask for the same source address on the way back, by whichever
    /// interface the kernel finds.
    fn clear_interface(&mut self) {
        let header = size_of::<libc::cmsghdr>();
        let at = match libc::c_int::from(self.peer.ss_family) {
            libc::AF_INET => header,
            _ => header + size_of::<libc::in6_addr>(),
        };
        if let Some(interface) = self.control.0.get_mut(at..at + size_of::<libc::c_int>()) {
            interface.fill(0);
        }
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { slots: (0..MESSAGES).map(|_| Slot::new()).collect(), received: 0 }
    }

    /// Waits for a message, and takes what else has come; as long as the socket's timeout.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.received = 0;
        let mut buffers: [libc::iovec; MESSAGES] = array::from_fn(|at| libc::iovec {
            iov_base: self.slots[at].query.as_mut_ptr().cast(),
            iov_len: QUERY_BYTES,
        });
        // SAFETY: an mmsghdr is plain numbers and pointers, for which all zeros are a value.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        for ((header, buffer), slot) in headers.iter_mut().zip(&mut buffers).zip(&mut self.slots) {
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut slot.peer).cast();
            header.msg_namelen = socklen(size_of::<libc::sockaddr_storage>());
            header.msg_iov = buffer;
            header.msg_iovlen = 1;
            header.msg_control = slot.control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: each header points to a name, a buffer and a control area of the lengths it says. They live in
        // `self.slots` and `buffers`, which outlive the call and are not used otherwise during it. No timeout is given.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MESSAGES_C,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        self.received = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(MESSAGES);
        for (header, slot) in headers.iter().zip(&mut self.slots).take(self.received) {
            slot.query_bytes = (header.msg_len as usize).min(QUERY_BYTES);
            slot.peer_bytes = header.msg_hdr.msg_namelen;
            slot.control_bytes = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
            slot.reply.clear();
            slot.clear_interface();
        }
        Ok(())
    }

    /// The messages that came.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = Message<'_>> {
        self.slots.iter_mut().take(self.received).filter_map(|slot| {
            let peer = slot.peer()?;
            Some(Message { query: &slot.query[..slot.query_bytes], peer, reply: &mut slot.reply })
        })
    }

    /// Sends the answers. One that cannot be sent is left out: its client asks again.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let slots = self.slots.iter_mut().take(self.received).filter(|slot| !slot.reply.is_empty());
        // SAFETY: iovec and mmsghdr are plain numbers and pointers, for which all zeros are a value.
        let (mut buffers, mut headers): ([libc::iovec; MESSAGES], [libc::mmsghdr; MESSAGES]) = unsafe { zeroed() };
        let mut count = 0;
        for (slot, (header, buffer)) in slots.zip(headers.iter_mut().zip(&mut buffers)) {
            buffer.iov_base = slot.reply.as_mut_ptr().cast();
            buffer.iov_len = slot.reply.len();
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut slot.peer).cast();
            header.msg_namelen = slot.peer_bytes;
            header.msg_iov = buffer;
            header.msg_iovlen = 1;
            if slot.control_bytes > 0 {
                header.msg_control = slot.control.0.as_mut_ptr().cast();
                header.msg_controllen = slot.control_bytes;
            }
            count += 1;
        }
        let mut rest = &mut headers[..count];
        while let Ok(length @ 1..) = libc::c_uint::try_from(rest.len()) {
            // SAFETY: each header points to a name, a buffer and a control area of the lengths it says, which live in
            // `self.slots` and `buffers`, outlive the call, and are only read by it.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), length, 0) };
            // a negative number is about the first of them; nothing sent would be no progress
            let done = usize::try_from(sent).unwrap_or(1).max(1);
            rest = rest.get_mut(done..).unwrap_or_default();
        }
    }
}

/// What a socket that answers wants of the kernel.
///
/// On one for all of a host's addresses, an answer must come from the address that was asked, so the kernel is told to say
/// which one that was. On all of them, what routers are said to have said about the size of messages is not believed: who
/// forges that has answers come in fragments, and can replace one of them. An answer is short enough for any path.
pub(super) fn prepare(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    let (level, told_where, sizes) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)),
        SocketAddr::V6(_) => {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT))
        }
    };
    // a kernel that cannot is no reason not to serve
    let _ = set(socket, level, sizes);
    if address.ip().is_unspecified() { set(socket, level, (told_where, 1)) } else { Ok(()) }
}

fn set(socket: &UdpSocket, level: libc::c_int, (option, value): (libc::c_int, libc::c_int)) -> io::Result<()> {
    // SAFETY: the value is an int that outlives the call, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            socklen(size_of::<libc::c_int>()),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[allow(clippy::cast_possible_truncation, reason = "sizes of small structures")]
fn socklen(bytes: usize) -> libc::socklen_t {
    bytes as libc::socklen_t
}
