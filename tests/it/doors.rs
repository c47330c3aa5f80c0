//! What clients can do to a server that keep no rules, most of them without a token: it costs neither memory nor a place.

use crate::support::raw::{BINARY, FIN, PING, TEXT, frame};
use crate::support::{Client, RawSocket, Redis, Server};

/// What one client may cost at its worst, at most.
const ONE_CLIENT: u64 = 16 * 1024 * 1024;

#[tokio::test]
async fn pings_whose_answers_nobody_reads_cost_no_memory() {
    // Given a server that gives up whoever takes nothing for a second
    let redis = Redis::start().await;
    let server = Server::on(&redis)
        .env("PING_INTERVAL_MS", "500")
        .env("PING_TIMEOUT_MS", "500")
        .start()
        .await;
    let pings = frame(FIN | PING, &[b'x'; 125]).repeat(1000);

    // When somebody without a token, and Alice, send pings and read nothing
    let joined = RawSocket::connect(&server, "alice").await;
    for mut socket in [RawSocket::unjoined(&server).await, joined] {
        let before = server.peak_bytes();
        socket.flood(&pings, 1000).await;

        // Then what the server keeps for that is little
        let more = server.peak_bytes() - before;
        assert!(more < ONE_CLIENT, "{more} bytes more at the peak");
    }
    Client::connect(&server, "bob").await;
}

#[tokio::test]
async fn who_breaks_a_rule_reads_which_however_much_is_on_its_way() {
    let redis = Redis::start().await;
    let server = Server::start(&redis).await;
    let too_large = [&[FIN | TEXT, 0x80 | 127][..], &(8_u64 << 20).to_be_bytes()].concat();
    let not_utf8 = frame(FIN | TEXT, b"4\xff");
    let broken = [
        (1009, too_large),
        (1002, frame(0xF0 | TEXT, b"reserved bits")),
        (1007, not_utf8),
    ];
    for (code, first) in broken {
        // When Alice, or somebody who has not joined, breaks a rule and sends some more megabytes before reading
        let joined = RawSocket::connect(&server, "alice").await;
        for mut socket in [joined, RawSocket::unjoined(&server).await] {
            socket.send_bytes(&first).await;
            socket.flood(&[b'x'; 64 * 1024], 128).await;

            // Then they read which rule it was
            assert_eq!(socket.close_code().await, Some(code));
        }
    }
    let mut alice = RawSocket::connect(&server, "alice").await;
    alice.send_frame(FIN | BINARY, b"binary").await;
    alice.flood(&[b'x'; 64 * 1024], 128).await;
    assert_eq!(alice.close_code().await, Some(1003));
}
