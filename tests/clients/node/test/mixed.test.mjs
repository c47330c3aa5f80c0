// The mixed story: three kinds of clients, two servers, one chat.
import assert from "node:assert/strict";

import { PythonDevice } from "../support/python.mjs";
import { overEachTransport } from "../support/story.mjs";

/** How the Python client names its transports. */
const PYTHON_TRANSPORTS = {
  "WebSocket only": "websocket",
  "polling only": "polling",
  "polling upgraded to WebSocket": "polling,websocket",
};

/**
 * The messages that a device was sent, without their readers. A server that joins a new room a moment late fetches what
 * it missed: by then more people may have read that, and the marks of those who did come as `messageRead` too.
 */
function talk(events) {
  return events
    .filter(([event]) => event === "newMessage")
    .map(([, { readBy, readCount, ...message }]) => message);
}

overEachTransport("mixed", (each) => {
  each("native, JavaScript and Python on two servers see the same talk", async (stage) => {
    // Given two servers on one Redis: Alice over the native protocol on the first, Bob with socket.io-client on the
    // second,
    // Carol with python-socketio on the first
    const one = await stage.server();
    const two = await stage.server();
    const alice = await stage.native(one, "alice", { query: "?chatList=delta" });
    const bob = await stage.device(two, "bob", { auth: { chatList: "delta" } });
    const carol = stage.keep(await PythonDevice.connect(one, "carol", PYTHON_TRANSPORTS[stage.transport]));
    const devices = [alice, bob, carol];

    // And a group of the three, which Bob opens
    const roomId = await bob.openRoom(["alice", "carol"], { name: "Lunch" });
    for (const device of devices) {
      const entry = await device.take("chatEntry");
      assert.deepEqual([entry.roomId, entry.groupName, entry.memberCount], [roomId, "Lunch", 3]);
    }
    for (const device of devices) device.takeAll();

    // When all send at once
    const each = 40;
    const acks = await Promise.all(
      devices.map(async (device) => {
        const own = [];
        for (let number = 1; number <= each; number += 1) {
          own.push(await device.say(roomId, `${device.user} says ${number}`));
        }
        return own;
      }),
    );

    // Then each has seen every message, the same ones in the same order, without a gap
    const total = each * devices.length;
    const talks = [];
    for (const device of devices) {
      const messages = () => device.inbox.filter(({ event }) => event === "newMessage").map(({ args }) => args[0]);
      await device.until("the last message", () => messages().length >= total);
      talks.push(talk(device.takeAll()));
    }
    for (const seen of talks) {
      assert.deepEqual(seen, talks[0]);
      assert.deepEqual(seen.map((message) => message.seq), Array.from({ length: total }, (_, index) => index + 1));
    }
    // And each user's messages are in the order in which they were sent, under the numbers of their acks
    for (const [index, device] of devices.entries()) {
      const own = talks[0].filter((message) => message.senderId === device.user);
      assert.deepEqual(own.map((message) => message.content), acks[index].map((_, n) => `${device.user} says ${n + 1}`));
      assert.deepEqual(own.map((message) => message.id), acks[index].map((ack) => ack.id));
    }
    for (const device of devices) {
      assert.deepEqual((await device.history(roomId)).map((message) => message.id), talks[0].map((message) => message.id));
    }

    // When Carol reads it all, then all the others get the same notification
    const last = talks[0].at(-1);
    assert.deepEqual(await carol.done("markAsRead", { roomId, messageId: last.id }), { roomId, readSeq: total, unreadCnt: 0 });
    const moved = talks[0].findLast((message) => message.senderId === "carol").seq < total;
    if (moved) {
      const mark = { roomId, userId: "carol", seq: total, messageId: last.id };
      for (const device of devices) {
        assert.deepEqual(await device.take("messageRead", ({ userId, seq }) => userId === "carol" && seq === total), mark);
      }
    }

    // And when Bob enters, then messages sent from now on are read by him at once, on whichever server they are sent
    await bob.done("enterChat", { roomId });
    await alice.say(roomId, "Bob reads this");
    for (const device of devices) {
      const message = await device.take("newMessage", (it) => it.content === "Bob reads this");
      assert.deepEqual(message.readBy.sort(), ["alice", "bob"]);
    }
    assert.deepEqual([alice.ends, bob.ends, carol.ends], [[], [], []]);
  });
});
