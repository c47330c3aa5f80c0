// Tests: each has a Redis, servers and devices of its own, and all of them end with it.
import { describe, it } from "node:test";

import { NativeDevice, SocketIoDevice, TRANSPORTS } from "./device.mjs";
import { Redis } from "./redis.mjs";
import { Server } from "./server.mjs";

/** Far longer than any test takes: it only ends a hang. */
const LIMIT_MS = 180_000;

/** What a test works with. */
class Stage {
  #open = [];

  constructor(test, transport) {
    this.transport = transport;
    this.note = (text) => test.diagnostic(text);
    test.after(async () => {
      for (const thing of this.#open.reverse()) await thing.close();
    });
  }

  /** Has something closed at the end; the last one opened is closed first. */
  keep(thing) {
    this.#open.push(thing);
    return thing;
  }

  /** A server on this stage's Redis. */
  async server(env) {
    this.redis ??= this.keep(await Redis.start());
    return this.keep(await Server.start(this.redis, env));
  }

  /** A device that connects as a client of the replaced server does. */
  async device(server, user, options) {
    return this.keep(await SocketIoDevice.connect(server, user, this.transport, options));
  }

  /** A device that is notified of changes by `chatEntry`, `newMessage` and `messageRead` alone. */
  delta(server, user) {
    return this.device(server, user, { auth: { chatList: "delta" } });
  }

  /** A device that only begins to connect. */
  open(server, user, options) {
    return this.keep(SocketIoDevice.open(server, user, this.transport, options));
  }

  /** A device that speaks the native protocol. */
  async native(server, user, options) {
    return this.keep(await NativeDevice.connect(server, user, options));
  }
}

/** A test that needs no transport. */
export function story(name, tell) {
  it(name, { timeout: LIMIT_MS }, (test) => tell(new Stage(test)));
}

/** The same tests over each transport: `tell(story)` defines them. */
export function overEachTransport(what, tell) {
  for (const transport of Object.keys(TRANSPORTS)) {
    describe(`${what}: ${transport}`, () => {
      tell((name, tellOne) => it(name, { timeout: LIMIT_MS }, (test) => tellOne(new Stage(test, transport))));
    });
  }
}
