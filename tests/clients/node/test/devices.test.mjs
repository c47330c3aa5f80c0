// Several devices of a user, groups and private chats, whole lists and deltas.
import assert from "node:assert/strict";

import { SocketIoDevice, TRANSPORTS } from "../support/device.mjs";
import { overEachTransport, story } from "../support/story.mjs";

const seqs = (messages) => messages.map((message) => message.seq);

overEachTransport("devices", (each) => {
  each("all devices of a user get everything, each enters chats of its own", async (stage) => {
    // Given Alice on a phone and a laptop, and Bob
    const server = await stage.server();
    const phone = await stage.device(server, "alice");
    const laptop = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");

    // When Bob opens a chat with Alice, then both devices have it
    const roomId = await bob.openRoom(["alice"]);
    for (const device of [phone, laptop]) {
      const list = await device.take("chatList", (rooms) => rooms.length === 1);
      assert.equal(list[0].roomId, roomId);
    }

    // When Bob writes, then both devices get it
    await bob.say(roomId, "Hello Alice");
    const first = await phone.take("newMessage");
    for (const device of [laptop, bob]) assert.deepEqual(await device.take("newMessage"), first);

    // When Alice reads on the phone, then only the phone gets the history, but both learn that it is read
    phone.emit("enterChat", { roomId });
    assert.deepEqual(seqs(await phone.take("chatHistory")), [1]);
    assert.equal(await phone.take("status"), `${roomId} entered`);
    const mark = { roomId, userId: "alice", seq: 1, messageId: first.id };
    for (const device of [phone, laptop, bob]) assert.deepEqual(await device.take("messageRead"), mark);
    await laptop.take("chatList", ([entry]) => entry.seq === 1 && entry.unreadCnt === 0);
    await laptop.hasNothing();

    // When she answers from the laptop, then the phone has that too
    await laptop.say(roomId, "Hello Bob");
    for (const device of [phone, laptop, bob]) {
      assert.equal((await device.take("newMessage")).content, "Hello Bob");
    }

    // When the laptop disconnects, then the phone stays connected
    laptop.close();
    await bob.say(roomId, "Still there?");
    const message = await phone.take("newMessage");
    assert.equal(message.content, "Still there?");
    assert.deepEqual(message.readBy.sort(), ["alice", "bob"], "the phone views the chat");
    assert.deepEqual(phone.ends, []);
  });

  each("a private chat and a group keep apart", async (stage) => {
    // Given a chat of Alice and Bob, and a group with Carol
    const server = await stage.server();
    const [alice, bob, carol] = await Promise.all(["alice", "bob", "carol"].map((user) => stage.delta(server, user)));
    const direct = await alice.openRoom(["bob"]);
    const group = await alice.openRoom(["bob", "carol"], { name: "Lunch" });
    assert.notEqual(direct, group);
    for (const device of [alice, bob, carol]) {
      const entry = await device.take("chatEntry", (it) => it.isGroupChat);
      assert.equal(entry.groupName, "Lunch");
      assert.equal(entry.memberCount, 3);
    }

    // When a message is sent in both
    await alice.say(direct, "Only you");
    await bob.say(group, "You all");

    // Then Carol gets the messages of the group and nothing else
    assert.equal((await carol.take("newMessage")).content, "You all");
    await carol.hasNothing();
    for (const device of [alice, bob]) {
      await device.take("newMessage", (it) => it.roomId === direct && it.content === "Only you");
      await device.take("newMessage", (it) => it.roomId === group && it.content === "You all");
    }

    // And a group that is opened again is a new one, unless it has an id of its own
    assert.notEqual(await alice.openRoom(["bob", "carol"]), group);
    const more = { clientRoomId: "lunch-1" };
    const once = await alice.openRoom(["bob", "carol"], more);
    const again = await alice.done("initializeChat", { participants: ["bob", "carol"], ...more });
    assert.deepEqual(again, { roomId: once, created: false });
  });

  for (const [place, options] of [
    ["auth", { auth: { chatList: "delta" } }],
    ["query", { query: { chatList: "delta" } }],
  ]) {
    each(`chatList=delta in ${place}: the list once, then what changes`, async (stage) => {
      // Given Alice with two delta devices
      const server = await stage.server();
      const alice = await stage.device(server, "alice", options);
      const tablet = await stage.device(server, "alice", options);
      const bob = await stage.device(server, "bob");

      // When she opens a chat
      alice.emit("initializeChat", { participants: ["bob"] });

      // Then she gets its entry and the status, in this order
      const [event, entry] = await alice.next();
      assert.equal(event, "chatEntry");
      assert.equal(entry.friendId, "bob");
      const { roomId } = entry;
      assert.deepEqual(await alice.next(), ["status", `${roomId} initialized`]);
      assert.equal((await tablet.take("chatEntry")).roomId, roomId);

      // When Bob writes and she reads
      const { id } = await bob.say(roomId, "Hello Alice");
      assert.equal((await alice.next())[0], "newMessage");
      const marked = await alice.done("markAsRead", { roomId, messageId: id });
      assert.deepEqual(marked, { roomId, readSeq: 1, unreadCnt: 0 });

      // Then no list comes, only what changed
      const events = alice.takeAll().map(([name]) => name);
      assert.deepEqual(events.sort(), ["messageRead", "status"]);
      await tablet.take("newMessage");
      await tablet.take("messageRead");
      await tablet.done("leaveChat");
      assert.deepEqual(tablet.takeAll(), [["status", "leaved from all rooms"]]);

      // But a list comes when she requests it
      assert.deepEqual(await alice.done("getChatList"), { rooms: 1 });
      assert.deepEqual((await alice.next())[0], "chatList");
    });
  }

  each("chatList=full is the default, and anything else is refused", async (stage) => {
    const server = await stage.server();
    const full = await stage.device(server, "alice", { auth: { chatList: "full" } });
    const roomId = await full.openRoom(["bob"]);
    await full.take("chatList", (list) => list.some((entry) => entry.roomId === roomId));
    const { extraHeaders } = full.socket.io.opts;
    for (const wrong of [{ auth: { chatList: "both" } }, { query: { chatList: "both" } }]) {
      const device = stage.open(server, "alice", { extraHeaders, ...wrong });
      assert.equal((await device.take("error")).code, "INVALID_PAYLOAD");
      assert.equal(await device.ended(), "io server disconnect");
      assert.deepEqual(device.takeAll(), []);
    }
  });

  each("whoever connects in the middle of a talk misses nothing", async (stage) => {
    // Given Alice, who keeps sending
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const roomId = await alice.openRoom(["bob"]);
    let talking = true;
    const talk = (async () => {
      let seq = 0;
      while (talking) ({ seq } = await alice.say(roomId, `number ${seq + 1}`));
      return seq;
    })();

    // When Bob connects five times in the meantime
    try {
      for (let time = 1; time <= 5; time += 1) {
        const bob = await stage.delta(server, "bob");
        const known = bob.list[0].seq;
        await bob.take("newMessage", (message) => message.seq >= known + 20);

        // Then what he gets continues where his list ends, without a gap and with nothing twice
        const upTo = Array.from({ length: 19 }, (_, index) => known + 1 + index);
        assert.deepEqual(seqs(bob.takeAll().map(([, message]) => message)).slice(0, 19), upTo);
        bob.close();
      }
    } finally {
      talking = false;
      await talk;
    }
  });

  each("long messages come whole in both directions", async (stage) => {
    // Given ten messages of the maximum length, sent at once
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const bob = await stage.delta(server, "bob");
    const roomId = await alice.openRoom(["bob"]);
    const texts = Array.from({ length: 10 }, (_, number) => String.fromCharCode(0xe0 + number).repeat(8 * 1024));
    await Promise.all(texts.map((content) => alice.say(roomId, content)));

    // Then Bob gets them as they were sent, and so does the history
    for (const content of texts) assert.equal((await bob.take("newMessage")).content, content);
    bob.emit("enterChat", { roomId });
    assert.deepEqual((await bob.take("chatHistory")).map((message) => message.content), texts);
  });
});

story("devices on different transports see one order", async (stage) => {
  // Given three users in a group, each on another transport, and one over the native protocol
  const server = await stage.server();
  const devices = [await stage.native(server, "native", { query: "?chatList=delta" })];
  for (const [index, transport] of Object.keys(TRANSPORTS).entries()) {
    const auth = { chatList: "delta" };
    const device = await SocketIoDevice.connect(server, `user-${index}`, transport, { auth });
    devices.push(stage.keep(device));
  }
  const roomId = await devices[0].openRoom(devices.slice(1).map((device) => device.user));

  // When all of them send at once
  await Promise.all(
    devices.map(async (device) => {
      for (let number = 0; number < 25; number += 1) await device.say(roomId, `${device.user} ${number}`);
    }),
  );

  // Then each has seen the same, in the same order
  const seen = [];
  for (const device of devices) {
    await device.until("the last message", () => device.inbox.filter(({ event }) => event === "newMessage").length === 100);
    seen.push(device.takeAll().filter(([event]) => event === "newMessage").map(([, message]) => message.id));
  }
  for (const ids of seen) assert.deepEqual(ids, seen[0]);
  assert.deepEqual((await devices[0].history(roomId)).map((message) => message.id), seen[0]);
});
