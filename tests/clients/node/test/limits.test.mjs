// What one client can cost: the same limits as over the native protocol.
import assert from "node:assert/strict";
import { connect } from "node:net";

import { eventually, patiently } from "../support/patience.mjs";
import { POLLING, RawPolling, RawSocket, http, upgrade } from "../support/raw.mjs";
import { overEachTransport, story } from "../support/story.mjs";
import { tokenOf } from "../support/token.mjs";

/** One of these decides whether a device may connect. */
const LAST_WORDS = new Set(["chatList", "error"]);

const headersOf = (user) => ({ token: tokenOf(user) });

overEachTransport("limits", (each) => {
  each("a user may have so many connections", async (stage) => {
    // Given a server on which a user may have two connections, and Alice with two
    const server = await stage.server({ MAX_CONNECTIONS_PER_USER: "2" });
    const first = await stage.device(server, "alice");
    const second = await stage.device(server, "alice");

    // When she connects a third time
    const third = stage.open(server, "alice", { extraHeaders: headersOf("alice") });

    // Then she gets the reason, and is disconnected; no list comes
    const error = await third.take("error");
    assert.equal(error.code, "RATE_LIMITED");
    assert.equal(typeof error.message, "string");
    assert.equal(await third.ended(), "io server disconnect");
    assert.deepEqual(third.takeAll(), []);

    // And the native protocol counts the same
    const native = await upgrade(server, "/ws", headersOf("alice"));
    assert.equal(native.status, 429);

    // And others can connect, and existing connections stay
    await stage.device(server, "bob");
    await second.hasNothing();

    // When one of hers disconnects, then she can connect again
    first.close();
    await eventually("a place", async () => {
      const next = stage.open(server, "alice", { extraHeaders: headersOf("alice") });
      await next.until("a list or an error", () => next.inbox.some(({ event }) => LAST_WORDS.has(event)));
      const isIn = next.inbox.some(({ event }) => event === "chatList");
      if (!isIn) next.close();
      return isIn;
    });
  });

  each("the server may have so many connections", async (stage) => {
    // Given a server that is full
    const server = await stage.server({ MAX_CONNECTIONS: "2" });
    const alice = await stage.device(server, "alice");
    await stage.device(server, "bob");

    // When Carol connects
    const carol = stage.open(server, "carol", { extraHeaders: headersOf("carol") });

    // Then she is refused, and gets no list
    const refused = () => carol.refusals.length > 0 || carol.ends.length > 0;
    await carol.until("a refusal", refused);
    const told = carol.takeAll();
    stage.note(`refusals: ${carol.refusals.map(String)}; ends: ${carol.ends}; told: ${JSON.stringify(told)}`);
    assert.deepEqual(told.filter(([event]) => event !== "error"), []);
    carol.close();

    // And over the native protocol it is full too
    assert.equal((await upgrade(server, "/ws", headersOf("dave"))).status, 503);
    await alice.hasNothing();
    assert.deepEqual(alice.ends, []);
  });

  each("every request is answered once, also those that are too many", async (stage) => {
    // Given a server on which 64 KiB of a device's requests may wait
    const server = await stage.server({ QUEUE_MAX_BYTES: "65536" });
    const alice = await stage.delta(server, "alice");
    const roomId = await alice.openRoom(["bob"]);

    // When Alice sends 100 long requests for short answers without waiting
    const data = { roomId, limit: 1, padding: "x".repeat(16 * 1024) };
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => alice.socket.timeout(20_000).emitWithAck("getHistory", data)),
    );

    // Then each is answered, with the result or with the reason why not
    const refused = answers.filter((answer) => !answer.ok);
    assert.ok(refused.every((answer) => answer.error.code === "RATE_LIMITED"), JSON.stringify(refused[0]));
    stage.note(`${refused.length} of 100 were refused`);
    assert.ok(refused.length < 100);
    alice.takeAll();
  });

  each("too many bad requests end a client, after it was told of each", async (stage) => {
    // Given Alice, whose client is broken
    const server = await stage.server();
    const alice = await stage.delta(server, "alice");

    // When she sends a hundred requests for things that do not exist
    for (let number = 0; number < 100; number += 1) alice.socket.emit("nonsense", number);

    // Then she gets an error each time, and is disconnected for good
    assert.equal(await alice.ended(), "io server disconnect");
    const errors = alice.takeAll().filter(([event, error]) => event === "error" && error.code === "UNKNOWN_EVENT");
    assert.equal(errors.length, 100);
  });
});

