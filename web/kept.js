// What this browser keeps beyond the tab: drafts, and messages that are not stored yet. Each user's are under their own name,
// so that nobody sees or sends those of somebody else who used this browser.
import { newId } from "./chat-client.js";

const UNSENT = "chat-server.unsent ";
const DRAFT = "chat-server.draft ";

/** Messages of all users that are kept at most, and characters of them. What is over is in the tab alone. */
const UNSENT_MAX = 300;
const UNSENT_CHARS = 1_000_000;
/** Drafts of all users, at most; the oldest give way. */
const DRAFTS_MAX = 50;
const DRAFT_CHARS = 20_000;
/** Nobody comes back for what is older. */
const OLD_MS = 30 * 86_400_000;

const keyOf = (prefix, userId, id) => prefix + JSON.stringify([userId, id]);

/** What is stored under a prefix: `{key, userId, id, value}`. What is not of this form is not ours, or spoiled. */
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
    // The browser has no room for it: it is in the tab alone.
  }
}

function dropOld(prefix) {
  for (const { key, value } of stored(prefix)) if (!(Date.now() - value?.at < OLD_MS)) localStorage.removeItem(key);
}

/**
 * A keeper for ChatClient. A message belongs to the tab in which it was written, or that took it over, as long as that tab is
 * there: so of several tabs one sends it. A tab shows that it is there by a lock; where a page may have none (without https)
 * several tabs may send the message, which is stored once all the same.
 */
export class KeptMessages {
  #owner = newId();
  /** Tabs whose end is waited for. */
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

  /** Gives `take` the user's messages of tabs that are gone, in the order of writing: now, and when further tabs are. */
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

/** What somebody has begun to write, in each room. */
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

  /** Forgets those of a user. */
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
