// How the page looks, from a phone to a wide screen, in light and dark; the pictures are for people. axe judges what a
// program can judge: contrast, names and roles.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { story } from "../support/stage.mjs";
import { talk } from "../support/talk.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Checks that axe finds nothing wrong. */
async function accessible(window, what) {
  await window.page.evaluate(axe);
  const { violations } = await window.page.evaluate(() => window.axe.run({ rules: { region: { enabled: false } } }));
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`);
  assert.deepEqual(told, [], what);
}

for (const [name, options] of [
  ["wide, light", { viewport: { width: 1440, height: 860 } }],
  ["wide, dark", { viewport: { width: 1440, height: 860 }, colorScheme: "dark" }],
  ["tablet, dark", { viewport: { width: 800, height: 1000 }, colorScheme: "dark" }],
  ["phone, light", { viewport: { width: 360, height: 740 }, hasTouch: true }],
  ["phone, dark", { viewport: { width: 320, height: 640 }, hasTouch: true, colorScheme: "dark" }],
]) {
  story(`looks: ${name}`, async (stage) => {
    const picture = (what) => stage.picture(alice, `${name.replace(", ", "-")}-${what}`);
    const server = await stage.server();
    await talk(stage, server);
    const alice = await stage.window(server, options);
    await picture("1-sign-in");
    await accessible(alice, "signing in");
    await alice.signIn("alice");
    await alice.entry("Weekend").waitFor();
    await picture("2-list");
    await accessible(alice, "the list");
    const narrow = options.viewport.width < 720;
    assert.equal(await alice.page.locator("#conversation").isVisible(), !narrow);

    await alice.open("Weekend");
    await alice.sees("Count me in!");
    await alice.fits();
    assert.equal(await alice.page.locator("#sidebar").isVisible(), !narrow);
    await picture("3-chat");
    await accessible(alice, "a chat");

    await alice.page.getByRole("button", { name: "You, bob, carol and dora" }).click();
    await picture("7-members");
    await accessible(alice, "the members");
    await alice.page.getByRole("button", { name: "Close", exact: true }).click();
    const field = alice.page.getByLabel("Message", { exact: true });
    await field.fill("x".repeat(20_000));
    await picture("8-too-long");
    await accessible(alice, "too long a text");
    await field.fill("");

    await alice.page.getByRole("button", { name: "Frames", exact: true }).click();
    const frame = alice.page.locator("#frames li", { hasText: "enterChat" });
    await frame.click();
    await frame.locator("pre", { hasText: '"roomId"' }).waitFor();
    await picture("4-frames");
    await accessible(alice, "the frames");
    await alice.page.getByRole("button", { name: "Close the frames" }).click();

    if (narrow) {
      await alice.page.getByRole("button", { name: "Back to the chats" }).click();
      await alice.page.locator("#sidebar").waitFor();
    }
    await alice.page.getByRole("button", { name: "New chat" }).click();
    await alice.page.getByLabel("With whom?").fill("bob, dora");
    await alice.page.getByLabel("Name of the group").waitFor();
    await picture("5-new-chat");
    await accessible(alice, "a new chat");
    await alice.page.getByRole("button", { name: "Cancel" }).click();
    await alice.page.getByRole("button", { name: "More" }).click();
    await picture("6-menu");
    await accessible(alice, "the menu");
  });
}

story("the frames in and out, as they pass", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  await alice.page.setViewportSize({ width: 1300, height: 760 });
  await alice.begin("bob");
  await alice.page.getByRole("button", { name: "Frames", exact: true }).click();
  await alice.say("Watch this");
  const events = (direction) => alice.page.locator(`#frames .${direction} b`).allTextContents();
  await alice.page.locator("#frames .in", { hasText: "newMessage" }).waitFor();
  await alice.page.locator("#frames .in", { hasText: "ack" }).last().waitFor();
  assert.deepEqual(await events("out"), ["initializeChat", "enterChat", "sendMessage"]);
  assert.deepEqual((await events("in")).slice(0, 4), ["hello", "status", "status", "chatList"]);
  await alice.page.getByRole("button", { name: "Clear the frames" }).click();
  assert.deepEqual(await events("in"), []);
});

story("days stand between messages", async (stage) => {
  // Given messages from the day before yesterday and from today, by the browser's clock
  const server = await stage.server();
  const bob = await stage.client(server, "bob");
  const { roomId } = await bob.openRoom(["alice"]);
  await bob.send(roomId, "Long ago");
  const alice = await stage.window(server);
  const days = async (count) => {
    await alice.page.clock.setFixedTime(Date.now() + count * 86_400_000);
    await alice.page.reload();
  };
  await alice.signIn("alice");
  await alice.open("bob");
  await alice.page.locator(".line", { hasText: "Today" }).waitFor();
  await days(1);
  await alice.page.locator(".line", { hasText: "Yesterday" }).waitFor();
  await alice.entry("bob").getByText("Yesterday").waitFor();
  await days(2);
  await alice.page.locator(".line", { hasText: /^\w+day,? \d+ \w+$/ }).waitFor();
});
