// Two people and their devices chat through the page.
import assert from "node:assert/strict";

import { story } from "../support/stage.mjs";

story("Alice and Bob chat, with Alice on two devices", async (stage) => {
  // Given Alice, Bob, and a second device of Alice's
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob");
  const phone = stage.watch(await alice.opening(() => alice.menu("Open a second device")));
  phone.name = "alice's phone";
  await phone.connected();

  // When Alice begins a chat with Bob and writes
  await alice.begin("bob");
  await alice.say("Hello Bob");
  await alice.shows("Hello Bob");

  // Then Bob's list shows it as unread, and Alice's second device shows nothing as unread
  await bob.unread("alice", 1);
  await phone.entry("bob").getByText("You: Hello Bob").waitFor();
  await phone.unread("bob", 0);
  assert.equal(await bob.page.title(), "(1) bob · Chat");
  assert.equal(await alice.page.locator(".readers").count(), 0);

  // When Bob opens it, then it is read, and Alice sees that on both devices
  await bob.open("alice");
  await bob.shows("Hello Bob");
  await bob.unread("alice", 0);
  await alice.page.locator(".readers", { hasText: "Read" }).waitFor();
  await phone.open("bob");
  await phone.page.locator(".readers", { hasText: "Read" }).waitFor();

  // When they continue, then all of them see the same, in order, and new messages are read as they arrive
  await bob.say("Hi Alice");
  await phone.sees("Hi Alice");
  await phone.say("On my phone now");
  await bob.sees("On my phone now");
  for (const window of [alice, bob, phone]) await window.shows("Hello Bob", "Hi Alice", "On my phone now");
  for (const window of [alice, bob]) await window.unread(window === bob ? "alice" : "bob", 0);
  await alice.page.locator(".message.own .readers", { hasText: "Read" }).waitFor();
  await stage.picture(alice, "two-people");
});

story("a group: who has read, and what is unread in which chat", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob");
  const carol = await stage.user(server, "carol");
  await alice.begin("bob, carol", "Lunch");
  await alice.page.locator("#room-members", { hasText: "You, bob and carol" }).waitFor();
  await alice.say("Pizza?");
  await alice.say("Or soup?");
  await bob.unread("Lunch", 2);
  await carol.unread("Lunch", 2);
  await carol.entry("Lunch").getByText("alice: Or soup?").waitFor();

  await bob.open("Lunch");
  await alice.page.locator(".readers", { hasText: "Read by bob" }).waitFor();
  await bob.page.locator(".line.new", { hasText: "New messages" }).waitFor();
  await carol.open("Lunch");
  await alice.page.locator(".readers", { hasText: "Read by all" }).waitFor();

  // Another private chat has its own count, and moves to the top
  await carol.begin("bob");
  await carol.say("Just you and me");
  await bob.unread("carol", 1);
  await bob.unread("Lunch", 0);
  assert.match(await bob.page.locator("#rooms .title").first().textContent(), /carol/);
  await carol.open("Lunch");
  await bob.say("Soup");
  await carol.sees("Soup");
  await bob.unread("carol", 1);
  assert.equal(await bob.page.locator(".sender", { hasText: "alice" }).count(), 1);
});

story("what nobody looks at is not read", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob");
  await alice.begin("bob");
  await bob.open("alice");

  // When Bob switches to another tab, then what arrives stays unread
  const visibility = (state) =>
    bob.page.evaluate((now) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => now });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  await visibility("hidden");
  await bob.answered("leaveChat");
  await alice.say("Are you there?");
  await bob.unread("alice", 1);
  assert.equal(await alice.page.locator(".readers").count(), 0);

  // And when he is back it is marked as new, and read
  await visibility("visible");
  await alice.page.locator(".readers", { hasText: "Read" }).waitFor();
  await bob.page.locator(".line.new").waitFor();
  await bob.unread("alice", 0);
});

story("reloading brings everyone and everything back", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob");
  await alice.begin("bob");
  await alice.say("Before");
  await bob.open("alice");
  await bob.sees("Before");

  await bob.page.reload();
  await bob.connected();
  await bob.page.locator("#room-name", { hasText: "alice" }).waitFor();
  await bob.shows("Before");
  await alice.say("After");
  await bob.shows("Before", "After");
  await bob.say("Got it");
  await alice.shows("Before", "After", "Got it");

  // Going back leaves the chat, and forward enters it
  await bob.page.goBack();
  await bob.says("Choose a chat");
  await bob.page.goForward();
  await bob.shows("Before", "After", "Got it");

  // And signing out leaves nothing behind
  await bob.menu("Sign out");
  await bob.page.getByLabel("Your name").waitFor();
  await bob.page.reload();
  await bob.page.getByLabel("Your name").waitFor();
});

story("older messages come as one scrolls up", async (stage) => {
  // Given a chat of a few pages
  const server = await stage.server();
  const alice = await stage.client(server, "alice");
  const { roomId } = await alice.openRoom(["bob"]);
  const total = 130;
  for (let number = 1; number <= total; number += 1) await alice.send(roomId, `Message ${number}`);

  // When Bob opens it, then he sees its end
  const bob = await stage.user(server, "bob");
  await bob.open("alice");
  await bob.sees(`Message ${total}`);
  assert.equal(await bob.message("Message 1").count(), 0);
  const inView = (text) => bob.message(text).evaluate((row) => {
    const { top, bottom } = row.getBoundingClientRect();
    const view = document.getElementById("scroller").getBoundingClientRect();
    return bottom > view.top && top < view.bottom;
  });
  assert.ok(await inView(`Message ${total}`));

  // When he scrolls up, then what he looks at keeps its place while older messages are added above
  await bob.page.locator("#scroller").hover();
  while ((await bob.message("Message 1").count()) === 0) {
    await bob.page.mouse.wheel(0, -600);
    await bob.page.evaluate(() => new Promise(requestAnimationFrame));
  }
  const all = await bob.texts();
  assert.deepEqual(all, Array.from({ length: total }, (_, index) => `Message ${index + 1}`));

  // And a new message does not move him away; a button does
  await bob.page.locator("#scroller").evaluate((element) => (element.scrollTop = 0));
  await bob.page.locator("#to-newest").waitFor();
  await alice.send(roomId, "Something new");
  await bob.page.locator("#to-newest", { hasText: "1 new" }).waitFor();
  assert.ok(!(await inView("Something new")));
  await bob.page.locator("#to-newest").click();
  await bob.page.locator("#to-newest").waitFor({ state: "hidden" });
  assert.ok(await inView("Something new"));
});

story("deleting all chats in development", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob");
  await alice.begin("bob");
  await alice.say("Soon gone");
  await bob.open("alice");
  await bob.sees("Soon gone");

  await alice.menu("Delete all chats");
  await alice.page.getByRole("button", { name: "Delete all", exact: true }).click();
  for (const window of [alice, bob]) {
    await window.says("No chats yet.");
    await window.says("Choose a chat");
    assert.equal(await window.page.locator("#rooms li").count(), 0);
  }

  // And the two can start over
  await bob.begin("alice");
  await bob.shows();
  await bob.say("A new start");
  await alice.unread("bob", 1);
  await alice.open("bob");
  await alice.shows("A new start");
});
