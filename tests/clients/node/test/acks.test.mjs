// Acks by callback, refusals, sizes and the order of requests.
import assert from "node:assert/strict";
import { io } from "socket.io-client";

import { RawPolling, RawSocket } from "../support/raw.mjs";
import { overEachTransport, story } from "../support/story.mjs";
import { tokenOf } from "../support/token.mjs";

overEachTransport("acks", (each) => {
  each("every event answers its callback, after its events", async (stage) => {
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const bob = await stage.delta(server, "bob");

    // Given a chat
    const opened = await alice.done("initializeChat", { participants: ["bob"] });
    const { roomId } = opened;
    assert.deepEqual(opened, { roomId, created: true });
    assert.deepEqual(alice.takeAll().map(([event]) => event), ["chatEntry", "status"]);
    assert.deepEqual(await alice.done("initializeChat", { participants: ["bob"] }), { roomId, created: false });
    assert.deepEqual(alice.takeAll().map(([event]) => event), ["chatEntry", "status"]);

    // When Alice sends each of the other requests
    assert.deepEqual(await alice.done("getChatList"), { rooms: 1 });
    assert.equal(alice.takeAll()[0][0], "chatList");

    const sent = await alice.done("sendMessage", { roomId, content: "Hello", clientMessageId: "m-1" });
    assert.deepEqual(Object.keys(sent).sort(), ["duplicate", "id", "roomId", "seq", "timestamp"]);
    assert.deepEqual([sent.roomId, sent.seq, sent.duplicate], [roomId, 1, false]);
    const message = await alice.take("newMessage");
    assert.deepEqual([message.id, message.timestamp, message.clientMessageId], [sent.id, sent.timestamp, "m-1"]);

    const again = await alice.done("sendMessage", { roomId, content: "Hello", clientMessageId: "m-1" });
    assert.deepEqual(again, { ...sent, duplicate: true });
    await alice.hasNothing();

    assert.deepEqual(await bob.done("enterChat", { roomId }), { roomId, seq: 1, hasMore: false });
    const entered = bob.takeAll().map(([event]) => event);
    assert.deepEqual(entered.slice(-3), ["chatHistory", "messageRead", "status"]);

    assert.deepEqual(await bob.done("leaveChat"), {});
    assert.deepEqual(bob.takeAll(), [["status", "leaved from all rooms"]]);

    const { id } = await alice.say(roomId, "Unread");
    const marked = await bob.done("markAsRead", { roomId, messageId: id });
    assert.deepEqual(marked, { roomId, readSeq: 2, unreadCnt: 0 });
    await bob.take("status", (text) => text === `${id} marked`);

    // Then a page of history is the answer itself, or an event where no answer is requested
    const page = await bob.done("getHistory", { roomId, limit: 1 });
    assert.deepEqual(Object.keys(page).sort(), ["hasMore", "messages", "roomId"]);
    assert.deepEqual([page.roomId, page.messages.length, page.messages[0].id, page.hasMore], [roomId, 1, id, true]);
    bob.takeAll();
    bob.emit("getHistory", { roomId, before: id });
    const before = await bob.take("chatHistory");
    assert.deepEqual(before.map((it) => it.id), [sent.id]);

    assert.deepEqual(await bob.done("resetRedisForDevelopment"), { success: true });
    await alice.take("chatList", (list) => list.length === 0);
  });

  each("the callback may have a time limit or be a promise", async (stage) => {
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    assert.deepEqual(await alice.socket.emitWithAck("getChatList"), { ok: true, data: { rooms: 0 } });
    const limited = await alice.socket.timeout(20_000).emitWithAck("getChatList");
    assert.deepEqual(limited, { ok: true, data: { rooms: 0 } });
  });

  each("a refusal goes to the callback, or to the event error without one", async (stage) => {
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const roomId = await alice.openRoom(["bob"]);
    alice.takeAll();

    for (const [code, event, ...data] of [
      // Events that do not exist
      ["UNKNOWN_EVENT", "dance"],
      ["UNKNOWN_EVENT", "dance", { style: "tango" }],
      ["UNKNOWN_EVENT", "newMessage", { roomId, content: "forged" }],
      ["UNKNOWN_EVENT", ""],
      // Data that is invalid
      ["INVALID_PAYLOAD", "sendMessage"],
      ["INVALID_PAYLOAD", "sendMessage", null],
      ["INVALID_PAYLOAD", "sendMessage", "Hello"],
      ["INVALID_PAYLOAD", "sendMessage", 5],
      ["INVALID_PAYLOAD", "sendMessage", [roomId, "Hello"]],
      ["INVALID_PAYLOAD", "sendMessage", {}],
      ["INVALID_PAYLOAD", "sendMessage", { roomId }],
      ["INVALID_PAYLOAD", "sendMessage", { roomId, content: "" }],
      ["INVALID_PAYLOAD", "sendMessage", { roomId, content: 5 }],
      ["INVALID_PAYLOAD", "sendMessage", { roomId, content: "x", clientMessageId: "two words" }],
      ["INVALID_PAYLOAD", "initializeChat", {}],
      ["INVALID_PAYLOAD", "initializeChat", { participants: [] }],
      ["INVALID_PAYLOAD", "initializeChat", { participants: "bob" }],
      ["INVALID_PAYLOAD", "initializeChat", { participants: ["alice"] }],
      ["INVALID_PAYLOAD", "enterChat", { roomId, limit: 0 }],
      ["INVALID_PAYLOAD", "getHistory", { roomId, before: "1-1", after: "1-1" }],
      ["INVALID_PAYLOAD", "markAsRead", { roomId }],
      ["MESSAGE_TOO_LARGE", "sendMessage", { roomId, content: "x".repeat(16 * 1024 + 1) }],
      ["TOO_MANY_PARTICIPANTS", "initializeChat", { participants: Array.from({ length: 1000 }, (_, n) => `user-${n}`) }],
      // Things that do not exist, or are not hers
      ["NOT_MEMBER", "enterChat", { roomId: "nowhere" }],
      ["NOT_MEMBER", "sendMessage", { roomId: "nowhere", content: "x" }],
      ["MESSAGE_NOT_FOUND", "markAsRead", { roomId, messageId: "1-1" }],
    ]) {
      // When she sends them with a callback, then it gets the error, and no event comes
      const error = await alice.refused(code, event, ...data);
      assert.equal(error.event, event);
      assert.deepEqual(alice.takeAll(), []);
      // And without one, the `error` event says the same
      alice.emit(event, ...data);
      const told = await alice.take("error");
      assert.deepEqual(told, error);
    }

    // And she is still connected, and nothing was stored
    assert.deepEqual(await alice.history(roomId), []);
    assert.deepEqual(alice.ends, []);
  });

  each("a hundred bad requests end the connection", async (stage) => {
    const server = await stage.server();
    const mallory = await stage.delta(server, "mallory");
    const bob = await stage.delta(server, "bob");
    for (let count = 0; count < 100; count += 1) mallory.emit("dance", count);
    stage.note(`the client's reason: ${await mallory.ended()}`);
    mallory.close();
    await bob.hasNothing();
  });

  each("what was sent last is done last", async (stage) => {
    // Given Alice, who waits neither for answers nor for her transport to settle
    const server = await stage.server();
    const bob = await stage.delta(server, "bob");
    const roomId = await bob.openRoom(["alice"]);
    const options = { extraHeaders: { token: tokenOf("alice") }, auth: { chatList: "delta" } };
    const alice = stage.open(server, "alice", options);
    await alice.until("the list", () => alice.inbox.some(({ event }) => event === "chatList"));

    // When she sends 200 messages at once, more than fit into one frame
    const order = [];
    const answers = Array.from({ length: 200 }, async (_, number) => {
      const answer = await alice.done("sendMessage", { roomId, content: `${number} `.padEnd(1000, "x") });
      order.push(number);
      return answer;
    });
    const acks = await Promise.all(answers);

    // Then they are numbered as she sent them, and the answers come in that order
    assert.deepEqual(acks.map((ack) => ack.seq), Array.from({ length: 200 }, (_, number) => number + 1));
    assert.deepEqual(order, Array.from({ length: 200 }, (_, number) => number));

    // And all devices get them in that order, once
    const numbers = Array.from({ length: 200 }, (_, number) => String(number));
    for (const device of [alice, bob]) {
      const messages = () => device.inbox.filter(({ event }) => event === "newMessage").map(({ args }) => args[0]);
      await device.until("the last message", () => messages().some((message) => message.seq === 200));
      assert.deepEqual(messages().map((message) => message.content.split(" ")[0]), numbers);
    }
    await alice.settledTransport();
    assert.deepEqual([alice.connects, alice.ends], [1, []]);
  });

  each("requests of all kinds take effect in their order", async (stage) => {
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const roomId = await alice.openRoom(["bob"]);
    // When each request needs the one before it, and none waits
    const steps = [];
    for (let round = 0; round < 20; round += 1) {
      steps.push(alice.done("sendMessage", { roomId, content: `round ${round}` }));
      steps.push(alice.done("enterChat", { roomId, limit: 1 }));
      steps.push(alice.done("leaveChat"));
    }
    const results = await Promise.all(steps);
    // Then each sees exactly what came before it
    const entered = results.filter((_, index) => index % 3 === 1);
    assert.deepEqual(entered.map((it) => it.seq), Array.from({ length: 20 }, (_, round) => round + 1));
  });

  each("what is too large for a frame is not taken", async (stage) => {
    // Given a chat
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const bob = await stage.delta(server, "bob");
    const roomId = await alice.openRoom(["bob"]);
    await bob.take("chatEntry");

    // When Alice sends more than 64 KiB in one packet
    let answer;
    alice.socket.emit("sendMessage", { roomId, content: "x".repeat(70_000) }, (it) => {
      answer = it;
      alice.changing.changed();
    });

    // Then it is refused, or ends the connection; nobody's history has it
    await alice.until("a refusal or the end", () => answer || alice.ends.length > 0);
    stage.note(answer ? `refused: ${JSON.stringify(answer)}` : `the client's reason: ${alice.ends[0]}`);
    if (answer) assert.equal(answer.ok, false);
    alice.close();
    assert.deepEqual(await bob.history(roomId), []);
    await bob.hasNothing();

    // And she can reconnect
    const again = await stage.delta(server, "alice");
    assert.equal((await again.say(roomId, "Shorter")).seq, 1);
    assert.equal((await bob.take("newMessage")).content, "Shorter");
  });

  each("binary data is no content", async (stage) => {
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");
    const bob = await stage.delta(server, "bob");
    const roomId = await bob.openRoom(["alice"]);
    let answer;
    alice.socket.emit("sendMessage", { roomId, content: Buffer.from("Hello") }, (it) => {
      answer = it;
      alice.changing.changed();
    });
    await alice.until("a refusal or the end", () => answer || alice.ends.length > 0);
    stage.note(answer ? `refused: ${JSON.stringify(answer)}` : `the client's reason: ${alice.ends[0]}`);
    if (answer) assert.equal(answer.ok, false);
    assert.deepEqual(await bob.history(roomId), []);
  });
});

