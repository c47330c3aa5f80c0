//! How an event, an ack or an error becomes text, for either protocol.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::ContentShape;
use super::event::{Ack, ChatEntry, Message, Shown};
use super::text::Text;

/// One encoded frame. Clones share it: an event is serialised once for all devices, and laid out once for each
/// protocol.
#[derive(Clone)]
pub struct Frame(Arc<Encoded>);

enum Encoded {
    /// An event, for devices of both protocols.
    Event {
        name: &'static str,
        native: Text,
        /// Where the data begins in `native`; the data ends before the last brace.
        data_at: usize,
        /// The text for Socket.IO devices, created for the first one that needs it.
        socket_io: OnceLock<Text>,
    },
    /// A frame for one native device.
    Native(Text),
    /// A frame for one Socket.IO device.
    SocketIo(Text),
}

const CHAT_LIST: &str = "chatList";
const CHAT_HISTORY: &str = "chatHistory";

impl Encoded {
    fn owning<S: Send + 'static>(mut self, share: impl FnMut(usize) -> S) -> Self {
        let (Self::Event { native: text, .. } | Self::Native(text) | Self::SocketIo(text)) =
            &mut self;
        *text = text.owning(share);
        self
    }
}

impl Frame {
    /// `{"event": name, "data": data}`, or `2[name,data]`
    pub fn event(name: &'static str, data: &impl Serialize) -> Self {
        const HEAD: &str = r#"{"event":"","data":"#;
        let native = around(format_args!(r#"{{"event":"{name}","data":"#), data, "}");
        Self(Arc::new(Encoded::Event {
            name,
            native,
            data_at: HEAD.len() + name.len(),
            socket_io: OnceLock::new(),
        }))
    }

    /// `{"event": "ack", "id": id, "data": result}`, or `3id[{"ok": true, "data": result}]`
    pub fn ack(id: &RequestId, result: &Ack) -> Self {
        Self(Arc::new(match id {
            RequestId::Native(id) => {
                let head = format_args!(r#"{{"event":"ack","id":{id},"data":"#);
                Encoded::Native(around(head, result, "}"))
            }
            RequestId::SocketIo(id) => {
                let head = format_args!(r#"43{id}[{{"ok":true,"data":"#);
                Encoded::SocketIo(around(head, result, "}]"))
            }
        }))
    }

    /// `{"event": "error", "id"?: id, "data": error}`, or `3id[{"ok": false, "error": error}]`, or `2["error",error]`
    ///
    /// The error is a [`ChatError`], or a [`ClassicError`](super::event::ClassicError).
    pub fn error(id: Option<&RequestId>, error: &impl Serialize) -> Self {
        Self(Arc::new(match id {
            None => return Self::event("error", error),
            Some(RequestId::Native(id)) => {
                let head = format_args!(r#"{{"event":"error","id":{id},"data":"#);
                Encoded::Native(around(head, error, "}"))
            }
            Some(RequestId::SocketIo(id)) => {
                let head = format_args!(r#"43{id}[{{"ok":false,"error":"#);
                Encoded::SocketIo(around(head, error, "}]"))
            }
        }))
    }

    /// A Socket.IO packet as it is.
    pub fn socket_io_packet(packet: &str) -> Self {
        Self(Arc::new(Encoded::SocketIo(Text::written(|text| {
            text.put(b"4");
            text.put(packet.as_bytes());
        }))))
    }

    /// `chatList`: all rooms of a user.
    pub fn chat_list(entries: &[ChatEntry], shape: ContentShape) -> Self {
        Self::event(CHAT_LIST, &Shown(entries, shape))
    }

    /// `chatHistory`: messages of a room.
    pub fn chat_history(messages: &[Message], shape: ContentShape) -> Self {
        Self::event(CHAT_HISTORY, &Shown(messages, shape))
    }

    /// Whether it is a `chatList`, which makes earlier ones obsolete.
    pub fn is_chat_list(&self) -> bool {
        self.is_called(CHAT_LIST)
    }

    /// Whether it is a `chatHistory`.
    pub fn is_chat_history(&self) -> bool {
        self.is_called(CHAT_HISTORY)
    }

    fn is_called(&self, wanted: &str) -> bool {
        matches!(&*self.0, Encoded::Event { name, .. } if *name == wanted)
    }

    /// A human-readable `status`.
    pub fn status(text: &str) -> Self {
        Self::event("status", &text)
    }

    /// Makes each part of the text own what `share` returns for its number of bytes: that is dropped with the part.
    ///
    /// For a frame that is not shared yet; any other frame is returned unchanged.
    pub fn owning<S: Send + 'static>(self, share: impl FnMut(usize) -> S) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(encoded) => Self(Arc::new(encoded.owning(share))),
            Err(shared) => Self(shared),
        }
    }

    /// Bytes of the text, nearly the same for both protocols.
    pub fn len(&self) -> usize {
        match &*self.0 {
            Encoded::Event { native, .. } | Encoded::Native(native) => native.len(),
            Encoded::SocketIo(packet) => packet.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text for a native device; `None` for an answer to a Socket.IO device.
    pub fn native(&self) -> Option<Text> {
        match &*self.0 {
            Encoded::Event { native, .. } | Encoded::Native(native) => Some(native.clone()),
            Encoded::SocketIo(_) => None,
        }
    }

    /// The Engine.IO message for a Socket.IO device; `None` for an answer to a native device.
    pub fn socket_io(&self) -> Option<Text> {
        match &*self.0 {
            Encoded::Event {
                name,
                native,
                data_at,
                socket_io,
                ..
            } => {
                let text = || socket_io_event(name, native, *data_at);
                Some(socket_io.get_or_init(text).clone())
            }
            Encoded::Native(_) => None,
            Encoded::SocketIo(text) => Some(text.clone()),
        }
    }
}

/// One event in the shapes of contents that devices want: encoded once for each shape requested.
#[derive(Debug, Clone)]
pub struct ShapedFrames {
    frames: [Option<Frame>; ContentShape::ALL.len()],
    /// All contents in it were sent as strings: the as-sent shape equals the string shape.
    is_plain: bool,
}

impl ShapedFrames {
    /// For an event with these messages. Nothing is encoded yet.
    pub fn of<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Self {
        Self {
            frames: Default::default(),
            is_plain: messages.into_iter().all(|message| message.parts.is_none()),
        }
    }

    /// The frame in this shape, encoded with `encode` if this shape was not requested before.
    pub fn get_or_encode(
        &mut self,
        shape: ContentShape,
        encode: impl FnOnce(ContentShape) -> Frame,
    ) -> &Frame {
        let place = self.place(shape);
        self.frames[place].get_or_insert_with(|| encode(shape))
    }

    /// The frame in this shape, if it was encoded.
    pub fn get(&self, shape: ContentShape) -> Option<&Frame> {
        self.frames[self.place(shape)].as_ref()
    }

    /// The slots of the frames that have been encoded.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut Option<Frame>> {
        self.frames.iter_mut()
    }

    fn place(&self, shape: ContentShape) -> usize {
        match shape {
            ContentShape::AsSent if self.is_plain => ContentShape::String as usize,
            shape => shape as usize,
        }
    }
}

impl fmt::Debug for Frame {
    /// Without the text, which may be somebody's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

/// The Engine.IO message of an event whose data is in `native`, up to its last brace.
fn socket_io_event(name: &str, native: &Text, data_at: usize) -> Text {
    let head = format!("42[\"{name}\",");
    let mut left = native.len() - data_at - 1;
    let data = native.payload().enumerate().map(|(index, part)| {
        let part = part.slice(if index == 0 { data_at } else { 0 }..);
        let part = part.slice(..part.len().min(left));
        left -= part.len();
        part
    });
    if !native.is_short() {
        return Text::around(head.as_bytes(), data, b"]");
    }
    Text::written(|text| {
        text.put(head.as_bytes());
        data.for_each(|part| text.put(&part));
        text.put(b"]");
    })
}

/// `head`, the value as JSON, and `tail`, written as one text.
fn around(head: std::fmt::Arguments<'_>, value: &impl Serialize, tail: &str) -> Text {
    Text::written(|text| {
        // Writing to memory does not fail, nor does serialising our own types: they have string keys and no fallible
        // maps.
        let written = text
            .write_fmt(head)
            .map_err(serde_json::Error::io)
            .and_then(|()| serde_json::to_writer(&mut *text, value));
        if let Err(error) = written {
            log::error!("an event could not be encoded: {error}");
        }
        text.put(tail.as_bytes());
    })
}

/// Identifies a request that wants an answer.
#[derive(Debug, Clone)]
pub enum RequestId {
    /// The `id` of a native frame: a string or an integer, returned as it was sent.
    Native(Box<RawValue>),
    /// The ack id of a Socket.IO packet.
    SocketIo(u64),
}

/// Bytes of a native request id as JSON, at most.
const REQUEST_ID_MAX_BYTES: usize = 256;

impl RequestId {
    /// `None` if the value is neither a string nor an integer, or is too long.
    pub fn parse(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        // It is valid JSON already: the first character identifies a string; anything but digits means a number that is
        // not an integer.
        let fits = match text.as_bytes() {
            [b'"', ..] => true,
            [b'-', ..] => text.parse::<i64>().is_ok(),
            _ => text.parse::<u64>().is_ok(),
        };
        (text.len() <= REQUEST_ID_MAX_BYTES && fits).then(|| Self::Native(raw.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::ChatError;

    #[test]
    fn an_event_reads_the_same_at_both_doors() {
        let frame = Frame::event("chatHistory", &["{\"}", "ü"]);
        assert_eq!(
            frame.native().unwrap().as_str(),
            r#"{"event":"chatHistory","data":["{\"}","ü"]}"#
        );
        assert_eq!(
            frame.socket_io().unwrap().as_str(),
            r#"42["chatHistory",["{\"}","ü"]]"#
        );
    }

    #[test]
    fn a_long_event_reads_the_same_at_both_doors_and_is_in_memory_once() {
        // Any length close to that of a part, so that parts end anywhere near the end of the data
        for len in (65_400..65_600).chain([200_000]) {
            let content = "x".repeat(len);
            let frame = Frame::event("chatHistory", &[&content]);
            let (native, socket_io) = (frame.native().unwrap(), frame.socket_io().unwrap());
            assert!(
                native.as_str() == format!(r#"{{"event":"chatHistory","data":["{content}"]}}"#)
            );
            assert!(socket_io.as_str() == format!(r#"42["chatHistory",["{content}"]]"#));
        }
        let frame = Frame::event("chatHistory", &["x".repeat(200_000)]);
        let addresses =
            |text: Text| -> Vec<_> { text.payload().map(|part| part.as_ptr()).collect() };
        let native = addresses(frame.native().unwrap());
        let socket_io = addresses(frame.socket_io().unwrap());
        assert_eq!(native[1..], socket_io[2..native.len() + 1]);
    }

    #[test]
    fn an_answer_goes_to_the_door_that_asked() {
        let socket_io = Frame::ack(&RequestId::SocketIo(7), &Ack::Reset { success: true });
        assert_eq!(
            socket_io.socket_io().unwrap().as_str(),
            r#"437[{"ok":true,"data":{"success":true}}]"#
        );
        assert!(socket_io.native().is_none());
        let raw = RawValue::from_string("\"a\"".to_owned()).unwrap();
        let native = Frame::error(RequestId::parse(&raw).as_ref(), &ChatError::not_member());
        let text = r#"{"event":"error","id":"a","data":{"code":"NOT_MEMBER","message":"You do not have permission to join this chat."}}"#;
        assert_eq!(native.native().unwrap().as_str(), text);
        assert!(native.socket_io().is_none());
    }
}
