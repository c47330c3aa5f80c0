// The examples of README.md and docs/clients.md, run as written in a fresh clone. Only the port differs, as many run at
// once.
import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { it } from "node:test";
import WebSocket from "ws";

import { Changing, patiently } from "../support/patience.mjs";
import { end, forget, start, temporaryFolder } from "../support/processes.mjs";
import { repository, shipped } from "../support/repository.mjs";
import { binary } from "../support/server.mjs";

const LIMIT_MS = 120_000;
const CLONED = [".env.example", "Makefile", "examples", "scripts", "web"];

/** A port that is free now. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A process and the lines it prints. */
class Terminal {
  lines = [];
  #changing = new Changing();

  static async run(command, { cwd, env }) {
    const terminal = new Terminal();
    terminal.process = await start("sh", ["-c", command], { cwd, env, stdio: ["pipe", "pipe", "pipe"], group: true });
    for (const output of [terminal.process.stdout, terminal.process.stderr]) {
      createInterface({ input: output }).on("line", (line) => {
        terminal.lines.push(line.replace(/\x1b\[[0-9;]*m/g, ""));
        terminal.#changing.changed();
      });
    }
    return terminal;
  }

  type(line) {
    this.process.stdin.write(`${line}\n`);
  }

  /** Waits for a line that matches: returns it. */
  async shows(pattern) {
    const found = () => this.lines.find((line) => pattern.test(line));
    return this.#changing.until(String(pattern), found, () => this.lines.join("\n"));
  }

  /** Waits until all of these lines are there, in any order, and checks that there are no others. */
  async showsAll(expected, mask = (line) => line) {
    const told = () => this.lines.filter((line) => !/Warning|node --trace/.test(line)).map(mask).sort();
    const wanted = JSON.stringify(expected.map(mask).sort());
    await this.#changing.until(wanted, () => JSON.stringify(told()) === wanted, () => this.lines.join("\n"));
  }

  close() {
    return end(this.process, "SIGTERM", () => this.lines.join("\n"));
  }
}

/** What a developer has after `git clone` and a first build. */
class Clone {
  #open = [];

  static async make() {
    const clone = new Clone();
    clone.folder = temporaryFolder();
    for (const name of CLONED) cpSync(shipped(name), join(clone.folder, name), { recursive: true });
    // The build has been done: cargo finds nothing to do.
    const [bin, release] = ["bin", "target/release"].map((name) => join(clone.folder, name));
    for (const folder of [bin, release]) mkdirSync(folder, { recursive: true });
    writeFileSync(join(bin, "cargo"), "#!/bin/sh\n");
    chmodSync(join(bin, "cargo"), 0o755);
    symlinkSync(binary, join(release, "chat-server"));
    // As after `npm install` of the packages that the examples name.
    symlinkSync(shipped("tests/clients/node/node_modules"), join(clone.folder, "node_modules"));
    clone.port = await freePort();
    clone.env = {
      PATH: `${bin}:${process.env.PATH}`, PORT: String(clone.port), CARGO_TARGET_DIR: "target",
      REDIS_RUNTIME_DIR: join(clone.folder, "run"),
    };
    return clone;
  }

  /** The same text with this clone's port. */
  here(text) {
    return text.replaceAll("3000", String(this.port));
  }

  write(name, text) {
    writeFileSync(join(this.folder, name), this.here(text));
  }

  async run(command) {
    const terminal = await Terminal.run(this.here(command), { cwd: this.folder, env: this.env });
    this.#open.push(terminal);
    return terminal;
  }

  /** What a command prints until it ends. */
  async output(command) {
    const terminal = await this.run(command);
    assert.equal(await patiently(command, terminal.process.ended, () => terminal.lines.join("\n")), 0);
    return terminal.lines.join("\n");
  }

  /** Does what `make run` does, until the server is up. */
  async up(command) {
    assert.equal(command, "make run");
    const server = await this.run(command);
    return server.shows(/listening on/);
  }