story("there is no other namespace", async (stage) => {
  const server = await stage.server();
  const socket = io(`${server.url}/admin`, { extraHeaders: { token: tokenOf("alice") }, forceNew: true });
  stage.keep({ close: () => socket.disconnect() });
  const error = await new Promise((resolve) => socket.once("connect_error", resolve));
  stage.note(error.message);
  assert.equal(socket.connected, false);
});

story("an ack id that is too large to be answered is refused, and not passed over", async (stage) => {
  const server = await stage.server();
  const headers = { token: tokenOf("alice") };
  const tooLarge = `42${2n ** 64n}["getChatList"]`;
  const isRefusal = (packet) => packet.startsWith('42["error"') && packet.includes("INVALID_PAYLOAD");

  // Over WebSocket
  const socket = stage.keep(await RawSocket.open(server, headers));
  socket.send("40");
  await socket.packet((packet) => packet.startsWith('42["chatList"'));
  socket.send(tooLarge);
  await socket.packet(isRefusal);

  // And over long-polling
  const polling = stage.keep(await RawPolling.open(server, headers));
  assert.equal(await polling.send("40"), 200);
  assert.equal(await polling.send(tooLarge), 200);
  const packets = [];
  while (!packets.some(isRefusal)) packets.push(...(await polling.poll()));
});
