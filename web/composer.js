// Writing: the text of the open chat, its draft, and whether it fits into one message.
import { announce, byId } from "./dom.js";
import { number } from "./format.js";

export class Composer {
  #chat;
  #drafts;
  #send;
  #roomId = null;
  /** Drafts of this tab; a draft that is too long to be kept is only here. */
  #texts = new Map();
  #text = byId("composer-text");
  #problem = byId("composer-problem");

  /** `send(content)` is called with a text that fits. */
  constructor(chat, drafts, send) {
    this.#chat = chat;
    this.#drafts = drafts;
    this.#send = send;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => {
      // Enter also ends the composition of a character, which sends nothing.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => this.#changed());
    drafts.onChange((...change) => this.#changedElsewhere(...change));
  }

  open(roomId) {
    this.#roomId = roomId;
    this.#show(this.#texts.get(roomId) ?? (roomId === null ? "" : this.#drafts.of(this.#chat.userId, roomId)));
  }

  focus() {
    this.#text.focus();
  }

  #show(text) {
    this.#text.value = text;
    this.#fit();
    this.#judge();
  }

  #changed() {
    const text = this.#text.value;
    this.#texts.set(this.#roomId, text);
    this.#drafts.set(this.#chat.userId, this.#roomId, text);
    this.#fit();
    if (this.#judge()) announce(this.#problem.textContent);
  }

  /** Takes over what another tab wrote or sent, unless something else was written here. */
  #changedElsewhere(userId, roomId, text, before) {
    if (userId !== this.#chat.userId || (this.#texts.get(roomId) ?? before) !== before) return;
    if (roomId === this.#roomId && this.#text.value !== before) return;
    this.#texts.delete(roomId);
    if (roomId === this.#roomId) this.#show(text);
  }

  #submit() {
    const content = this.#text.value;
    if (content.trim() === "" || this.#roomId === null) return;
    this.#judge();
    if (!this.#problem.hidden) return announce(this.#problem.textContent);
    this.#text.value = "";
    this.#changed();
    this.#send(content);
    this.#text.focus();
  }

  /** Says whether the text is too long; true if it has just become so. */
  #judge() {
    const fits = (text) => this.#roomId === null || this.#chat.fits(this.#roomId, text);
    const before = this.#problem.hidden;
    const isTooLong = !fits(this.#text.value);
    this.#problem.hidden = !isTooLong;
    this.#text.setAttribute("aria-invalid", String(isTooLong));
    if (!isTooLong) return false;
    const over = charactersOver(this.#text.value, this.#chat.limits.contentBytes, fits);
    const characters = over === 1 ? "1 character" : `${number(over)} characters`;
    this.#problem.textContent = `Too long for one message, by ${characters}: shorten it, or send it in parts.`;
    return before;
  }

  /** Makes the field as high as its text, within the limits of the style. */
  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}

/** How many characters must be cut from the end of a text so that it fits; more than `bytes` of them never do. */
function charactersOver(text, bytes, fits) {
  const characters = [...text.slice(0, bytes)];
  let [least, most] = [0, characters.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (fits(characters.slice(0, middle).join(""))) least = middle;
    else most = middle - 1;
  }
  return lengthOf(text) - least;
}

function lengthOf(text) {
  let characters = 0;
  for (const _ of text) characters += 1;
  return characters;
}
