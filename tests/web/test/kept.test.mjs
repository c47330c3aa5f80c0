// What a user wrote is still there after the tab was closed: only for that user, once, and bounded.
import assert from "node:assert/strict";

import { Cable } from "../support/cable.mjs";
import { story } from "../support/stage.mjs";

/** Alice in a tab, in her chat with Bob, through a cable; and Bob's client. */
async function aliceAndBob(stage) {
  const server = await stage.server();
  const cable = stage.keep(await Cable.between(server));
  const alice = await stage.user(cable, "alice");
  await alice.begin("bob");
  await alice.say("Before");
  const bob = await stage.client(server, "bob");
  return { server, cable, alice, bob, roomId: bob.rooms[0]?.roomId };
}

const heard = (chat) => chat.request("getHistory", { roomId: chat.rooms[0].roomId }).then(({ messages }) => messages.map(({ content }) => content));

async function offline(cable, ...windows) {
  for (const window of windows) window.mayBeOffline = true;
  cable.cut();
  for (const window of windows) await window.says("No connection. Trying again in");
}

story("what is written without a connection, and what is only begun, survives the tab", async (stage) => {
  // Given Alice, who has no connection, writes two messages, begins a third, and closes the tab
  const { cable, alice, bob } = await aliceAndBob(stage);
  await offline(cable, alice);
  await alice.say("One");
  await alice.say("Two");
  await alice.page.getByLabel("Message", { exact: true }).fill("Thr");
  const context = alice.page.context();
  await alice.page.close();
  cable.mend();

  // When another user uses the browser, then nothing of it is shown or sent
  const carol = stage.watch(await alice.tab(context));
  await carol.signIn("carol");
  await carol.begin("bob, alice", "Three of us");
  await carol.shows();
  assert.equal(await carol.page.getByLabel("Message", { exact: true }).inputValue(), "");
  assert.deepEqual(carol.framesOut("sendMessage"), []);
  await carol.page.close();

  // When Alice is back, then what she sent arrives, once and in order, and the message she began is still there
  const again = stage.watch(await alice.tab(context));
  await again.signIn("alice");
  await again.open("bob");
  await again.shows("Before", "One", "Two");
  await again.page.locator(".message.sending").first().waitFor({ state: "detached" });
  const field = again.page.getByLabel("Message", { exact: true });
  assert.equal(await field.inputValue(), "Thr");
  await field.press("End");
  await field.pressSequentially("ee");
  await field.press("Enter");
  await again.shows("Before", "One", "Two", "Three");
  const room = bob.rooms.find(({ friendId }) => friendId === "alice");
  const { messages } = await bob.request("getHistory", { roomId: room.roomId });
  assert.deepEqual(messages.map(({ content }) => content), ["Before", "One", "Two", "Three"]);

  // And nothing is left of it
  await again.page.reload();
  await again.connected();
  assert.equal(await field.inputValue(), "");
  assert.equal(again.framesOut("sendMessage").length, 3);
  assert.deepEqual(await again.page.evaluate(() => Object.keys(localStorage)), []);
});

story("of two tabs the one in which a message was written sends it; if it is gone the other does", async (stage) => {
  const { cable, alice, bob } = await aliceAndBob(stage);
  const other = stage.watch(await alice.opening(() => alice.menu("Open a second device")));
  other.name = "alice's second tab";
  await other.connected();
  await other.open("bob");

  // When a message is written in one of them
  await offline(cable, alice, other);
  await alice.say("From the first");
  cable.mend();
  for (const window of [alice, other]) await window.shows("Before", "From the first");
  assert.deepEqual(other.framesOut("sendMessage"), []);

  // And when that one is closed before it has a connection
  await offline(cable, alice, other);
  await alice.say("From the one that is gone");
  await alice.page.close();
  cable.mend();
  await other.shows("Before", "From the first", "From the one that is gone");
  await other.page.locator(".message.sending").waitFor({ state: "detached" });
  assert.deepEqual(await heard(bob), ["Before", "From the first", "From the one that is gone"]);
  assert.equal(other.framesOut("sendMessage").length, 1);
});

story("two tabs share a draft", async (stage) => {
  const { alice } = await aliceAndBob(stage);
  const other = stage.watch(await alice.opening(() => alice.menu("Open a second device")));
  other.name = "alice's second tab";
  await other.connected();
  const [field, otherField] = [alice, other].map(({ page }) => page.getByLabel("Message", { exact: true }));
  await field.fill("Begun here");
  await other.open("bob");
  await other.page.locator("#composer-text").and(otherField).waitFor();
  assert.equal(await otherField.inputValue(), "Begun here");
  // Sent in the one tab, it is gone in the other
  await field.press("Enter");
  await other.page.waitForFunction(() => document.getElementById("composer-text").value === "");
  await other.sees("Begun here");
  // And a draft begun in the other shows in the one; but not in another chat
  await otherField.fill("Begun there");
  await alice.page.waitForFunction(() => document.getElementById("composer-text").value === "Begun there");
  await alice.begin("carol");
  assert.equal(await field.inputValue(), "");
  await otherField.fill("Go on");
  await alice.open("bob");
  assert.equal(await field.inputValue(), "Go on");
});

