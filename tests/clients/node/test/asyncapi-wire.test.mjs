// asyncapi.yaml describes everything that real devices send and receive, and everything in it has been sent or
// received.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe } from "node:test";

import { Document, Record } from "../support/asyncapi.mjs";
import { NativeDevice, SocketIoDevice, TRANSPORTS } from "../support/device.mjs";
import { forget, temporaryFolder } from "../support/processes.mjs";
import { POLLING, http, upgrade } from "../support/raw.mjs";
import { repository } from "../support/repository.mjs";
import { story } from "../support/story.mjs";
import { expiring, tokenOf } from "../support/token.mjs";

/** The document, where a field that it does not name is an error. */
const closed = Document.closed();
/** The document as it is. */
const open = new Document();

/** The ways to connect: for each the protocol, and how a device opens a connection. */
const WAYS = {
  native: {
    door: "native",
    open: (server, user, { mode = "full", token } = {}) =>
      NativeDevice.open(server, user, { query: `?chatList=${mode}`, token: token ?? tokenOf(user) }),
  },
};
for (const transport of Object.keys(TRANSPORTS)) {
  WAYS[`Socket.IO, ${transport}`] = {
    door: "socketIo",
    open: (server, user, { mode = "full", token } = {}) =>
      SocketIoDevice.open(server, user, transport, { auth: { token: token ?? tokenOf(user), chatList: mode } }),
  };
}

/** A record, and how to open devices that are recorded in it. */
function recording(stage, { door, open }) {
  const record = new Record(door);
  const device = async (server, user, options) => {
    const it = record.listen(stage.keep(open(server, user, options)));
    it.list = await it.greeted();
    return it;
  };
  return { record, device };
}

function assertAllValid(record, actions) {
  const { door } = record;
  for (const { action, key, packet, payload } of record.frames.filter((frame) => actions.includes(frame.action))) {
    assert.equal(closed.faults(door, key, payload), undefined, `${action} ${key} at ${door}`);
    assert.equal(closed.messages(door)[key]["x-packet"], packet, key);
  }
}

/** Everything that devices can request, and everything that results from it. */
async function talk(stage, server, { door, device, record }) {
  const alice = await device(server, "alice");
  const bob = await device(server, "bob", { mode: "delta" });

  // A private room and a group; messages, one of them long
  const roomId = await alice.openRoom(["bob"]);
  await bob.take("chatEntry", (entry) => entry.roomId === roomId);
  const groupId = await alice.openRoom(["bob", "carol"], { name: "Lunch", clientRoomId: "lunch-1" });
  assert.equal(await alice.openRoom(["bob", "carol"], { clientRoomId: "lunch-1" }), groupId);
  await bob.take("chatEntry", (entry) => entry.groupName === "Lunch");
  const hello = { roomId, content: "Hello Bob", clientMessageId: "m-1" };
  const first = await alice.done("sendMessage", hello);
  assert.equal((await alice.done("sendMessage", hello)).duplicate, true);
  await alice.done("sendMessage", { roomId: groupId, type: "image", content: ["Hello all \u{1F980} \u2028", "https://a.example/1.png"] });
  await bob.take("newMessage", ({ clientMessageId }) => clientMessageId === "m-1");

  // Reading
  await bob.done("markAsRead", { roomId, messageId: first.id });
  await alice.take("messageRead", ({ userId, seq }) => userId === "bob" && seq === 1);
  await bob.done("enterChat", { roomId, limit: 1 });
  await bob.take("chatHistory");
  await alice.say(roomId, `You see this ${"x".repeat(600)}`);
  await bob.done("leaveChat");
  await bob.done("getHistory", { roomId, after: "0-0", limit: 1 });
  await bob.done("getHistory", { roomId, before: first.id });
  bob.emit("getHistory", { roomId });
  await bob.take("chatHistory", (messages) => messages.length === 2);
  await bob.done("getChatList");
  await alice.take("chatList", (list) => list.some(({ lastMessage }) => lastMessage?.truncated));

  // Tokens, refusals with an answer and without, the reset
  await alice.done("authenticate", { token: tokenOf("alice") });
  assert.notEqual((await bob.done("authenticate", { token: expiring("bob", 3600) })).expiresAt, null);
  await bob.refused("MESSAGE_NOT_FOUND", "markAsRead", { roomId, messageId: "1-1" });
  bob.emit("enterChat", { roomId: "5b534b82-d924-5ce9-a884-b847bb4d73be".replace("5b", "00") });
  await bob.take("error");
  await alice.done("resetRedisForDevelopment");
  await bob.take("chatList", (list) => list.length === 0);

  if (door === "socketIo") {
    // Another namespace, an invalid token, and a goodbye
    const other = bob.socket.io.socket("/other");
    await new Promise((resolve) => other.once("connect_error", resolve));
    const mallory = record.listen(stage.keep(stage.way.open(server, "mallory", { token: "garbage" })));
    await mallory.take("error");
    await mallory.ended();
    alice.socket.disconnect();
  }
}

