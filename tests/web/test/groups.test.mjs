// What a group shows of its members, and what is new in a chat of many messages.
import assert from "node:assert/strict";

import { story } from "../support/stage.mjs";

/** What the last of one's own messages says about who has read it, and how many ticks it has. */
async function ticks(window) {
  const when = window.page.locator("#messages .message.own .when").last();
  const path = await when.locator("path").getAttribute("d");
  return { says: await when.locator(".hidden-text").textContent(), ticks: path.match(/M|m/g).length };
}

story("a group without a name is called by its members, who can be seen", async (stage) => {
  // Given a group without a name
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const zoe = await stage.client(server, "zoe");
  const { roomId } = await zoe.openRoom(["alice", "carol", "bob"]);
  await zoe.send(roomId, "Hello all");

  // Then its members are its name, in the list and above the chat
  await alice.open("bob, carol and zoe");
  assert.equal(await alice.page.locator("#room-name").textContent(), "bob, carol and zoe");
  assert.equal(await alice.page.title(), "alice · Chat");

  // And one can see who its members are
  await alice.page.getByRole("button", { name: "You, bob, carol and zoe" }).click();
  const dialog = alice.page.getByRole("dialog", { name: "bob, carol and zoe" });
  await dialog.getByText("4 members").waitFor();
  assert.deepEqual(await dialog.locator("li bdi").allTextContents(), ["alice", "bob", "carol", "zoe"]);
  await stage.picture(alice, "members");
  await alice.page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });

  // A large group is named by some of its members, and one that has a name by that name
  await zoe.openRoom(["alice", "bob", "carol", "dora", "emil", "frida"]);
  await alice.open("bob, carol, dora and 3 others");
  await alice.page.getByRole("button", { name: "You, bob, carol, dora and 3 others" }).click();
  const many = alice.page.getByRole("dialog");
  assert.deepEqual(await many.locator("li bdi").allTextContents(), ["alice", "bob", "carol", "dora", "emil", "frida", "zoe"]);
  await many.getByRole("button", { name: "Close" }).click();
  await zoe.openRoom(["alice", "bob"], { name: "Lunch" });
  await alice.open("Lunch");

  // A private chat shows no members
  await alice.begin("bob");
  assert.ok(await alice.page.locator("#room-members").isHidden());
  await alice.says("Private chat");
});

story("two ticks in a group mean that all have read", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const others = await Promise.all(["bob", "carol"].map((name) => stage.client(server, name)));
  await alice.begin("bob, carol", "Lunch");
  await alice.say("Pizza?");
  await alice.page.locator(".message.own.stored").waitFor();
  assert.deepEqual(await ticks(alice), { says: ", Sent", ticks: 1 });
  const [{ roomId }] = others[0].rooms;
  await others[0].enter(roomId);
  await alice.page.locator(".readers", { hasText: "Read by bob" }).waitFor();
  assert.deepEqual(await ticks(alice), { says: ", Sent", ticks: 1 });
  await others[1].enter(roomId);
  await alice.page.locator(".readers", { hasText: "Read by all" }).waitFor();
  assert.deepEqual(await ticks(alice), { says: ", Read", ticks: 2 });
});

story("a group of more than a hundred is counted", async (stage) => {
  // Given a group of 120
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  const { roomId } = await alice.openRoom(Array.from({ length: 119 }, (_, index) => `user ${index}`));
  for (const text of ["one", "two"]) await alice.send(roomId, text);
  for (const number of [0, 1]) {
    const reader = await stage.client(server, `user ${number}`);
    await reader.enter(roomId);
  }

  // Then its members are counted, and so are those who have read
  const window = await stage.user(server, "alice");
  await window.open("Group (120)");
  await window.page.getByRole("button", { name: "120 members" }).click();
  const dialog = window.page.getByRole("dialog");
  await dialog.getByText("The server names the members of groups of up to 100.").waitFor();
  assert.equal(await dialog.locator("li").count(), 0);
  await dialog.getByRole("button", { name: "Close" }).click();
  await window.page.locator(".readers", { hasText: "Read by 2 of 119" }).waitFor();
  assert.deepEqual(await ticks(window), { says: ", Sent", ticks: 1 });
});

/** Where the line is: the text of the message below it, and whether it is in view. */
const line = (window) => window.page.evaluate(() => {
  const found = document.querySelector("#messages .line.new");
  if (!found) return null;
  const { top, bottom } = found.getBoundingClientRect();
  const view = document.getElementById("scroller").getBoundingClientRect();
  const below = found.nextElementSibling.querySelector(".bubble p").textContent;
  return { below, inView: bottom > view.top && top < view.bottom };
});

for (const [unread, way] of [[3, null], [49, "49 new messages"], [130, "130 new messages"], [1200, "1,200 new messages"]]) {
  story(`the line above what is new, and the way there: ${unread} unread`, async (stage) => {
    // Given Bob, who has read 20 messages
    const server = await stage.server();
    const alice = await stage.client(server, "alice");
    const { roomId } = await alice.openRoom(["bob"]);
    const write = async (from, to) => {
      for (let number = from; number < to; number += 1) {
        const sent = alice.send(roomId, `Message ${number}`);
        if (number % 100 === 0) await sent;
      }
      await alice.send(roomId, `Message ${to}`);
    };
    await write(1, 20);
    const bob = await stage.user(server, "bob");
    await bob.open("alice");
    await bob.sees("Message 20");
    await bob.page.goBack();
    await bob.says("Choose a chat");
    await bob.page.reload();
    await bob.connected();

    // When there is more, and he opens the chat
    await write(21, 20 + unread);
    await bob.unread("alice", unread > 99 ? "99\\+" : unread);
    await bob.open("alice");
    await bob.sees(`Message ${20 + unread}`);

    // Then the line is only above the first new message, and a button leads there
    const button = bob.page.locator("#to-new");
    if (way) {
      await button.filter({ hasText: way }).waitFor();
      const before = await line(bob);
      assert.ok(before === null || !before.inView, JSON.stringify(before));
      if (unread > 50) assert.equal(before, null);
      if (unread === 130) await stage.picture(bob, "new-above");
      await button.click();
      await button.waitFor({ state: "hidden" });
    }
    assert.deepEqual(await line(bob), { below: "Message 21", inView: true });
    if (!way) assert.ok(await button.isHidden());
    const numbers = (await bob.texts()).map((text) => Number(text.split(" ")[1]));
    assert.deepEqual(numbers, numbers.map((_, index) => numbers[0] + index));
    if (unread === 130) await stage.picture(bob, "new-line");

    // And new messages are below all of it, where another button leads
    await alice.send(roomId, "The newest");
    if (way) await bob.page.locator("#to-newest", { hasText: "1 new" }).click();
    await bob.sees("The newest");
    assert.ok(await button.isHidden());
  });
}