/** So that no ping ends a connection that another limit must end. */
const NO_PINGS = { PING_INTERVAL_MS: "3600000", PING_TIMEOUT_MS: "3600000" };

/** 16 KiB, the largest content. */
const LONG = "x".repeat(16 * 1024);

story("who never reads is closed: WebSocket", async (stage) => {
  // Given Bob, who reads nothing after the greeting, on a server that keeps little for him
  const server = await stage.server({ QUEUE_MAX_BYTES: "65536", ...NO_PINGS });
  const alice = await stage.native(server, "alice", { query: "?chatList=delta" });
  const roomId = await alice.openRoom(["bob"]);
  const bob = stage.keep(await RawSocket.open(server, headersOf("bob")));
  bob.send('40{"chatList":"delta"}');
  await bob.packet((packet) => packet.startsWith('42["chatList"'));
  bob.socket.pause();

  // When Alice sends more than the network's own buffers hold
  const count = 1500;
  for (let number = 0; number < count; number += 1) {
    await alice.say(roomId, LONG);
    // Before the next one, or her own queue might overflow
    await alice.take("newMessage");
  }

  // Then he was closed before she had sent everything
  bob.socket.resume();
  await bob.gone();
  const got = bob.packets.filter((packet) => packet.startsWith('42["newMessage"')).length;
  stage.note(`${got} of ${count} messages were in the network's buffers`);
  assert.ok(got < count);
  // And Alice, who reads, was not
  assert.deepEqual(alice.ends, []);
});

story("who never asks is closed: polling", async (stage) => {
  // Given Bob, who does not poll after the greeting
  const server = await stage.server({ QUEUE_MAX_BYTES: "65536", ...NO_PINGS });
  const alice = await stage.native(server, "alice", { query: "?chatList=delta" });
  const roomId = await alice.openRoom(["bob"]);
  const bob = await RawPolling.open(server, headersOf("bob"));
  assert.equal(await bob.send('40{"chatList":"delta"}'), 200);
  for (let greeting = []; !greeting.some((it) => it.startsWith('42["chatList"')); ) greeting = await bob.poll();

  // When Alice sends more than the server keeps for him
  const count = 50;
  for (let number = 0; number < count; number += 1) {
    await alice.say(roomId, LONG);
    // Before the next one, or her own queue might overflow
    await alice.take("newMessage");
  }

  // Then his connection has ended, and he never gets all of it
  const rest = await bob.rest();
  const got = rest.filter((packet) => packet.startsWith('42["newMessage"')).length;
  stage.note(`${got} of ${count} messages came`);
  assert.ok(got < count);
  assert.deepEqual(alice.ends, []);
});

story("who does not answer pings is closed", async (stage) => {
  const server = await stage.server({ PING_INTERVAL_MS: "200", PING_TIMEOUT_MS: "200" });
  const raw = stage.keep(await RawSocket.open(server, headersOf("alice")));
  const { pingInterval, pingTimeout, maxPayload, upgrades } = JSON.parse(raw.packets[0].slice(1));
  assert.deepEqual([pingInterval, pingTimeout, maxPayload, upgrades], [200, 200, 65536, []]);
  raw.send("40");
  await raw.packet((packet) => packet === "2");
  await raw.gone();
});