describe("every message of the document passes, and none that is not in it", () => {
  for (const [name, way] of Object.entries(WAYS)) {
    story(name, async (stage) => {
      stage.way = way;
      const { record, device } = recording(stage, way);
      await talk(stage, await stage.server(), { door: way.door, device, record });

      // All of it is in the document, field by field
      assertAllValid(record, ["send", "receive"]);
      // And all of the document occurred
      for (const action of ["send", "receive"]) {
        const missing = [...closed.keys(way.door, action)].filter((key) => !record.keys(action).has(key));
        assert.deepEqual(missing, [], `${action} at ${name}`);
      }
      // And the check works: the same frames with anything changed are refused
      stage.note(`${assertChangesAreRefused(record)} changed frames refused`);
    });
  }
});

/** Fields that may be missing. */
const OPTIONAL = { clientMessageId: 1, truncated: 1, event: 1, roomId: 1 };

/** Checks that no frame of the server could have a field more or less, or one of another type. Returns their number. */
function assertChangesAreRefused(record) {
  let count = 0;
  const refused = (key, what, payload) => {
    count += 1;
    assert.ok(closed.faults(record.door, key, payload), `${key} is taken with ${what}: ${JSON.stringify(payload)}`);
  };
  for (const [key, { payload }] of new Map(record.frames.filter(({ action }) => action === "send").map((frame) => [frame.key, frame]))) {
    for (const [path, value] of places(payload)) {
      const isError = payload?.event === "error" || key === "error" || key === "refusal";
      const field = path.at(-1);
      refused(key, `${path.join(".")} of another type`, changed(payload, path, () => ({ surprise: [] })));
      if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        refused(key, `one more field in ${path.join(".")}`, changed(payload, path, (it) => ({ ...it, surprise: 1 })));
      }
      // A list may be shorter, except the arguments of a packet. Among the optional fields, only errors may omit a
      // room.
      const mayBeMissing =
        typeof field === "number"
          ? !Array.isArray(payload) || path.length > 1
          : field in OPTIONAL && (isError ? path.length > 1 : field !== "roomId");
      if (path.length > 0 && !mayBeMissing) refused(key, `no ${path.join(".")}`, changed(payload, path, () => undefined));
    }
  }
  return count;
}

/** Every value in a payload, itself included, with its path. */
function* places(value, path = []) {
  yield [path, value];
  if (typeof value !== "object" || value === null) return;
  for (const key of Object.keys(value)) yield* places(value[key], [...path, Array.isArray(value) ? Number(key) : key]);
}

/** A copy with one place changed, or removed where it becomes `undefined`. */
function changed(value, [key, ...rest], change) {
  if (key === undefined) return change(value);
  const inner = changed(value[key], rest, change);
  if (Array.isArray(value)) return value.flatMap((it, at) => (at !== key ? [it] : inner === undefined ? [] : [inner]));
  const copy = { ...value, [key]: inner };
  if (inner === undefined) delete copy[key];
  return copy;
}

/** Scripts whose `send_message` refuses "forbidden". */
function rules() {
  const folder = temporaryFolder();
  const script = readFileSync(join(repository, "lua/send_message.lua"), "utf8");
  const rule = "if content == 'forbidden' then\n  return redis.error_reply('REJECTED Not here.')\nend";
  const ruled = script.replace(/^-- Rules of your own: here.*$/m, (place) => `${place}\n${rule}`);
  assert.ok(ruled.includes(rule), "the rule stands in the script");
  writeFileSync(join(folder, "send_message.lua"), ruled);
  return folder;
}

