// HTTP and Engine.IO by hand, for clients that misbehave and for what browsers see.
import { randomBytes } from "node:crypto";
import { request } from "node:http";
import WebSocket from "ws";

import { Changing, patiently } from "./patience.mjs";

/** Engine.IO over long-polling. */
export const POLLING = "/socket.io/?EIO=4&transport=polling";
/** Engine.IO over WebSocket. */
export const WEBSOCKET = "/socket.io/?EIO=4&transport=websocket";

/** One HTTP request: `{status, headers, body}`; the status is 101 where the server switches to WebSocket. */
export function http(server, method, path, { headers = {}, body } = {}) {
  const answer = new Promise((resolve, reject) => {
    const outgoing = request(server.url + path, { method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => (text += chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: text }));
    });
    outgoing.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode, headers: response.headers, body: "" });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
  return patiently(`the answer to ${method} ${path}`, answer, () => server.log());
}

/** The headers that request a WebSocket. */
const handshake = () => ({
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
});

/** Requests the switch to WebSocket: returns the same as `http`. */
export function upgrade(server, path, headers = {}) {
  return http(server, "GET", path, { headers: { ...handshake(), ...headers } });
}

/** Requests the switch to WebSocket and stays connected, without reading: `{status, close}`. */
export function knock(server, path, headers = {}) {
  const answer = new Promise((resolve, reject) => {
    const outgoing = request(server.url + path, { headers: { ...handshake(), ...headers }, agent: false });
    const answered = (response, socket) => {
      socket.on("error", () => {});
      resolve({ status: response.statusCode, close: () => socket.destroy() });
    };
    outgoing.on("upgrade", answered);
    outgoing.on("response", (response) => answered(response, response.socket));
    outgoing.on("error", reject);
    outgoing.end();
  });
  return patiently(`the answer to ${path}`, answer, () => server.log());
}

/** An Engine.IO connection over WebSocket that does nothing by itself, not even answer pings. */
export class RawSocket {
  packets = [];
  closed = false;
  #changing = new Changing();

  static async open(server, headers = {}) {
    const raw = new RawSocket();
    raw.server = server;
    raw.socket = new WebSocket(`ws://${server.host}${WEBSOCKET}`, { headers });
    raw.socket.on("message", (packet) => raw.#note(() => raw.packets.push(packet.toString())));
    raw.socket.on("close", () => raw.#note(() => (raw.closed = true)));
    raw.socket.on("error", () => {});
    await raw.packet((packet) => packet.startsWith("0{"));
    return raw;
  }

  #note(change) {
    change();
    this.#changing.changed();
  }

  #until(what, check) {
    const details = () => `packets: ${JSON.stringify(this.packets).slice(0, 2000)}\n${this.server.log()}`;
    return this.#changing.until(what, check, details);
  }

  /** The first packet that is `wanted`. */
  packet(wanted) {
    return this.#until("a packet", () => this.packets.find(wanted));
  }

  /** Waits until the server has closed the connection. */
  gone() {
    return this.#until("the end of the connection", () => this.closed);
  }

  send(packet) {
    this.socket.send(packet);
  }

  close() {
    this.socket.terminate();
  }
}

/** An Engine.IO connection over long-polling that polls only when asked to. */
export class RawPolling {
  static async open(server, headers = {}) {
    const raw = new RawPolling();
    Object.assign(raw, { server, headers });
    const { status, body } = await http(server, "GET", POLLING, { headers });
    if (status !== 200) throw new Error(`no handshake: ${status} ${body}`);
    raw.handshake = JSON.parse(body.slice(1));
    raw.path = `${POLLING}&sid=${raw.handshake.sid}`;
    return raw;
  }

  /** Sends packets; returns the HTTP status. */
  async send(...packets) {
    const headers = { ...this.headers, "Content-Type": "text/plain;charset=UTF-8" };
    return (await http(this.server, "POST", this.path, { headers, body: packets.join("\x1e") })).status;
  }

  /** Polls once: returns the packets, or nothing once the server has ended the connection. */
  async poll() {
    const { status, body } = await http(this.server, "GET", this.path, { headers: this.headers });
    return status === 200 ? body.split("\x1e") : undefined;
  }

  /** Polls until the server has ended the connection: returns all packets. */
  async rest() {
    const packets = [];
    for (;;) {
      const some = await this.poll();
      packets.push(...(some ?? []));
      // "1" is Engine.IO's close packet.
      if (!some || some.includes("1")) return packets;
    }
  }

  close() {}
}
