// The stories of the replaced server's own clients, of its later versions and of its first one, unchanged in shape.
import assert from "node:assert/strict";

import { overEachTransport } from "../support/story.mjs";
import { expiring } from "../support/token.mjs";

/** A later client: it takes the room's id from `roomMembers`, and draws the messages of the last `chatHistory`. */
async function open(device, participants) {
  device.emit("initializeChat", { participants });
  const { roomId, members } = await device.take("roomMembers");
  assert.deepEqual(members.sort(), participants);
  assert.equal(await device.take("status"), `${roomId} initialized`);
  return roomId;
}

const contents = (messages) => messages.map(({ content }) => content);

overEachTransport("later client of the replaced server", (each) => {
  each("opens a room, enters, and sends in its own shape", async (stage) => {
    // Given Alice and Bob with clients of the later versions, and Carol with one of the first
    const server = await stage.server({ CLASSIC_HISTORY: "1" });
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const carol = await stage.device(server, "carol");
    const roomId = await open(alice, ["bob", "carol"]);

    // When they enter, then they get the history, the list, and the status that they have entered
    for (const device of [alice, bob]) {
      await device.take("chatList", (list) => list.length === 1);
      device.takeAll();
      device.emit("enterChat", { roomId });
      assert.deepEqual(await device.next(), ["chatHistory", []]);
      const [event, list] = await device.next();
      assert.equal(event, "chatList");
      assert.equal(list[0].roomId, roomId);
      assert.deepEqual(await device.next(), ["status", `${roomId} entered`]);
    }

    // When Alice sends as later clients do
    alice.emit("sendMessage", { roomId, type: "text", content: ["Hello", "all"] });

    // Then all have the message as it was sent, and clients that view the room get its history too
    for (const device of [alice, bob, carol]) {
      const { type, content } = await device.take("newMessage");
      assert.deepEqual([type, content], ["text", ["Hello", "all"]]);
    }
    for (const device of [alice, bob]) {
      const drawn = await device.take("chatHistory", (messages) => messages.length === 1);
      assert.deepEqual(drawn[0].content, ["Hello", "all"]);
      assert.deepEqual(drawn[0].readBy.sort(), ["alice", "bob"]);
    }

    // When Carol sends as the first client does, and an image follows
    carol.emit("sendMessage", { roomId, content: "Hi" });
    const { id, content } = await bob.take("newMessage");
    assert.equal(content, "Hi");
    const image = "data:image/png;base64,iVBORw0KGgo=";
    alice.emit("sendMessage", { roomId, type: "image", content: [image] });
    const drawn = await bob.take("chatHistory", (messages) => messages.length === 3);
    assert.deepEqual(contents(drawn), [["Hello", "all"], "Hi", [image]]);
    assert.deepEqual(drawn.map(({ type }) => type), ["text", "text", "image"]);

    // When Carol marks what she has read, then she is notified in both ways
    carol.emit("markAsRead", { roomId, messageId: id });
    assert.equal(await carol.take("status"), `${id} marked`);
    assert.deepEqual(await carol.take("status"), { messageId: id });
    // And a client that does not view the room got no history
    await carol.done("getChatList");
    assert.ok(!carol.takeAll().some(([event]) => event === "chatHistory"));

    // When Bob leaves, then he draws nothing more
    bob.emit("leaveChat");
    await bob.take("status", (text) => text === "leaved from all rooms");
    bob.takeAll();
    alice.emit("sendMessage", { roomId, type: "text", content: ["Still there?"] });
    await alice.take("chatHistory", (messages) => messages.length === 4);
    await bob.take("newMessage");
    await bob.done("getChatList");
    assert.ok(!bob.takeAll().some(([event]) => event === "chatHistory"));
  });

  each("draws the last 50 messages, and the last of many at once", async (stage) => {
    const server = await stage.server({ CLASSIC_HISTORY: "1" });
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const roomId = await open(alice, ["bob"]);
    bob.emit("enterChat", { roomId });
    await bob.take("status", (text) => text === `${roomId} entered`);
    for (let number = 1; number <= 60; number += 1) {
      alice.emit("sendMessage", { roomId, type: "text", content: [`${number}`] });
    }
    const drawn = await bob.take("chatHistory", (messages) => messages.at(-1)?.seq === 60);
    assert.deepEqual(drawn.map(({ seq }) => seq), Array.from({ length: 50 }, (_, index) => index + 11));
  });

  each("is sent no history where it is not set, nor is one that counts itself", async (stage) => {
    for (const env of [{}, { CLASSIC_HISTORY: "1" }]) {
      const server = await stage.server(env);
      const alice = await stage.device(server, "alice");
      const viewer = env.CLASSIC_HISTORY ? await stage.delta(server, "bob") : await stage.device(server, "bob");
      const roomId = await open(alice, ["bob"]);
      await viewer.done("enterChat", { roomId });
      viewer.takeAll();
      await alice.say(roomId, "Hello");
      await viewer.take("newMessage");
      // And what Alice, who views it too, must get has come
      await alice.done("enterChat", { roomId });
      alice.takeAll();
      const { seq } = await alice.say(roomId, "Bob?");
      await viewer.take("newMessage", (message) => message.seq === seq);
      if (env.CLASSIC_HISTORY) await alice.take("chatHistory", (messages) => messages.at(-1).seq === seq);
      await viewer.done("getChatList");
      assert.ok(!viewer.takeAll().some(([event]) => event === "chatHistory"));
    }
  });

  each("is told what was wrong in its own words", async (stage) => {
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const roomId = await open(alice, ["bob"]);
    alice.emit("sendMessage", { roomId, type: "text" });
    const wrong = await alice.take("error");
    assert.deepEqual([wrong.status, wrong.message, wrong.errors], ["validation_error", '"content" is missing', []]);
    alice.emit("enterChat", { roomId: "5b534b82-d924-5ce9-a884-000000000000" });
    const refused = await alice.take("error");
    assert.deepEqual([refused.status, refused.errors], ["error", []]);
    assert.equal(refused.message, "You do not have permission to join this chat.");

    const late = stage.open(server, "alice", { extraHeaders: { token: expiring("alice", -60) } });
    assert.equal(await late.take("error"), "token expired");
    assert.equal(await late.take("error"), "connection failed");
    assert.equal((await late.take("error")).code, "TOKEN_EXPIRED");
  });

  each("sends an image of nearly 5 MB where the settings allow it", async (stage) => {
    const MB = 1024 * 1024;
    const server = await stage.server({
      MAX_FRAME_BYTES: `${5 * MB}`, MAX_CONTENT_BYTES: `${5 * MB}`, QUEUE_MAX_BYTES: `${20 * MB}`, CLASSIC_HISTORY: "1",
    });
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const roomId = await open(alice, ["bob"]);
    bob.emit("enterChat", { roomId });
    await bob.take("status", (text) => text === `${roomId} entered`);
    const image = `data:image/png;base64,${"A".repeat(5 * MB - 1000)}`;
    alice.emit("sendMessage", { roomId, type: "image", content: [image] });
    const message = await bob.take("newMessage");
    assert.ok(message.content[0] === image, "the image is whole");
    const [drawn] = await bob.take("chatHistory", (messages) => messages.length === 1);
    assert.ok(drawn.content[0] === image);
    const list = await bob.take("chatList", ([entry]) => entry.seq === 1);
    assert.ok(list[0].lastMessage.truncated && list[0].lastMessage.content[0].length < 600);
  });

  each("gets a longer list behind \"entered\"", async (stage) => {
    // Given Alice in more rooms than one call reads
    const server = await stage.server({ MAX_NEW_ROOM_MEMBERS_PER_MIN: "0" });
    const maker = await stage.delta(server, "alice");
    const rooms = Array.from({ length: 129 }, (_, number) => maker.openRoom([`user-${number}`]));
    const [roomId] = await Promise.all(rooms);
    const alice = await stage.device(server, "alice");
    assert.equal(alice.list.length, 129);
    // When she enters one, then its history comes, then the status that she has entered, and then a list
    alice.emit("enterChat", { roomId });
    assert.deepEqual(await alice.next(), ["chatHistory", []]);
    assert.deepEqual(await alice.next(), ["status", `${roomId} entered`]);
    assert.equal((await alice.take("chatList")).length, 129);
  });
});