describe("every error code is met, and its error is in the document", () => {
  for (const name of ["native", "Socket.IO, WebSocket only"]) {
    story(name, async (stage) => {
      const way = WAYS[name];
      const { record, device } = recording(stage, way);
      const folder = rules();
      stage.keep({ close: () => forget(folder) });
      const server = await stage.server({ LUA_DIR: folder, MAX_PARTICIPANTS: "3", MAX_ROOMS_PER_USER: "2", REDIS_CALL_TIMEOUT_MS: "500" });
      const alice = await device(server, "alice");
      const roomId = await alice.openRoom(["bob"]);
      const send = { roomId, content: "Hello" };

      // The client's own errors
      alice.socket.io ? alice.socket.io.engine.write("2nonsense") : alice.socket.send("nonsense");
      assert.equal((await alice.take("error")).code, "INVALID_JSON");
      await alice.refused("UNKNOWN_EVENT", "sing", {});
      await alice.refused("INVALID_PAYLOAD", "sendMessage", { roomId });
      await alice.refused("MESSAGE_TOO_LARGE", "sendMessage", { roomId, content: "x".repeat(16 * 1024 + 1) });
      await alice.refused("NOT_MEMBER", "enterChat", { roomId: roomId.replace(/^.{8}/, "00000000") });
      await alice.refused("MESSAGE_NOT_FOUND", "markAsRead", { roomId, messageId: "1-1" });
      await alice.refused("TOO_MANY_PARTICIPANTS", "initializeChat", { participants: ["b", "c", "d"] });
      await alice.openRoom(["carol"]);
      await alice.refused("TOO_MANY_ROOMS", "initializeChat", { participants: ["dave"] });
      await alice.refused("HISTORY_RESET", "getHistory", { roomId, after: "1-1" });
      await alice.refused("UNAUTHORIZED", "authenticate", { token: "garbage" });
      await alice.refused("TOKEN_EXPIRED", "authenticate", { token: expiring("alice", -3600) });
      await alice.refused("REJECTED", "sendMessage", { roomId, content: "forbidden" });

      // A Redis that is full, one that hangs, and one whose data somebody has damaged
      await stage.redis.run("CONFIG SET maxmemory 1");
      await alice.refused("UNAVAILABLE", "sendMessage", send);
      await stage.redis.run("CONFIG SET maxmemory 0");
      stage.redis.process.kill("SIGSTOP");
      await alice.refused("TIMEOUT", "sendMessage", send);
      stage.redis.process.kill("SIGCONT");
      await stage.redis.run(`SET chat:{room:${roomId}}:meta nonsense`);
      await alice.refused("INTERNAL", "sendMessage", send);

      // And a client that is in too great a hurry
      const strict = await stage.server({ MAX_REQUESTS_PER_SEC: "1", MAX_REQUEST_BURST: "1" });
      const dave = await device(strict, "dave");
      const answers = await Promise.all(Array.from({ length: 5 }, () => dave.ask("leaveChat")));
      assert.ok(answers.some(({ error }) => error?.code === "RATE_LIMITED"));

      assertAllValid(record, ["send"]);
      assert.deepEqual([...record.codes()].sort(), [...closed.codes()].sort());
    });
  }
});

const ROOM = "5b534b82-d924-5ce9-a884-b847bb4d73be";

