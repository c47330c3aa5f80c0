// The page's client by itself: what happens to messages in flight, and to what it knew, when connections break.
import assert from "node:assert/strict";

import { tokenOf } from "../../clients/node/support/token.mjs";
import { Cable } from "../support/cable.mjs";
import { clientOf, told, until } from "../support/client.mjs";
import { story } from "../support/stage.mjs";

const throughCable = (cable) => ({ url: cable.url.replace("http", "ws") + "/ws" });
const broken = (chat) => until(chat, "the break", () => chat.state !== "ready");
const stored = async (chat, roomId) => {
  const { messages } = await chat.request("getHistory", { roomId, limit: 100 });
  return messages.map(({ content }) => content);
};

/** Keeps messages in memory, as kept.js does in a browser. */
class Keeper {
  messages = new Map();

  keep(userId, message) {
    this.messages.set(message.clientMessageId, { userId, message: structuredClone(message) });
  }

  drop(_, clientMessageId) {
    this.messages.delete(clientMessageId);
  }

  adopt(wanted, take) {
    for (const { userId, message } of [...this.messages.values()]) if (userId === wanted) take(structuredClone(message));
  }
}

story("what is too long is not sent at all", async (stage) => {
  const server = await stage.server({ MAX_CONTENT_BYTES: "1000", MAX_FRAME_BYTES: "1200" });
  const alice = await stage.client(server, "alice");
  const { roomId } = await alice.openRoom(["bob"]);
  assert.deepEqual([alice.limits.contentBytes, alice.limits.frameBytes], [1000, 1200]);

  // Bytes count, not characters; and in a frame some characters take more room
  assert.ok(alice.fits(roomId, "x".repeat(900)));
  assert.ok(!alice.fits(roomId, "x".repeat(1001)));
  assert.ok(!alice.fits(roomId, "é".repeat(501)));
  assert.ok(!alice.fits(roomId, "\n".repeat(700)));

  const out = [];
  alice.addEventListener("frame", ({ detail }) => detail.direction === "out" && out.push(JSON.parse(detail.text).event));
  for (const text of ["x".repeat(1001), "\n".repeat(700), "x".repeat(100_000)]) {
    await assert.rejects(alice.send(roomId, text), { code: "MESSAGE_TOO_LARGE" });
  }
  await assert.rejects(alice.request("getHistory", { roomId, after: "x".repeat(2000) }), { code: "MESSAGE_TOO_LARGE" });
  assert.deepEqual(out, []);
  assert.deepEqual(alice.outgoing(roomId).map(({ state }) => state), ["failed", "failed", "failed"]);
  assert.equal(alice.unsent, 3);
  await alice.send(roomId, "x".repeat(900));
  assert.equal(alice.state, "ready");
});

/** As with a server that does not send its limits. */
class Untold extends WebSocket {
  set onmessage(receive) {
    super.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.event === "hello") frame.data.limits = null;
      receive({ data: JSON.stringify(frame) });
    };
  }
}

story("of what was on its way the one that was too large is given up, by its bytes", async (stage) => {
  const server = await stage.server({ MAX_CONTENT_BYTES: "60000" });
  const alice = await stage.client(server, "alice", { WebSocket: Untold });
  const { roomId } = await alice.openRoom(["bob"]);
  // Fewer characters, but more bytes than the other, and more than the server accepts
  const tooLarge = alice.send(roomId, "한".repeat(25_000));
  const fits = alice.send(roomId, "x".repeat(40_000));
  await assert.rejects(tooLarge, { code: "MESSAGE_TOO_LARGE" });
  assert.equal((await fits).seq, 1);
  assert.deepEqual(alice.outgoing(roomId).map(({ state }) => state), ["failed"]);
});

story("what breaks each connection anew is given up, though nobody says why", async (stage) => {
  // Given something between Alice and the server that breaks connections at large frames
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  let tries = 0;
  class Breaking extends WebSocket {
    send(text) {
      if (text.length < 6000) return super.send(text);
      tries += 1;
      cable.cut();
      cable.mend();
    }
  }
  const alice = await stage.client(server, "alice", { ...throughCable(cable), WebSocket: Breaking });
  const { roomId } = await alice.openRoom(["bob"]);

  // When she sends one, and others beside it
  const large = alice.send(roomId, "x".repeat(8000));
  const others = ["one", "two"].map((text) => alice.send(roomId, text));

  // Then it is given up after a few breaks, and the others are stored
  await assert.rejects(large, { code: "DISCONNECTED", message: /broke each time/ });
  await Promise.all(others);
  assert.equal(tries, 3);
  await until(alice, "a connection", () => alice.state === "ready");
  assert.deepEqual(await stored(alice, roomId), ["one", "two"]);
  assert.equal(tries, 3);
});

story("pauses grow while connections do not last", async (stage) => {
  const server = await stage.server();
  for (const [steadyMs, grows] of [[3_600_000, true], [0, false]]) {
    const cable = stage.keep(await Cable.between(server));
    const alice = clientOf(server, "alice", { ...throughCable(cable), pausesMs: [16, 10_000], steadyMs });
    stage.keep(alice);
    const pauses = [];
    alice.addEventListener("state", ({ detail: { state, retryInMs } }) => {
      if (state === "waiting") pauses.push(retryInMs);
    });
    alice.connect();
    // When each connection breaks as soon as it is ready
    for (let number = 0; number < 6; number += 1) {
      await told(alice, "state", ({ state }) => state === "ready");
      cable.cut();
      await told(alice, "state", ({ state }) => state === "waiting");
      cable.mend();
    }
    // Then each pause is longer, except where connections count as steady; half of each pause is random
    const doubled = pauses.map((_, index) => 16 * 2 ** (grows ? index : 0));
    pauses.forEach((pause, index) => assert.ok(pause >= doubled[index] / 2 && pause <= doubled[index], `${pauses}`));
    alice.close();
  }
});

