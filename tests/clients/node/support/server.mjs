// The chat-server under test.
import { existsSync } from "node:fs";
import { get } from "node:http";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { Changing, eventually, patiently } from "./patience.mjs";
import { end, forget, start, temporaryFolder } from "./processes.mjs";
import { repository } from "./repository.mjs";
import { SECRET } from "./token.mjs";

/** The program under test. */
export const binary =
  process.env.CHAT_SERVER_BIN ??
  join(resolve(repository, process.env.CARGO_TARGET_DIR ?? "target"), "debug/chat-server");

/** A running `chat-server`, ready for clients. */
export class Server {
  #log = new Changing();
  #lines = [];

  /** Starts one on `redis`; `env` is added to the settings for tests. */
  static async start(redis, env = {}) {
    if (!existsSync(binary)) throw new Error(`there is no ${binary}: run cargo build, or set CHAT_SERVER_BIN`);
    const server = new Server();
    server.folder = temporaryFolder();
    const settings = {
      APP_ENV: "dev", PORT: "0", JWT_SECRET: SECRET, RUST_LOG: "info", REDIS_URL: redis.url,
      // Tests send faster than people.
      MAX_REQUESTS_PER_SEC: "0",
    };
    server.process = await start(binary, ["serve"], {
      env: { ...settings, ...env },
      cwd: server.folder,
      stdio: ["ignore", "ignore", "pipe"],
    });
    createInterface({ input: server.process.stderr }).on("line", (line) => {
      server.#lines.push(line.replace(/\x1b\[[0-9;]*m/g, ""));
      server.#log.changed();
    });
    const listening = /listening on 127\.0\.0\.1:(\d+)/;
    const found = () => server.#lines.map((line) => listening.exec(line)).find(Boolean);
    const early = server.process.ended.then((code) => {
      throw new Error(`chat-server ended with ${code} before it listened\n${server.log()}`);
    });
    early.catch(() => {});
    const said = server.#log.until("the port in the log", found, () => server.log());
    said.catch(() => {});
    server.port = Number((await Promise.race([said, early]))[1]);
    server.host = `127.0.0.1:${server.port}`;
    server.url = `http://${server.host}`;
    await eventually("the server to be ready", () => server.#isReady(), () => server.log());
    return server;
  }

  #isReady() {
    return new Promise((answer) => {
      const request = get(`${this.url}/readyz`, { agent: false, timeout: 5000 }, (response) => {
        response.resume();
        answer(response.statusCode === 200);
      });
      request.once("timeout", () => request.destroy());
      request.once("error", () => answer(false));
    });
  }

  /** The last lines of its log, for messages. */
  log() {
    return `--- log of the server, ${this.#lines.length} lines, the last of them ---\n${this.#lines.slice(-40).join("\n")}`;
  }

  /** Whether the log has this text anywhere. */
  logs(text) {
    return this.#lines.some((line) => line.includes(text));
  }

  /** Sends SIGTERM, as an operator does to stop it. */
  terminate() {
    this.process.kill("SIGTERM");
  }

  /** Waits for its end: returns the exit code. */
  ended() {
    return patiently("the server's end", this.process.ended, () => this.log());
  }

  /** `kill -9`. */
  kill() {
    return end(this.process, "SIGKILL");
  }

  async close() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.kill();
    forget(this.folder);
  }
}