/** Requests, and whether they are well-formed. */
const REQUESTS = [
  ["initializeChat", { participants: ["bob"], more: 1 }, true],
  ["initializeChat", { participants: ["bob", "bob", "alice"], name: null, clientRoomId: null }, true],
  ["initializeChat", { participants: ["é".repeat(64), "{🦀}:*"], name: "🦀".repeat(128), clientRoomId: "!".repeat(64) }, true],
  ["initializeChat", { participants: [] }, false],
  ["initializeChat", { participants: "bob" }, false],
  ["initializeChat", { participants: [7] }, false],
  ["initializeChat", { participants: [""] }, false],
  ["initializeChat", { participants: ["a\u0007b"] }, false],
  ["initializeChat", { participants: ["a\u0085b"] }, false],
  ["initializeChat", { participants: ["x".repeat(129)] }, false],
  ["initializeChat", { participants: ["bob"], name: "" }, false],
  ["initializeChat", { participants: ["bob"], name: "x".repeat(129) }, false],
  ["initializeChat", { participants: ["bob"], name: 7 }, false],
  ["initializeChat", { participants: ["bob"], clientRoomId: "a b" }, false],
  ["initializeChat", { participants: ["bob"], clientRoomId: "é" }, false],
  ["initializeChat", { participants: ["bob"], clientRoomId: "x".repeat(65) }, false],
  ["initializeChat", {}, false],
  ["initializeChat", null, false],
  ["initializeChat", [["bob"]], false],
  ["getChatList", undefined, true],
  ["getChatList", null, true],
  ["leaveChat", undefined, true],
  ["enterChat", { roomId: ROOM, limit: 100 }, true],
  ["enterChat", { roomId: ROOM, limit: null }, true],
  ["enterChat", { roomId: ROOM, limit: 0 }, false],
  ["enterChat", { roomId: ROOM, limit: 101 }, false],
  ["enterChat", { roomId: ROOM, limit: 1.5 }, false],
  ["enterChat", { roomId: ROOM, limit: "1" }, false],
  ["enterChat", { roomId: null }, false],
  ["enterChat", { roomId: "x".repeat(65) }, false],
  ["sendMessage", { roomId: ROOM, content: "x".repeat(16384), clientMessageId: "m" }, true],
  ["sendMessage", { roomId: ROOM, content: "" }, false],
  ["sendMessage", { roomId: ROOM, content: 7 }, false],
  ["sendMessage", { roomId: ROOM, content: Array.from({ length: 20 }, () => "x"), type: "a b~" }, true],
  ["sendMessage", { roomId: ROOM, content: ["", "x"], type: null }, true],
  ["sendMessage", { roomId: ROOM, content: [] }, false],
  ["sendMessage", { roomId: ROOM, content: ["", ""] }, false],
  ["sendMessage", { roomId: ROOM, content: ["x", 7] }, false],
  ["sendMessage", { roomId: ROOM, content: Array.from({ length: 21 }, () => "x") }, false],
  ["sendMessage", { roomId: ROOM, content: "x", type: "" }, false],
  ["sendMessage", { roomId: ROOM, content: "x", type: "x".repeat(33) }, false],
  ["sendMessage", { roomId: ROOM, content: "x", type: "bild\u00e4" }, false],
  ["sendMessage", { roomId: ROOM, content: "x", type: "system" }, false],
  ["sendMessage", { roomId: ROOM, content: "x", type: 7 }, false],
  ["sendMessage", { roomId: ROOM, content: "x", clientMessageId: "" }, false],
  ["sendMessage", { roomId: ROOM, content: "x", clientMessageId: 7 }, false],
  ["sendMessage", { content: "x" }, false],
  ["markAsRead", { roomId: ROOM, messageId: "1-1" }, true],
  ["markAsRead", { roomId: ROOM }, false],
  ["markAsRead", { roomId: ROOM, messageId: 1 }, false],
  ["markAsRead", { roomId: ROOM, messageId: "1".repeat(65) }, false],
  ["getHistory", { roomId: ROOM, before: null, after: "0-0", limit: 1 }, true],
  ["getHistory", { roomId: ROOM, before: "1-1", after: "1-1" }, false],
  ["getHistory", { roomId: ROOM, after: {} }, false],
  ["authenticate", { token: tokenOf("alice") }, true],
  ["authenticate", { token: null }, false],
  ["authenticate", {}, false],
  ["resetRedisForDevelopment", undefined, true],
];

