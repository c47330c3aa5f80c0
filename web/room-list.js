// The list of chats: last message, time, unread count.
import { byId, fillAvatar, h, reconcile } from "./dom.js";
import { lineOf, shortTimeOf, titleOf } from "./format.js";

const UNREAD_SHOWN = 99;

export class RoomList {
  #list = byId("rooms");

  /** `choose(roomId)` is called when the user picks a chat. */
  constructor(choose) {
    this.#list.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) choose(button.dataset.room);
    });
    this.#list.addEventListener("keydown", (event) => this.#move(event));
  }

  show(chat, openRoomId) {
    const known = chat.userId !== null;
    byId("no-rooms").hidden = !known || chat.rooms.length > 0;
    reconcile(this.#list, chat.rooms.map((room) => item(room, room.roomId === openRoomId, chat.userId)));
  }

  /** The arrow keys move from chat to chat. */
  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...this.#list.querySelectorAll("button")];
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
  }
}

function item(room, isOpen, userId) {
  const { roomId, unreadCnt, lastMessage } = room;
  const title = titleOf(room);
  const preview = previewOf(room, userId);
  const when = lastMessage ? shortTimeOf(lastMessage.timestamp) : "";
  const make = () => {
    const badge = h("span", { class: "badge" }, unreadCnt > UNREAD_SHOWN ? `${UNREAD_SHOWN}+` : `${unreadCnt}`);
    badge.append(h("span", { class: "hidden-text" }, " unread"));
    const text = h(
      "span",
      { class: "text" },
      h("span", { class: "first" }, h("bdi", { class: "title" }, title), h("time", {}, when)),
      h("span", { class: "second" }, h("span", { class: "preview", dir: "auto" }, preview), unreadCnt > 0 ? badge : null),
    );
    const avatar = fillAvatar(h("span", { class: "avatar", "aria-hidden": "true" }), title, room.isGroupChat);
    const button = h("button", { type: "button", "data-room": roomId, "aria-current": isOpen && "true" }, avatar, text);
    button.classList.toggle("unread", unreadCnt > 0);
    return h("li", {}, button);
  };
  return { key: roomId, version: [isOpen, unreadCnt, title, when, preview].join("\n"), make };
}

function previewOf({ lastMessage, isGroupChat, memberCount }, userId) {
  if (!lastMessage) return isGroupChat ? `Group of ${memberCount}` : "No messages yet";
  const { senderId } = lastMessage;
  const line = lineOf(lastMessage, 200);
  if (senderId === userId) return `You: ${line}`;
  return isGroupChat ? `${senderId}: ${line}` : line;
}
