// Nothing covers a message's text: its time has room of its own, however the browser's language writes it.
import assert from "node:assert/strict";

import { eventually } from "../../clients/node/support/patience.mjs";
import { story } from "../support/stage.mjs";

/** Texts that end anywhere in a line, in a line that is full, and in several scripts. */
const TEXTS = [
  ...Array.from({ length: 45 }, (_, index) => "word ".repeat(index + 1).trim().slice(0, 3 + index * 3)),
  "w".repeat(300),
  "one\ntwo\n",
  `${"A long story. ".repeat(200)}The end.`,
  "شكرا",
  "مرحبا، كيف حالك اليوم؟ ".repeat(5).trim(),
  "안녕하세요, 오늘 저녁에 시간 있으세요? ".repeat(4).trim(),
  "🎉",
  "See https://example.com/a/rather/long/address?with=a&query=too and tell me what you think of it",
];

/** The parts of the messages on the screen that cover something else, or stick out of their bubbles. */
function collisions() {
  const cross = (one, other) =>
    Math.min(one.right, other.right) - Math.max(one.left, other.left) > 0.5 &&
    Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 0.5;
  const found = [];
  const bubbles = document.querySelectorAll("#messages .bubble");
  for (const bubble of bubbles) {
    const { left, right, top, bottom } = bubble.getBoundingClientRect();
    const texts = document.createRange();
    texts.selectNodeContents(bubble.querySelector("p"));
    const others = [...texts.getClientRects(), ...[...bubble.querySelectorAll(".link")].map((it) => it.getBoundingClientRect())];
    const text = bubble.querySelector("p").textContent.slice(0, 40);
    for (const part of bubble.querySelectorAll(".when time, .when svg")) {
      const box = part.getBoundingClientRect();
      // With some room beside it.
      const wider = { ...box.toJSON(), left: box.left - 4, right: box.right + 4 };
      if (others.some((other) => cross(wider, other))) found.push(`the ${part.tagName} stands on "${text}"`);
      const sticksOut = box.left < left || box.right > right || box.top < top || box.bottom > bottom;
      if (sticksOut) found.push(`the ${part.tagName} sticks out of "${text}"`);
    }
  }
  for (const entry of document.querySelectorAll("#rooms .first")) {
    const [title, time] = [".title", "time"].map((part) => entry.querySelector(part).getBoundingClientRect());
    if (cross(title, time)) found.push("the time stands on a title in the list");
  }
  return { count: bubbles.length, found };
}

for (const locale of ["en-US", "en-IN", "es-MX", "ar-EG", "ko"]) {
  story(`no time stands on a text: ${locale}`, async (stage) => {
    // Given a chat in which both have written short and long texts, and one with a long name
    const server = await stage.server();
    const [alice, bob] = [await stage.client(server, "alice"), await stage.client(server, "bob")];
    const { roomId } = await bob.openRoom(["alice"]);
    const group = await bob.openRoom(["alice", "carol"], { name: "A group whose name is far too long for the list" });
    await bob.send(group.roomId, "Hello");
    for (const text of TEXTS) await alice.send(roomId, text);
    for (const text of TEXTS) await bob.send(roomId, text);
    await bob.enter(roomId);

    for (const direction of ["ltr", "rtl"]) {
      for (const width of [320, 719, 1100]) {
        // When a user looks at them in this language
        const window = await stage.user(server, "alice", { locale, viewport: { width, height: 800 } });
        await window.page.evaluate((dir) => (document.documentElement.dir = dir), direction);
        await window.open("bob");
        await eventually("all messages", () => window.page.evaluate((wanted) => {
          document.getElementById("older").click();
          return document.querySelectorAll("#messages .message").length === wanted;
        }, TEXTS.length * 2));

        // Then each text and each time can be read
        const { count, found } = await window.page.evaluate(collisions);
        assert.equal(count, TEXTS.length * 2);
        assert.deepEqual(found, [], `${width} pixels, ${direction}`);
        await window.fits();
        if (width === 320) {
          await window.page.locator("#messages .message").nth(40).scrollIntoViewIfNeeded();
          await stage.picture(window, `times-${locale}-${direction}`);
        }
        await window.page.context().close();
      }
    }
  });
}
