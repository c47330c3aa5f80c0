// asyncapi.yaml, and whether it describes what devices send and receive.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import Ajv from "ajv";
import addFormats from "ajv-formats";
import { parse } from "yaml";

import { repository } from "./repository.mjs";

/** The file's text. */
export const TEXT = readFileSync(resolve(repository, "asyncapi.yaml"), "utf8");

const DOORS = ["native", "socketIo"];
const ID = "asyncapi.yaml";

/** What the document says. */
export class Document {
  #schemas;

  constructor(json = parse(TEXT)) {
    this.json = json;
    this.#schemas = schemasOf(json);
  }

  /** The same document, except that a field it does not name is an error. */
  static closed() {
    const json = parse(TEXT);
    close(json);
    return new Document(json);
  }

  /** The keys of the messages that the server sends, or receives, over a protocol. */
  keys(door, action) {
    const { operations } = this.json;
    const ofDoor = Object.values(operations).filter(({ channel }) => last(channel.$ref) === door);
    const first = ofDoor.filter((operation) => operation.action === action).flatMap(({ messages }) => messages);
    const replies = ofDoor.filter((operation) => operation.action !== action).flatMap(({ reply }) => reply?.messages ?? []);
    return new Set([...first, ...replies].map(({ $ref }) => last($ref)));
  }

  /** All messages of a protocol. */
  messages(door) {
    return this.json.channels[door].messages;
  }

  /** The names of clients' requests and of the server's events: the same over both protocols, by operation. */
  requests() {
    const operations = Object.values(this.json.operations).filter(({ reply }) => reply);
    return new Set(operations.map(({ messages }) => last(messages[0].$ref)).filter((key) => key !== "connect"));
  }

  events(door) {
    return new Set(this.json.operations[`${door}Events`].messages.map(({ $ref }) => last($ref)));
  }

  codes() {
    return new Set(this.json.components.schemas.ErrorCode.oneOf.map(({ const: code }) => code));
  }

  /** What is wrong with a message's payload: nothing, or a text. */
  faults(door, key, payload) {
    if (!this.messages(door)?.[key]) return `there is no message ${key} at the door ${door}`;
    return this.#check(`/channels/${door}/messages/${key}/payload`, payload);
  }

  /** The same for a value of `components.schemas`. */
  faultsOf(schema, value) {
    return this.#check(`/components/schemas/${schema}`, value);
  }

  #check(pointer, value) {
    const check = this.#schemas.getSchema(`${ID}#${pointer}`);
    return check(value) ? undefined : `${this.#schemas.errorsText(check.errors)}: ${JSON.stringify(value)}`;
  }
}

/** A validator that finds schemas by their place in the document. */
function schemasOf(json) {
  // Strict about misspelt keywords; additional arguments of a packet, and fields named more than once, are intended.
  const ajv = new Ajv({ allErrors: true, allowUnionTypes: true, strictTuple: false, strictTypes: false });
  addFormats(ajv);
  // The top level has no schemas.
  ajv.addVocabulary(Object.keys(json));
  ajv.addSchema(json, ID);
  return ajv;
}

const last = (reference) => reference.split("/").at(-1);

/** Makes every object accept the fields that it names, and no others. */
function close(node) {
  if (typeof node !== "object" || node === null) return;
  if (node.type === "object" || node.type?.includes?.("object")) node.additionalProperties = false;
  for (const [key, value] of Object.entries(node)) {
    // A schema under `not` says what is forbidden, not what is allowed.
    if (key !== "not") close(value);
  }
}

/** What passed over one protocol: each frame with the key of its message in the document. */
export class Record {
  frames = [];

  constructor(door) {
    if (!DOORS.includes(door)) throw new Error(`there is no door ${door}`);
    this.door = door;
  }

  /** Records the frames of a device of either kind, from its first one on. */
  listen(device) {
    const asked = new Map();
    if (this.door === "native") {
      const { socket } = device;
      const send = socket.send.bind(socket);
      socket.send = (text, ...rest) => {
        this.#note("receive", native(String(text), asked, "receive"));
        send(text, ...rest);
      };
      socket.on("message", (text) => this.#note("send", native(String(text), asked, "send")));
      return device;
    }
    const { engine } = device.socket.io;
    const packet = (action) => ({ type, data }) => {
      if (type === "message") this.#note(action, socketIo(data, asked, action));
    };
    engine.on("packetCreate", packet("receive"));
    engine.on("packet", packet("send"));
    return device;
  }

  #note(action, frame) {
    if (frame) this.frames.push({ action, ...frame });
  }

  /** The keys of what the server sent, or received. */
  keys(action) {
    return new Set(this.frames.filter((frame) => frame.action === action).map(({ key }) => key));
  }

  /** The codes of all errors. */
  codes() {
    const errors = this.frames.map(({ payload }) =>
      this.door === "native" ? payload.event === "error" && payload.data : payload?.[0] === "error" ? payload[1] : payload?.[0]?.error,
    );
    return new Set(errors.filter(Boolean).map(({ code }) => code));
  }
}

/** A frame of the native protocol; nothing if it is not JSON, which only clients send. */
function native(text, asked, action) {
  const payload = action === "send" ? JSON.parse(text) : json(text);
  if (!payload) return undefined;
  const { event, id } = payload;
  if (action === "receive") {
    if (id !== undefined) asked.set(id, event);
    return { key: event, payload };
  }
  if (event === "ack") return { key: `${asked.get(id)}Ack`, payload };
  return { key: event === "error" && id !== undefined ? "refusal" : event, payload };
}

/** A Socket.IO packet, without Engine.IO's type. */
function socketIo(text, asked, action) {
  const [, type, , id, rest] = /^(\d)(\/[^,]*,)?(\d+)?(.*)$/s.exec(text);
  const payload = rest === "" ? null : action === "send" ? JSON.parse(rest) : json(rest);
  const packet = `4${type}`;
  if (type === "2" && !Array.isArray(payload)) return undefined;
  if (type === "2" && action === "receive" && id !== undefined) asked.set(id, payload[0]);
  const keys = {
    0: action === "send" ? "connected" : "connect",
    1: "disconnect",
    2: payload?.[0],
    3: payload?.[0]?.ok ? `${asked.get(id)}Ack` : "refusal",
    4: "connectError",
  };
  return { key: keys[type], packet, payload };
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
