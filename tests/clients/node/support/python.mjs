// A device with python-socketio, which runs in a process of its own.
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

import { Device } from "./device.mjs";
import { patiently } from "./patience.mjs";
import { end, start } from "./processes.mjs";
import { tokenOf } from "./token.mjs";

const folder = fileURLToPath(new URL("../../python", import.meta.url));
const python = process.env.CHAT_CLIENTS_PYTHON ?? `${folder}/.venv/bin/python`;

export class PythonDevice extends Device {
  #answers = new Map();
  #lastId = 0;

  static async connect(server, user, transport) {
    const device = new PythonDevice(server, user);
    device.process = await start(python, ["device.py", server.url, tokenOf(user), transport], {
      cwd: folder,
      env: { PYTHONUNBUFFERED: "1", PYTHONDONTWRITEBYTECODE: "1" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    device.process.stdin.on("error", () => {});
    createInterface({ input: device.process.stdout }).on("line", (line) => device.#line(JSON.parse(line)));
    device.process.ended.then((code) => {
      device.ends.push(code);
      device.changing.changed();
    });
    device.list = await device.greeted();
    return device;
  }

  #line({ event, args, id }) {
    if (event) return this.received(event, args);
    this.#answers.get(id)(args[0]);
    this.#answers.delete(id);
  }

  ask(event, data) {
    const id = (this.#lastId += 1);
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.process.stdin.write(`${JSON.stringify({ id, event, data })}\n`);
    return patiently(`the answer to ${event}`, answer, () => this.server.log());
  }

  async close() {
    await end(this.process, "SIGKILL");
  }
}
