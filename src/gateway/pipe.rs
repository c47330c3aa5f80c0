//! A device's TCP connection, with more than one writer: whole WebSocket frames, one after the other.
//!
//! The reader's WebSocket stream answers pings and closes by itself; everything else is written by the task that has
//! something for the device. What the socket does not take at once stays here, ahead of everything that follows.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Frames in one write, at most.
const AT_ONCE: usize = 128;

/// The number of frames for which capacity is kept while there are none.
const KEPT_FRAMES: usize = 4;

/// Bytes of the WebSocket stream's own output that may wait for the socket; beyond this nothing more is read from it.
const WAITING_BYTES: usize = 4 * 1024;

/// How much a peer may still send before it knows that nothing is read any more: the largest frame by far.
const UNHEARD_BYTES: usize = 64 * 1024 * 1024;
/// This much of it is read at once.
const SCRAP_BYTES: usize = 16 * 1024;

/// The writing half.
pub(super) struct Pipe {
    socket: OwnedWriteHalf,
    rest: Mutex<Rest>,
}

/// What is still to be written, ahead of everything else.
#[derive(Default)]
pub(super) struct Rest(VecDeque<Bytes>);

impl Rest {
    pub(super) fn extend(&mut self, frames: impl IntoIterator<Item = Bytes>) {
        self.0.extend(frames);
    }

