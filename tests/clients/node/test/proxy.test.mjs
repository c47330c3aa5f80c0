// nginx in front of two servers, as deploy/ ships it: what compose.yaml starts, without containers.
import assert from "node:assert/strict";
import { describe } from "node:test";

import { NativeDevice } from "../support/device.mjs";
import { Nginx } from "../support/nginx.mjs";
import { eventually } from "../support/patience.mjs";
import { http, knock, POLLING, RawPolling, upgrade } from "../support/raw.mjs";
import { Redis } from "../support/redis.mjs";
import { shipped } from "../support/repository.mjs";
import { overEachTransport, story } from "../support/story.mjs";
import { tokenOf } from "../support/token.mjs";

/** Two servers on a Redis with the shipped settings, behind an nginx with the shipped configuration. */
async function installation(stage) {
  stage.redis = stage.keep(await Redis.start([shipped("deploy/redis.conf")]));
  const one = await server(stage);
  const two = await server(stage);
  const nginx = stage.keep(await Nginx.start([one, two]));
  return { one, two, nginx };
}

/** A server that logs who connects to it. */
function server(stage, env) {
  return stage.server({ APP_ENV: "production", RUST_LOG: "info,chat_server=debug", ...env });
}

/** Whether this user has ever connected to this server. */
const served = (server, user) => server.logs(`user ${user} connected`);

/** Waits until the log of one of the servers says that it has this user. */
const settled = (servers, user) => eventually(`${user} in a log`, () => servers.some((server) => served(server, user)));

/** Devices of the users `prefix1`, `prefix2`…, opened by `open`, until each server has one of them. */
async function onBoth(one, two, prefix, open) {
  const devices = [];
  while (![one, two].every((server) => devices.some(({ user }) => served(server, user)))) {
    assert.ok(devices.length < 50, "each server gets some of them");
    const device = await open(`${prefix}${devices.length + 1}`);
    await settled([one, two], device.user);
    devices.push(device);
  }
  return devices;
}

/** Each of them sends a message: every other gets it, all in the same order. */
async function talk(devices, roomId) {
  for (const device of devices) device.takeAll();
  await Promise.all(devices.map((device) => device.say(roomId, `${device.user} is here`)));
  const talks = [];
  for (const device of devices) {
    const seen = [];
    while (seen.length < devices.length) seen.push((await device.take("newMessage")).content);
    talks.push(seen);
  }
  for (const seen of talks) assert.deepEqual(seen, talks[0]);
  assert.deepEqual(talks[0].toSorted(), devices.map(({ user }) => `${user} is here`).toSorted());
}

overEachTransport("proxy", (each) => {
  each("both doors talk through nginx over two servers, and a server that is killed is replaced by the other", async (stage) => {
    // Given two servers behind nginx, each with devices of both protocols
    const { one, two, nginx } = await installation(stage);
    const natives = await onBoth(one, two, "native", (user) => stage.native(nginx, user, { query: "?chatList=delta" }));
    const others = await onBoth(one, two, "socketio", (user) => stage.delta(nginx, user));
    const devices = [...natives, ...others];

    // When they send, then each gets all of it, and no connection is lost
    const roomId = await devices[0].openRoom(devices.slice(1).map(({ user }) => user));
    for (const device of devices) await device.take("chatEntry");
    await talk(devices, roomId);
    for (const device of devices) assert.deepEqual(device.ends, []);
    for (const device of others) assert.equal(device.connects, 1);

    // When one of the servers is killed
    const lost = devices.filter(({ user }) => served(one, user));
    const kept = devices.filter((device) => !lost.includes(device));
    await one.kill();

    // Then its clients come back through the other: those of Socket.IO by themselves
    for (const device of lost) {
      await device.until("the end of the connection", () => device.ends.length > 0);
      if (device instanceof NativeDevice) {
        devices[devices.indexOf(device)] = await stage.native(nginx, device.user, { query: "?chatList=delta" });
      } else {
        await device.take("chatList");
        assert.equal(device.connects, 2);
      }
      await settled([two], device.user);
    }
    // And the others are not affected
    for (const device of kept) assert.deepEqual(device.ends, []);
    await talk(devices, roomId);

    // When the server is started again, then it gets devices again
    const again = await server(stage, { PORT: String(one.port) });
    const late = await eventually("a device of the server that is back", async () => {
      const device = await stage.native(nginx, "late");
      await settled([again, two], "late");
      if (served(again, "late")) return device;
      device.close();
    });
    assert.deepEqual(late.list, []);
  });
});

