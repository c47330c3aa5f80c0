/**
 * A client of chat-server in one file without dependencies, for browsers (and Node 22 or newer).
 * Copy it into your app; docs/protocol.md describes the protocol.
 *
 *   import { ChatClient } from "./chat-client.js";
 *
 *   const chat = new ChatClient({ url: "wss://chat.example/ws", token: () => fetchToken() });
 *   chat.addEventListener("message", ({ detail }) => console.log(detail.message.content));
 *   chat.connect();
 *   await chat.ready();
 *   const { roomId } = await chat.openRoom(["bob"]);
 *   await chat.enter(roomId);
 *   await chat.send(roomId, "Hello Bob");
 *
 * What it does by itself:
 *   - It reconnects after a break, with growing pauses and some randomness, until `close()`.
 *   - It keeps the chat list (`rooms`) and the messages of rooms that were entered (`timeline(roomId)`), and brings both
 *     up to date after a break: nothing is missing, nothing twice.
 *   - It sends a message again after a break, under the same `clientMessageId`, so that it is stored once; with a `keeper`
 *     even after the tab was closed. It gives up a message that would only break each new connection.
 *   - It asks the token hook for a fresh token at each connection, and shortly before the token in use expires.
 *
 * Events; `detail` of each:
 *   state     {state, error?, opened?, retryInMs?}: "connecting", "catching-up", "ready", "waiting" (reconnects after
 *             retryInMs; `opened` says whether the server had accepted this device), or "closed" (`error` says why,
 *             unless it was `close()`)
 *   rooms     {}: the chat list, or something in it, changed
 *   timeline  {roomId}: messages, what is on its way out, or who has read what, changed in this room
 *   message   {message, live}: a new message; `live` is false for messages that were missed and caught up on, which
 *             happens in the rooms that were entered (in others only `rooms` shows what was missed)
 *   reset     {roomId}: what was known of this room is no longer its history, or too old; its timeline starts again, or
 *             is gone
 *   problem   ChatError: something went wrong that no request waits for
 *   frame     {direction: "in" or "out", text}: each frame as it passes, tokens left out
 */

/** A refusal by the server, or the end of the connection. `code` is one of the protocol's, or DISCONNECTED. */
export class ChatError extends Error {
  constructor(code, message, roomId) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.roomId = roomId;
  }
}

/** Rooms up to this size name who has read a message; in larger ones the server only counts. */
export const NAMED_READERS = 100;

/** Messages asked for at once when catching up, the most that the server gives. */
const PAGE = 100;
/** A client that missed more than this begins with the newest page instead of catching up. */
const CATCH_UP_AT_MOST = 500;
/** Pages that are read again after a break, to find out who has read what meanwhile. */
const READS_PAGES = 10;
/** Messages on their way out, at most. */
const OUTBOX_MAX = 1000;
/** The server recognises a repeated message for a day; if it were sent again after this, it might be stored twice. */
const KNOWN_FOR_MS = 20 * 3_600_000;
/** A message that is smaller than this does not break a connection by its size. */
const SUSPECT_BYTES = 4096;
/** A larger message is given up when this many connections broke while it was on its way. */
const BREAKS_AT_MOST = 3;
/** How long the first list may take; the server's own patience is shorter. */
const LIST_TIMEOUT_MS = 40_000;
/** A token is renewed this long before it expires, or after four fifths of its life if that is later. */
const RENEW_BEFORE_MS = 60_000;
/** The longest pause that a timer can have. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** After one of these close codes, requests that were on their way must not be sent again as they are. */
const FAULT_OF_OURS = new Set([1002, 1003, 1007, 1008]);
const TOO_LARGE = 1009;
const TOKEN_EXPIRED = 4401;
const NO_ANSWER = 4000;

export class ChatClient extends EventTarget {
  /** The user that the token speaks for; null before the first connection. */
  userId = null;
  /** The server's limits from its `hello`: `{frameBytes, contentBytes, …}`; null before the first connection. */
  limits = null;
  /** The chat list, latest activity first: the server's ChatEntry objects, kept up to date. */
  rooms = [];
  state = "closed";

