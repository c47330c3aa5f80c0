// The rows of a conversation: days, messages, what is on its way out, who has read.
import { NAMED_READERS } from "./chat-client.js";
import { fillAvatar, h, icon } from "./dom.js";
import { dayOf, fullTimeOf, names, number, pieces, timeOf } from "./format.js";

/** Messages of one sender within this time are grouped. */
const TOGETHER_MS = 5 * 60_000;
/** A longer message is shown whole only on request. */
const LONG_CHARS = 1500;
const LONG_LINES = 20;

const ONE_TICK = "m5 12.5 4.5 4.5L19 7";
const TWO_TICKS = "m2 12.5 4.5 4.5L16 7M12 16.5 12.5 17 22 7";
const CLOCK = "M12 7v5l3 2M12 3.5a8.5 8.5 0 1 0 .01 0";

/**
 * The rows of a room as items of `reconcile`. `firstUnread` is the seq above which a line says that what follows is new;
 * `whole` holds the keys of long messages that are shown whole.
 */
export function rowsOf({ chat, room, firstUnread, whole, actions }) {
  const rows = [];
  const { messages } = chat.timeline(room.roomId);
  const reads = readsOf(chat, room, messages);
  const lastRead = messages.findLast((message) => reads.get(message)?.count > 0);
  let before = null;
  const all = [...messages, ...chat.outgoing(room.roomId).map((outgoing) => asMessage(chat, outgoing))];
  for (const message of all) {
    const day = new Date(message.timestamp).toDateString();
    const newDay = !before || new Date(before.timestamp).toDateString() !== day;
    if (newDay) rows.push(dayRow(day, message));
    const isFirstUnread = message.seq === firstUnread;
    if (isFirstUnread) rows.push({ key: "new", version: "", make: newLine });
    const together =
      !newDay && !isFirstUnread && before.senderId === message.senderId &&
      new Date(message.timestamp) - new Date(before.timestamp) < TOGETHER_MS;
    rows.push(messageRow({ chat, room, message, together, read: reads.get(message), showReaders: message === lastRead, whole, actions }));
    before = message;
  }
  return rows;
}

const asMessage = (chat, outgoing) => ({
  outgoing,
  senderId: chat.userId,
  content: outgoing.content,
  timestamp: outgoing.writtenAt,
  clientMessageId: outgoing.clientMessageId,
});

/** Who else has read each of this user's messages, if the server says so, and how many: `{count, others, readers}`. */
function readsOf(chat, room, messages) {
  const others = room.isGroupChat ? room.memberCount - 1 : 1;
  const named = others < NAMED_READERS;
  const reads = new Map();
  let least = 0;
  for (const message of messages.toReversed()) {
    // A user who has read a message has read those before it, whose counts may be older.
    least = Math.max(least, message.readCount - 1);
    if (message.senderId !== chat.userId) continue;
    const readers = named ? chat.readersOf(message) : null;
    reads.set(message, { count: readers?.length ?? least, others, readers });
  }
  return reads;
}

const dayRow = (day, { timestamp }) => ({
  key: `day ${day}`,
  version: dayOf(timestamp),
  make: () => h("li", { class: "line" }, h("span", {}, dayOf(timestamp))),
});

const newLine = () => h("li", { class: "line new" }, h("span", {}, "New messages"));

function messageRow({ chat, room, message, together, read, showReaders, whole, actions }) {
  const own = message.senderId === chat.userId;
  const key = own && message.clientMessageId ? `own ${message.clientMessageId}` : `id ${message.id}`;
  const { outgoing } = message;
  const state = outgoing ? outgoing.state : "stored";
  const readText = read?.count > 0 ? readBy(room, read) : "";
  const isWhole = whole.has(key);
  const version = [state, outgoing?.error?.message, readText, showReaders, together, isWhole, message.id].join("\n");
  const make = () => {
    const bubble = h("div", { class: "bubble", dir: "auto" }, ...content(message, isWhole, () => actions.showWhole(key)));
    // It floats beside the last line, or below it if there is no room.
    bubble.append(footer(message, own, isReadByAll(read) ? "read" : state));
    const row = h("li", { class: `message ${own ? "own" : "other"} ${state}${together ? " together" : ""}` });
    if (!own) row.append(avatarOf(message, together));
    const body = h("div", { class: "body" });
    if (!together) {
      const hideName = own || !room.isGroupChat;
      body.append(h("div", { class: hideName ? "hidden-text" : "sender" }, h("bdi", {}, own ? "You" : message.senderId), ":"));
    }
    body.append(bubble);
    if (state === "failed") body.append(failure(outgoing, actions));
    if (showReaders) body.append(h("div", { class: "readers" }, readText));
    else if (readText) body.append(h("div", { class: "hidden-text" }, readText));
    row.append(body);
    return row;
  };
  return { key, version, make };
}

