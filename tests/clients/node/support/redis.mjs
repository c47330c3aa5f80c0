// A redis-server of the test's own.
import { createConnection } from "node:net";
import { join } from "node:path";

import { eventually } from "./patience.mjs";
import { end, forget, start, temporaryFolder } from "./processes.mjs";

/** In memory only. */
const UNSAVED = ["--save", "", "--appendonly", "no"];

/** A running `redis-server` that listens only on a unix socket. */
export class Redis {
  /** Starts one with these arguments: settings, or the path of a file of settings. */
  static async start(settings = UNSAVED) {
    const redis = new Redis();
    redis.folder = temporaryFolder();
    redis.socket = join(redis.folder, "redis.sock");
    const args = [...settings, "--port", "0", "--unixsocket", redis.socket, "--dir", redis.folder];
    args.push("--loglevel", "warning");
    redis.process = await start("redis-server", args, { cwd: redis.folder, stdio: "ignore" });
    await eventually("an answer of redis-server", () => redis.run("PING").catch(() => false));
    return redis;
  }

  get url() {
    return `unix://${this.socket}`;
  }

  /** Runs a command and returns the first line of Redis's answer. */
  run(command) {
    return new Promise((resolve, reject) => {
      const connection = createConnection(this.socket);
      connection.setEncoding("utf8");
      connection.once("error", reject);
      connection.once("data", (answer) => {
        connection.destroy();
        resolve(answer.split("\r\n")[0]);
      });
      connection.write(`${command}\r\n`);
    });
  }

  async close() {
    await end(this.process, "SIGKILL");
    forget(this.folder);
  }
}
