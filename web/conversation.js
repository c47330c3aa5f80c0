// The open chat: its messages, reading older ones, writing.
import { NAMED_READERS } from "./chat-client.js";
import { byId, fillAvatar, reconcile } from "./dom.js";
import { names, titleOf } from "./format.js";
import { rowsOf } from "./messages.js";

/** Nearer to its end than this the conversation follows new messages. */
const NEAR_PX = 80;

export class Conversation {
  #chat;
  #roomId = null;
  /** The seq under which all was read when the room was opened. */
  #readBefore = null;
  #firstUnread = null;
  #whole = new Set();
  #drafts = new Map();
  #missed = 0;
  #scroller = byId("scroller");
  #text = byId("composer-text");

  constructor(chat, { leave }) {
    this.#chat = chat;
    byId("back").addEventListener("click", leave);
    byId("older").addEventListener("click", () => this.#loadOlder());
    byId("to-newest").addEventListener("click", () => this.#toEnd());
    this.#scroller.addEventListener("scroll", () => this.#scrolled());
    // Older messages are read before they come into view.
    const watched = { root: this.#scroller, rootMargin: "600px 0px 0px" };
    new IntersectionObserver(([entry]) => entry.isIntersecting && this.#loadOlder(), watched).observe(byId("older"));
    // What makes the conversation lower (the keyboard of a phone, a long draft) does not hide its end.
    new ResizeObserver(() => this.#follows && this.#toEnd()).observe(this.#scroller);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#text.addEventListener("keydown", (event) => this.#key(event));
    this.#text.addEventListener("input", () => this.#fitText());
  }

  get roomId() {
    return this.#roomId;
  }

  /** Opens a room, or none with null. */
  open(roomId) {
    if (this.#roomId === roomId) return;
    if (this.#roomId !== null) this.#drafts.set(this.#roomId, this.#text.value);
    this.#roomId = roomId;
    this.lookedBack();
    this.#firstUnread = null;
    this.#follows = true;
    this.#missed = 0;
    this.#text.value = this.#drafts.get(roomId) ?? "";
    byId("messages").replaceChildren();
    this.show();
    this.#fitText();
  }

  focus() {
    this.#text.focus();
  }

  /** From now on nobody looks: what comes is new to them. */
  lookedAway() {
    this.#firstUnread = null;
  }

  /** What is unread now gets a line above it. */
  lookedBack() {
    const room = this.#chat.room(this.#roomId);
    this.#readBefore = room?.unreadCnt > 0 ? room.readSeq : null;
  }

  show() {
    const room = this.#roomId === null ? undefined : this.#chat.room(this.#roomId);
    for (const id of ["room-header", "scroller", "composer"]) byId(id).hidden = !room;
    byId("nothing-open").hidden = Boolean(room);
    byId("to-newest").hidden = true;
    if (!room) return;
    this.#showHeader(room);
    const { messages, hasOlder } = this.#chat.timeline(room.roomId);
    this.#firstUnread ??= this.#findFirstUnread(messages);
    const rows = rowsOf({
      chat: this.#chat,
      room,
      firstUnread: this.#firstUnread,
      whole: this.#whole,
      actions: this.#actions,
    });
    const { scrollHeight, scrollTop } = this.#scroller;
    const first = byId("messages").querySelector(".message")?.dataset.key;
    byId("older").hidden = !hasOlder;
    reconcile(byId("messages"), rows);
    if (this.#follows) return this.#toEnd();
    // Older messages above: what was in view stays in view.
    const grewAbove = first !== byId("messages").querySelector(".message")?.dataset.key;
    if (grewAbove) this.#scroller.scrollTop = scrollTop + this.#scroller.scrollHeight - scrollHeight;
    this.#showWayDown();
  }

  /** A message came to the open room. */
  noteMessage(message) {
    if (!this.#follows && message.senderId !== this.#chat.userId) this.#missed += 1;
  }

  #follows = true;

  #actions = {
    showWhole: (key) => {
      this.#whole.add(key);
      this.show();
    },
    retry: (clientMessageId) => this.#chat.retry(clientMessageId).catch(() => {}),
    discard: (clientMessageId) => this.#chat.discard(clientMessageId),
  };

  #showHeader(room) {
    const title = titleOf(room);
    byId("room-name").textContent = title;
    fillAvatar(byId("room-avatar"), title, room.isGroupChat);
    let members = "Private chat";
    if (room.isGroupChat) {
      const named = room.memberCount <= NAMED_READERS;
      members = named ? `You, ${names(room.members, 4)}` : `${room.memberCount} members`;
    }
    byId("room-members").textContent = members;
  }

  /** The first message of others that was unread when the room was opened. */
  #findFirstUnread(messages) {
    if (this.#readBefore === null || messages.length === 0) return null;
    const found = messages.find(({ seq, senderId }) => seq > this.#readBefore && senderId !== this.#chat.userId);
    // Only what was there at the opening is new: what comes later is seen as it comes.
    this.#readBefore = null;
    return found?.seq ?? null;
  }

  async #loadOlder() {
    const roomId = this.#roomId;
    if (roomId === null || !this.#chat.timeline(roomId).hasOlder) return;
    this.#scroller.setAttribute("aria-busy", "true");
    try {
      await this.#chat.loadOlder(roomId);
    } catch {
      // The button stays, and after a break of the connection the way up is tried again.
    } finally {
      this.#scroller.removeAttribute("aria-busy");
    }
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    this.#showWayDown();
  }

  #showWayDown() {
    if (this.#follows) this.#missed = 0;
    byId("to-newest").hidden = this.#follows;
    byId("to-newest-text").textContent = this.#missed > 0 ? `${this.#missed} new` : "Newest";
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#follows = true;
    this.#showWayDown();
  }

  #key(event) {
    // Enter also ends the composition of a character, which sends nothing.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const content = this.#text.value;
    if (content.trim() === "" || this.#roomId === null) return;
    this.#text.value = "";
    this.#fitText();
    this.#follows = true;
    this.#firstUnread = null;
    // Why it failed stands at the message.
    this.#chat.send(this.#roomId, content).catch(() => {});
    this.#text.focus();
  }

  /** As high as its text, within what the style allows. */
  #fitText() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}