describe("the document and the server agree on what is well-formed", () => {
  story("native frames", async (stage) => {
    const server = await stage.server({ APP_ENV: "development" });
    const alice = await stage.native(server, "alice");
    for (const [event, data, good] of REQUESTS) {
      const what = `${event} ${JSON.stringify(data)}`;
      const frame = data === undefined ? { event, id: 1 } : { event, id: 1, data };
      assert.equal(open.faults("native", event, frame) === undefined, good, `native ${what}`);
      const args = data === undefined ? [event] : [event, data];
      assert.equal(open.faults("socketIo", event, args) === undefined, good, `Socket.IO ${what}`);
      const answer = await alice.ask(event, data);
      assert.equal(answer.error?.code === "INVALID_PAYLOAD", !good, `${what}: ${JSON.stringify(answer)}`);
    }
  });

  story("ids of native requests", async (stage) => {
    const alice = await stage.native(await stage.server(), "alice");
    for (const [id, good] of [["", true], ["x".repeat(254), true], [-7, true], [null, true], ["x".repeat(255), false], [1.5, false], [true, false], [{}, false]]) {
      assert.equal(open.faults("native", "leaveChat", { event: "leaveChat", id }) === undefined, good, JSON.stringify(id));
      alice.takeAll();
      alice.socket.send(JSON.stringify({ event: "leaveChat", id }));
      if (good) await alice.take("status");
      else assert.equal((await alice.take("error")).code, "INVALID_PAYLOAD");
    }
  });
});

describe("refusals over HTTP and ends are as the document has them", () => {
  const pairs = (door) => sortedPairs(open.json.channels[door]["x-refusals"]);
  const sortedPairs = (list) => list.map(({ status, code }) => `${status} ${code ?? "(a number)"}`).sort();

  /** What an answer says, once its body is found to be as documented. */
  function refusal({ status, body }) {
    const json = JSON.parse(body);
    if (/^\d+$/.test(json.code)) return { status };
    assert.equal(closed.faultsOf("HttpRefusal", json), undefined);
    return { status, code: json.code };
  }

  story("native", async (stage) => {
    const server = await stage.server({ MAX_CONNECTIONS: "2", MAX_CONNECTIONS_PER_USER: "1", CORS_ORIGINS: "https://a.example" });
    const headers = (user) => ({ token: tokenOf(user) });
    const first = await stage.native(server, "alice");
    assert.equal(first.list.length, 0);
    const met = [
      await upgrade(server, "/ws?chatList=half", headers("bob")),
      await upgrade(server, "/ws"),
      await upgrade(server, "/ws", { token: expiring("bob", -3600) }),
      await upgrade(server, "/ws", { ...headers("bob"), Origin: "https://b.example" }),
      await http(server, "GET", "/ws", { headers: headers("bob") }),
      await upgrade(server, "/ws", headers("alice")),
    ];
    await stage.native(server, "bob");
    met.push(await upgrade(server, "/ws", headers("carol")));
    assert.deepEqual(sortedPairs(met.map(refusal)), pairs("native"));
  });

  story("Socket.IO", async (stage) => {
    const server = await stage.server({ MAX_CONNECTIONS: "1", CORS_ORIGINS: "https://a.example" });
    const met = [
      await http(server, "GET", POLLING.replace("EIO=4", "EIO=3")),
      await http(server, "GET", POLLING, { headers: { Origin: "https://b.example" } }),
    ];
    await stage.native(server, "alice");
    met.push(await http(server, "GET", POLLING));
    assert.deepEqual(sortedPairs(met.map(refusal)), pairs("socketIo"));
  });

  story("close codes", async (stage) => {
    const server = await stage.server();
    const ends = {
      1001: () => server.terminate(),
      // A reserved bit is set
      1002: ({ socket }) => socket._socket.write(Buffer.from([0xf1, 0x80, 0, 0, 0, 0])),
      1003: ({ socket }) => socket.send(Buffer.from([1])),
      1007: ({ socket }) => socket.send(Buffer.from([0xff]), { binary: false }),
      1008: (device) => Array.from({ length: 100 }, () => device.emit("sing")),
      1009: ({ socket }) => socket.send("x".repeat(65537)),
      4401: (device) => device.emit("authenticate", { token: expiring("alice", 1) }),
    };
    const listed = open.json.channels.native["x-close-codes"].map(({ code }) => String(code));
    // The last one ends the server.
    for (const [code, bring] of Object.entries(ends).reverse()) {
      assert.ok(listed.includes(code));
      const alice = await stage.native(server, "alice");
      bring(alice);
      await alice.until("its end", () => alice.ends.length > 0);
      assert.deepEqual(alice.ends, [Number(code)]);
    }
  });
});
