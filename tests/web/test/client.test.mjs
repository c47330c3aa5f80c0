// The page's client by itself, in Node, as an app would use it.
import assert from "node:assert/strict";

import { eventually } from "../../clients/node/support/patience.mjs";
import { expiring, tokenOf } from "../../clients/node/support/token.mjs";
import { ChatError } from "../../../web/chat-client.js";
import { Cable } from "../support/cable.mjs";
import { clientOf, told, until } from "../support/client.mjs";
import { story } from "../support/stage.mjs";

const contents = (chat, roomId) => chat.timeline(roomId).messages.map(({ content }) => content);
const throughCable = (cable) => ({ url: cable.url.replace("http", "ws") + "/ws" });

story("it keeps the list and counts what is unread", async (stage) => {
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  const bob = await stage.client(server, "bob");
  assert.equal(alice.userId, "alice");
  assert.deepEqual(bob.rooms, []);

  const { roomId, created } = await alice.openRoom(["bob"]);
  assert.ok(created);
  assert.equal(alice.room(roomId).friendId, "bob");
  const ack = await alice.send(roomId, "one");
  assert.equal(ack.seq, 1);
  await alice.send(roomId, "two");
  await until(bob, "two unread", () => bob.unread === 2);
  assert.equal(bob.room(roomId).lastMessage.content, "two");
  assert.deepEqual(bob.heard, ["one", "two"]);
  assert.equal(alice.unread, 0);

  // A room that is entered is read, and its timeline known
  await bob.enter(roomId);
  assert.deepEqual(contents(bob, roomId), ["one", "two"]);
  await until(bob, "nothing unread", () => bob.unread === 0);
  await alice.enter(roomId);
  const [, two] = alice.timeline(roomId).messages;
  await until(alice, "Bob has read it", () => alice.readersOf(two).includes("bob"));

  // Messages are read at once while the room is viewed; after leaving they are not
  await alice.send(roomId, "three");
  await until(bob, "three", () => contents(bob, roomId).length === 3);
  assert.equal(bob.unread, 0);
  await bob.leave();
  await alice.send(roomId, "four");
  await until(bob, "one unread", () => bob.unread === 1);

  // The room with the latest message is the first one
  const group = await bob.openRoom(["alice", "carol"], { name: "Team", clientRoomId: "team-1" });
  const again = await bob.openRoom(["alice", "carol"], { name: "Team", clientRoomId: "team-1" });
  assert.deepEqual(again, { roomId: group.roomId, created: false });
  await until(alice, "the group", () => alice.rooms[0]?.groupName === "Team");
  await bob.send(roomId, "five");
  await until(alice, "the other room is first", () => alice.rooms[0].roomId === roomId);
  assert.deepEqual(alice.problems, []);
});

story("it refuses with the server's words", async (stage) => {
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  await assert.rejects(alice.enter("no-such-room"), { name: "ChatError", code: "NOT_MEMBER" });
  await assert.rejects(alice.openRoom([]), { code: "INVALID_PAYLOAD" });
  await assert.rejects(alice.request("noSuchEvent"), { code: "UNKNOWN_EVENT" });
  alice.close();
  await assert.rejects(alice.request("getChatList"), { code: "DISCONNECTED" });
});

story("older pages are put above", async (stage) => {
  const server = await stage.server();
  const alice = await stage.client(server, "alice", { pageSize: 10 });
  const { roomId } = await alice.openRoom(["bob"]);
  const all = Array.from({ length: 25 }, (_, index) => `${index + 1}`);
  for (const text of all) await alice.send(roomId, text);
  const bob = await stage.client(server, "bob", { pageSize: 10 });
  await bob.enter(roomId);
  assert.deepEqual(contents(bob, roomId), all.slice(-10));
  assert.ok(bob.timeline(roomId).hasOlder);
  // Requested twice at the same time, it is read once
  assert.deepEqual(await Promise.all([bob.loadOlder(roomId), bob.loadOlder(roomId)]), [true, true]);
  assert.deepEqual(contents(bob, roomId), all.slice(-20));
  assert.equal(await bob.loadOlder(roomId), false);
  assert.deepEqual(contents(bob, roomId), all);
  assert.equal(await bob.loadOlder(roomId), false);
});