  async close() {
    for (const terminal of this.#open.reverse()) await terminal.close();
    forget(this.folder);
  }
}

/** The fenced blocks of a document, in order. */
function blocksOf(document) {
  const text = readFileSync(join(repository, document), "utf8");
  return [...text.matchAll(/^```(\w*)\n(.*?)\n```$/gms)].map(([, language, body]) => ({ language, body }));
}

function example(name, tell) {
  it(name, { timeout: LIMIT_MS }, async () => {
    const clone = await Clone.make();
    try {
      await tell(clone);
    } finally {
      await clone.close();
    }
  });
}

/** What differs from run to run. */
const masked = (line) =>
  line
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<uuid>")
    .replace(/\d{13}-\d+/g, "<id>")
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "<time>");

example("README leads from a clone to a first message", async (clone) => {
  const [run, client, command, output, login, ...more] = blocksOf("README.md");
  assert.deepEqual(more, [], "each example has its place in this test");

  // Start
  await clone.up(run.body);
  assert.match(await (await fetch(`http://127.0.0.1:${clone.port}/`)).text(), /<title>/);

  // A client in 12 lines
  assert.ok(client.body.split("\n").length <= 12);
  clone.write("hello.mjs", client.body);
  const terminal = await clone.run(command.body);
  await terminal.showsAll([output.body]);
  // A client that continues, and receives an answer
  const bob = await clone.run("TOKEN=$(make token ID=bob) node --experimental-websocket examples/chat.mjs alice ws://127.0.0.1:3000/ws");
  bob.type("Hi Alice");
  await terminal.shows(/^bob: Hi Alice$/);

  // Tokens from your own login
  assert.ok(login.body.split("\n").length <= 5);
  clone.write("login.mjs", login.body);
  const [, secret] = readFileSync(join(clone.folder, ".env.dev"), "utf8").match(/^JWT_SECRET=(.*)$/m);
  clone.env.JWT_SECRET = secret;
  const sign = `import { chatToken } from "./login.mjs"; console.log(chatToken({ id: "carol" }));`;
  const token = await clone.output(`node --input-type=module -e '${sign}'`);
  const socket = new WebSocket(`ws://127.0.0.1:${clone.port}/ws`, { headers: { token } });
  const opened = new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  await patiently("the connection with a token of one's own", opened);
  socket.close();
});

example("docs/clients.md: a first chat in a terminal, and with Socket.IO", async (clone) => {
  const [run, up, alice, bob, aliceSees, bobSees, request, answer, socketIo, reset, ...more] = blocksOf("docs/clients.md");
  assert.deepEqual(more, [], "each example has its place in this test");
  const version = (line) => line.trim().replace(/\d+(\.\d+)+(-\w+)?/g, "<version>").replace(/\d+ scripts/, "<n> scripts");
  assert.equal(version(await clone.up(run.body)), version(clone.here(up.body)));

  // Alice writes, then Bob answers: the first line is the command, the second is typed
  const begin = async ({ body }) => {
    const [command, said] = body.split("\n");
    const terminal = await clone.run(`${command} ws://127.0.0.1:3000/ws`);
    terminal.type(said);
    return { terminal, said };
  };
  const first = await begin(alice);
  await first.terminal.shows(/^1 alice: /);
  const second = await begin(bob);
  const sees = ({ terminal, said }, { body }) => terminal.showsAll(body.split("\n").filter((line) => line !== said), version);
  await sees(first, aliceSees);
  await sees(second, bobSees);

  // A request as it is sent, and its answer
  first.terminal.type(request.body);
  const ack = await first.terminal.shows(/^\{"event":"ack","id":1,/);
  assert.equal(masked(ack), masked(answer.body));

  // With socket.io-client
  const token = await clone.output("make token ID=carol");
  clone.write("socket-io.mjs", `const getToken = () => ${JSON.stringify(token)};\n${socketIo.body}`);
  const carol = await clone.run("node socket-io.mjs");
  await carol.shows(/ carol Hello Bob$/);
  await second.terminal.shows(/^1 carol: Hello Bob$/);

  first.terminal.type(reset.body);
  await first.terminal.shows(/^\{"event":"ack","id":2,"data":\{"success":true\}\}$/);
});