story("signing out leaves nothing, and asks before something is lost", async (stage) => {
  const { cable, alice, bob } = await aliceAndBob(stage);
  await offline(cable, alice);
  await alice.say("Unsent");
  await alice.page.getByLabel("Message", { exact: true }).fill("Begun");
  await alice.menu("Sign out");
  await alice.says("1 message is not sent yet.");
  await alice.page.getByRole("button", { name: "Cancel" }).click();
  cable.mend();
  await alice.connected();
  await alice.page.locator(".message.sending").first().waitFor({ state: "detached" });

  await offline(cable, alice);
  await alice.say("Never sent");
  await alice.menu("Sign out");
  // The page itself comes over the cable, too
  cable.mend();
  await alice.page.locator("#sign-out-dialog").getByRole("button", { name: "Sign out" }).click();
  await alice.page.getByLabel("Your name").waitFor();
  assert.deepEqual(await alice.page.evaluate(() => Object.keys(localStorage)), []);
  assert.ok((await heard(bob)).includes("Unsent"));
});

story("what is kept is bounded", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const kept = await alice.page.evaluate(async () => {
    const { Drafts, KeptMessages } = await import("/kept.js");
    const count = (prefix) => Object.keys(localStorage).filter((key) => key.startsWith(`chat-server.${prefix}`)).length;
    const drafts = new Drafts();
    for (let number = 0; number < 70; number += 1) drafts.set(`user ${number % 3}`, `room ${number}`, "x".repeat(number));
    drafts.set("alice", "too long", "x".repeat(100_000));
    const messages = new KeptMessages();
    const message = (number, content) => ({ clientMessageId: `${number}`, roomId: "r", content, writtenAt: new Date().toISOString() });
    for (let number = 0; number < 400; number += 1) messages.keep("bob", message(number, "x"));
    const many = count("unsent");
    messages.forget("bob");
    for (let number = 0; number < 100; number += 1) messages.keep("bob", message(number, "x".repeat(16_000)));
    // Where the browser's own storage is full, nothing breaks
    const { setItem } = Storage.prototype;
    Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
    drafts.set("alice", "no room", "x");
    messages.keep("carol", message(1, "x"));
    Storage.prototype.setItem = setItem;
    const long = count("unsent");
    // What is older than a month is discarded, and what is corrupt is dropped
    for (const key of Object.keys(localStorage)) {
      const value = JSON.parse(localStorage.getItem(key));
      localStorage.setItem(key, JSON.stringify({ ...value, at: Date.now() - 31 * 86_400_000 }));
    }
    localStorage.setItem("chat-server.draft spoiled", "{");
    localStorage.setItem("of others", "{");
    const before = count("draft");
    new Drafts();
    new KeptMessages();
    const left = Object.keys(localStorage);
    localStorage.clear();
    return { before, many, long, left };
  });
  assert.deepEqual(kept, { before: 50, many: 300, long: 62, left: ["of others"] });
});

story("too long a text is said before it is sent, in words for people", async (stage) => {
  const server = await stage.server({ MAX_CONTENT_BYTES: "2000", MAX_FRAME_BYTES: "5000" });
  const alice = await stage.user(server, "alice");
  await alice.begin("bob");
  const field = alice.page.getByLabel("Message", { exact: true });
  const problem = alice.page.locator("#composer-problem");
  for (const [text, words] of [
    ["x".repeat(2001), "by 1 character:"],
    ["é".repeat(1234), "by 234 characters:"],
    ["🦀".repeat(2000), "by 1,500 characters:"],
    ["x".repeat(200_000), "by 198,000 characters:"],
  ]) {
    await field.fill(text);
    await problem.filter({ hasText: words }).waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    // Sending only shows the reason; the text stays
    await field.press("Enter");
    await alice.page.getByRole("status").filter({ hasText: words }).waitFor();
    assert.equal((await field.inputValue()).length, text.length);
  }
  await stage.picture(alice, "too-long");
  // A text that takes more room in a frame than it has itself is recognized, too
  await field.fill("\u0007".repeat(1000));
  await problem.filter({ hasText: "Too long" }).waitFor();
  assert.deepEqual(alice.framesOut("sendMessage"), []);

  // When it is shortened, then it is sent
  await field.fill("x".repeat(2000));
  await problem.waitFor({ state: "hidden" });
  await field.press("Enter");
  await alice.shows("x".repeat(1499) + "…");
  assert.equal(await field.getAttribute("aria-invalid"), "false");
});
