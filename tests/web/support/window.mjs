// One window with the page: what a person can do in it, and what they see.
import assert from "node:assert/strict";

import { eventually } from "../../clients/node/support/patience.mjs";

/**
 * What a browser itself reports when a server is away, or not ready yet: expected where a test causes that.
 * Chromium has several names for one thing: a connection that is reset before the request is out is "not connected".
 */
const OFFLINE = new RegExp([
  "ERR_CONNECTION_\\w+",
  "ERR_SOCKET_NOT_CONNECTED",
  "ERR_EMPTY_RESPONSE",
  "WebSocket connection to .* failed",
  "status of 503",
].join("|"));

export class Window {
  /** Errors in the console, exceptions and violations of the content security policy. */
  errors = [];
  /** The frames that were sent, and those that were received. */
  sent = [];
  received = [];
  /** Whether the test takes the server away. */
  mayBeOffline = false;

  constructor(page, server) {
    this.page = page;
    this.server = server;
    page.on("console", (message) => {
      if (!["error", "warning"].includes(message.type())) return;
      const text = `${message.text()} ${message.location().url}`;
      if (!(this.mayBeOffline && OFFLINE.test(text))) this.errors.push(text);
    });
    page.on("websocket", (socket) => {
      socket.on("framesent", ({ payload }) => this.sent.push(JSON.parse(payload)));
      socket.on("framereceived", ({ payload }) => this.received.push(JSON.parse(payload)));
    });
    page.on("pageerror", (error) => this.errors.push(String(error)));
  }

  async signIn(name) {
    this.name = name;
    await this.page.getByLabel("Your name").fill(name);
    await this.page.getByRole("button", { name: "Sign in" }).click();
    await this.connected();
  }

  async connected() {
    await this.page.locator("#chat[data-state=ready]").waitFor();
  }

  /** Begins a chat, with a name if there are several people. */
  async begin(people, name) {
    await this.page.getByRole("button", { name: "New chat" }).click();
    await this.page.getByLabel("With whom?").fill(people);
    if (name) await this.page.getByLabel("Name of the group").fill(name);
    await this.page.getByRole("button", { name: "Start", exact: true }).click();
    await this.page.locator("#new-chat-dialog").waitFor({ state: "hidden" });
    await this.page.getByLabel("Message", { exact: true }).waitFor();
  }

  /** The entry of a chat in the list. */
  entry(title) {
    return this.page.locator("#rooms button").filter({ has: this.page.locator(".title", { hasText: title }) });
  }

  async open(title) {
    await this.entry(title).click();
    await this.page.locator("#room-name", { hasText: title }).waitFor();
  }

  /** Writes a message and sends it with Enter. */
  async say(text) {
    const field = this.page.getByLabel("Message", { exact: true });
    await field.fill(text);
    await field.press("Enter");
  }

  /** The messages on the screen with this text. */
  message(text) {
    return this.page.locator("#messages .message").filter({ has: this.page.getByText(text, { exact: true }) });
  }

  async sees(text) {
    await this.message(text).first().waitFor();
  }

  /** The texts of all messages of the open chat, as shown. */
  texts() {
    return this.page.locator("#messages .message .bubble p").allTextContents();
  }

  /** Waits until exactly these messages are shown. */
  async shows(...texts) {
    let now;
    const same = async () => JSON.stringify((now = await this.texts())) === JSON.stringify(texts);
    await eventually(`the messages ${JSON.stringify(texts)} at ${this.name}`, same, () => JSON.stringify(now));
  }

  /** Waits until a chat's badge shows this number, or until it has none for 0. */
  async unread(title, count) {
    const badge = this.entry(title).locator(".badge");
    if (count === 0) await badge.waitFor({ state: "detached" });
    else await badge.filter({ hasText: new RegExp(`^${count}\\D`) }).waitFor();
  }

  /** Waits until something on the page has this text. */
  async says(text) {
    await this.page.getByText(text).first().waitFor();
  }

  /** Waits until a request was sent and answered. */
  async answered(event) {
    const isAnswered = ({ id }) => this.received.some((frame) => frame.event === "ack" && frame.id === id);
    await eventually(`the answer to ${event} at ${this.name}`, () => this.framesOut(event).some(isAnswered));
  }

  framesOut(wanted) {
    return this.sent.filter(({ event }) => event === wanted);
  }

  async menu(item) {
    await this.page.getByRole("button", { name: "More" }).click();
    await this.page.locator("#menu").getByRole("button", { name: item }).click();
  }

  /** Does what opens another window, and returns that window. */
  async opening(act) {
    const [page] = await Promise.all([this.page.context().waitForEvent("page"), act()]);
    await page.waitForLoadState();
    return new Window(page, this.server);
  }

  /** Another tab of the same browser, in which nobody is signed in. */
  async tab(context) {
    const window = new Window(await context.newPage(), this.server);
    await window.page.goto(this.server.url);
    return window;
  }

  /** Checks that the open chat has no horizontal scrollbar: nothing sticks out. */
  async fits() {
    const [scroll, client] = await this.page.evaluate(() => {
      const { documentElement: root } = document;
      const scroller = document.getElementById("scroller");
      return [Math.max(root.scrollWidth - root.clientWidth, scroller.scrollWidth - scroller.clientWidth), 0];
    });
    assert.ok(scroll <= client, `${scroll} pixels stick out`);
  }
}