story("messages written while there is no connection arrive once and in order", async (stage) => {
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const alice = await stage.client(server, "alice", throughCable(cable));
  const bob = await stage.client(server, "bob");
  const { roomId } = await alice.openRoom(["bob"]);
  await alice.enter(roomId);

  // Given breaks at any time while Alice writes
  const acks = [];
  for (let number = 1; number <= 60; number += 1) {
    acks.push(alice.send(roomId, `${number}`));
    if (number % 15 === 0) {
      cable.cut();
      acks.push(alice.send(roomId, `${number} and a half`));
      await until(alice, "the break", () => alice.state !== "ready");
      cable.mend();
    } else if (number % 5 === 0) await told(alice, "frame");
  }
  const stored = await Promise.all(acks);

  // Then each is stored once, and all have them in the order of writing
  const texts = [];
  for (let number = 1; number <= 60; number += 1) {
    texts.push(`${number}`);
    if (number % 15 === 0) texts.push(`${number} and a half`);
  }
  assert.deepEqual(stored.map(({ seq }) => seq), texts.map((_, index) => index + 1));
  await until(bob, "all of it", () => bob.heard.length >= texts.length);
  assert.deepEqual(bob.heard, texts);
  await until(alice, "all of it", () => contents(alice, roomId).length === texts.length);
  assert.deepEqual(contents(alice, roomId), texts);
  assert.deepEqual(alice.outgoing(roomId), []);
  assert.deepEqual(alice.heard, texts);
});

story("what was missed is caught up, without a hole and without repeating", async (stage) => {
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const bob = await stage.client(server, "bob", throughCable(cable));
  const alice = await stage.client(server, "alice");
  const { roomId } = await alice.openRoom(["bob"]);
  await alice.send(roomId, "1");
  await bob.enter(roomId);
  const all = ["1"];
  // A few messages, more than a page, and so many that the newest page is loaded instead
  for (const count of [3, 150]) {
    cable.cut();
    await until(bob, "the break", () => bob.state !== "ready");
    for (let number = 0; number < count; number += 1) {
      all.push(`${all.length + 1}`);
      await alice.send(roomId, all.at(-1));
    }
    cable.mend();
    // And somebody keeps sending while Bob catches up
    for (let number = 0; number < 10; number += 1) {
      all.push(`${all.length + 1}`);
      await alice.send(roomId, all.at(-1));
    }
    await until(bob, "all of it", () => contents(bob, roomId).length === all.length);
    assert.deepEqual(contents(bob, roomId), all);
    assert.deepEqual(bob.heard, all);
    // And the room on the screen is viewed again
    await until(alice, "Bob has read it all", () => alice.readersOf({ roomId, seq: all.length, readBy: [] }).includes("bob"));
  }
  cable.cut();
  await until(bob, "the break", () => bob.state !== "ready");
  await Promise.all(Array.from({ length: 520 }, (_, index) => alice.send(roomId, `late ${index}`)));
  cable.mend();
  await until(bob, "the newest", () => bob.state === "ready" && bob.timeline(roomId).messages.at(-1)?.content === "late 519");
  const { messages, hasOlder } = bob.timeline(roomId);
  assert.ok(hasOlder);
  assert.deepEqual(messages.map(({ seq }) => seq), messages.map((_, index) => messages[0].seq + index));
});

story("a history that is no more is taken anew", async (stage) => {
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const bob = await stage.client(server, "bob", throughCable(cable));
  const alice = await stage.client(server, "alice");
  const { roomId } = await alice.openRoom(["bob"]);
  for (const text of ["a", "b", "c"]) await alice.send(roomId, text);
  await bob.enter(roomId);

  // Given a reset that Bob did not see, after which the two chat again: their room has the same id
  cable.cut();
  await until(bob, "the break", () => bob.state !== "ready");
  assert.deepEqual(await alice.request("resetRedisForDevelopment"), { success: true });
  await until(alice, "an empty list", () => alice.rooms.length === 0);
  assert.equal((await alice.openRoom(["bob"])).roomId, roomId);
  for (const text of ["x", "y", "z", "4"]) await alice.send(roomId, text);
  const reset = told(bob, "reset");
  cable.mend();
  assert.deepEqual(await reset, { roomId });
  await until(bob, "the new history", () => contents(bob, roomId).join("") === "xyz4");

  // And a reset that he sees
  await alice.request("resetRedisForDevelopment");
  await until(bob, "an empty list", () => bob.rooms.length === 0);
  assert.deepEqual(bob.timeline(roomId), { messages: [], hasOlder: false });
  assert.deepEqual(bob.problems, []);
});