function avatarOf(message, together) {
  const avatar = h("span", { class: "avatar small", "aria-hidden": "true" });
  if (!together) fillAvatar(avatar, message.senderId);
  else avatar.classList.add("none");
  return avatar;
}

const isReadByAll = (read) => read?.count > 0 && read.count >= read.others;

/** The readers' names if they are few, and their number if they are many. */
function readBy(room, { count, others, readers }) {
  if (!room.isGroupChat) return "Read";
  if (count >= others) return "Read by all";
  return readers && count <= 3 ? `Read by ${names(readers)}` : `Read by ${number(count)} of ${number(others)}`;
}

/** The content of a message. If it is not text its type is shown; an address becomes a link: nothing is fetched from it. */
function content({ type = "text", content: text }, isWhole, showWhole) {
  if (type === "text") return paragraphs(text, isWhole, showWhole);
  if (type !== "image") return [h("span", { class: "type", dir: "auto" }, type), ...paragraphs(text, isWhole, showWhole)];
  const isAddress = /^https?:/i.test(text);
  return [h("span", { class: "type" }, "Image"), ...paragraphs(isAddress ? text : "without an address", true)];
}

function paragraphs(text, isWhole, showWhole) {
  const long = text.length > LONG_CHARS || text.split("\n", LONG_LINES + 1).length > LONG_LINES;
  const shown = long && !isWhole ? beginningOf(text) : text;
  const paragraph = h("p");
  for (const { link, text: plain } of pieces(shown)) {
    paragraph.append(
      link ? h("a", { href: link, target: "_blank", rel: "noopener noreferrer nofollow", dir: "ltr" }, link) : plain,
    );
  }
  if (!long || isWhole) return [paragraph];
  paragraph.append("…");
  return [paragraph, h("button", { type: "button", class: "link", onclick: showWhole }, "Show all of it")];
}

function beginningOf(text) {
  const lines = text.split("\n").slice(0, LONG_LINES).join("\n");
  // By code points, so that no emoji is cut in two.
  return [...lines.slice(0, LONG_CHARS)].slice(0, -1).join("");
}

/** Two ticks only if everybody has read it. */
const STATES = {
  read: ["Read", TWO_TICKS],
  sending: ["Sending", CLOCK],
  sent: ["Sent", ONE_TICK],
  stored: ["Sent", ONE_TICK],
  failed: ["Not sent", null],
};

function footer(message, own, state) {
  // It has its own direction, so that the bubble takes that of the text.
  const time = h(
    "time",
    { datetime: message.timestamp, title: fullTimeOf(message.timestamp), dir: "auto" },
    timeOf(message.timestamp),
  );
  const line = h("span", { class: "when" }, time);
  if (!own) return line;
  const [text, path] = STATES[state];
  line.append(h("span", { class: "hidden-text", dir: "ltr" }, `, ${text}`));
  if (path) line.append(icon(path));
  return line;
}

function failure({ clientMessageId, error }, actions) {
  const retry = () => actions.retry(clientMessageId);
  const discard = () => actions.discard(clientMessageId);
  return h(
    "div",
    { class: "failure" },
    h("span", {}, `Not sent: ${error.message}`),
    h("button", { type: "button", class: "link", onclick: retry }, "Try again"),
    h("button", { type: "button", class: "link", onclick: discard }, "Delete"),
  );
}
