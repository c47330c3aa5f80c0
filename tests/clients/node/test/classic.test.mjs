// A client of the replaced server: the token in a header, no acks, no new fields.
import assert from "node:assert/strict";

import { overEachTransport } from "../support/story.mjs";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Opens the chat of two devices' users as the classic client does: returns its id. */
async function openChat(device, participants) {
  device.emit("initializeChat", { participants });
  const { roomId } = await device.take("roomMembers");
  assert.equal(await device.take("status"), `${roomId} initialized`);
  return roomId;
}

/** The list in which the room is as it should be. */
function listWith(device, roomId, wanted) {
  return device.take("chatList", (list) => list.some((entry) => entry.roomId === roomId && wanted(entry)));
}

overEachTransport("classic client", (story) => {
  story("is greeted with two texts and one list", async (stage) => {
    // Given a server without chats
    const server = await stage.server();
    // When Alice connects, then she gets the greeting, in order, and nothing else
    const alice = await stage.device(server, "alice");
    assert.deepEqual(alice.list, []);
    await alice.hasNothing();
    assert.equal(alice.connects, 1);
  });

  story("opens a chat with another user", async (stage) => {
    // Given Alice and Bob
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");

    // When Alice opens a chat with Bob
    alice.emit("initializeChat", { participants: ["bob"] });

    // Then she gets the list as one array, then the other members of the room, then the status
    const [event, list] = await alice.next();
    assert.equal(event, "chatList");
    assert.equal(list.length, 1);
    const { roomId } = list[0];
    assert.deepEqual(list[0], {
      roomId,
      isGroupChat: false,
      available: true,
      friendId: "bob",
      lastMessage: null,
      unreadCnt: 0,
      seq: 0,
      readSeq: 0,
    });
    assert.deepEqual(await alice.next(), ["roomMembers", { roomId, members: ["bob"] }]);
    assert.equal(await alice.take("status"), `${roomId} initialized`);

    // And Bob gets his list, in which the friend is Alice, and no status
    const bobs = await bob.take("chatList", (rooms) => rooms.length > 0);
    assert.equal(bobs.length, 1);
    assert.equal(bobs[0].roomId, roomId);
    assert.equal(bobs[0].friendId, "alice");
    await bob.hasNothing();

    // When Bob opens the chat from his side, then it is the same one
    assert.equal(await openChat(bob, ["alice"]), roomId);
  });

  story("opens a group", async (stage) => {
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const carol = await stage.device(server, "carol");

    // When Alice opens a chat with two others
    const roomId = await openChat(alice, ["bob", "carol"]);

    // Then it is a group, named by its size, and Carol has it too
    const list = await carol.take("chatList", (rooms) => rooms.length > 0);
    assert.deepEqual(list[0].members.sort(), ["alice", "bob"]);
    assert.equal(list[0].roomId, roomId);
    assert.equal(list[0].isGroupChat, true);
    assert.equal(list[0].groupName, "Group (3)");
    assert.equal(list[0].memberCount, 3);
    assert.ok(!("friendId" in list[0]));
  });

  story("asks for its list, whatever it sends along", async (stage) => {
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const roomId = await openChat(alice, ["bob"]);
    await alice.hasNothing();

    // When she asks with no data, null or an empty object, then the list comes as one array
    for (const data of [[], [null], [{}]]) {
      alice.takeAll();
      alice.emit("getChatList", ...data);
      const list = await alice.take("chatList");
      assert.deepEqual(list.map((entry) => entry.roomId), [roomId]);
    }
  });

  story("enters, reads and leaves a chat", async (stage) => {
    // Given two messages that Bob has not seen
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const roomId = await openChat(alice, ["bob"]);
    for (const content of ["Hello Bob", "Lunch?"]) {
      alice.emit("sendMessage", { roomId, content });
      await alice.take("newMessage");
    }
    const bob = await stage.device(server, "bob");
    assert.equal(bob.list[0].unreadCnt, 2);
    assert.equal(bob.list[0].lastMessage.content, "Lunch?");
    alice.takeAll();

    // When he enters the chat
    bob.emit("enterChat", { roomId });

    // Then he gets the history, oldest first, as one array; then the status
    const history = await bob.take("chatHistory");
    assert.ok(Array.isArray(history));
    assert.deepEqual(history.map((message) => message.content), ["Hello Bob", "Lunch?"]);
    assert.deepEqual(history.map((message) => message.seq), [1, 2]);
    assert.equal(await bob.take("status"), `${roomId} entered`);

    // And his list says that all is read, and Alice is notified
    await listWith(bob, roomId, (entry) => entry.unreadCnt === 0);
    const mark = { roomId, userId: "bob", seq: 2, messageId: history[1].id };
    assert.deepEqual(await alice.take("messageRead"), mark);

    // When he leaves, then he gets the status, and what Alice sends after that is unread
    bob.emit("leaveChat");
    assert.equal(await bob.take("status"), "leaved from all rooms");
    alice.emit("sendMessage", { roomId, content: "Still there?" });
    await listWith(bob, roomId, (entry) => entry.unreadCnt === 1);

    // And leaving again, with any data, is not an error
    bob.emit("leaveChat", {});
    assert.equal(await bob.take("status"), "leaved from all rooms");
  });

  story("gets the history of an entered chat in one order: history, mark, status", async (stage) => {
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const roomId = await openChat(alice, ["bob"]);
    alice.emit("sendMessage", { roomId, content: "Hello Bob" });
    await alice.take("newMessage");
    const bob = await stage.device(server, "bob");
    bob.emit("enterChat", { roomId });
    await bob.until("status", () => bob.inbox.some(({ event }) => event === "status"));
    const events = bob.takeStory().map(([event]) => event);
    assert.deepEqual(events, ["chatHistory", "messageRead", "status"]);
  });

  story("sends a message to all", async (stage) => {
    // Given Alice and Bob, with Carol apart
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const carol = await stage.device(server, "carol");
    const roomId = await openChat(alice, ["bob"]);

    // When Alice sends
    alice.emit("sendMessage", { roomId, content: "Hello Bob ☕" });

    // Then both get it, once, and Carol does not
    const seen = await alice.take("newMessage");
    assert.deepEqual(await bob.take("newMessage"), seen);
    const { id, timestamp, ...rest } = seen;
    assert.equal(typeof id, "string");
    assert.match(timestamp, ISO);
    const content = "Hello Bob ☕";
    assert.deepEqual(rest, { roomId, seq: 1, senderId: "alice", type: "text", content, readBy: ["alice"], readCount: 1 });
    await listWith(alice, roomId, (entry) => entry.lastMessage?.id === id && entry.unreadCnt === 0);
    await listWith(bob, roomId, (entry) => entry.lastMessage?.id === id && entry.unreadCnt === 1);
    for (const device of [alice, bob, carol]) await device.hasNothing();
  });

  story("whoever views the chat has read it at once", async (stage) => {
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const roomId = await openChat(alice, ["bob"]);
    bob.emit("enterChat", { roomId });
    await bob.take("status");
    alice.emit("sendMessage", { roomId, content: "You see this" });
    const message = await alice.take("newMessage");
    assert.deepEqual(message.readBy.sort(), ["alice", "bob"]);
    assert.equal(message.readCount, 2);
  });

  story("marks a message as read", async (stage) => {
    // Given three messages that Bob has not seen
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const roomId = await openChat(alice, ["bob"]);
    const ids = [];
    for (const content of ["one", "two", "three"]) {
      alice.emit("sendMessage", { roomId, content });
      ids.push((await bob.take("newMessage")).id);
    }
    await listWith(bob, roomId, (entry) => entry.unreadCnt === 3);

    // When he marks the second
    bob.emit("markAsRead", { roomId, messageId: ids[1] });

    // Then he is notified, with a text and the id; one is left in his list, and Alice is notified
    assert.equal(await bob.take("status"), `${ids[1]} marked`);
    assert.deepEqual(await bob.take("status"), { messageId: ids[1] });
    await listWith(bob, roomId, (entry) => entry.unreadCnt === 1);
    assert.deepEqual(await alice.take("messageRead"), { roomId, userId: "bob", seq: 2, messageId: ids[1] });
  });

  story("is told what was wrong by the event error", async (stage) => {
    // Given a chat of Alice and Bob
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const carol = await stage.device(server, "carol");
    const roomId = await openChat(alice, ["bob"]);

    // When Carol tries to access it
    for (const [event, data] of [
      ["enterChat", { roomId }],
      ["sendMessage", { roomId, content: "Me too" }],
      ["markAsRead", { roomId, messageId: "1-1" }],
    ]) {
      carol.emit(event, data);
      // Then the text is that of the replaced server
      const error = await carol.take("error");
      assert.equal(error.code, "NOT_MEMBER");
      assert.equal(error.message, "You do not have permission to join this chat.");
      assert.equal(error.event, event);
      assert.equal(error.roomId, roomId);
      assert.deepEqual([error.status, error.errors], ["error", []]);
    }

    // And she is still connected, and Alice received nothing
    await carol.hasNothing();
    await alice.hasNothing();
    assert.deepEqual([alice.ends, carol.ends], [[], []]);
  });

  story("deletes all chats in development", async (stage) => {
    // Given a chat
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    const bob = await stage.device(server, "bob");
    const roomId = await openChat(alice, ["bob"]);
    await bob.take("chatList", (list) => list.length === 1);
    alice.emit("sendMessage", { roomId, content: "Soon gone" });
    await listWith(bob, roomId, (entry) => entry.seq === 1);
    await listWith(alice, roomId, (entry) => entry.seq === 1);

    // When Alice resets
    alice.emit("resetRedisForDevelopment");

    // Then she gets the status, and everybody has an empty list
    const status = await alice.take("redisStatus");
    assert.equal(status.success, true);
    assert.equal(typeof status.message, "string");
    await alice.take("chatList", (list) => list.length === 0);
    await bob.take("chatList", (list) => list.length === 0);
    assert.equal((await stage.device(server, "bob")).list.length, 0);
  });

  story("cannot delete anything in production", async (stage) => {
    const server = await stage.server({ APP_ENV: "prod" });
    const alice = await stage.device(server, "alice");
    const roomId = await openChat(alice, ["bob"]);
    alice.emit("resetRedisForDevelopment");
    assert.equal((await alice.take("redisStatus")).success, false);
    alice.takeAll();
    alice.emit("getChatList");
    assert.deepEqual((await alice.take("chatList")).map((entry) => entry.roomId), [roomId]);
  });
});
