// nginx with the shipped configuration; only addresses and paths are those of the test.
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { eventually } from "./patience.mjs";
import { end, forget, start, temporaryFolder } from "./processes.mjs";
import { shipped } from "./repository.mjs";

/** How often to try: between the choice of a free port and nginx's start, another process may take it. */
const TRIES = 5;

/** A running nginx in front of servers. It can be used where tests want a server. */
export class Nginx {
  static async start(servers) {
    for (let tried = 1; ; tried += 1) {
      const nginx = new Nginx();
      nginx.port = await freePort();
      nginx.host = `127.0.0.1:${nginx.port}`;
      nginx.url = `http://${nginx.host}`;
      nginx.folder = temporaryFolder();
      nginx.#configure(servers);
      if (await nginx.#run()) return nginx;
      const log = nginx.log();
      await nginx.close();
      if (tried === TRIES) throw new Error(`nginx does not start\n${log}`);
    }
  }

  #configure(servers) {
    cpSync(shipped("deploy/nginx.conf"), join(this.folder, "nginx.conf"));
    const names = servers.map((server, index) => [`chat-${index + 1}:3000`, server.host]);
    this.#adapt("nginx-servers.conf", names);
    this.#adapt("nginx-site.conf", [
      ["listen 8080;", `listen ${this.host};`],
      ["/var/log/nginx/access.log", this.#path("access.log")],
    ]);
    // Folders that nginx needs, whatever it was built for and whoever runs it.
    mkdirSync(this.#path("temporary"));
    const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    const folders = kinds.map((kind) => `${kind}_temp_path ${this.#path("temporary")}/${kind};\n`);
    writeFileSync(this.#path("nginx-site.conf"), folders.join(""), { flag: "a" });
  }

  /** Writes a shipped file with other addresses or paths: everything else stays as it is. */
  #adapt(name, replacements) {
    let text = readFileSync(shipped("deploy", name), "utf8");
    for (const [old, replacement] of replacements) {
      assert.equal(text.split(old).length, 2, `${name} has ${JSON.stringify(old)} once`);
      text = text.replace(old, replacement);
    }
    writeFileSync(this.#path(name), text);
  }

  #path(name) {
    return join(this.folder, name);
  }

  /** Whether it came up. */
  async #run() {
    const here = `daemon off; pid ${this.#path("pid")}; error_log ${this.#path("error.log")} info;`;
    const args = ["-e", this.#path("error.log"), "-c", this.#path("nginx.conf"), "-g", here];
    this.process = await start("nginx", args, { cwd: this.folder, stdio: "ignore" });
    const up = eventually("nginx", () => fetch(`${this.url}/healthz`).then((answer) => answer.ok, () => false));
    up.catch(() => {});
    return Promise.race([up, this.process.ended.then(() => false)]);
  }

  /** What it logged about each request, once that is over. */
  accessLog() {
    return this.#read("access.log");
  }

  log() {
    const log = `${this.#read("error.log")}${this.#read("access.log")}`.split("\n");
    return `--- logs of nginx, the last lines ---\n${log.slice(-60).join("\n")}`;
  }

  #read(name) {
    return existsSync(this.#path(name)) ? readFileSync(this.#path(name), "utf8") : "";
  }

  async close() {
    // Its workers end with it.
    if (this.process.exitCode === null && this.process.signalCode === null) await end(this.process, "SIGTERM");
    forget(this.folder);
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
