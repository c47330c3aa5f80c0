// One device: a connection of one user, over either protocol.
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import WebSocket from "ws";

import { Changing, patiently } from "./patience.mjs";
import { tokenOf } from "./token.mjs";

/** How a Socket.IO client may carry its packets. */
export const TRANSPORTS = {
  "WebSocket only": ["websocket"],
  "polling only": ["polling"],
  "polling upgraded to WebSocket": ["polling", "websocket"],
};

/** What all devices can do: wait for events and requests' answers. */
export class Device {
  /** Events that have arrived and were not taken yet: `{event, args}`, in order of arrival. */
  inbox = [];
  /** Why the connection ended, each time it did. */
  ends = [];
  changing = new Changing();

  constructor(server, user) {
    this.server = server;
    this.user = user;
  }

  received(event, args) {
    this.inbox.push({ event, args });
    this.changing.changed();
  }

  /** The first true value of `check`. */
  until(what, check) {
    const details = () => {
      const inbox = this.inbox.map(({ event, args }) => `  ${event} ${JSON.stringify(args)}`.slice(0, 500));
      return `${this.user} has:\n${inbox.join("\n")}\nends: ${JSON.stringify(this.ends)}\n${this.server.log()}`;
    };
    return this.changing.until(`${what} at ${this.user}`, check, details);
  }

  /** The next event, whatever it is: `[name, argument]`. It must have exactly one argument. */
  async next() {
    await this.until("any event", () => this.inbox.length > 0);
    return single(this.inbox.shift());
  }

  /** The data of the next `event` that is `wanted`; the others stay in the inbox. */
  async take(event, wanted = () => true) {
    const find = () => this.inbox.findIndex((it) => it.event === event && wanted(it.args[0]));
    await this.until(event, () => find() >= 0);
    return single(this.inbox.splice(find(), 1)[0])[1];
  }

  /** Everything that has arrived and was not taken, as `[name, argument]`. */
  takeAll() {
    return this.inbox.splice(0).map(single);
  }

  /** The same without whole lists, which may come at any time. */
  takeStory() {
    return this.takeAll().filter(([event]) => event !== "chatList");
  }

  /** Checks that the server greets as the replaced one did, apart from a `hello` before it; returns the list. */
  async greeted() {
    const [first, { userId }] = await this.next();
    assert.deepEqual([first, userId], ["hello", this.user]);
    assert.deepEqual(await this.next(), ["status", `user:${this.user} connected`]);
    assert.deepEqual(await this.next(), ["status", "chat list updated"]);
    const [event, list] = await this.next();
    assert.equal(event, "chatList");
    assert.ok(Array.isArray(list), `the list is one array: ${JSON.stringify(list)}`);
    return list;
  }

  /** A request that must succeed: its result. */
  async done(event, ...data) {
    const answer = await this.ask(event, ...data);
    assert.equal(answer.ok, true, `${event} was refused: ${JSON.stringify(answer)}`);
    assert.deepEqual(Object.keys(answer).sort(), ["data", "ok"]);
    return answer.data;
  }

  /** A request that must be refused with `code`: its error. */
  async refused(code, event, ...data) {
    const answer = await this.ask(event, ...data);
    assert.equal(answer.ok, false, `${event} was not refused: ${JSON.stringify(answer)}`);
    assert.deepEqual(Object.keys(answer).sort(), ["error", "ok"]);
    assert.equal(answer.error.code, code, JSON.stringify(answer));
    assert.equal(typeof answer.error.message, "string");
    assert.notEqual(answer.error.message, "");
    return answer.error;
  }

  /** The room with these users. */
  async openRoom(participants, more = {}) {
    const { roomId } = await this.done("initializeChat", { participants, ...more });
    if (this.isClassic) await this.take("roomMembers", (told) => told.roomId === roomId);
    return roomId;
  }

  /** Sends a message: the ack's result. */
  say(roomId, content) {
    return this.done("sendMessage", { roomId, content });
  }

  /** The whole history of a room. */
  async history(roomId) {
    const all = [];
    for (let after = "0-0"; ; ) {
      const page = await this.done("getHistory", { roomId, after, limit: 100 });
      all.push(...page.messages);
      if (!page.hasMore) return all;
      after = all.at(-1).id;
    }
  }

