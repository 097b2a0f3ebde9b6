//! Long connections, and how they end.

use super::{protocol::plain, *};
use crate::dns::tcp::serve;

/// So many queries, one behind the other.
fn pipelined(count: usize) -> Vec<u8> {
    framed(&query("shop.demo.test", Rtype::A, GERMAN)).repeat(count)
}

/// Sends all this, and does not care whether anybody reads it.
fn send(stream: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = stream.write_all(&bytes);
    })
}

/// The answers that come until the connection is closed. One that is reset, or left open, fails.
fn answers(stream: &mut TcpStream) -> usize {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (mut rest, mut count) = (bytes.as_slice(), 0);
    while let [high, low, behind @ ..] = rest {
        let (answer, behind) = behind.split_at(u16::from_be_bytes([*high, *low]).into());
        assert_eq!(Told::read(answer).region(), "eu");
        (rest, count) = (behind, count + 1);
    }
    count
}

/// The 257th query reset the connection.
#[test]
fn a_connection_takes_as_many_queries_as_come() {
    let running = Running::start();
    let mut stream = TcpStream::connect(running.address()).unwrap();
    let sent = send(&stream, pipelined(2_000));
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..2_000 {
        assert_eq!(Told::read(&read_framed(&mut stream).unwrap()).region(), "eu");
    }
    sent.join().unwrap();
    // a client that has no more to ask says so, and gets what it asked for
    stream.write_all(&pipelined(300)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(answers(&mut stream), 300);
    assert!(running.stop());
}

/// Answers that were sent were lost to a reset, since queries behind them were left unread.
#[test]
fn who_is_owed_no_more_answers_gets_those_that_were_sent() {
    let running = Running::start();
    let mut no_query = query("shop.demo.test", Rtype::A, GERMAN);
    no_query[2] |= 0x80;
    let mut stream = TcpStream::connect(running.address()).unwrap();
    let sent = send(&stream, [pipelined(100), framed(&no_query), pipelined(2_000)].concat());
    assert_eq!(answers(&mut stream), 100);
    sent.join().unwrap();
    assert!(running.stop());
}

#[test]
fn a_connection_ends_in_time_however_busy_it_is_and_no_answer_is_lost() {
    let running = Running::start();
    let (view, fleet) = (Arc::clone(&running.view), Arc::clone(&running.fleet));
    let front = Arc::new(Front { view, fleet, terms: ArcSwap::from_pointee(plain(None)), counters: Arc::default() });
    let served = Arc::clone(&front);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let room = tokio::sync::Semaphore::new(512);
    let sent = send(&stream, pipelined(20_000));
    let client = std::thread::spawn(move || answers(&mut stream));
    running
        .runtime
        .block_on(async {
            let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
            serve(accepted, peer.ip(), served, &room, Duration::from_millis(100)).await
        })
        .unwrap();
    let count = client.join().unwrap();
    sent.join().unwrap();
    assert!((1..20_000).contains(&count), "{count}");
    assert_eq!(front.counters.count(Event::Tcp), u64::try_from(count).unwrap());
    assert!(running.stop());
}