story("who has read what is right after a break", async (stage) => {
  // Given Alice, who knows three pages of a room and views another one
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const alice = await stage.client(server, "alice", throughCable(cable));
  const bob = await stage.client(server, "bob");
  const { roomId } = await alice.openRoom(["bob"]);
  for (let number = 1; number <= 230; number += 1) await alice.send(roomId, `${number}`);
  await alice.enter(roomId);
  while (await alice.loadOlder(roomId));
  const elsewhere = await alice.openRoom(["carol"]);
  await alice.enter(elsewhere.roomId);
  const { messages } = alice.timeline(roomId);
  assert.equal(messages.length, 230);

  // When Bob reads a part of it while she is away
  cable.cut();
  await broken(alice);
  await bob.request("markAsRead", { roomId, messageId: messages[59].id });
  cable.mend();

  // Then she knows how far he has read, and that the rest is not read
  await until(alice, "Bob has read 60", () => alice.readersOf(alice.timeline(roomId).messages[59]).includes("bob"));
  assert.deepEqual(alice.readersOf(alice.timeline(roomId).messages[60]), []);

  // And when he has read all of it, that takes no request of hers
  cable.cut();
  await broken(alice);
  await bob.enter(roomId);
  let asked = 0;
  alice.addEventListener("frame", ({ detail }) => (asked += detail.direction === "out" && detail.text.includes("getHistory")));
  cable.mend();
  await until(alice, "Bob has read all", () => alice.readersOf(alice.timeline(roomId).messages[229]).includes("bob"));
  assert.equal(asked, 0);
  assert.deepEqual(alice.problems, []);
});

story("what was written survives the client, once and in order", async (stage) => {
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const keeper = new Keeper();
  const options = { ...throughCable(cable), keeper };
  const first = await stage.client(server, "alice", options);
  const { roomId } = await first.openRoom(["bob"]);
  await first.send(roomId, "before");
  assert.equal(keeper.messages.size, 0);

  // Given messages that are written while there is no connection, and one whose answer is lost
  const sent = told(first, "frame", ({ text }) => text.includes("answer is lost"));
  first.send(roomId, "whose answer is lost").catch(() => {});
  await sent;
  cable.cut();
  await broken(first);
  for (const text of ["one", "two", "three"]) first.send(roomId, text).catch(() => {});
  const gone = "00000000-0000-4000-8000-000000000000";
  keeper.keep("alice", { clientMessageId: "x", roomId: gone, content: "to a room that is gone", writtenAt: new Date().toISOString() });
  first.close();
  cable.mend();

  // When another client starts
  const second = await stage.client(server, "alice", options);
  await until(second, "nothing unsent", () => second.unsent === 0);
  assert.deepEqual(await stored(second, roomId), ["before", "whose answer is lost", "one", "two", "three"]);
  await until(second, "nothing kept", () => keeper.messages.size === 0);
});

story("what was refused, and what may be there long since, waits for a person", async (stage) => {
  const server = await stage.server();
  const keeper = new Keeper();
  const alice = await stage.client(server, "alice", { keeper });
  const { roomId } = await alice.openRoom(["bob"]);
  await stage.redis.run("CONFIG SET maxmemory 1");
  await assert.rejects(alice.send(roomId, "refused"), { code: "UNAVAILABLE" });
  await stage.redis.run("CONFIG SET maxmemory 0");
  alice.close();
  const dayBefore = Date.now() - 86_400_000;
  const writtenAt = new Date(dayBefore).toISOString();
  const old = { clientMessageId: "old", roomId, content: "tried yesterday", writtenAt, triedAt: dayBefore };
  keeper.keep("alice", old);
  keeper.keep("alice", { clientMessageId: "new", roomId, content: "only written yesterday", writtenAt });

  const again = await stage.client(server, "alice", { keeper });
  await until(again, "two that failed", () => again.outgoing(roomId).filter(({ state }) => state === "failed").length === 2);
  await until(again, "one that was sent", () => again.unsent === 2);
  assert.deepEqual(await stored(again, roomId), ["only written yesterday"]);
  for (const { clientMessageId } of again.outgoing(roomId)) await again.retry(clientMessageId);
  assert.deepEqual(await stored(again, roomId), ["only written yesterday", "tried yesterday", "refused"]);
  assert.equal(keeper.messages.size, 0);
});

story("another user of the same client gets and sends nothing of the former one's", async (stage) => {
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const keeper = new Keeper();
  let user = "alice";
  const chat = await stage.client(server, "alice", { ...throughCable(cable), keeper, token: () => tokenOf(user) });
  const { roomId } = await chat.openRoom(["bob", "carol"], { name: "Both are in it" });
  await chat.send(roomId, "by Alice");
  await chat.enter(roomId);
  cable.cut();
  await broken(chat);
  const unsent = chat.send(roomId, "Alice's alone");
  const refused = assert.rejects(unsent, { code: "DISCONNECTED" });

  user = "bob";
  cable.mend();
  await until(chat, "Bob", () => chat.state === "ready" && chat.userId === "bob");
  await refused;
  assert.deepEqual([chat.outgoing(roomId), chat.timeline(roomId).messages], [[], []]);
  await chat.send(roomId, "by Bob");
  assert.deepEqual(await stored(chat, roomId), ["by Alice", "by Bob"]);

  // And Alice has it
  user = "alice";
  cable.cut();
  await broken(chat);
  cable.mend();
  await until(chat, "Alice", () => chat.state === "ready" && chat.userId === "alice" && chat.unsent === 0);
  assert.deepEqual(await stored(chat, roomId), ["by Alice", "by Bob", "Alice's alone"]);
});