    /// Passes `write` as much as it takes now, frame by frame in order. True if that is everything.
    fn write(&mut self, write: impl Fn(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<bool> {
        while let Some(first) = self.0.front() {
            let written = match self.0.len() {
                1 => write(&[IoSlice::new(first)]),
                len => {
                    let mut slices = [IoSlice::new(&[]); AT_ONCE];
                    for (slice, frame) in slices.iter_mut().zip(&self.0) {
                        *slice = IoSlice::new(frame);
                    }
                    write(&slices[..len.min(AT_ONCE)])
                }
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.0.front_mut() {
            if written < first.len() {
                return first.advance(written);
            }
            written -= first.len();
            self.0.pop_front();
        }
        if self.0.capacity() > KEPT_FRAMES {
            // A burst leaves a large buffer behind: thousands of idle connections must not keep theirs.
            self.0 = VecDeque::new();
        }
    }
}

impl Pipe {
    /// Nothing else writes while this is held.
    pub(super) fn lock(&self) -> MutexGuard<'_, Rest> {
        // No code under this lock panics halfway through a change.
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes as much as the socket takes now. True if that is everything.
    pub(super) fn write(&self, rest: &mut Rest) -> io::Result<bool> {
        rest.write(|slices| match slices {
            [only] => self.socket.try_write(only),
            several => self.socket.try_write_vectored(several),
        })
    }

    /// Resolves when the socket may take more, or is closed.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    fn poll_written(&self, cx: &mut Context<'_>, rest: &mut Rest) -> Poll<io::Result<()>> {
        while !self.write(rest)? {
            ready!(self.socket.as_ref().poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Both halves, for a WebSocket stream.
pub(super) struct Line {
    read: OwnedReadHalf,
    pub(super) pipe: Arc<Pipe>,
    /// The stream has more to write than may wait. It answers whatever it reads, and would continue to do so for a peer
    /// that reads none of the answers: a ping flood would fill the memory. So it gets nothing to read until it has
    /// written.
    is_full: bool,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (read, socket) = stream.into_split();
        let rest = Mutex::default();
        Self {
            read,
            pipe: Arc::new(Pipe { socket, rest }),
            is_full: false,
        }
    }

    /// Shuts down the writing side and keeps reading until the peer closes too. A connection that is closed while data
    /// on it is unread is reset, and the peer loses what was sent last, such as the reason that its frame was too
    /// large.
    pub(super) async fn hang_up(mut self) -> io::Result<()> {
        // The last owner to drop the writing half closes it.
        drop(self.pipe);
        let mut scrap = vec![0; SCRAP_BYTES];
        let mut left = UNHEARD_BYTES;
        while left > 0 {
            match self.read.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_full {
            ready!(self.as_mut().poll_flush(cx))?;
            self.is_full = false;
        }
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    /// Takes all or nothing: the WebSocket stream passes whole frames, which nothing may interrupt.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().poll_flush(cx);
        self.is_full = written.is_pending() && frames.len() >= WAITING_BYTES;
        ready!(written)?;
        self.pipe.lock().extend([Bytes::copy_from_slice(frames)]);
        Poll::Ready(Ok(frames.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.poll_written(cx, &mut self.pipe.lock())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::RefCell;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Takes this many bytes per write and this many writes, then nothing more for now.
    struct Socket {
        bytes_each: usize,
        writes_left: RefCell<usize>,
        taken: RefCell<Vec<u8>>,
        writes: RefCell<usize>,
    }

    impl Socket {
        fn taking(bytes_each: usize, writes: usize) -> Self {
            Self {
                bytes_each,
                writes_left: RefCell::new(writes),
                taken: RefCell::default(),
                writes: RefCell::default(),
            }
        }

        fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut left = self.writes_left.borrow_mut();
            if *left == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            *left -= 1;
            *self.writes.borrow_mut() += 1;
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let len = all.len().min(self.bytes_each);
            self.taken.borrow_mut().extend(&all[..len]);
            Ok(len)
        }
    }

    fn frames(count: usize) -> Vec<Bytes> {
        (0..count)
            .map(|number| Bytes::from(format!("<{number}>")))
            .collect()
    }

    #[test]
    fn what_waits_is_one_write() {
        let socket = Socket::taking(usize::MAX, usize::MAX);
        let mut rest = Rest::default();
        rest.extend(frames(AT_ONCE));
        assert!(rest.write(|slices| socket.write(slices)).unwrap());
        assert_eq!(*socket.writes.borrow(), 1);
        assert_eq!(*socket.taken.borrow(), frames(AT_ONCE).concat());
        // More than that in as few writes as possible
        rest.extend(frames(2 * AT_ONCE + 1));
        assert!(rest.write(|slices| socket.write(slices)).unwrap());
        assert_eq!(*socket.writes.borrow(), 1 + 3);
    }

    #[test]
    fn a_full_socket_goes_on_where_it_stopped() {
        // However little it takes at once, even in the middle of frames
        for bytes_each in 1..12 {
            let socket = Socket::taking(bytes_each, 5);
            let mut rest = Rest::default();
            rest.extend(frames(20));
            assert!(!rest.write(|slices| socket.write(slices)).unwrap());
            rest.extend(frames(3));
            *socket.writes_left.borrow_mut() = usize::MAX;
            assert!(rest.write(|slices| socket.write(slices)).unwrap());
            assert_eq!(
                *socket.taken.borrow(),
                [frames(20), frames(3)].concat().concat(),
                "{bytes_each} bytes at once"
            );
        }
    }

    #[test]
    fn no_large_buffer_is_kept() {
        let socket = Socket::taking(usize::MAX, usize::MAX);
        let mut rest = Rest::default();
        rest.extend(frames(1000));
        assert!(rest.write(|slices| socket.write(slices)).unwrap());
        assert!(rest.0.capacity() <= KEPT_FRAMES);
    }

    #[tokio::test]
    async fn two_writers_do_not_come_between_each_others_frames() {
        const COUNT: usize = 20_000;
        const LINE_BYTES: usize = 500;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (mut far, _) = listener.accept().await.unwrap();
        let mut line = Line::new(near.unwrap());
        let pipe = line.pipe.clone();
        // Given a WebSocket stream and another writer that write to the same connection, while the peer reads slowly
        let through_stream = async {
            for number in 0..COUNT {
                line.write_all(format!("a{number:0LINE_BYTES$}\n").as_bytes())
                    .await
                    .unwrap();
                line.flush().await.unwrap();
            }
        };
        let write = |line: String| {
            let mut rest = pipe.lock();
            rest.extend((!line.is_empty()).then(|| Bytes::from(line)));
            pipe.write(&mut rest).unwrap()
        };
        let directly = async {
            for number in 0..COUNT {
                match write(format!("b{number:0LINE_BYTES$}\n")) {
                    true => tokio::task::yield_now().await,
                    false => pipe.writable().await.unwrap(),
                }
            }
            while !write(String::new()) {
                pipe.writable().await.unwrap();
            }
        };
        let reading = async {
            let mut all = Vec::new();
            let mut lines = 0;
            let mut buffer = vec![0; 256 * 1024];
            while lines < 2 * COUNT {
                // Slower than they write: the kernel's buffers fill up after a while.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let len = far.read(&mut buffer).await.unwrap();
                lines += buffer[..len].iter().filter(|byte| **byte == b'\n').count();
                all.extend_from_slice(&buffer[..len]);
            }
            String::from_utf8(all).unwrap()
        };
        let ((), (), text) = tokio::join!(through_stream, directly, reading);
        // Then each line arrived whole, and those of each writer in order
        for writer in ["a", "b"] {
            let of_writer: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with(writer))
                .collect();
            let expected: Vec<String> = (0..COUNT)
                .map(|number| format!("{writer}{number:0LINE_BYTES$}"))
                .collect();
            assert_eq!(of_writer, expected);
        }
    }
}
