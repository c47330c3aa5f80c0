//! The part of WebSocket that a client with minimal overhead needs: text, ping, pong and close, in whole frames.

/// One frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    /// The close code; 1005 if there is none.
    Close(u16),
    Other,
}

/// What no server may send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a frame that is masked, in parts, or of an unknown kind")]
pub(crate) struct Broken;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const NO_CODE: u16 = 1005;

/// The first frame of `bytes` and how many bytes it takes; `None` if it is not complete yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Broken> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0xF0 != FIN || second & MASKED != 0 {
        return Err(Broken);
    }
    let (len, head) = match (second, rest) {
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [0, 0, 0, 0, a, b, c, d, ..]) => (u32::from_be_bytes([*a, *b, *c, *d]) as usize, 10),
        (127, [_, _, _, _, _, _, _, _, ..]) => return Err(Broken),
        (126 | 127, _) => return Ok(None),
        (len, _) => (usize::from(*len), 2),
    };
    let Some(payload) = bytes.get(head..head + len) else {
        return Ok(None);
    };
    let frame = match first & 0x0F {
        TEXT => Frame::Text(payload),
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close(close_code(payload)),
        PONG => Frame::Other,
        _ => return Err(Broken),
    };
    Ok(Some((frame, head + len)))
}

fn close_code(payload: &[u8]) -> u16 {
    match payload {
        [a, b, ..] => u16::from_be_bytes([*a, *b]),
        _ => NO_CODE,
    }
}

/// Appends a text frame.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put(out, TEXT, text);
}

/// Appends a ping.
pub(crate) fn put_ping(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, PING, payload);
}

/// Appends the answer to a ping.
pub(crate) fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, PONG, payload);
}

/// A client must mask. With a mask of zeros the text is unchanged, which costs nothing here and no less on the server.
fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => out.push(MASKED | len),
        (_, Ok(len)) => {
            out.push(MASKED | 126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_one_by_one() {
        let bytes = [
            0x81, 2, b'h', b'i', 0x89, 1, b'p', 0x88, 2, 0x11, 0x38, 0x81,
        ];
        assert_eq!(read(&bytes), Ok(Some((Frame::Text(b"hi"), 4))));
        assert_eq!(read(&bytes[4..]), Ok(Some((Frame::Ping(b"p"), 3))));
        assert_eq!(read(&bytes[7..]), Ok(Some((Frame::Close(4408), 4))));
        assert_eq!(read(&bytes[11..]), Ok(None));
    }

    #[test]
    fn long_frames_are_read_when_all_is_there() {
        let mut bytes = vec![0x81, 126, 1, 0];
        bytes.extend([b'x'; 256]);
        assert_eq!(read(&bytes[..259]), Ok(None));
        assert_eq!(read(&bytes), Ok(Some((Frame::Text(&[b'x'; 256]), 260))));
        let mut bytes = vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        bytes.extend([b'x'; 65_536]);
        assert_eq!(read(&bytes[..9]), Ok(None));
        assert_eq!(
            read(&bytes),
            Ok(Some((Frame::Text(&[b'x'; 65_536]), 65_546)))
        );
    }

    #[test]
    fn what_no_server_sends_is_broken() {
        assert_eq!(read(&[0x81, 0x80]), Err(Broken));
        assert_eq!(read(&[0x01, 0]), Err(Broken));
        assert_eq!(read(&[0x82, 0]), Err(Broken));
    }

    #[test]
    fn frames_of_a_client_are_masked() {
        let mut out = Vec::new();
        put_text(&mut out, b"hi");
        assert_eq!(out, [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        out.clear();
        put_text(&mut out, &[b'x'; 300]);
        assert_eq!(out[..8], [0x81, 0xFE, 1, 44, 0, 0, 0, 0]);
        assert_eq!(out.len(), 308);
    }
}