story("a room that vanishes while the client asks for it by itself is no problem", async (stage) => {
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  // In turn: when it reads what it missed, and when it views its room again
  for (const event of ["getHistory", "enterChat"]) {
    let armed = false;
    class LateRequest extends WebSocket {
      async send(text) {
        if (armed && JSON.parse(text).event === event) await alice.request("resetRedisForDevelopment");
        super.send(text);
      }
    }
    const cable = stage.keep(await Cable.between(server));
    const bob = await stage.client(server, "bob", { ...throughCable(cable), WebSocket: LateRequest });
    const { roomId } = await alice.openRoom(["bob"]);
    await alice.send(roomId, "seen");
    await bob.enter(roomId);
    cable.cut();
    await until(bob, "the break", () => bob.state !== "ready");
    await alice.send(roomId, "missed");
    armed = true;
    const refused = told(bob, "frame", ({ text }) => text.includes("NOT_MEMBER"));
    cable.mend();
    await refused;
    await until(bob, "an empty list", () => bob.state === "ready" && bob.rooms.length === 0);
    assert.deepEqual(bob.timeline(roomId), { messages: [], hasOlder: false });
    assert.deepEqual(bob.problems, []);
    // And the connection continues: the same room is made again
    await alice.openRoom(["bob"]);
    await until(bob, "the room", () => bob.room(roomId));
    assert.equal((await bob.send(roomId, "new")).seq, 1);
    bob.close();
    await alice.request("resetRedisForDevelopment");
  }
});

