// The frames of this device as they pass, in both directions.
import { byId, h } from "./dom.js";

/** Older frames are forgotten. */
const KEPT = 200;
/** The number of a frame's first characters that are shown until it is opened. */
const SHORT_CHARS = 160;

export class Inspector {
  #frames = [];
  #panel = byId("inspector");
  #list = byId("frames");

  constructor() {
    byId("inspector-clear").addEventListener("click", () => {
      this.#frames = [];
      this.#list.replaceChildren();
    });
    for (const id of ["inspector-close", "inspect", "inspector-toggle"]) {
      byId(id).addEventListener("click", () => this.toggle());
    }
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.toggle();
    });
  }

  toggle() {
    const open = this.#panel.hidden;
    this.#panel.hidden = !open;
    document.body.classList.toggle("inspecting", open);
    for (const id of ["inspect", "inspector-toggle"]) byId(id).setAttribute("aria-pressed", String(open));
    if (open) {
      this.#list.replaceChildren(...this.#frames.map(entry));
      this.#list.scrollTop = this.#list.scrollHeight;
      byId("inspector-close").focus();
    } else {
      this.#list.replaceChildren();
      byId("inspect").focus();
    }
  }

  note({ direction, text }) {
    const frame = { direction, text, at: new Date() };
    this.#frames.push(frame);
    if (this.#frames.length > KEPT) this.#frames.shift();
    if (this.#panel.hidden) return;
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    const atEnd = scrollHeight - scrollTop - clientHeight < 40;
    this.#list.append(entry(frame));
    if (this.#list.childElementCount > KEPT) this.#list.firstElementChild.remove();
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function entry({ direction, text, at }) {
  const { event, id, data } = JSON.parse(text);
  const out = direction === "out";
  const summary = h(
    "summary",
    {},
    h("span", { class: "way" }, out ? "↑" : "↓"),
    h("span", { class: "hidden-text" }, out ? "out " : "in "),
    h("b", {}, event),
    id === undefined ? null : h("span", { class: "id" }, ` #${id}`),
    h("time", {}, at.toLocaleTimeString(undefined, { hour12: false })),
    h("code", {}, data === undefined ? "" : JSON.stringify(data).slice(0, SHORT_CHARS)),
  );
  const details = h("details", { class: direction }, summary);
  details.classList.toggle("error", event === "error");
  // Long texts are laid out only when they are opened.
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector("pre")) {
      details.append(h("pre", { tabindex: "0" }, JSON.stringify(JSON.parse(text), null, 2)));
    }
  });
  return h("li", {}, details);
}