  #options;
  #socket = null;
  #wanted = false;
  #attempt = 0;
  /** When the connection became ready; null while it is not. */
  #readyAt = null;
  #retryTimer;
  #renewTimer;
  #openTimer;
  #lastId = 0;
  #lastWritten = 0;
  /** Requests without an answer, in the order in which they were sent. */
  #waiting = new Map();
  /** Messages that are not in a timeline yet, by clientMessageId, in the order of writing. */
  #outbox = new Map();
  #timelines = new Map();
  /** Room → user → the seq up to which they have read, as far as the server has sent it. */
  #reads = new Map();
  #viewing = null;
  #listed = false;

  /**
   * @param {object} options
   * @param {string | URL} options.url         the server's `/ws`, beginning with ws: or wss:
   * @param {string | (() => string | Promise<string>)} options.token  a token, or a function that gives a fresh one; if
   *   that throws a ChatError with the code UNAUTHORIZED the client gives up, else it tries again later
   * @param {number} [options.pageSize=50]     messages that a room begins with, and that loadOlder adds
   * @param {number} [options.ackTimeoutMs=10000]  a connection that is not established, or leaves a request unanswered,
   *   for this long counts as dead
   * @param {[number, number]} [options.pausesMs=[500, 30000]]  the first and the longest pause between attempts
   * @param {number} [options.steadyMs=10000]  after a connection that lasted this long the pauses start again
   * @param {object} [options.keeper]          keeps messages that are not stored yet after this client has ended; see
   *   KeptMessages in kept.js, which does that for the tabs of a browser
   * @param {typeof WebSocket} [options.WebSocket]  needed if the global scope has none
   */
  constructor(options) {
    super();
    this.#options = {
      pageSize: 50,
      ackTimeoutMs: 10_000,
      pausesMs: [500, 30_000],
      steadyMs: 10_000,
      WebSocket: globalThis.WebSocket,
      ...options,
    };
  }

  /** Connects, and stays connected until `close()`. */
  connect() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#attempt = 0;
    this.#open();
  }

  /** Resolves once this client is connected and has caught up; rejects with a ChatError if it is closed before that. */
  ready() {
    return new Promise((resolve, reject) => {
      const look = ({ detail } = {}) => {
        if (this.state !== "ready" && detail?.state !== "closed") return;
        this.removeEventListener("state", look);
        if (this.state === "ready") resolve();
        else reject(detail.error ?? new ChatError("DISCONNECTED", "the client was closed"));
      };
      this.addEventListener("state", look);
      look();
    });
  }

  /** Ends the connection. What is on its way out stays in the outbox, for the next `connect()`. */
  close() {
    this.#stop();
  }

  /** Ends the pause before the next attempt, if there is one. */
  connectNow() {
    if (this.state !== "waiting") return;
    clearTimeout(this.#retryTimer);
    this.#open();
  }

  // ---- requests ----

  /**
   * Sends any request of the protocol; resolves with its ack, rejects with a ChatError. While there is no connection, or
   * if it ends before the answer, the code is DISCONNECTED, and it is not known whether the request was carried out.
   */
  request(event, data) {
    const socket = this.#socket;
    if (socket?.readyState !== 1) {
      return Promise.reject(new ChatError("DISCONNECTED", "there is no connection to the server"));
    }
    const id = (this.#lastId += 1);
    const text = JSON.stringify({ event, data, id });
    const size = bytesOf(text);
    if (size > (this.limits?.frameBytes ?? Infinity)) {
      return Promise.reject(new ChatError("MESSAGE_TOO_LARGE", "this is more than the server takes at once"));
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#lost(socket, NO_ANSWER), this.#options.ackTimeoutMs);
      this.#waiting.set(id, { event, data, size, resolve, reject, timer });
      this.#tell("frame", { direction: "out", text: event === "authenticate" ? withoutToken(id) : text });
      socket.send(text);
    });
  }

  /**
   * Opens the room with one other user, or a new group with several. Resolves with `{roomId, created}`. Called again with
   * the same `clientRoomId` it returns the same group. The room is in `rooms` by then.
   */
  async openRoom(participants, { name, clientRoomId = newId() } = {}) {
    const result = await this.request("initializeChat", { participants, name: name || undefined, clientRoomId });
    // The room's entry arrives separately.
    const listed = () => this.room(result.roomId) || this.state !== "ready";
    while (!listed()) await new Promise((resolve) => this.addEventListener("rooms", resolve, { once: true }));
    return result;
  }

  /**
   * Makes this device view the room: its newest messages are read into the timeline, and all of it counts as read. The
   * client resumes viewing after a break. While there is no connection this resolves at once.
   */
  async enter(roomId) {
    this.#viewing = roomId;
    if (this.state !== "ready") return;
    await this.#enter(roomId);
  }

  /** Makes this device view no room. */
  async leave() {
    if (this.#viewing === null) return;
    this.#viewing = null;
    if (this.state === "ready") await this.request("leaveChat");
  }

  /**
   * Sends a message; resolves with its ack once it is stored. After a break it is sent again by itself. If the server
   * refuses it, this rejects, and the message stays among `outgoing(roomId)` as failed: see `retry` and `discard`.
   */
  send(roomId, content, clientMessageId = newId()) {
    if (this.#outbox.size >= OUTBOX_MAX) {
      return Promise.reject(new ChatError("RATE_LIMITED", "too many messages are on their way", roomId));
    }
    // No two messages have the same time, so that it gives their order.
    this.#lastWritten = Math.max(Date.now(), this.#lastWritten + 1);
    const outgoing = { clientMessageId, roomId, content, writtenAt: new Date(this.#lastWritten).toISOString() };
    this.#outbox.set(clientMessageId, outgoing);
    return this.#begin(outgoing);
  }

  /** Whether the server takes a text as one message. True as long as its limits are not known. */
  fits(roomId, content) {
    if (!this.limits) return true;
    if (bytesOf(content) > this.limits.contentBytes) return false;
    // In a frame some characters take more room; the ids here have their greatest length.
    const data = { roomId, content, clientMessageId: "x".repeat(64) };
    return bytesOf(JSON.stringify({ event: "sendMessage", data, id: Number.MAX_SAFE_INTEGER })) <= this.limits.frameBytes;
  }

  /** Sends a failed message again, under the same id: if it was stored within the last day, it is not stored twice. */
  retry(clientMessageId) {
    const outgoing = this.#outbox.get(clientMessageId);
    if (outgoing?.state !== "failed") return Promise.resolve();
    return this.#begin(Object.assign(outgoing, { triedAt: undefined, breaks: 0 }));
  }

  /** Forgets a failed message. */
  discard(clientMessageId) {
    const outgoing = this.#outbox.get(clientMessageId);
    if (outgoing?.state !== "failed") return;
    this.#dropOutgoing(clientMessageId);
    this.#tell("timeline", { roomId: outgoing.roomId });
  }

  /** Reads a page of older messages into the timeline; resolves with whether there are more. */
  async loadOlder(roomId, limit = this.#options.pageSize) {
    const timeline = this.#timelines.get(roomId);
    const oldest = timeline?.messages[0];
    if (!oldest || !timeline.hasOlder) return false;
    timeline.older ??= this.#loadOlder(timeline, { roomId, before: oldest.id, limit }).finally(() => (timeline.older = null));
    return timeline.older;
  }

  // ---- local state ----

  room(roomId) {
    return this.rooms.find((room) => room.roomId === roomId);
  }

  /** The known messages of a room that was entered, oldest first, without a hole, and whether there are older ones. */
  timeline(roomId) {
    const { messages, hasOlder } = this.#timelines.get(roomId) ?? { messages: [], hasOlder: false };
    return { messages, hasOlder };
  }

  /** The room's messages that are not in its timeline yet: `{clientMessageId, content, state, error, writtenAt}`; the state
   * is "sending", "sent" or "failed". */
  outgoing(roomId) {
    return [...this.#outbox.values()].filter((outgoing) => outgoing.roomId === roomId);
  }

  /** The users other than its sender who have read a message, as far as the server names them (NAMED_READERS). */
  readersOf(message) {
    const readers = new Set(message.readBy);
    for (const [user, seq] of this.#reads.get(message.roomId) ?? []) {
      if (seq >= message.seq) readers.add(user);
    }
    readers.delete(message.senderId);
    return [...readers];
  }

  /** How many messages are not stored yet. */
  get unsent() {
    return [...this.#outbox.values()].filter(({ state }) => state !== "sent").length;
  }

  /** Unread messages in all rooms. */
  get unread() {
    return this.rooms.reduce((sum, room) => sum + room.unreadCnt, 0);
  }

  // ---- the connection ----

  async #open() {
    this.#enterState("connecting");
    const attempt = {};
    this.#socket = attempt;
    let socket;
    try {
      const { token, url, WebSocket } = this.#options;
      const fresh = typeof token === "function" ? await token() : token;
      if (this.#socket !== attempt) return;
      const address = new URL(url);
      address.searchParams.set("chatList", "delta");
      socket = connectTo(WebSocket, address, fresh);
      this.#renewInTime(fresh);
    } catch (error) {
      if (this.#socket !== attempt) return;
      if (error.code === "UNAUTHORIZED") return this.#stop(error);
      return this.#wait({ error, opened: false });
    }
    this.#socket = socket;
    this.#listed = false;
    this.#openTimer = setTimeout(() => this.#lost(socket, NO_ANSWER), this.#options.ackTimeoutMs);
    socket.onmessage = ({ data }) => this.#socket === socket && this.#receive(socket, data);
    socket.onclose = ({ code }) => this.#lost(socket, code);
  }

  #lost(socket, code) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    clearTimeout(this.#renewTimer);
    clearTimeout(this.#openTimer);
    socket.close();
    // A connection that ends as soon as it is made is no reason to come back faster.
    if (this.#readyAt !== null && performance.now() - this.#readyAt >= this.#options.steadyMs) this.#attempt = 0;
    this.#readyAt = null;
    this.#rejectAll(code);
    const renewable = typeof this.#options.token === "function";
    if (code === TOKEN_EXPIRED && !renewable) {
      return this.#stop(new ChatError("TOKEN_EXPIRED", "the token expired"));
    }
    this.#wait({ opened: this.#listed });
  }

  /** No request of this connection will be answered any more. */
  #rejectAll(code) {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    const largest = waiting.reduce((most, { size }) => Math.max(most, size), 0);
    for (const { reject, timer, size } of waiting) {
      clearTimeout(timer);
      if (code === TOO_LARGE && size === largest) {
        reject(new ChatError("MESSAGE_TOO_LARGE", "this is more than the server takes at once"));
      } else if (FAULT_OF_OURS.has(code)) {
        reject(new ChatError("REJECTED", `the server closed the connection (${code})`));
      } else {
        const error = new ChatError("DISCONNECTED", "the connection was lost before the answer");
        // Browsers and proxies do not always say that a frame was too large.
        error.suspect = size === largest && size > SUSPECT_BYTES;
        reject(error);
      }
    }
  }

  #wait(detail) {
    this.#socket = null;
    if (!this.#wanted) return;
    const [first, longest] = this.#options.pausesMs;
    const pause = Math.min(longest, first * 2 ** this.#attempt);
    this.#attempt += 1;
    // Some randomness, so that not all clients of a server that was gone come back in the same instant.
    const retryInMs = pause * (0.5 + Math.random() / 2);
    this.#retryTimer = setTimeout(() => this.#open(), retryInMs);
    this.#enterState("waiting", { ...detail, retryInMs });
  }

  #stop(error) {
    this.#wanted = false;
    this.#readyAt = null;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#renewTimer);
    clearTimeout(this.#openTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close?.(1000);
    this.#rejectAll(1000);
    this.#enterState("closed", { error });
  }

  #enterState(state, detail = {}) {
    this.state = state;
    this.#tell("state", { state, ...detail });
  }

  /** Gives the server a fresh token before the one in use expires. */
  #renewInTime(token) {
    clearTimeout(this.#renewTimer);
    const expiresAt = expiryOf(token);
    if (expiresAt === null || typeof this.#options.token !== "function") return;
    const left = expiresAt - Date.now();
    const pause = Math.max(left - RENEW_BEFORE_MS, left * 0.8);
    if (pause > LONGEST_TIMER_MS) return;
    const renew = async () => {
      const socket = this.#socket;
      const fresh = await this.#options.token();
      if (this.#socket !== socket) return;
      await this.request("authenticate", { token: fresh });
      this.#renewInTime(fresh);
    };
    // If that fails the server ends the connection, and the next one begins with a fresh token.
    this.#renewTimer = setTimeout(() => renew().catch((error) => this.#report(error)), pause);
  }

  // ---- frames ----

  #receive(socket, text) {
    this.#tell("frame", { direction: "in", text });
    const { event, id, data } = JSON.parse(text);
    const request = this.#waiting.get(id);
    if (request) {
      this.#waiting.delete(id);
      clearTimeout(request.timer);
      if (event === "ack") return request.resolve(data);
      return request.reject(new ChatError(data.code, data.message, data.roomId));
    }
    switch (event) {
      case "hello":
        return this.#greeted(socket, data);
      case "chatList":
        return this.#takeList(data);
      case "chatEntry":
        return this.#takeEntry(data);
      case "newMessage":
        return this.#takeMessage(data);
      case "messageRead":
        return this.#takeRead(data);
      case "chatHistory":
        return this.#takeHistory(data);
      case "error":
        return this.#takeError(new ChatError(data.code, data.message, data.roomId));
    }
  }

  /** The first event: the token's user (only the server knows which claim counts), and the server's limits. */
  #greeted(socket, { userId, limits }) {
    if (this.userId !== null && this.userId !== userId) this.#forgetAll();
    [this.userId, this.limits] = [userId, limits];
    // A server that has sent hello is alive, and may take its time for the list.
    if (this.#listed) return;
    clearTimeout(this.#openTimer);
    this.#openTimer = setTimeout(() => this.#lost(socket, NO_ANSWER), LIST_TIMEOUT_MS);
  }

  /** The token is another user's: nothing of the former one is shown or sent. Kept messages stay kept. */
  #forgetAll() {
    for (const { reject } of this.#outbox.values()) reject?.(new ChatError("DISCONNECTED", "another user is here now"));
    this.#outbox.clear();
    this.#timelines.clear();
    this.#reads.clear();
    this.#viewing = null;
    this.rooms = [];
  }

  #takeList(entries) {
    this.rooms = entries;
    for (const { lastMessage } of entries) if (lastMessage) this.#noteReaders(lastMessage);
    const known = new Set(entries.map((entry) => entry.roomId));
    const asked = this.#entering().map(({ data }) => data.roomId);
    for (const roomId of new Set([...this.#timelines.keys(), ...asked])) {
      if (!known.has(roomId)) this.#forget(roomId);
    }
    this.#tell("rooms");
    if (this.#listed) return;
    this.#listed = true;
    clearTimeout(this.#openTimer);
    // Messages that come from now on wait for those that were missed before them.
    for (const timeline of this.#timelines.values()) Object.assign(timeline, { filling: true, held: [], readsMissed: true });
    this.#resume(this.#socket);
  }

  /** After the first list of a connection: fetches what was missed, sends what is waiting, enters the room on the screen. */
  async #resume(socket) {
    this.#enterState("catching-up");
    try {
      for (const roomId of [...this.#timelines.keys()]) await unlessGone(this.#catchUp(roomId));
      if (this.#socket !== socket) return;
      this.#readyAt = performance.now();
      this.#enterState("ready");
      const { userId } = this;
      this.#options.keeper?.adopt(userId, (kept) => this.userId === userId && this.#adopt(kept));
      this.#flush();
      if (this.#viewing !== null && this.room(this.#viewing)) await unlessGone(this.#enter(this.#viewing));
      for (const roomId of [...this.#timelines.keys()]) await unlessGone(this.#catchUpReads(roomId));
    } catch (error) {
      if (this.#socket !== socket) return;
      this.#report(error);
      // A half-finished start does not count: the next connection does all of it.
      if (this.state === "catching-up") this.#lost(socket, NO_ANSWER);
    }
  }

  #takeEntry(entry) {
    if (entry.lastMessage) this.#noteReaders(entry.lastMessage);
    const index = this.rooms.findIndex((room) => room.roomId === entry.roomId);
    const before = this.rooms[index];
    if (before && before.seq === entry.seq) this.rooms[index] = entry;
    else {
      if (before) this.rooms.splice(index, 1);
      this.rooms.unshift(entry);
    }
    this.#tell("rooms");
  }

  #takeMessage(message) {
    const { roomId, seq } = message;
    this.#noteReaders(message);
    const index = this.rooms.findIndex((room) => room.roomId === roomId);
    if (index >= 0) {
      const [room] = this.rooms.splice(index, 1);
      this.rooms.unshift(room);
      room.lastMessage = message;
      room.seq = seq;
      this.#count(room);
    }
    const timeline = this.#timelines.get(roomId);
    if (timeline?.filling) timeline.held.push(message);
    else if (timeline) this.#append(timeline, [message], true);
    else {
      this.#settleBy(message);
      this.#tell("message", { message, live: true });
      this.#enterAfterAll(roomId);
    }
    this.#tell("rooms");
    this.#tell("timeline", { roomId });
  }

  /** Enters the room on the screen if the server refused that before (no store, no memory): now it may succeed. */
  #enterAfterAll(roomId) {
    const asked = this.#entering().some(({ data }) => data.roomId === roomId);
    if (roomId !== this.#viewing || asked || this.state !== "ready") return;
    unlessGone(this.#enter(roomId)).catch((error) => this.#report(error));
  }

  #takeRead({ roomId, userId, seq }) {
    this.#noteRead(roomId, userId, seq);
    const room = this.room(roomId);
    if (room && userId === this.userId) this.#count(room);
    this.#tell("rooms");
    this.#tell("timeline", { roomId });
  }

  /** Takes the messages of the room that is being entered: they come before the ack, and answers come in request order. */
  #takeHistory(messages) {
    const [entering] = this.#entering();
    if (entering && !entering.outdated) this.#takeNewest(entering.data.roomId, messages);
  }

  /** The requests to enter a room that are not answered yet. */
  #entering() {
    return [...this.#waiting.values()].filter(({ event }) => event === "enterChat");
  }

  #takeError(error) {
    if (error.code === "HISTORY_RESET" && error.roomId) {
      if (!this.#timelines.has(error.roomId)) return;
      unlessGone(this.#reload(error.roomId)).catch((cause) => this.#report(cause));
      return;
    }
    this.#report(error);
  }

  #noteRead(roomId, user, seq) {
    const reads = this.#reads.get(roomId) ?? new Map();
    this.#reads.set(roomId, reads);
    reads.set(user, Math.max(seq, reads.get(user) ?? 0));
  }

  /** A user who has read a message has read all before it. */
  #noteReaders({ roomId, seq, senderId, readBy }) {
    for (const user of [senderId, ...readBy]) this.#noteRead(roomId, user, seq);
  }

  #count(room) {
    const seq = this.#reads.get(room.roomId)?.get(this.userId) ?? 0;
    room.readSeq = Math.max(room.readSeq, seq);
    room.unreadCnt = Math.max(0, room.seq - room.readSeq);
  }

  // ---- timelines ----

  async #enter(roomId) {
    const { hasMore } = await this.request("enterChat", { roomId, limit: this.#options.pageSize });
    const timeline = this.#timelines.get(roomId);
    // This says whether there are older ones than these, which only matters if nothing older is known.
    if (timeline && timeline.messages.length <= this.#options.pageSize) timeline.hasOlder = hasMore;
    this.#tell("timeline", { roomId });
  }

  /** Puts the newest messages of a room after, or in place of, the known ones. */
  #takeNewest(roomId, messages) {
    const timeline = this.#timelines.get(roomId);
    const newest = timeline?.messages.at(-1);
    const same = newest && messages.find((message) => message.seq === newest.seq);
    const goesOn = same ? same.id === newest.id : newest && messages[0]?.seq === newest.seq + 1;
    if (!goesOn) {
      this.#timelines.set(roomId, { messages: [], hasOlder: messages[0]?.seq > 1, held: [] });
      this.#append(this.#timelines.get(roomId), messages);
    } else {
      this.#renew(timeline, messages);
      this.#append(timeline, messages, false);
    }
    this.#tell("timeline", { roomId });
  }

  /**
   * Adds the messages after the newest known one, and leaves out known ones. Each is reported as new, `live` or caught up
   * on, unless `live` is left out: the messages that a timeline begins with are not new.
   */
  #append(timeline, messages, live) {
    for (const message of messages) {
      const newest = timeline.messages.at(-1)?.seq;
      if (newest !== undefined && message.seq <= newest) continue;
      timeline.messages.push(message);
      this.#noteReaders(message);
      this.#settleBy(message);
      if (live !== undefined) this.#tell("message", { message, live });
    }
  }

  /** Reads the messages after the newest known one of a room; those that arrive meanwhile are put after them. */
  async #catchUp(roomId) {
    const timeline = this.#timelines.get(roomId);
    const room = this.room(roomId);
    if (!timeline || !room) return;
    const newest = timeline.messages.at(-1);
    const known = newest?.seq ?? 0;
    const isNewest = room.seq === known && room.lastMessage?.id === newest?.id;
    if (!isNewest && (room.seq <= known || room.seq - known > CATCH_UP_AT_MOST)) return this.#reload(roomId);
    try {
      for (let more = !isNewest; more; ) {
        const after = timeline.messages.at(-1)?.id ?? "0-0";
        const page = await this.request("getHistory", { roomId, after, limit: PAGE });
        this.#append(timeline, page.messages, false);
        more = page.hasMore && page.messages.length > 0;
      }
    } catch (error) {
      if (error.code !== "HISTORY_RESET") throw error;
      return this.#reload(roomId);
    }
    timeline.filling = false;
    this.#append(timeline, timeline.held.splice(0), true);
    this.#tell("timeline", { roomId });
  }

  /** Replaces known messages by newer copies, which say who has read them by now. */
  #renew(timeline, messages) {
    const anew = new Map(messages.map((message) => [message.id, message]));
    timeline.messages = timeline.messages.map((message) => anew.get(message.id) ?? message);
    messages.forEach((message) => this.#noteReaders(message));
  }

  /** Reads who has read what during a break: from the newest message back to one that all have read. */
  async #catchUpReads(roomId) {
    const timeline = this.#timelines.get(roomId);
    if (!timeline?.readsMissed) return;
    timeline.readsMissed = false;
    const isKnown = () => this.#timelines.get(roomId) === timeline && timeline.messages.length > 0;
    const othersCount = (this.room(roomId)?.memberCount ?? 2) - 1;
    let before;
    for (let pages = 0; pages < READS_PAGES && isKnown(); pages += 1) {
      const oldestRead = timeline.messages.find(({ id }) => id === before) ?? timeline.messages.at(-1);
      if (this.readersOf(oldestRead).length >= othersCount) break;
      const { messages } = await this.request("getHistory", { roomId, before, limit: PAGE });
      if (messages.length === 0 || !isKnown()) break;
      this.#renew(timeline, messages);
      before = messages[0].id;
      if (messages[0].seq <= timeline.messages[0].seq || messages[0].readCount > othersCount) break;
    }
    this.#tell("timeline", { roomId });
  }

  /** Reads a room's timeline again. */
  async #reload(roomId) {
    this.#forget(roomId);
    const timeline = { messages: [], hasOlder: false, held: [], filling: true };
    this.#timelines.set(roomId, timeline);
    try {
      const page = await this.request("getHistory", { roomId, limit: this.#options.pageSize });
      timeline.hasOlder = page.hasMore;
      this.#append(timeline, page.messages);
      this.#append(timeline, timeline.held.splice(0), true);
    } catch (error) {
      this.#timelines.delete(roomId);
      throw error;
    } finally {
      timeline.filling = false;
    }
    this.#tell("timeline", { roomId });
  }

  async #loadOlder(timeline, wanted) {
    const { roomId } = wanted;
    const page = await this.request("getHistory", wanted);
    if (this.#timelines.get(roomId) !== timeline) return false;
    timeline.messages = [...page.messages, ...timeline.messages];
    page.messages.forEach((message) => this.#noteReaders(message));
    timeline.hasOlder = page.hasMore;
    this.#tell("timeline", { roomId });
    return page.hasMore;
  }

  #forget(roomId) {
    this.#timelines.delete(roomId);
    this.#reads.delete(roomId);
    // Earlier requests may be answered with a history that no longer exists.
    for (const request of this.#entering()) request.outdated ||= request.data.roomId === roomId;
    for (const { state, clientMessageId } of this.outgoing(roomId)) {
      if (state === "sent") this.#dropOutgoing(clientMessageId);
    }
    if (this.#viewing === roomId && !this.room(roomId)) this.#viewing = null;
    this.#tell("reset", { roomId });
  }

  // ---- what is on its way out ----

  #begin(outgoing) {
    Object.assign(outgoing, { state: "sending", error: null, inFlight: false });
    const acked = new Promise((resolve, reject) => Object.assign(outgoing, { resolve, reject }));
    this.#keep(outgoing);
    this.#tell("timeline", { roomId: outgoing.roomId });
    this.#flush();
    return acked;
  }

  #flush() {
    if (this.state !== "ready") return;
    for (const outgoing of this.#outbox.values()) {
      if (outgoing.state === "sending" && !outgoing.inFlight) this.#transmit(outgoing);
    }
  }

  /** Sends a message that was kept when its client ended, in the order of writing. */
  #adopt(kept) {
    if (this.#outbox.has(kept.clientMessageId)) return;
    // Nobody could see or send it.
    if (!this.room(kept.roomId)) return this.#options.keeper.drop(this.userId, kept.clientMessageId);
    const { failed, ...message } = kept;
    const all = [...this.#outbox.values(), { ...message, state: failed ? "failed" : "sending", error: failed ?? null }];
    all.sort((one, other) => Date.parse(one.writtenAt) - Date.parse(other.writtenAt));
    this.#outbox = new Map(all.map((outgoing) => [outgoing.clientMessageId, outgoing]));
    this.#tell("timeline", { roomId: kept.roomId });
    this.#flush();
  }

  #keep({ clientMessageId, roomId, content, writtenAt, triedAt, breaks, error }) {
    if (this.userId === null) return;
    const failed = error ? { code: error.code, message: error.message } : undefined;
    const message = { clientMessageId, roomId, content, writtenAt, triedAt, breaks, failed };
    this.#options.keeper?.keep(this.userId, message);
  }

  #dropOutgoing(clientMessageId) {
    this.#outbox.delete(clientMessageId);
    this.#options.keeper?.drop(this.userId, clientMessageId);
  }

  async #transmit(outgoing) {
    const { roomId, content, clientMessageId } = outgoing;
    outgoing.inFlight = true;
    try {
      this.#mayGoOut(outgoing);
      const ack = await this.request("sendMessage", { roomId, content, clientMessageId });
      outgoing.state = "sent";
      outgoing.resolve?.(ack);
      // If the room has a timeline, it shows there until its message comes.
      const newest = this.#timelines.get(roomId)?.messages.at(-1)?.seq ?? Infinity;
      if (ack.seq <= newest) this.#outbox.delete(clientMessageId);
      this.#options.keeper?.drop(this.userId, clientMessageId);
    } catch (error) {
      this.#notSent(outgoing, error);
    } finally {
      outgoing.inFlight = false;
      this.#tell("timeline", { roomId });
    }
  }

  /** Throws if it is clear that the message must not be sent. */
  #mayGoOut(outgoing) {
    const { roomId, content, triedAt } = outgoing;
    if (!this.fits(roomId, content)) throw new ChatError("MESSAGE_TOO_LARGE", "this is too long for one message", roomId);
    if (triedAt && Date.now() - triedAt > KNOWN_FOR_MS) {
      throw new ChatError("TIMEOUT", "it is too long ago to know whether this was sent", roomId);
    }
    if (triedAt) return;
    outgoing.triedAt = Date.now();
    this.#keep(outgoing);
  }

  #notSent(outgoing, error) {
    if (error.suspect) outgoing.breaks = (outgoing.breaks ?? 0) + 1;
    const isTooMuch = error.suspect && outgoing.breaks >= BREAKS_AT_MOST;
    // It is sent again, under the same id, as soon as there is a connection.
    if (error.code === "DISCONNECTED" && !isTooMuch) return this.#keep(outgoing);
    const why = isTooMuch ? new ChatError("DISCONNECTED", "the connection broke each time this was sent") : error;
    Object.assign(outgoing, { state: "failed", error: why });
    this.#keep(outgoing);
    outgoing.reject?.(why);
  }

  /** A message of ours that has come back is stored, whatever became of its ack. */
  #settleBy({ senderId, clientMessageId, id, roomId, seq, timestamp }) {
    const outgoing = this.#outbox.get(clientMessageId);
    if (!outgoing || senderId !== this.userId || outgoing.roomId !== roomId) return;
    this.#dropOutgoing(clientMessageId);
    outgoing.resolve?.({ id, roomId, seq, timestamp, duplicate: false });
  }

  // ---- events ----

  #report(error) {
    if (error.code !== "DISCONNECTED") this.#tell("problem", error);
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** 128 random bits. Unlike `crypto.randomUUID` this works on pages without https too. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Work that nobody asked for may meet a room that is gone: that is no problem, since a list without it is on its way. */
async function unlessGone(work) {
  try {
    await work;
  } catch (error) {
    if (error.code !== "NOT_MEMBER") throw error;
  }
}

const utf8 = new TextEncoder();
const bytesOf = (text) => utf8.encode(text).length;

function connectTo(WebSocket, address, token) {
  try {
    return new WebSocket(address, ["chat", token]);
  } catch {
    // A text that cannot be in the list of subprotocols is not a token.
    throw new ChatError("UNAUTHORIZED", "this is not a token");
  }
}

/** When a token expires, in ms since 1970; null if it does not say. */
function expiryOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(payload));
    return typeof exp === "number" ? exp * 1000 : null;
  } catch {
    return null;
  }
}

function withoutToken(id) {
  return JSON.stringify({ event: "authenticate", data: { token: "…" }, id });
}
