// Waiting for conditions: nothing sleeps to let something happen.

/** How long any wait lasts before it fails the test, in ms. */
export const PATIENCE_MS = 30_000;

/** Resolves as `promise` does, or fails once patience has run out. */
export async function patiently(what, promise, details = () => "") {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}\n${details()}`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls `check` until it returns something true, and returns that; for conditions that nothing announces. */
export async function eventually(what, check, details = () => "") {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}\n${details()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Something that others wait on until it changes. */
export class Changing {
  #waiting = [];

  changed() {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Resolves with the first true value of `check`, which is called again after each change. */
  until(what, check, details) {
    const wait = async () => {
      for (;;) {
        const found = check();
        if (found) return found;
        await new Promise((resolve) => this.#waiting.push(resolve));
      }
    };
    return patiently(what, wait(), details);
  }
}
