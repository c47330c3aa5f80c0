// This browser keeps drafts, and messages that are not stored yet, after the tab is closed. Each user's are under their own
// name, so that nobody sees or sends those of somebody else who used this browser.
import { newId } from "./chat-client.js";

const UNSENT = "chat-server.unsent ";
const DRAFT = "chat-server.draft ";

/** At most this many messages of all users are kept, and characters of them. Any others are only in the tab. */
const UNSENT_MAX = 300;
const UNSENT_CHARS = 1_000_000;
/** Drafts of all users, at most; the oldest give way. */
const DRAFTS_MAX = 50;
const DRAFT_CHARS = 20_000;
/** Nobody comes back for older ones. */
const OLD_MS = 30 * 86_400_000;

const keyOf = (prefix, userId, id) => prefix + JSON.stringify([userId, id]);

/** The entries under a prefix: `{key, userId, id, value}`. An entry of another form is not ours, or broken. */
function* stored(prefix) {
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(prefix)) continue;
    try {
      const [userId, id] = JSON.parse(key.slice(prefix.length));
      yield { key, userId, id, value: JSON.parse(localStorage.getItem(key)) };
    } catch {
      localStorage.removeItem(key);
    }
  }
}

function put(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // The browser has no room for it: it is only in the tab.
  }
}

function dropOld(prefix) {
  for (const { key, value } of stored(prefix)) if (!(Date.now() - value?.at < OLD_MS)) localStorage.removeItem(key);
}

/**
 * A keeper for ChatClient. A message belongs to the tab in which it was written, or that took it over, while that tab is
 * open: so only one of several tabs sends it. A tab holds a lock while it is open; if the page may not use locks (without
 * https) several tabs may send the message, which is stored once all the same.
 */
export class KeptMessages {
  #owner = newId();
  /** Tabs that this one waits for to close. */
  #awaited = new Set();

  constructor() {
    dropOld(UNSENT);
    navigator.locks?.request(lockOf(this.#owner), () => new Promise(() => {}));
  }

  keep(userId, message) {
    const key = keyOf(UNSENT, userId, message.clientMessageId);
    const others = [...stored(UNSENT)].filter((it) => it.key !== key);
    const chars = others.reduce((sum, { value }) => sum + value.message.content.length, message.content.length);
    const fits = others.length < UNSENT_MAX && chars <= UNSENT_CHARS;
    if (fits) put(key, { owner: this.#owner, at: Date.now(), message });
  }

  drop(userId, clientMessageId) {
    localStorage.removeItem(keyOf(UNSENT, userId, clientMessageId));
  }

  /** Gives `take` the user's messages of closed tabs, in the order of writing: now, and when further tabs close. */
  adopt(userId, take) {
    for (const owner of new Set(this.#of(userId).map(({ value }) => value.owner))) {
      if (owner === this.#owner || this.#awaited.has(owner)) continue;
      this.#awaited.add(owner);
      const takeOver = () => {
        this.#awaited.delete(owner);
        this.#takeOver(userId, owner, take);
      };
      if (navigator.locks) navigator.locks.request(lockOf(owner), takeOver);
      else takeOver();
    }
  }

  #takeOver(userId, owner, take) {
    for (const { value } of this.#of(userId)) {
      if (value.owner !== owner) continue;
      this.keep(userId, value.message);
      take(value.message);
    }
  }

  /** Forgets what this tab keeps for a user. */
  forget(userId) {
    for (const { key, value } of this.#of(userId)) if (value.owner === this.#owner) localStorage.removeItem(key);
  }

  #of(userId) {
    const of = [...stored(UNSENT)].filter((it) => it.userId === userId);
    return of.sort((one, other) => Date.parse(one.value.message.writtenAt) - Date.parse(other.value.message.writtenAt));
  }
}

const lockOf = (owner) => `chat-server.tab ${owner}`;

/** The drafts of each room. */
export class Drafts {
  constructor() {
    dropOld(DRAFT);
  }

  of(userId, roomId) {
    const kept = localStorage.getItem(keyOf(DRAFT, userId, roomId));
    return kept === null ? "" : textOf(kept);
  }

  set(userId, roomId, text) {
    const key = keyOf(DRAFT, userId, roomId);
    if (text.trim() === "" || text.length > DRAFT_CHARS) return localStorage.removeItem(key);
    if (localStorage.getItem(key) === null) this.#makeRoom();
    put(key, { at: Date.now(), text });
  }

  #makeRoom() {
    const drafts = [...stored(DRAFT)].sort((one, other) => one.value.at - other.value.at);
    for (const { key } of drafts.slice(0, Math.max(0, drafts.length - DRAFTS_MAX + 1))) localStorage.removeItem(key);
  }

  /** Forgets the drafts of a user. */
  forget(userId) {
    for (const { key, userId: of } of stored(DRAFT)) if (of === userId) localStorage.removeItem(key);
  }

  /** Calls `changed(userId, roomId, text, before)` when another tab has changed a draft. */
  onChange(changed) {
    addEventListener("storage", ({ key, oldValue, newValue }) => {
      if (!key?.startsWith(DRAFT)) return;
      const [userId, roomId] = JSON.parse(key.slice(DRAFT.length));
      changed(userId, roomId, textOf(newValue), textOf(oldValue));
    });
  }
}

function textOf(kept) {
  try {
    return JSON.parse(kept)?.text ?? "";
  } catch {
    return "";
  }
}
