// Who can sign in, and what people write and do that pages often cannot handle.
import assert from "node:assert/strict";

import { expiring, tokenOf, withClaims } from "../../clients/node/support/token.mjs";
import { story } from "../support/stage.mjs";

story("names and messages are text, whatever is in them", async (stage) => {
  // Given a user whose name is a trap
  const server = await stage.server();
  const name = `<img src=x onerror="window.caught=1">`;
  const mallory = await stage.user(server, name);
  const bob = await stage.user(server, "bob");
  const traps = [
    `<script>window.caught=1</script>`,
    `<img src=x onerror=window.caught=1>`,
    `javascript:window.caught=1`,
    `https://a.example/"onmouseover="window.caught=1`,
    `"><svg onload=window.caught=1>`,
  ];
  await mallory.begin("bob, carol", "<b onclick=window.caught=1>Group</b>");
  for (const text of traps) await mallory.say(text);

  // Then all of it is shown as it was written
  await bob.open("<b onclick=window.caught=1>Group</b>");
  await bob.shows(...traps);
  assert.equal(await bob.page.locator(".sender bdi").textContent(), name);
  assert.match(await bob.page.locator("#room-members").textContent(), /<img src=x/);
  for (const { page } of [mallory, bob]) {
    assert.equal(await page.evaluate(() => window.caught), undefined);
    assert.equal(await page.locator("#messages :is(img, script, svg[onload], [onclick], [onmouseover])").count(), 0);
    const links = await page.locator("#messages a").evaluateAll((all) => all.map(({ href, rel, target }) => [href, rel, target]));
    assert.deepEqual(links, [["https://a.example/", "noopener noreferrer nofollow", "_blank"]]);
  }
});

story("the policy of the page holds, and its tests would see it broken", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  assert.deepEqual(alice.errors, []);
  const outside = `http://127.0.0.1:${server.port ^ 1}/`;
  const refused = await alice.page.evaluate(async (address) => {
    const tries = {
      fetch: () => fetch(address),
      socket: () => new Promise((resolve, reject) => {
        const socket = new WebSocket(address.replace("http", "ws"));
        socket.onopen = resolve;
        socket.onerror = reject;
      }),
      html: () => (document.body.innerHTML = "<p>"),
      script: () => new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.onload = resolve;
        script.onerror = reject;
        script.src = address;
        document.body.append(script);
      }),
    };
    const failed = [];
    for (const [what, attempt] of Object.entries(tries)) await Promise.resolve().then(attempt).catch(() => failed.push(what));
    return failed;
  }, outside);
  assert.deepEqual(refused, ["fetch", "socket", "html", "script"]);
  assert.ok(alice.errors.some((text) => text.includes("Content Security Policy")), alice.errors.join("\n"));
  alice.errors.length = 0;
});

story("long messages, many lines, emoji, writing from right to left, links", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = await stage.user(server, "bob", { viewport: { width: 360, height: 700 } });
  await alice.begin("bob");
  const long = `${"A long story. ".repeat(300)}The end.`;
  const unbroken = "w".repeat(400);
  const hebrew = "שלום, מה שלומך?";
  const emoji = "👩‍👩‍👧‍👦 🎉 ok";
  const lines = "one\ntwo\n\nfour";
  for (const text of [long, unbroken, hebrew, emoji, lines, "See https://example.com/a?b=c#d."]) await alice.say(text);

  await bob.entry("alice").getByText("See https://example.com").waitFor();
  await bob.open("alice");
  for (const text of [unbroken, hebrew, emoji]) await bob.sees(text);
  await bob.fits();
  assert.ok((await bob.texts()).includes(lines));
  const direction = (text) => bob.page.getByText(text, { exact: true }).evaluate((it) => getComputedStyle(it).direction);
  assert.equal(await direction(hebrew), "rtl");
  assert.equal(await direction(emoji), "ltr");
  assert.equal(await bob.page.locator("#messages a").getAttribute("href"), "https://example.com/a?b=c#d");

  // A long one is shown in full on request
  assert.equal(await bob.page.getByText("The end.").count(), 0);
  await bob.page.getByRole("button", { name: "Show all of it" }).click();
  await bob.sees(long);
  await bob.fits();
  await stage.picture(bob, "what-people-write");
});

