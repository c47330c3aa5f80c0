// Servers that stop and come back, and clients that come back by themselves.
import assert from "node:assert/strict";

import { overEachTransport } from "../support/story.mjs";

/** Checks that the connection ended in a way after which the client reconnects by itself. */
async function lostItsServer(device) {
  const reason = await device.ended();
  assert.ok(["transport close", "transport error"].includes(reason), reason);
  assert.equal(device.socket.active, true, "the client tries again");
  return reason;
}

overEachTransport("restart", (each) => {
  for (const [how, stop] of [
    [
      "is stopped",
      async (server) => {
        server.terminate();
        assert.equal(await server.ended(), 0, server.log());
      },
    ],
    ["is killed", (server) => server.kill()],
  ]) {
    each(`a server that ${how} and started again has its clients back`, async (stage) => {
      // Given Alice and Bob with a chat
      const first = await stage.server();
      const alice = await stage.device(first, "alice");
      const bob = await stage.device(first, "bob");
      const roomId = await alice.openRoom(["bob"]);
      await alice.say(roomId, "Before");
      const { id } = await bob.take("newMessage");
      await bob.take("chatList", (list) => list[0]?.seq === 1);

      // When the server stops
      await stop(first);

      // Then both clients know that they should come back
      for (const device of [alice, bob]) stage.note(`${device.user}: ${await lostItsServer(device)}`);
      for (const device of [alice, bob]) device.takeAll();

      // When it is running again, on the same port with the same data
      const second = await stage.server({ PORT: String(first.port) });
      assert.equal(second.port, first.port);
      for (const device of [alice, bob]) device.server = second;

      // Then both come back by themselves, are greeted again and get their list again
      for (const [device, unreadCnt] of [
        [alice, 0],
        [bob, 1],
      ]) {
        const [entry, ...others] = await device.greeted();
        assert.deepEqual(others, []);
        assert.equal(entry.roomId, roomId);
        assert.equal(entry.unreadCnt, unreadCnt);
        assert.equal(entry.lastMessage.content, "Before");
        assert.equal(device.connects, 2);
      }

      // And the chat continues where it was
      await alice.say(roomId, "After");
      const message = await bob.take("newMessage");
      assert.deepEqual([message.seq, message.content], [2, "After"]);
      const page = await bob.done("getHistory", { roomId, after: id });
      assert.deepEqual(page.messages.map((it) => it.content), ["After"]);
      for (const device of [alice, bob]) assert.deepEqual(device.ends, []);
    });
  }

  each("what was sent while the server was away arrives once", async (stage) => {
    // Given Alice and Bob with a chat, and a server that goes away
    const first = await stage.server();
    const alice = await stage.device(first, "alice");
    const bob = await stage.device(first, "bob");
    const roomId = await alice.openRoom(["bob"]);
    first.terminate();
    await first.ended();
    for (const device of [alice, bob]) await lostItsServer(device);

    // When Alice goes on writing: her client keeps it for later, as Socket.IO clients do
    const answers = ["one", "two", "three"].map((content, index) =>
      alice.done("sendMessage", { roomId, content, clientMessageId: `away-${index}` }),
    );
    const second = await stage.server({ PORT: String(first.port) });
    for (const device of [alice, bob]) device.server = second;

    // Then it is sent once the server is back, in order, once
    assert.deepEqual((await Promise.all(answers)).map((answer) => answer.seq), [1, 2, 3]);
    const history = await bob.history(roomId);
    assert.deepEqual(history.map((message) => message.content), ["one", "two", "three"]);
  });

  each("a stopping server loses nothing that it has acked", async (stage) => {
    // Given Alice, who writes, and Bob
    const first = await stage.server();
    const alice = await stage.delta(first, "alice");
    const bob = await stage.delta(first, "bob");
    const roomId = await alice.openRoom(["bob"]);

    // When the server is stopped in the middle of that
    const acked = [];
    for (let number = 1; number <= 100; number += 1) {
      const clientMessageId = `m-${number}`;
      alice.socket.emit("sendMessage", { roomId, content: `${number}`, clientMessageId }, (answer) => {
        if (answer.ok) acked.push(answer.data.id);
        if (acked.length === 10) first.terminate();
      });
    }
    for (const device of [alice, bob]) await lostItsServer(device);
    await first.ended();
    bob.takeAll();

    // Then everything that was acked is there once it is back
    bob.server = await stage.server({ PORT: String(first.port) });
    await bob.until("a new list", () => bob.inbox.some(({ event }) => event === "chatList"));
    const stored = (await bob.history(roomId)).map((message) => message.id);
    stage.note(`${acked.length} acked, ${stored.length} stored`);
    assert.ok(acked.length >= 10);
    assert.deepEqual(acked.filter((id) => !stored.includes(id)), []);
  });
});
