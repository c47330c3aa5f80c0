//! The parts of a message's path that need neither Redis nor a socket: reading, encoding, fan-out.
//!
//! `make bench-pure`; a single one: `make bench-pure ARGS=fan_out`

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use chat_server::hub::Hub;
use chat_server::hub::device::{Device, ListMode};
use chat_server::hub::hold::{Cuts, Section};
use chat_server::hub::lane::{Kind, QueueLimits, Taken};
use chat_server::hub::published::{Change, RoomEvent};
use chat_server::hub::snapshot::Snapshot;
use chat_server::protocol::content::ContentShape;
use chat_server::protocol::event::Shown;
use chat_server::protocol::frame::Frame;
use chat_server::protocol::ids::{MessageId, RoomId, UserId};
use chat_server::protocol::request::parse_frame;
use chat_server::protocol::socket_io::{Packet, request};
use chat_server::room::Position;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const ROOM: &str = "6e0f5c5e-7a0c-4b52-9c1a-1b2c3d4e5f60";
const EPOCH: &str = "1763776800000-1b2c3d4e";
/// The number of devices that one event goes to.
const DEVICES: usize = 1000;

fn room() -> RoomId {
    RoomId::parse(ROOM).unwrap()
}

/// What `send_message` publishes, with a content of 100 bytes.
fn payload(rev: u64) -> String {
    let content = "x".repeat(100);
    format!(
        r#"{{"event":"message","epoch":"{EPOCH}","rev":{rev},"seq":{rev},"id":"1763776800001-{rev}","sender":"alice","content":"{content}","clientMessageId":"m-1","readBy":["alice","bob"],"readCount":2}}"#
    )
}

fn published(rev: u64) -> RoomEvent {
    RoomEvent::parse(room(), payload(rev).as_bytes()).unwrap()
}

fn read(bench: &mut Criterion) {
    let content = "x".repeat(100);
    let data = format!(r#"{{"roomId":"{ROOM}","content":"{content}","clientMessageId":"m-1"}}"#);
    let native = format!(r#"{{"event":"sendMessage","id":7,"data":{data}}}"#);
    let socket_io = format!(r#"27["sendMessage",{data}]"#);
    bench.bench_function("read/native request", |bench| {
        bench.iter(|| parse_frame(black_box(&native)));
    });
    bench.bench_function("read/Socket.IO request", |bench| {
        bench.iter(|| match Packet::parse(black_box(&socket_io)) {
            Packet::Event { id, args } => request(id, args),
            other => panic!("{other:?}"),
        });
    });
    let payload = payload(1);
    bench.bench_function("read/published message", |bench| {
        bench.iter(|| RoomEvent::parse(room(), black_box(payload.as_bytes())));
    });
}

fn encode(bench: &mut Criterion) {
    let Change::Message(message) = published(1).change else {
        panic!("not a message");
    };
    bench.bench_function("encode/message, native", |bench| {
        bench.iter(|| {
            Frame::event(
                "newMessage",
                &Shown(black_box(&message), ContentShape::String),
            )
        });
    });
    bench.bench_function("encode/message, both doors", |bench| {
        bench.iter(|| {
            Frame::event(
                "newMessage",
                &Shown(black_box(&message), ContentShape::String),
            )
            .socket_io()
        });
    });
}

/// A room whose devices have all had their first list.
async fn crowd(mode: ListMode) -> (Arc<Hub>, Vec<Arc<Device>>) {
    let limits = QueueLimits {
        max_frames: 1000,
        max_bytes: 1 << 20,
        answers_max_bytes: 1 << 18,
    };
    let hub = Arc::new(Hub::new(limits, Duration::from_secs(1)));
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        let user = UserId::parse(&format!("user-{number}")).unwrap();
        let device = hub
            .register(user.clone(), mode, Frame::event("hello", &()), 10)
            .unwrap();
        hub.follow(&user, &[room()], &[device.id]);
        let start = Position {
            epoch: EPOCH.into(),
            rev: 1,
            seq: 1,
            last_id: MessageId::NONE,
        };
        let list = Section {
            cuts: Arc::new(Cuts::from([(room(), start)])),
            frames: Vec::new(),
            kind: Kind::Answer,
            tells_rooms: true,
        };
        let snapshot = Snapshot::first(&hub, &device);
        assert!(snapshot.finish(vec![list]).await.is_ok());
        devices.push(device);
    }
    (hub, devices)
}

fn fan_out(bench: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for (name, mode) in [("delta", ListMode::Delta), ("full", ListMode::Full)] {
        let (hub, devices) = runtime.block_on(crowd(mode));
        let mut rev = 1;
        let mut next = || {
            let mut got = 0;
            for device in &devices {
                while device.take(|_| got += 1) == Taken::Frames {}
            }
            // The measurement is valid only if all devices got it.
            assert!(rev == 1 || got == DEVICES);
            rev += 1;
            published(rev)
        };
        bench.bench_function(&format!("fan_out/1,000 devices, {name}"), |bench| {
            bench.iter_batched(
                &mut next,
                |event| hub.room_event(room(), event),
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(pure, read, encode, fan_out);
criterion_main!(pure);
