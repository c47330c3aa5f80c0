// Tests: each has a Redis, servers and windows of its own. All windows of a file belong to one browser.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, it } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

import { PATIENCE_MS } from "../../clients/node/support/patience.mjs";
import { Redis } from "../../clients/node/support/redis.mjs";
import { Server } from "../../clients/node/support/server.mjs";
import { clientOf, told } from "./client.mjs";
import { Window } from "./window.mjs";

/** Far longer than any test takes: it only ends a hang. */
const LIMIT_MS = 240_000;
/** The folder in which pictures are kept, for people to look at. */
const pictures = process.env.CHAT_WEB_PICTURES ?? fileURLToPath(new URL("../pictures", import.meta.url));

let browser;
after(() => browser?.then((it) => it.close()));

/** Debian's Chromium, with a fresh profile, and without the network requests that it makes on its own. */
function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

/** What a test works with. */
export class Stage {
  #open = [];
  #windows = [];
  #servers = [];

  /** Has something closed at the end; the last one opened is closed first. */
  keep(thing) {
    this.#open.push(thing);
    return thing;
  }

  /** A server on this stage's Redis. */
  async server(env) {
    this.redis ??= this.keep(await Redis.start());
    const server = this.keep(await Server.start(this.redis, env));
    this.#servers.push(server);
    return server;
  }

  /** A client in this process, connected. */
  async client(server, user, options) {
    const chat = this.keep(clientOf(server, user, options));
    chat.connect();
    await told(chat, "state", ({ state }) => state === "ready");
    return chat;
  }

  /** A window of a person who is not signed in yet. `options` are those of a browser context. */
  async window(server, options = {}) {
    browser ??= launch();
    const context = await (await browser).newContext({
      viewport: { width: 1100, height: 760 }, locale: "en-GB", timezoneId: "Europe/London", colorScheme: "light",
      ...options,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    this.keep(context);
    const window = this.watch(new Window(await context.newPage(), server));
    await window.page.goto(server.url);
    return window;
  }

  /** Checks at the end that a window had no error. */
  watch(window) {
    this.#windows.push(window);
    return window;
  }

  /** A window of a user who is signed in. */
  async user(server, name, options) {
    const window = await this.window(server, options);
    await window.signIn(name);
    return window;
  }

  async picture(window, name) {
    mkdirSync(pictures, { recursive: true });
    await window.page.screenshot({ path: join(pictures, `${name}.png`), animations: "disabled" });
  }

  async end() {
    for (const thing of this.#open.reverse()) await thing.close();
  }

  /** What the windows show, for error messages. */
  describe() {
    const told = this.#windows.map(({ name, errors }) => `${name}: ${JSON.stringify(errors)}`);
    return [...told, ...this.#servers.map((server) => server.log())].join("\n");
  }

  seeNoErrors() {
    for (const window of this.#windows) assert.deepEqual(window.errors, []);
  }
}

/** One test. */
export function story(name, tell) {
  it(name, { timeout: LIMIT_MS }, async () => {
    const stage = new Stage();
    try {
      await tell(stage);
      stage.seeNoErrors();
    } catch (error) {
      error.message += `\n${stage.describe()}`;
      throw error;
    } finally {
      await stage.end();
    }
  });
}
