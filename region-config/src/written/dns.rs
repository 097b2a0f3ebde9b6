//! What is written about DNS.

use std::net::SocketAddr;

use crate::{
    leaf::{FilePath, Whole, Words},
    shape::section,
};

section! {
    /// Where DNS is answered, and on which terms.
    DnsSection {
        /// Addresses to listen on.
        some listen: SocketAddr,
        /// What is said to those who ask which server this is (NSID); nothing if left out.
        may nsid: Words,
        /// A file with one or two lines of 32 hex digits: the secret that DNS cookies are made with, and another whose cookies are taken too. The same on all nodes that answer at one address (anycast, a load balancer); each node has its own, new at each start, if left out.
        may cookie_secret: FilePath,
        /// Answers of a kind (sites, the zone itself, what does not exist, errors) that a block of addresses (/24, /56) gets in a second over UDP, and at once; over that, every second one is told to come over TCP, and the others are not answered. Whoever shows a DNS cookie is not counted. 0 is no limit; 1000 if left out.
        may answers_per_second: Whole<0, 1_000_000>,
    }
}
