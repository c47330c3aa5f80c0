// The processes that a test starts: each ends with its test, and all of them end with the test run.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { patiently } from "./patience.mjs";

const running = new Set();
const folders = new Set();

process.on("exit", () => {
  for (const child of running) signal(child, "SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => process.exit(1));

/** Sends a signal to a process, and to what it has started if it was started as a group. */
function signal(child, name) {
  if (!child.isGroup) return child.kill(name);
  try {
    process.kill(-child.pid, name);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

/** Starts a program; fails if there is none. Its environment is `env` and PATH, nothing else. With `group`, what it starts ends with it. */
export async function start(program, args, { env = {}, cwd, stdio, group = false }) {
  const { PATH, TMPDIR } = process.env;
  const child = spawn(program, args, {
    cwd,
    stdio,
    detached: group,
    env: { PATH, HOME: cwd, ...(TMPDIR && { TMPDIR }), ...env },
  });
  child.isGroup = group;
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
export async function end(child, name, details) {
  signal(child, name);
  return patiently(`the end of process ${child.pid}`, child.ended, details);
}

/** A folder that `forget` deletes, or the end of the tests at the latest. Its path is short: sockets need that. */
export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), "chat-"));
  folders.add(folder);
  return folder;
}

export function forget(folder) {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
}
