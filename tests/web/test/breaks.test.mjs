// What the page does while the server or Redis is away, and afterwards.
import assert from "node:assert/strict";

import { Cable } from "../support/cable.mjs";
import { story } from "../support/stage.mjs";

story("a server that is killed and started again: nothing is lost, nothing comes twice", async (stage) => {
  // Given Alice and Bob in a chat, and Carol, who has no chat open
  const server = await stage.server();
  const [alice, bob, carol] = await Promise.all(["alice", "bob", "carol"].map((name) => stage.user(server, name)));
  await alice.begin("bob");
  await alice.say("Before");
  await bob.open("alice");
  await bob.sees("Before");
  for (const window of [alice, bob, carol]) window.mayBeOffline = true;

  // When the server is killed, then a banner says so
  await server.kill();
  for (const window of [alice, bob]) await window.says("No connection. Trying again in");
  await stage.picture(alice, "no-connection");

  // When Alice goes on writing, then her messages show as being sent
  await alice.say("While you were away");
  await alice.say("And again");
  assert.equal(await alice.page.locator(".message.sending").count(), 2);

  // When the server is back on its port
  const second = await stage.server({ PORT: String(server.port) });
  assert.equal(second.port, server.port);

  // Then all of them reconnect by themselves, and what was written arrives once and in order
  for (const window of [alice, bob, carol]) await window.connected();
  for (const window of [alice, bob]) {
    await window.shows("Before", "While you were away", "And again");
    await window.page.locator("#banner").waitFor({ state: "hidden" });
  }
  await alice.page.locator(".message.sending").first().waitFor({ state: "detached" });

  // And the chat continues, with read markers
  await bob.say("Welcome back");
  await alice.sees("Welcome back");
  await alice.page.locator(".readers", { hasText: "Read" }).waitFor();
  await carol.begin("bob");
  await carol.say("Me too");
  await bob.unread("carol", 1);
});

story("what was missed is caught up, also if it is many pages", async (stage) => {
  // Given Alice, who has a chat open and loses her network
  const server = await stage.server();
  const bob = await stage.client(server, "bob");
  const { roomId } = await bob.openRoom(["alice"]);
  await bob.send(roomId, "Message 1");
  const cable = stage.keep(await Cable.between(server));
  const alice = await stage.user(cable, "alice");
  await alice.open("bob");
  await alice.sees("Message 1");
  alice.mayBeOffline = true;
  cable.cut();
  await alice.says("No connection. Trying again in");

  // When Bob writes meanwhile, and she is back
  const total = 230;
  for (let number = 2; number <= total; number += 1) await bob.send(roomId, `Message ${number}`);
  cable.mend();

  // Then she has all of it, without a gap
  await alice.sees(`Message ${total}`);
  await alice.shows(...Array.from({ length: total }, (_, index) => `Message ${index + 1}`));
  await alice.unread("bob", 0);
});

story("a message that is refused can be sent again, or given up", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob");
  await alice.begin("bob");
  await bob.open("alice");

  // Given a Redis without memory
  await stage.redis.run("CONFIG SET maxmemory 1");
  await alice.say("Can you hear me?");
  const failed = alice.page.locator(".message.failed");
  await failed.getByText("Not sent:").waitFor();
  await stage.picture(alice, "not-sent");

  // When Alice tries again, then it fails again, and is still there
  await failed.getByRole("button", { name: "Try again" }).click();
  await failed.getByText("Not sent:").waitFor();

  // When Redis has memory again, then it arrives, once
  await stage.redis.run("CONFIG SET maxmemory 0");
  await failed.getByRole("button", { name: "Try again" }).click();
  await failed.waitFor({ state: "detached" });
  await bob.shows("Can you hear me?");
  await alice.shows("Can you hear me?");

  // And each attempt had the same id
  const ids = alice.framesOut("sendMessage").map(({ data }) => data.clientMessageId);
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);

  // And a message that is given up is gone
  await stage.redis.run("CONFIG SET maxmemory 1");
  await alice.say("Never mind");
  await failed.getByText("Not sent:").waitFor();
  await failed.getByRole("button", { name: "Delete" }).click();
  await failed.waitFor({ state: "detached" });
  await stage.redis.run("CONFIG SET maxmemory 0");
  await alice.say("Short");
  for (const window of [alice, bob]) await window.shows("Can you hear me?", "Short");
});

story("what was written for a server that takes more is given up, not sent for ever", async (stage) => {
  // Given a message that was on its way to a server, and a next server that accepts less
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  await alice.begin("bob");
  alice.mayBeOffline = true;
  await server.kill();
  await alice.says("No connection. Trying again in");
  await alice.say("x".repeat(1400));
  await alice.say("Short");
  await stage.server({ PORT: String(server.port), MAX_CONTENT_BYTES: "500", MAX_FRAME_BYTES: "1024" });

  // Then that one is not sent, and the other is
  await alice.connected();
  await alice.page.locator(".message.failed").getByText("Not sent: this is too long for one message").waitFor();
  await alice.page.locator(".message.stored", { hasText: "Short" }).waitFor();
  assert.deepEqual(alice.framesOut("sendMessage").map(({ data }) => data.content), ["Short"]);
});

story("a browser whose frame is too large is told so", async (stage) => {
  // Given pages of a user who is signed in
  const server = await stage.server();
  const { page } = await stage.window(server);

  // When their sockets send far more than the server accepts
  const codes = await page.evaluate(async () => {
    const body = JSON.stringify({ id: "alice" });
    const answer = await fetch("/dev/token", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const { token } = await answer.json();
    const tooLarge = () => new Promise((resolve) => {
      const socket = new WebSocket(`ws://${location.host}/ws?chatList=delta`, ["chat", token]);
      socket.onopen = () => socket.send(JSON.stringify("x".repeat(4_000_000)));
      socket.onclose = ({ code }) => resolve(code);
    });
    const all = [];
    for (let number = 0; number < 12; number += 1) all.push(await tooLarge());
    return all;
  });

  // Then they learn that reason, and not that the connection broke
  assert.deepEqual(codes, Array(12).fill(1009));
});
