//! A text, laid out once in the form in which it goes over a WebSocket.
//!
//! A long text is split into parts: a writer releases each part once it is written, so that only what the peer has not
//! taken yet remains in memory.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Bytes of each part but the last.
const PART_BYTES: usize = 64 * 1024;

/// Bytes that are enough for most events and answers.
const USUAL_BYTES: usize = 512;

/// Bytes of the header of a WebSocket frame sent by the server, at most.
const HEADER_MAX_BYTES: usize = 10;

/// A text in its WebSocket frame. Clones share it.
#[derive(Clone)]
pub struct Text {
    /// The frame.
    parts: Parts,
    /// Where the text begins in the frame.
    at: usize,
    /// Bytes of the text.
    len: usize,
}

#[derive(Clone)]
enum Parts {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Parts {
    fn all(&self) -> &[Bytes] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Many(parts) => parts,
        }
    }
}

impl Text {
    /// A copy of this text.
    pub fn of(text: &str) -> Self {
        Self::written(|writer| writer.put(text.as_bytes()))
    }

    /// The text that `write` writes.
    pub(super) fn written(write: impl FnOnce(&mut Writer)) -> Self {
        let mut writer = Writer::new();
        write(&mut writer);
        let Writer { mut full, last } = writer;
        if full.is_empty() || !last.is_empty() {
            full.push(last);
        }
        let len = full.iter().map(Vec::len).sum::<usize>() - HEADER_MAX_BYTES;
        // The header's length depends on the text's: it is placed directly before the text.
        let begin = put_header(&mut full[0], len);
        let mut parts = full.into_iter().map(Bytes::from).collect::<Vec<_>>();
        parts[0] = parts[0].slice(begin..);
        Self::of_parts(parts, HEADER_MAX_BYTES - begin, len)
    }

    /// `head`, the text of `shared`, and `tail`, without copying what is shared.
    pub(super) fn around(
        head: &[u8],
        shared: impl IntoIterator<Item = Bytes>,
        tail: &[u8],
    ) -> Self {
        let mut first = vec![0; HEADER_MAX_BYTES];
        first.extend_from_slice(head);
        let mut parts = vec![Bytes::new()];
        parts.extend(shared);
        parts.push(Bytes::copy_from_slice(tail));
        let len = head.len() + parts.iter().map(Bytes::len).sum::<usize>();
        let begin = put_header(&mut first, len);
        parts[0] = Bytes::from(first).slice(begin..);
        Self::of_parts(parts, HEADER_MAX_BYTES - begin, len)
    }

    fn of_parts(mut parts: Vec<Bytes>, at: usize, len: usize) -> Self {
        let parts = match (parts.len(), parts.pop()) {
            (1, Some(only)) => Parts::One(only),
            (_, last) => Parts::Many(parts.into_iter().chain(last).collect()),
        };
        Self { parts, at, len }
    }

    /// The same text; each part owns what `share` returns for its number of bytes.
    pub(super) fn owning<S: Send + 'static>(&self, mut share: impl FnMut(usize) -> S) -> Self {
        let own = |part: &Bytes| {
            let part = part.clone();
            let _share = share(part.len());
            Bytes::from_owner(Owned { part, _share })
        };
        Self::of_parts(
            self.parts.all().iter().map(own).collect(),
            self.at,
            self.len,
        )
    }

    /// Bytes of the text.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is short enough to fit in one part.
    pub(super) fn is_short(&self) -> bool {
        matches!(self.parts, Parts::One(_))
    }

    /// The WebSocket frame that carries the text.
    pub fn frame(&self) -> impl Iterator<Item = Bytes> {
        self.parts.all().iter().cloned()
    }

    /// The text alone, sharing the frame's memory.
    pub fn payload(&self) -> impl Iterator<Item = Bytes> {
        let begin = |index| if index == 0 { self.at } else { 0 };
        let parts = self.parts.all().iter().enumerate();
        parts.map(move |(index, part)| part.slice(begin(index)..))
    }

    pub fn as_str(&self) -> Cow<'_, str> {
        // Written by formatting and by serde_json, which write UTF-8; but a part may end within a character.
        match &self.parts {
            Parts::One(frame) => String::from_utf8_lossy(&frame[self.at..]),
            Parts::Many(_) => {
                let all: Vec<u8> = self.payload().flatten().collect();
                Cow::Owned(String::from_utf8_lossy(&all).into_owned())
            }
        }
    }
}