describe("proxy", () => {
  story("polling clients that give no token in a header are kept together by their address", async (stage) => {
    const { one, two, nginx } = await installation(stage);
    stage.transport = "polling only";

    // When several connect from one address, with their token in `auth`
    const devices = [];
    for (const user of ["alice", "bob", "carol"]) {
      devices.push(await stage.device(nginx, user, { auth: { token: tokenOf(user) }, extraHeaders: {} }));
    }

    // Then one server has them all, each with the one connection that it began with
    for (const { user } of devices) await settled([one, two], user);
    const servers = [one, two].filter((server) => served(server, "alice"));
    assert.equal(servers.length, 1);
    const roomId = await devices[0].openRoom(["bob", "carol"]);
    await talk(devices, roomId);
    for (const device of devices) {
      assert.ok(served(servers[0], device.user));
      assert.equal(device.connects, 1);
    }
  });

  story("the requests of a polling session reach one server, whichever connection they take", async (stage) => {
    const { nginx } = await installation(stage);

    // Given sessions of many users, each request of which is a connection of its own
    for (let number = 1; number <= 20; number += 1) {
      const headers = { token: tokenOf(`user${number}`) };
      const polling = stage.keep(await RawPolling.open(nginx, headers));

      // Then the session is known wherever it continues
      assert.equal(await polling.send("40"), 200, nginx.log());
      const packets = [];
      while (!packets.some((packet) => packet.startsWith("40{"))) {
        const some = await polling.poll();
        assert.ok(some, nginx.log());
        packets.push(...some);
      }
    }
  });

  story("a server that is stopped hands its devices over, and nothing that was acked is lost", async (stage) => {
    // Given Alice on one server, at work, and Bob on the other
    const { one, two, nginx } = await installation(stage);
    stage.transport = "WebSocket only";
    const devices = await onBoth(one, two, "user", (user) => stage.delta(nginx, user));
    const alice = devices.find(({ user }) => served(one, user));
    const bob = devices.find(({ user }) => served(two, user));
    const roomId = await alice.openRoom([bob.user]);

    // When Alice's is stopped while she sends
    const acked = [];
    for (let index = 0; index < 100; index += 1) {
      const message = { roomId, content: `${index}`, clientMessageId: `m-${index}` };
      // Not `done`: nobody waits for answers that may never come.
      alice.socket.emit("sendMessage", message, ({ ok, data }) => {
        if (ok && acked.push(data.seq) === 10) one.terminate();
      });
    }
    assert.equal(await one.ended(), 0);
    await alice.until("a new connection", () => alice.connects === 2);

    // Then she is on the other, and what was acked is stored
    await settled([two], alice.user);
    assert.ok(acked.length >= 10);
    const stored = (await bob.history(roomId)).map((message) => message.seq);
    assert.deepEqual(acked.filter((seq) => !stored.includes(seq)), []);
    assert.deepEqual(bob.ends, []);
  });

  story("nginx passes on what the server needs, and keeps to itself what is nobody's business", async (stage) => {
    const { nginx } = await installation(stage);
    const token = tokenOf("alice");

    // The server knows its own pages by their host and port, and no others
    const own = { Origin: nginx.url, token };
    assert.equal((await upgrade(nginx, "/ws", own)).status, 101);
    assert.equal((await http(nginx, "GET", POLLING, { headers: own })).status, 200);
    const foreign = { Origin: "http://pages.example", token };
    assert.equal((await upgrade(nginx, "/ws", foreign)).status, 403);
    assert.equal((await http(nginx, "GET", POLLING, { headers: foreign })).status, 403);

    // Tokens are long: the server takes 16 KiB of head
    const long = { token: "x".repeat(12 * 1024) };
    assert.equal((await upgrade(nginx, "/ws", long)).status, 401);

    // A POST may have MAX_FRAME_BYTES, and no more
    const polling = stage.keep(await RawPolling.open(nginx, { token }));
    assert.equal(await polling.send("40"), 200);
    assert.equal(await polling.send(`42["none","${"x".repeat(65_536 - 13)}"]`), 200);
    assert.equal(await polling.send(`42["none","${"x".repeat(65_536)}"]`), 413);

    // Clients may ask for its readiness, but not for its metrics
    assert.equal(JSON.parse((await http(nginx, "GET", "/readyz")).body).status, "ready");
    const metrics = await http(nginx, "GET", "/metrics");
    assert.equal(metrics.status, 404);
    assert.match(metrics.body, /<center>nginx<\/center>/);

    // Neither token nor session id is logged
    await http(nginx, "GET", `/healthz?token=${token}`);
    const log = await eventually("the log", () => nginx.accessLog().includes("GET /healthz 200") && nginx.accessLog());
    assert.ok(!log.includes(token) && !log.includes(polling.handshake.sid) && !log.includes("?"), log);
  });

  story("one address takes no more than its share", async (stage) => {
    const { nginx } = await installation(stage);

    // When an address opens one WebSocket after another
    const open = [];
    const more = async () => {
      const knocked = stage.keep(await knock(nginx, "/ws?chatList=delta", { token: tokenOf(`user${open.length}`) }));
      if (knocked.status === 101) open.push(knocked);
      return knocked.status;
    };
    let status;
    do status = await more(); while (status === 101 && open.length < 1500);

    // Then it reaches a limit, and closing one makes room for another
    assert.deepEqual([status, open.length], [429, 1000], nginx.log());
    open[0].close();
    await eventually("room again", async () => (await more()) === 101);

    // And so do requests, however fast they come
    for (const socket of open) socket.close();
    await eventually("quiet", async () => (await http(nginx, "GET", "/healthz")).status === 200);
    const statuses = new Set();
    for (let round = 0; round < 50 && !statuses.has(429); round += 1) {
      const answers = Array.from({ length: 100 }, () => http(nginx, "GET", "/healthz"));
      for (const answer of await Promise.all(answers)) statuses.add(answer.status);
    }
    assert.deepEqual([...statuses].sort(), [200, 429]);
  });
});
