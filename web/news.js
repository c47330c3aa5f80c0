// What is new in the open chat: the line above it, and the way there.
import { byId } from "./dom.js";
import { number } from "./format.js";

export class News {
  /** The seq up to which all was read when somebody began to look; null where nothing was unread. */
  #after = null;
  #count = 0;
  /** The seq of the first new message, once it is known. */
  #first = null;
  #wasInView = false;
  #button = byId("to-new");

  /** Somebody looks at the room from now on: what is unread is new to them. */
  begin(room) {
    this.end();
    if (!room?.unreadCnt) return;
    this.#after = room.readSeq;
    this.#count = room.unreadCnt;
  }

  end() {
    [this.#after, this.#count, this.#first, this.#wasInView] = [null, 0, null, false];
  }

  /** The first message of others that is new, if it is among those that are loaded: its seq. */
  first({ messages, hasOlder }, userId) {
    if (this.#after === null || this.#first !== null) return this.#first;
    // What is older than those that are loaded may be new, too.
    if (this.isAbove({ messages, hasOlder })) return null;
    this.#first = messages.find(({ seq, senderId }) => seq > this.#after && senderId !== userId)?.seq ?? null;
    return this.#first;
  }

  /** Whether the first new message is still to be loaded. */
  isAbove({ messages, hasOlder }) {
    return this.#after !== null && hasOlder && messages[0]?.seq > this.#after + 1;
  }

  /** Shows the way there while it is above what is in view, and nobody has been there. */
  showWay(timeline, scroller) {
    const line = scroller.querySelector(".line.new");
    const top = scroller.getBoundingClientRect().top;
    if (line && line.getBoundingClientRect().bottom > top) this.#wasInView = true;
    const isThere = this.isAbove(timeline) || (Boolean(line) && !this.#wasInView);
    this.#button.hidden = !isThere;
    byId("to-new-text").textContent = this.#count === 1 ? "1 new message" : `${number(this.#count)} new messages`;
  }
}
