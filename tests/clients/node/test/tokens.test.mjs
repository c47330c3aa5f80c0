// Who may connect over Socket.IO, and for how long.
import assert from "node:assert/strict";

import { RawPolling, RawSocket } from "../support/raw.mjs";
import { overEachTransport, story } from "../support/story.mjs";
import { expiring, tokenOf, unsigned, withClaims } from "../support/token.mjs";

/** Checks that a device gets the replaced server's texts and then the error, and is disconnected for good. */
async function isRefused(device, code, message) {
  const texts = code === "TOKEN_EXPIRED" ? ["token expired", "connection failed"] : ["connection failed"];
  for (const text of texts) assert.equal(await device.take("error"), text);
  const error = await device.take("error");
  assert.deepEqual([error.status, error.errors], ["error", []]);
  assert.equal(error.code, code, JSON.stringify(error));
  assert.equal(error.message, message);
  assert.equal(await device.ended(), "io server disconnect");
  assert.deepEqual(device.takeAll(), [], "nothing but the error came");
  assert.equal(device.socket.active, false, "the client does not try again");
  device.close();
}

overEachTransport("tokens", (each) => {
  each("a bad token is told so and never sees a list", async (stage) => {
    // Given Alice with a chat
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    await alice.openRoom(["bob"]);
    alice.takeAll();

    // When a client connects with an invalid token
    for (const [what, token, code, message] of [
      ["none", undefined, "UNAUTHORIZED", "connection failed"],
      ["garbage", "garbage", "UNAUTHORIZED", "connection failed"],
      ["another secret", withClaims({ id: "alice" }, "another secret of more than 32 bytes!!"), "UNAUTHORIZED", "connection failed"],
      ["no signature", unsigned("alice"), "UNAUTHORIZED", "connection failed"],
      ["no user", withClaims({ name: "alice" }), "UNAUTHORIZED", "connection failed"],
      ["expired", expiring("alice", -3600), "TOKEN_EXPIRED", "token expired"],
    ]) {
      // Then it gets the error of the replaced server, for each place where a token may be
      const places = [{ extraHeaders: { token } }, { auth: { token } }];
      for (const options of token ? places : [{}]) {
        stage.note(`${what}, ${Object.keys(options).join() || "nowhere"}`);
        await isRefused(stage.open(server, "alice", options), code, message);
      }
    }

    // And Alice is not affected
    await alice.hasNothing();
    assert.deepEqual(alice.ends, []);
  });

  each("a good token is found in each of its places", async (stage) => {
    const server = await stage.server();
    const token = tokenOf("alice");
    for (const options of [
      { extraHeaders: { token } },
      { extraHeaders: { Authorization: `Bearer ${token}` } },
      { extraHeaders: { authorization: `bearer ${token}` } },
      { extraHeaders: {}, auth: { token } },
      { extraHeaders: {}, auth: (give) => give({ token }) },
    ]) {
      const alice = await stage.device(server, "alice", options);
      alice.close();
    }
  });

  each("the first place counts", async (stage) => {
    const server = await stage.server();
    // A good token in a later place does not make up for a bad one there
    const bad = { extraHeaders: { token: "garbage" }, auth: { token: tokenOf("alice") } };
    await isRefused(stage.open(server, "alice", bad), "UNAUTHORIZED", "connection failed");
    // And a good one needs no other
    const good = { extraHeaders: { token: tokenOf("alice") }, auth: { token: "garbage" } };
    await stage.device(server, "alice", good);
  });

  each("a token in the query needs a setting", async (stage) => {
    const careful = await stage.server();
    const lax = await stage.server({ ALLOW_QUERY_TOKEN: "1" });
    const token = tokenOf("alice");
    const options = { query: { token } };
    await isRefused(stage.open(careful, "alice", options), "UNAUTHORIZED", "connection failed");
    await stage.device(lax, "alice", { extraHeaders: {}, ...options });
    // And no log has it
    assert.ok(!careful.logs(token) && !lax.logs(token));
  });

  each("a connection ends with its token", async (stage) => {
    // Given Alice with a token that expires soon
    const server = await stage.server();
    const soon = { extraHeaders: { token: expiring("alice", 3) } };
    const alice = await stage.device(server, "alice", soon);
    await alice.openRoom(["bob"]);
    alice.takeAll();

    // When it expires, then she gets the reason, and is disconnected
    const error = await alice.take("error");
    assert.equal(error.code, "TOKEN_EXPIRED");
    assert.equal(await alice.ended(), "io server disconnect");
  });

  each("a fresh token extends the connection", async (stage) => {
    // Given two devices of Alice's with tokens that expire at the same time
    const server = await stage.server();
    const token = expiring("alice", 4);
    const phone = await stage.device(server, "alice", { extraHeaders: { token } });
    const laptop = await stage.device(server, "alice", { extraHeaders: { token } });

    // When the phone presents a fresh one
    assert.deepEqual(await phone.done("authenticate", { token: tokenOf("alice") }), { expiresAt: null });
    const later = Math.floor(Date.now() / 1000) + 3600;
    const { expiresAt } = await phone.done("authenticate", { token: withClaims({ id: "alice", exp: later }) });
    assert.equal(new Date(expiresAt).getTime(), later * 1000);

    // Then only the laptop is closed
    assert.equal((await laptop.take("error")).code, "TOKEN_EXPIRED");
    assert.equal(await laptop.ended(), "io server disconnect");
    await phone.hasNothing();
    assert.deepEqual(phone.ends, []);
  });

  each("a token that is not good extends nothing, and ends nothing", async (stage) => {
    const server = await stage.server();
    const alice = await stage.device(server, "alice");
    await alice.refused("UNAUTHORIZED", "authenticate", { token: tokenOf("bob") });
    await alice.refused("UNAUTHORIZED", "authenticate", { token: "garbage" });
    await alice.refused("TOKEN_EXPIRED", "authenticate", { token: expiring("alice", -60) });
    await alice.refused("INVALID_PAYLOAD", "authenticate", {});
    await alice.hasNothing();
  });
});

