// The open chat: its messages, reading older ones, writing.
import { Composer } from "./composer.js";
import { membersDialog } from "./dialogs.js";
import { byId, fillAvatar, reconcile } from "./dom.js";
import { membersOf, names, number, titleOf } from "./format.js";
import { rowsOf } from "./messages.js";
import { News } from "./news.js";

/** Nearer to its end than this the conversation follows new messages. */
const NEAR_PX = 80;
/** Pages of this many messages are read on the way to the first new one, and this many pages for one click. */
const PAGE = 100;
const PAGES_AT_ONCE = 20;

export class Conversation {
  #chat;
  #roomId = null;
  #news = new News();
  #composer;
  #showMembers = membersDialog();
  #whole = new Set();
  #missed = 0;
  #scroller = byId("scroller");

  constructor(chat, { drafts, leave }) {
    this.#chat = chat;
    this.#composer = new Composer(chat, drafts, (content) => this.#send(content));
    byId("back").addEventListener("click", leave);
    byId("older").addEventListener("click", () => this.#loadOlder());
    byId("to-newest").addEventListener("click", () => this.#toEnd());
    byId("to-new").addEventListener("click", () => this.#toFirstNew());
    byId("room-members").addEventListener("click", () => this.#showMembers(this.#room, this.#chat.userId));
    this.#scroller.addEventListener("scroll", () => this.#scrolled());
    // Older messages are read before they come into view.
    const watched = { root: this.#scroller, rootMargin: "600px 0px 0px" };
    new IntersectionObserver(([entry]) => entry.isIntersecting && this.#loadOlder(), watched).observe(byId("older"));
    // If the conversation gets lower (the keyboard of a phone, a long draft), its end stays in view.
    new ResizeObserver(() => this.#follows && this.#toEnd()).observe(this.#scroller);
  }

  get roomId() {
    return this.#roomId;
  }

  /** Opens a room, or none with null. */
  open(roomId) {
    if (this.#roomId === roomId) return;
    this.#roomId = roomId;
    this.lookedBack();
    this.#follows = true;
    this.#missed = 0;
    byId("messages").replaceChildren();
    this.show();
    // The field measures its text, so it has to be visible.
    this.#composer.open(roomId);
  }

  focus() {
    this.#composer.focus();
  }

  /** From now on nobody is looking: messages that arrive are new to the user. */
  lookedAway() {
    this.#news.end();
  }

  /** Puts a line above what is unread now. */
  lookedBack() {
    this.#news.begin(this.#room);
  }

  get #room() {
    return this.#roomId === null ? undefined : this.#chat.room(this.#roomId);
  }

  show() {
    const room = this.#room;
    for (const id of ["room-header", "scroller", "composer"]) byId(id).hidden = !room;
    byId("nothing-open").hidden = Boolean(room);
    if (!room) {
      for (const id of ["to-newest", "to-new"]) byId(id).hidden = true;
      return;
    }
    this.#showHeader(room);
    const timeline = this.#chat.timeline(room.roomId);
    const rows = rowsOf({
      chat: this.#chat,
      room,
      firstUnread: this.#news.first(timeline, this.#chat.userId),
      whole: this.#whole,
      actions: this.#actions,
    });
    const { scrollHeight, scrollTop } = this.#scroller;
    const first = byId("messages").querySelector(".message")?.dataset.key;
    byId("older").hidden = !timeline.hasOlder;
    reconcile(byId("messages"), rows);
    if (this.#follows) return this.#toEnd();
    // Older messages were added above: what was in view stays in view.
    const grewAbove = first !== byId("messages").querySelector(".message")?.dataset.key;
    if (grewAbove) this.#scroller.scrollTop = scrollTop + this.#scroller.scrollHeight - scrollHeight;
    this.#showWays();
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
    byId("room-kind").hidden = room.isGroupChat;
    byId("room-members").hidden = !room.isGroupChat;
    const all = membersOf(room, this.#chat.userId);
    byId("room-members").textContent = all ? names(["You", ...all.slice(1)], 5) : `${number(room.memberCount)} members`;
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
    this.#showWays();
  }

  /** Shows the buttons to the newest message, and to the first new one. */
  #showWays() {
    if (!this.#room) return;
    this.#news.showWay(this.#chat.timeline(this.#roomId), this.#scroller);
    if (this.#follows) this.#missed = 0;
    byId("to-newest").hidden = this.#follows;
    byId("to-newest-text").textContent = this.#missed > 0 ? `${this.#missed} new` : "Newest";
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#follows = true;
    this.#showWays();
  }

  async #toFirstNew() {
    const roomId = this.#roomId;
    this.#follows = false;
    this.#scroller.setAttribute("aria-busy", "true");
    try {
      const isAbove = () => roomId === this.#roomId && this.#news.isAbove(this.#chat.timeline(roomId));
      for (let pages = 0; pages < PAGES_AT_ONCE && isAbove(); pages += 1) await this.#chat.loadOlder(roomId, PAGE);
    } catch {
      // The button stays, for after the break.
    } finally {
      this.#scroller.removeAttribute("aria-busy");
    }
    if (roomId !== this.#roomId) return;
    this.#follows = false;
    this.show();
    const target = this.#scroller.querySelector(".line.new") ?? byId("messages").firstElementChild;
    target?.scrollIntoView({ block: "start" });
  }

  #send(content) {
    this.#follows = true;
    this.#news.end();
    // The message shows why it failed.
    this.#chat.send(this.#roomId, content).catch(() => {});
  }
}
