//! What clients can do to a server that keep no rules, most of them without a token: it costs neither memory nor a place.

use crate::support::raw::{FIN, PING, frame};
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