/// Bytes, and a value that is dropped with them.
struct Owned<S> {
    part: Bytes,
    _share: S,
}

impl<S> AsRef<[u8]> for Owned<S> {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

/// Writes the header of a frame with this many bytes of text directly before the text in `first`. Returns where it
/// begins.
fn put_header(first: &mut [u8], len: usize) -> usize {
    let header = FrameHeader {
        opcode: OpCode::Data(Data::Text),
        ..FrameHeader::default()
    };
    let begin = HEADER_MAX_BYTES - header.len(len as u64);
    if let Err(error) = header.format(len as u64, &mut &mut first[begin..HEADER_MAX_BYTES]) {
        log::error!("an event could not be laid out: {error}");
    }
    begin
}

/// Collects a text, part by part. Writing to it does not fail.
pub(super) struct Writer {
    full: Vec<Vec<u8>>,
    /// Has spare capacity.
    last: Vec<u8>,
}

impl Writer {
    /// Reserves space for the header at the beginning.
    fn new() -> Self {
        let mut last = Vec::with_capacity(USUAL_BYTES);
        last.resize(HEADER_MAX_BYTES, 0);
        Self {
            full: Vec::new(),
            last,
        }
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        loop {
            let room = PART_BYTES - self.last.len();
            if bytes.len() < room {
                return self.last.extend_from_slice(bytes);
            }
            let (now, later) = bytes.split_at(room);
            self.last.extend_from_slice(now);
            let next = Vec::with_capacity(later.len().clamp(USUAL_BYTES, PART_BYTES));
            self.full.push(std::mem::replace(&mut self.last, next));
            bytes = later;
        }
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: impl Iterator<Item = Bytes>) -> Vec<u8> {
        parts.flatten().collect()
    }

    /// The frame that `tungstenite` would make.
    fn expected(text: &str) -> Vec<u8> {
        use tokio_tungstenite::tungstenite::protocol::frame::Frame;
        let mut bytes = Vec::new();
        let frame = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
        assert!(frame.format(&mut bytes).is_ok());
        bytes
    }

    #[test]
    fn a_text_of_any_length_is_a_whole_frame() {
        for len in [
            0,
            1,
            125,
            126,
            PART_BYTES - 11,
            PART_BYTES - 10,
            65_535,
            65_536,
            300_000,
        ] {
            let text: String = "aé€".chars().cycle().take(len).collect();
            // However it is written
            for step in [1_000, 7_777, usize::MAX] {
                let laid_out = Text::written(|writer| {
                    for piece in text.as_bytes().chunks(step) {
                        writer.put(piece);
                    }
                });
                assert_eq!(laid_out.len(), text.len());
                assert!(
                    joined(laid_out.frame()) == expected(&text),
                    "{len} characters"
                );
                assert!(joined(laid_out.payload()) == text.as_bytes());
                assert!(laid_out.as_str() == text);
                assert!(laid_out.frame().all(|part| part.len() <= PART_BYTES));
            }
        }
    }

    #[test]
    fn what_is_shared_is_not_copied() {
        let shared = Text::written(|writer| writer.put(&[b'x'; 3 * PART_BYTES]));
        let around = Text::around(b"[", shared.payload(), b"]");
        let text = format!("[{}]", "x".repeat(3 * PART_BYTES));
        assert!(joined(around.frame()) == expected(&text));
        let addresses = |text: &Text| text.payload().map(|part| part.as_ptr()).collect::<Vec<_>>();
        let (inner, outer) = (addresses(&shared), addresses(&around));
        assert_eq!(outer[1..=inner.len()], inner);
    }
}