  /**
   * Checks that nothing but lists has come to this device. Its answer comes after everything that the server
   * had for it before, so what was sent to others by now has arrived here too.
   */
  async hasNothing() {
    await this.done("authenticate", { token: tokenOf(this.user) });
    assert.deepEqual(this.takeStory(), []);
  }
}

function single({ event, args }) {
  assert.equal(args.length, 1, `${event} has one argument: ${JSON.stringify(args)}`);
  return [event, args[0]];
}

/** A device with the official client. */
export class SocketIoDevice extends Device {
  /** Begins to connect; `options` are those of `io()`. */
  static open(server, user, transport, options = {}) {
    const device = new SocketIoDevice(server, user);
    device.socket = io(server.url, {
      transports: TRANSPORTS[transport],
      // Each device has a connection of its own, though all are in this process.
      forceNew: true,
      // As by default, only sooner.
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
      ...options,
    });
    // From the server's view: it gets whole lists.
    device.isClassic = (options.auth?.chatList ?? options.query?.chatList ?? "full") === "full";
    device.connects = 0;
    device.refusals = [];
    device.socket.onAny((event, ...args) => device.received(event, args));
    device.socket.on("connect", () => {
      device.connects += 1;
      device.changing.changed();
    });
    device.socket.on("disconnect", (reason) => {
      device.ends.push(reason);
      device.changing.changed();
    });
    device.socket.on("connect_error", (error) => {
      device.refusals.push(error);
      device.changing.changed();
    });
    return device;
  }

  /** Connects as a client of the replaced server does, and checks that it is greeted. */
  static async connect(server, user, transport, options = {}) {
    const credentials = { extraHeaders: { token: tokenOf(user) } };
    const device = SocketIoDevice.open(server, user, transport, { ...credentials, ...options });
    device.list = await device.greeted();
    await device.settledTransport();
    return device;
  }

  /** Waits until it uses the last of its transports. */
  async settledTransport() {
    const wanted = this.socket.io.opts.transports.at(-1);
    const { engine } = this.socket.io;
    const changed = () => this.changing.changed();
    engine.on("upgrade", changed);
    await this.until(`transport ${wanted}`, () => engine.transport.name === wanted && !engine.upgrading);
    engine.off("upgrade", changed);
  }

  /** Sends an event that needs no answer. */
  emit(event, ...data) {
    this.socket.emit(event, ...data);
  }

  /** Sends an event and returns what its callback got, which must be one argument. */
  ask(event, ...data) {
    const answer = new Promise((resolve) => this.socket.emit(event, ...data, (...args) => resolve(args)));
    const checked = answer.then((args) => {
      assert.equal(args.length, 1, `the callback of ${event} gets one argument: ${JSON.stringify(args)}`);
      return args[0];
    });
    return patiently(`the answer to ${event}`, checked, () => this.server.log());
  }

  /** Waits for the next end of the connection: the client's reason. */
  async ended() {
    await this.until("the end of the connection", () => this.ends.length > 0);
    return this.ends.shift();
  }

  close() {
    this.socket.disconnect();
  }
}

/** A device that speaks the native protocol. */
export class NativeDevice extends Device {
  #answers = new Map();
  #lastId = 0;

  /** Begins to connect. */
  static open(server, user, { query = "", token = tokenOf(user), headers = {} } = {}) {
    const device = new NativeDevice(server, user);
    device.socket = new WebSocket(`ws://${server.host}/ws${query}`, { headers: { token, ...headers } });
    device.socket.on("message", (text) => device.#frame(JSON.parse(text)));
    device.socket.on("close", (code) => {
      device.ends.push(code);
      device.changing.changed();
    });
    device.socket.on("error", () => {});
    return device;
  }

  static async connect(server, user, options) {
    const device = NativeDevice.open(server, user, options);
    device.list = await device.greeted();
    return device;
  }

  #frame({ event, id, data }) {
    const answered = this.#answers.get(id);
    if (!answered) return this.received(event, [data]);
    this.#answers.delete(id);
    answered(event === "ack" ? { ok: true, data } : { ok: false, error: data });
  }

  emit(event, data) {
    this.socket.send(JSON.stringify({ event, data }));
  }

  ask(event, data) {
    const id = (this.#lastId += 1);
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.socket.send(JSON.stringify({ event, data, id }));
    return patiently(`the answer to ${event}`, answer, () => this.server.log());
  }

  close() {
    this.socket.terminate();
  }
}