/** So that no ping ends a connection that the refusal must end. */
const NO_PINGS = { PING_INTERVAL_MS: "3600000", PING_TIMEOUT_MS: "3600000" };

/** The `error` event as an Engine.IO packet. */
const isError = (packet) => packet.startsWith('42["error"');

overEachTransport("a refused device that counts itself", (each) => {
  each("gets the error alone, as at /ws", async (stage) => {
    const server = await stage.server();
    for (const [token, code, message] of [
      ["garbage", "UNAUTHORIZED", "connection failed"],
      [expiring("alice", -3600), "TOKEN_EXPIRED", "token expired"],
    ]) {
      const device = stage.open(server, "alice", { auth: { token, chatList: "delta" } });
      assert.deepEqual(await device.take("error"), { code, message });
      assert.equal(await device.ended(), "io server disconnect");
      assert.deepEqual(device.takeAll(), []);
      device.close();
    }
  });
});

story("a refused client that stays is thrown out: WebSocket", async (stage) => {
  const server = await stage.server(NO_PINGS);
  const raw = stage.keep(await RawSocket.open(server));
  raw.send("40");
  await raw.packet(isError);
  await raw.gone();
  assert.ok(!raw.packets.some((packet) => packet.includes("chatList")), JSON.stringify(raw.packets));
});

story("a refused client that stays is thrown out: polling", async (stage) => {
  const server = await stage.server(NO_PINGS);
  const raw = await RawPolling.open(server);
  assert.equal(await raw.send("40"), 200);
  const packets = await raw.rest();
  assert.ok(packets.some(isError), JSON.stringify(packets));
  assert.ok(!packets.some((packet) => packet.includes("chatList")), JSON.stringify(packets));
});
