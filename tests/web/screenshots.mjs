// Makes the pictures of the page that the README shows.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { story } from "./support/stage.mjs";
import { talk } from "./support/talk.mjs";

const folder = fileURLToPath(new URL("../../docs/screenshots", import.meta.url));
await mkdir(folder, { recursive: true });

for (const [name, options] of [
  ["wide-light", { viewport: { width: 1200, height: 720 } }],
  ["phone-dark", { viewport: { width: 360, height: 720 }, hasTouch: true, colorScheme: "dark" }],
]) {
  story(name, async (stage) => {
    const server = await stage.server();
    await talk(stage, server);
    const alice = await stage.user(server, "alice", options);
    await alice.open("Weekend");
    await alice.sees("Count me in!");
    await alice.page.screenshot({ path: join(folder, `${name}.png`), animations: "disabled" });
  });
}
