// What is new in the open chat: the line above it, and the way there.
import { byId } from "./dom.js";
import { number } from "./format.js";

export class News {
  /** The seq up to which everything was read when the user opened the room; null if nothing was unread. */
  #after = null;
  #count = 0;
  /** The seq of the first new message, once it is known. */
  #first = null;
  #wasInView = false;
  #button = byId("to-new");

  /** The user looks at the room from now on: unread messages are new to them. */
  begin(room) {
    this.end();
    if (!room?.unreadCnt) return;
    this.#after = room.readSeq;
    this.#count = room.unreadCnt;
  }

  end() {
    [this.#after, this.#count, this.#first, this.#wasInView] = [null, 0, null, false];
  }

  /** The seq of the first new message of others, if it is loaded. */
  first({ messages, hasOlder }, userId) {
    if (this.#after === null || this.#first !== null) return this.#first;
    // Messages that are older than the loaded ones may be new, too.
    if (this.isAbove({ messages, hasOlder })) return null;
    this.#first = messages.find(({ seq, senderId }) => seq > this.#after && senderId !== userId)?.seq ?? null;
    return this.#first;
  }

  /** Whether the first new message has not been loaded yet. */
  isAbove({ messages, hasOlder }) {
    return this.#after !== null && hasOlder && messages[0]?.seq > this.#after + 1;
  }

  /** Shows the button while the first new message is above the view and the user has not been there. */
  showWay(timeline, scroller) {
    const line = scroller.querySelector(".line.new");
    const top = scroller.getBoundingClientRect().top;
    if (line && line.getBoundingClientRect().bottom > top) this.#wasInView = true;
    const isThere = this.isAbove(timeline) || (Boolean(line) && !this.#wasInView);
    this.#button.hidden = !isThere;
    byId("to-new-text").textContent = this.#count === 1 ? "1 new message" : `${number(this.#count)} new messages`;
  }
}
