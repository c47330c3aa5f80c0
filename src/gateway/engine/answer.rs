//! The answer to a poll: packets that are passed to the connection as it takes them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::protocol::engine_io::SEPARATOR;
use crate::protocol::text::Text;

/// Bytes that are passed to the connection at once: no more than it buffers of what its peer does not read.
const PART_BYTES: usize = 16 * 1024;

/// The body of an answer. It shares the packets' memory with other devices' queues, and copies a part at a time.
pub(super) struct Answer {
    pieces: VecDeque<Bytes>,
    left: usize,
    /// Sent when the connection has taken everything; dropped if it closes before.
    taken: Option<oneshot::Sender<()>>,
}

impl Answer {
    /// The body, and a receiver that learns whether the connection took all of it.
    pub(super) fn new(packets: &[Text]) -> (Self, oneshot::Receiver<()>) {
        let mut pieces = VecDeque::new();
        for packet in packets {
            if !pieces.is_empty() {
                pieces.push_back(Bytes::from_static(&[SEPARATOR]));
            }
            pieces.extend(packet.payload());
        }
        let (taken, told) = oneshot::channel();
        let answer = Self {
            left: pieces.iter().map(Bytes::len).sum(),
            pieces,
            taken: Some(taken),
        };
        (answer, told)
    }

    fn next_part(&mut self) -> Option<Bytes> {
        let mut part = BytesMut::with_capacity(self.left.min(PART_BYTES));
        while part.len() < PART_BYTES
            && let Some(piece) = self.pieces.front_mut()
        {
            let len = piece.len().min(PART_BYTES - part.len());
            part.extend_from_slice(&piece.split_to(len));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        (!part.is_empty()).then(|| part.freeze())
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.next_part();
        self.left -= part.as_ref().map_or(0, Bytes::len);
        if self.pieces.is_empty()
            && let Some(taken) = self.taken.take()
        {
            // The session may have ended meanwhile.
            let _ = taken.send(());
        }
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn packets_stand_in_their_order_with_separators_between() {
        // Of any length: parts end within packets, between them, and right behind a separator
        for len in [
            1,
            2,
            PART_BYTES - 1,
            PART_BYTES,
            PART_BYTES + 1,
            5 * PART_BYTES,
        ] {
            let packets: Vec<String> = (0..5).map(|n| n.to_string().repeat(len)).collect();
            let texts: Vec<Text> = packets.iter().map(|packet| Text::of(packet)).collect();
            let (answer, taken) = Answer::new(&texts);
            let expected = packets.join("\u{1e}");
            assert_eq!(answer.size_hint().exact(), Some(expected.len() as u64));
            assert_eq!(answer.collect().await.unwrap().to_bytes(), expected);
            assert!(taken.await.is_ok());
        }
    }

    #[tokio::test]
    async fn it_is_taken_with_its_last_part_and_not_before() {
        let packet = Text::of(&"4".repeat(3 * PART_BYTES));
        let (mut answer, mut taken) = Answer::new(std::slice::from_ref(&packet));
        for _ in 0..2 {
            let part = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(part.len(), PART_BYTES);
            assert!(taken.try_recv().is_err());
        }
        answer.frame().await.unwrap().unwrap();
        assert!(answer.is_end_stream());
        assert_eq!(taken.try_recv(), Ok(()));
        // An answer that is cut off is detected
        let (answer, taken) = Answer::new(&[packet]);
        drop(answer);
        assert!(taken.await.is_err());
    }
}
