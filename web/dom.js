// Small helpers for the document. Text always goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element: `h("p", {class: "quiet", onclick: f}, "text", child)`. Properties that are false or missing are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line drawing of 24 by 24. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/**
 * Makes the children of `parent` those of `items`, each `{key, version, make}`: a child is rebuilt only if its version
 * changed, and otherwise stays in place, so that focus and scrolling survive.
 */
export function reconcile(parent, items) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const { key, version, make } of items) {
    let child = known.get(key);
    known.delete(key);
    if (child?.dataset.version !== version) {
      const fresh = make();
      fresh.dataset.key = key;
      fresh.dataset.version = version;
      if (child) {
        if (child === place) place = fresh;
        const focused = child.contains(document.activeElement) && child !== document.activeElement;
        child.replaceWith(fresh);
        if (focused) fresh.querySelector("button, a, [tabindex]")?.focus();
      }
      child = fresh;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

/** Announces a text to users of a screen reader. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Colours and letters that stand for a user or a room. */
export function fillAvatar(element, name, isGroup = false) {
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  element.dataset.hue = hash % 8;
  element.classList.toggle("group", isGroup);
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  element.textContent = letters.map((word) => [...word][0]).join("").toUpperCase() || "?";
  return element;
}