story("who answers pings stays", async (stage) => {
  const server = await stage.server({ PING_INTERVAL_MS: "100" });
  stage.transport = "WebSocket only";
  const alice = await stage.device(server, "alice");
  let pings = 0;
  alice.socket.io.on("ping", () => {
    pings += 1;
    alice.changing.changed();
  });
  await alice.until("five pings", () => pings >= 5);
  assert.deepEqual(alice.ends, []);
});

story("who does not say who they are is closed: WebSocket", async (stage) => {
  const server = await stage.server(NO_PINGS);
  const raw = stage.keep(await RawSocket.open(server, headersOf("alice")));
  await raw.gone();
  assert.ok(!raw.packets.some((packet) => packet.startsWith("4")), JSON.stringify(raw.packets));
});

story("who does not say who they are is closed: polling", async (stage) => {
  const server = await stage.server(NO_PINGS);
  const raw = await RawPolling.open(server, headersOf("alice"));
  const packets = await raw.rest();
  assert.ok(!packets.some((packet) => packet.startsWith("4")), JSON.stringify(packets));
});

story("who does not even ask is closed: polling", async (stage) => {
  // Given handshakes that nobody continues
  const server = await stage.server({ MAX_CONNECTIONS: "5", ...NO_PINGS });
  for (let number = 0; number < 5; number += 1) await http(server, "GET", POLLING);
  // Then they take up no connection slot for long
  stage.transport = "polling only";
  await eventually("a place", async () => {
    const next = stage.open(server, "alice", { extraHeaders: headersOf("alice"), reconnection: false });
    await next.until("a list or a refusal", () =>
      next.refusals.length > 0 || next.inbox.some(({ event }) => LAST_WORDS.has(event)),
    );
    const isIn = next.inbox.some(({ event }) => event === "chatList");
    next.close();
    return isIn;
  });
});

story("who asks for another namespace only is closed", async (stage) => {
  const server = await stage.server(NO_PINGS);
  const raw = stage.keep(await RawSocket.open(server, headersOf("alice")));
  raw.send("40/admin,");
  await raw.gone();
});

story("who connects and sends nothing at all is closed", async (stage) => {
  const server = await stage.server({ HEADER_TIMEOUT_MS: "300" });
  const socket = stage.keep(connect(server.port, "127.0.0.1"));
  socket.close = () => socket.destroy();
  socket.resume();
  await patiently("the end", new Promise((resolve) => socket.once("close", resolve)), () => server.log());
});

story("what is not Engine.IO gets an answer, and nothing breaks", async (stage) => {
  const server = await stage.server();
  for (const [method, path, options] of [
    ["GET", "/socket.io/", {}],
    ["GET", "/socket.io/?EIO=3&transport=polling", {}],
    ["GET", "/socket.io/?EIO=4&transport=pigeon", {}],
    ["GET", `${POLLING}&sid=unknown`, {}],
    ["POST", `${POLLING}&sid=unknown`, { body: "40" }],
    ["POST", POLLING, { body: "40" }],
    ["DELETE", POLLING, {}],
    ["GET", "/socket.io/?EIO=4&transport=websocket", {}],
  ]) {
    const { status } = await http(server, method, path, options);
    assert.ok(status >= 400 && status < 500, `${method} ${path}: ${status}`);
  }

  // And packets that mean nothing end their own connection at most
  for (const packet of ["4", "42", '42["', "42[]", "42{}", '42[5,"x"]', "45", "451-[", "9", "", '40{"token":', "4\u0000"]) {
    const raw = stage.keep(await RawSocket.open(server, headersOf("mallory")));
    raw.send("40");
    await raw.packet((it) => it.startsWith('42["chatList"'));
    raw.send(packet);
    raw.close();
  }
  stage.transport = "WebSocket only";
  const alice = await stage.device(server, "alice");
  await alice.hasNothing();
  assert.ok(!server.logs("panicked"), server.log());
});