story("a history that comes after its room is gone is not kept", async (stage) => {
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  // As may happen: a history read before a reset arrives after the list sent for that reset, his second list
  class LateHistory extends WebSocket {
    #lists = 0;
    #held = [];
    set onmessage(receive) {
      super.onmessage = (frame) => {
        const { event } = JSON.parse(frame.data);
        if (event === "chatList") this.#lists += 1;
        const early = this.#lists < 2 && (event === "chatHistory" || this.#held.length > 0);
        if (early) return this.#held.push(frame);
        [frame, ...this.#held.splice(0)].forEach(receive);
      };
    }
  }
  const bob = await stage.client(server, "bob", { WebSocket: LateHistory });
  const { roomId } = await alice.openRoom(["bob"]);
  await alice.send(roomId, "gone");
  await until(bob, "the message", () => bob.room(roomId)?.seq === 1);
  const read = told(alice, "frame", ({ text }) => text.includes("messageRead"));
  const entered = bob.enter(roomId);
  await read;
  await alice.request("resetRedisForDevelopment");
  await entered;
  assert.deepEqual(bob.rooms, []);
  assert.deepEqual(bob.timeline(roomId), { messages: [], hasOlder: false });
  assert.deepEqual(bob.problems, []);
});

story("a room that could not be entered is entered with its next message", async (stage) => {
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  const bob = await stage.client(server, "bob");
  const { roomId } = await alice.openRoom(["bob"]);
  await alice.send(roomId, "one");
  await until(bob, "the message", () => bob.room(roomId)?.seq === 1);
  // Given a Redis without memory, and then with
  await stage.redis.run("CONFIG SET maxmemory 1");
  await assert.rejects(bob.enter(roomId), { code: "UNAVAILABLE" });
  await stage.redis.run("CONFIG SET maxmemory 0");
  await alice.send(roomId, "two");
  await until(bob, "both", () => contents(bob, roomId).join() === "one,two");
  await until(bob, "nothing unread", () => bob.unread === 0);
});

story("a send whose outcome is not known is safe to repeat", async (stage) => {
  const server = await stage.server({ REDIS_CALL_TIMEOUT_MS: "300" });
  const alice = await stage.client(server, "alice");
  const { roomId } = await alice.openRoom(["bob"]);
  await alice.enter(roomId);
  // Given a Redis that hangs
  stage.redis.process.kill("SIGSTOP");
  const sent = alice.send(roomId, "Once", "once-1");
  await assert.rejects(sent, (error) => ["TIMEOUT", "UNAVAILABLE"].includes(error.code));
  const [failed] = alice.outgoing(roomId);
  assert.deepEqual([failed.state, failed.clientMessageId], ["failed", "once-1"]);
  stage.redis.process.kill("SIGCONT");
  // When the request is repeated until it works, then it is stored once
  await eventually("the message to be stored", () =>
    alice.retry("once-1").then(() => alice.outgoing(roomId).length === 0, () => false),
  );
  const { messages } = await alice.request("getHistory", { roomId });
  assert.deepEqual(messages.map(({ content }) => content), ["Once"]);
});

story("tokens: asked for at each connection, renewed in time, given up if they are none", async (stage) => {
  const server = await stage.server();
  // Given tokens that are valid for three seconds
  let asked = 0;
  const token = () => {
    asked += 1;
    return expiring("alice", 3);
  };
  const alice = await stage.client(server, "alice", { token });
  const states = [];
  alice.addEventListener("state", ({ detail }) => states.push(detail.state));
  // Then they are renewed without a break
  while (asked < 3) await told(alice, "frame", ({ text }) => text.includes("expiresAt"));
  assert.deepEqual(states, []);

  // A token of the user's own ends the session when it expires
  const bob = clientOf(server, "bob", { token: expiring("bob", 2) });
  stage.keep(bob);
  bob.connect();
  const { error } = await told(bob, "state", ({ state }) => state === "closed");
  assert.equal(error.code, "TOKEN_EXPIRED");

  // A value that cannot be a token is not tried again, and neither is one that the hook gives up on
  const carol = stage.keep(clientOf(server, "carol", { token: "not a token" }));
  const closed = told(carol, "state", ({ state }) => state === "closed");
  carol.connect();
  assert.equal((await closed).error.code, "UNAUTHORIZED");

  // A hook that fails in any other way is called again
  let calls = 0;
  const dora = stage.keep(
    clientOf(server, "dora", {
      token: async () => {
        calls += 1;
        if (calls < 3) throw new Error("the login service is away");
        return tokenOf("dora");
      },
    }),
  );
  const ready = told(dora, "state", ({ state }) => state === "ready");
  dora.connect();
  await ready;
  assert.equal(calls, 3);
});

story("frames can be watched, without tokens in them", async (stage) => {
  const server = await stage.server();
  const frames = [];
  const alice = clientOf(server, "alice");
  stage.keep(alice);
  alice.addEventListener("frame", ({ detail }) => frames.push(detail));
  alice.connect();
  await told(alice, "state", ({ state }) => state === "ready");
  await alice.request("authenticate", { token: tokenOf("alice") });
  assert.deepEqual(frames.map(({ direction, text }) => [direction, JSON.parse(text).event]), [
    ["in", "hello"], ["in", "status"], ["in", "status"], ["in", "chatList"], ["out", "authenticate"], ["in", "ack"],
  ]);
  assert.ok(frames.every(({ text }) => !text.includes(tokenOf("alice"))));
});

story("it says when it is ready, and that it will not be", async (stage) => {
  const server = await stage.server();
  const alice = stage.keep(clientOf(server, "alice"));
  alice.connect();
  await alice.ready();
  assert.equal(alice.state, "ready");
  await alice.ready();

  const token = () => Promise.reject(new ChatError("UNAUTHORIZED", "signed out"));
  const nobody = stage.keep(clientOf(server, "bob", { token }));
  nobody.connect();
  await assert.rejects(nobody.ready(), { name: "ChatError", code: "UNAUTHORIZED" });
  const closed = stage.keep(clientOf(server, "carol"));
  closed.connect();
  const outcome = assert.rejects(closed.ready(), { code: "DISCONNECTED" });
  closed.close();
  await outcome;
});
