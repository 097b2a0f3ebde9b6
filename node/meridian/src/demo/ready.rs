//! Whether the nodes are ready.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use super::{
    DemoFault, READY_MAX,
    children::{Children, Stopping},
    fleet::Member,
};
use crate::clock;

const ANSWER_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until all nodes say that they are ready; false if the demo is to end before.
pub(super) fn wait(members: &[Member], children: &mut Children, stopping: &Stopping) -> Result<bool, DemoFault> {
    let deadline = clock::instant() + READY_MAX;
    let mut waiting: Vec<&Member> = members.iter().collect();
    while !waiting.is_empty() {
        if stopping.is_wanted() {
            return Ok(false);
        }
        children.all_run()?;
        if clock::instant() > deadline {
            let names = waiting.iter().map(|it| it.name.clone()).collect();
            return Err(DemoFault::NotReady { names, dir: children.logs() });
        }
        waiting.retain(|member| !member.config.node.admin.is_some_and(is_ready));
        thread::sleep(PAUSE);
    }
    Ok(true)
}

/// Whether `/readyz` at an admin listener says 200.
fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&admin, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