story("with the keyboard alone", async (stage) => {
  const server = await stage.server();
  const alice = await stage.window(server);
  const bob = await stage.user(server, "bob");
  const { keyboard } = alice.page;
  const focused = () => alice.page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
  const tabTo = async (wanted, key = "Tab") => {
    const passed = [];
    while (!(await focused()).includes(wanted)) {
      passed.push(await focused());
      assert.ok(passed.length < 40, `${wanted} is not reached: ${passed.join(", ")}`);
      await keyboard.press(key);
    }
  };

  // Alice signs in, begins a chat, and writes two lines
  await keyboard.type("alice");
  await keyboard.press("Enter");
  await alice.connected();
  await tabTo("new-chat");
  await keyboard.press("Enter");
  await keyboard.type("bob");
  await keyboard.press("Enter");
  await alice.page.locator("#composer-text:focus").waitFor();
  await keyboard.type("one");
  await keyboard.press("Shift+Enter");
  await keyboard.type("two");
  await keyboard.press("Enter");
  await bob.open("alice");
  await bob.shows("one\ntwo");
  await alice.page.locator("#composer-text:focus").waitFor();

  // An empty message is not sent
  await keyboard.press("Enter");
  await keyboard.type("   ");
  await keyboard.press("Enter");
  await bob.say("Read you");
  await alice.shows("one\ntwo", "Read you");

  // She goes to the list, and from chat to chat with the arrows
  await bob.begin("alice, carol", "Team");
  await bob.say("Over here");
  await alice.unread("Team", 1);
  await tabTo("Team", "Shift+Tab");
  await keyboard.press("ArrowDown");
  assert.match(await focused(), /^bob|^B/i);
  await keyboard.press("ArrowUp");
  await keyboard.press("Enter");
  await alice.page.locator("#room-name", { hasText: "Team" }).waitFor();
  await alice.sees("Over here");
  await keyboard.type("With you");
  await keyboard.press("Enter");
  await bob.sees("With you");

  // And arriving messages are announced to screen readers
  await bob.say("Can you hear this?");
  await alice.page.getByRole("status").filter({ hasText: "bob: Can you hear this?" }).waitFor();

  // The dialog closes with Escape
  await tabTo("new-chat", "Shift+Tab");
  await keyboard.press("Enter");
  await alice.page.locator("#new-chat-dialog[open]").waitFor();
  await keyboard.press("Escape");
  await alice.page.locator("#new-chat-dialog[open]").waitFor({ state: "detached" });
});

story("in production people come with a token", async (stage) => {
  const server = await stage.server({ APP_ENV: "production", WEB_CLIENT: "1" });
  const alice = await stage.window(server);
  assert.ok(await alice.page.getByLabel("Your name").isHidden());

  // A bad token is reported as one
  alice.mayBeOffline = true;
  const use = async (token) => {
    await alice.page.getByLabel("Token").fill(token);
    await alice.page.getByRole("button", { name: "Sign in" }).click();
  };
  await use(withClaims({ id: "alice" }, "another-secret-of-at-least-32-bytes"));
  await alice.says("The server does not let you in");
  await use("two words");
  await alice.says("this is not a token");

  // A good one signs in as its user, and nothing that belongs to development is offered
  await use(tokenOf("Zoë 7"));
  await alice.connected();
  assert.equal(await alice.page.locator("#my-name").textContent(), "Zoë 7");
  await alice.page.getByRole("button", { name: "More" }).click();
  assert.ok(await alice.page.locator("#second-device").isVisible());
  assert.ok(await alice.page.locator("#reset").isHidden());
  await alice.page.keyboard.press("Escape");
  await alice.menu("Sign out");

  // One that expires meanwhile ends the session
  await use(expiring("alice", 3));
  await alice.says("the token expired");
});

story("another user beside this one", async (stage) => {
  const server = await stage.server();
  const alice = await stage.user(server, "alice");
  const bob = stage.watch(await alice.opening(() => alice.menu("Open as another user")));
  await bob.signIn("bob");
  await bob.begin("alice");
  await bob.say("From the other window");
  await alice.unread("bob", 1);
  assert.equal(await alice.page.locator("#my-name").textContent(), "alice");

  // An invalid name is reported
  const nobody = await stage.window(server);
  nobody.mayBeOffline = true;
  await nobody.page.getByRole("button", { name: "Sign in" }).click();
  await nobody.says("Give a name.");
  await alice.page.getByRole("button", { name: "New chat" }).click();
  await alice.page.getByLabel("With whom?").fill("alice");
  await alice.page.getByRole("button", { name: "Start", exact: true }).click();
  await alice.page.locator("#new-chat-problem").filter({ hasText: /\w/ }).waitFor();
});

story("messages that are no text: their type is told, addresses are links, nothing is fetched", async (stage) => {
  const server = await stage.server();
  const bob = await stage.client(server, "bob");
  const { roomId } = await bob.openRoom(["alice"]);
  const send = (type, content) => bob.request("sendMessage", { roomId, type, content });
  await send("image", "https://images.example/cat.png");
  await send("image", "data:image/svg+xml,<svg onload=window.caught=1>");
  await send("image", ["https://images.example/1.png", "https://images.example/2.png"]);
  await send("<b>poll</b>", "Tea or coffee?");
  await send(undefined, ["Several", "strings"]);

  const alice = await stage.window(server);
  const fetched = [];
  alice.page.on("request", (request) => fetched.push(request.url()));
  await alice.signIn("alice");
  await alice.open("bob");
  await alice.shows(
    "https://images.example/cat.png",
    "without an address",
    "https://images.example/1.png\nhttps://images.example/2.png",
    "Tea or coffee?",
    "Several\nstrings",
  );
  const types = await alice.page.locator("#messages .type").allTextContents();
  assert.deepEqual(types, ["Image", "Image", "Image", "<b>poll</b>"]);
  const links = await alice.page.locator("#messages a").evaluateAll((all) => all.map(({ href }) => href));
  assert.deepEqual(links, ["cat", "1", "2"].map((name) => `https://images.example/${name}.png`));
  assert.equal(await alice.page.locator("#messages :is(img, b, svg:not([viewBox]))").count(), 0);
  assert.ok(fetched.every((url) => url.startsWith(server.url)), fetched.join("\n"));

  // In the list and to screen readers an image is just "an image"
  await send("image", "https://images.example/last.png");
  await alice.entry("bob").getByText("Image", { exact: true }).waitFor();
  await alice.page.getByRole("status").filter({ hasText: "bob: Image" }).waitFor();
});
