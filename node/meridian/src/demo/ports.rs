//! Whether everything that the demo listens on is free: asked before anything is started.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::{DemoFault, fleet::Member, origin::Program};

/// So many are told; a demo that runs already has them all.
const TOLD_MAX: usize = 6;

/// Fails with all addresses that cannot be listened on.
pub(super) fn free(members: &[Member], origins: &[Program]) -> Result<(), DemoFault> {
    let mut used = Vec::new();
    for origin in origins {
        used.extend(tcp_fault(origin.name, "http", origin.listen));
    }
    for Member { name, config, .. } in members {
        let node = &config.node;
        let tcp = [("http", &node.http), ("https", &node.https), ("dns", &node.dns)];
        for (purpose, address) in tcp.iter().flat_map(|(purpose, all)| all.iter().map(move |it| (purpose, *it))) {
            used.extend(tcp_fault(name, purpose, address));
        }
        used.extend(node.admin.and_then(|address| tcp_fault(name, "admin", address)));
        used.extend(node.dns.iter().filter_map(|address| udp_fault(name, "dns", *address)));
        used.extend(node.peer.and_then(|address| udp_fault(name, "peer", address)));
    }
    if used.is_empty() {
        return Ok(());
    }
    let more = used.len().saturating_sub(TOLD_MAX);
    used.truncate(TOLD_MAX);
    if more > 0 {
        used.push(format!("and {more} more: is another demo running?"));
    }
    Err(DemoFault::Used(used))
}

fn tcp_fault(name: &str, purpose: &str, address: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(address).err()?;
    Some(format!("{address} (TCP, {purpose} of {name}): {error}"))
}

fn udp_fault(name: &str, purpose: &str, address: SocketAddr) -> Option<String> {
    let error = UdpSocket::bind(address).err()?;
    Some(format!("{address} (UDP, {purpose} of {name}): {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_used_address_is_named_with_whose_it_would_be() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let fault = tcp_fault("frankfurt-1", "http", address).unwrap();
        assert!(fault.starts_with(&format!("{address} (TCP, http of frankfurt-1): Address already in use")), "{fault}");
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(udp_fault("a", "dns", taken.local_addr().unwrap()).is_some());
    }
}
