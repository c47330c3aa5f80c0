// The processes that a test starts: each ends with the test, and all of them with the test run.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { patiently } from "./patience.mjs";

const running = new Set();
const folders = new Set();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

/** Starts a program; fails if there is none. Its environment is `env` and PATH, nothing else. */
export async function start(program, args, { env = {}, cwd, stdio }) {
  const { PATH, TMPDIR } = process.env;
  const child = spawn(program, args, {
    cwd,
    stdio,
    env: { PATH, HOME: cwd, ...(TMPDIR && { TMPDIR }), ...env },
  });
  child.ended = new Promise((resolve) => {
    child.once("exit", (code, signal) => {
      running.delete(child);
      resolve(code ?? signal);
    });
  });
  await new Promise((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => reject(new Error(`cannot start ${program}: ${error.message}`)));
  });
  running.add(child);
  return child;
}

/** Sends a signal to a process and waits for its end: its exit code, or the signal that ended it. */
export async function end(child, signal, details) {
  child.kill(signal);
  return patiently(`the end of process ${child.pid}`, child.ended, details);
}

/** A folder that is deleted with `forget`, at the latest when the tests are over. Its path is short: sockets need that. */
export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), "chat-"));
  folders.add(folder);
  return folder;
}

export function forget(folder) {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
}
