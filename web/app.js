// The page: who is signed in, which room is open, and which part is updated when something changes.
import { ChatClient } from "./chat-client.js";
import { Conversation } from "./conversation.js";
import { newChatDialog, resetDialog, signOutDialog } from "./dialogs.js";
import { announce, byId, fillAvatar } from "./dom.js";
import { lineOf, titleOf } from "./format.js";
import { Inspector } from "./inspector.js";
import { Drafts, KeptMessages } from "./kept.js";
import { RoomList } from "./room-list.js";
import { SignIn, forget, leaveProblem, remembered, takeProblem, tokenFor } from "./sign-in.js";

/** A server that responds but refuses this many connections in a row does not accept the token. */
const REFUSALS = 2;

function start(who) {
  signIn.close();
  new Session(who).begin();
}

/** One user in this window, until they sign out. */
class Session {
  #chat;
  #list;
  #conversation;
  #refused = 0;
  #countdown;
  #due = false;
  #listening = new AbortController();
  #kept = new KeptMessages();
  #drafts = new Drafts();

  constructor(who) {
    const url = new URL("ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    this.#chat = new ChatClient({ url, token: tokenFor(who), keeper: this.#kept });
    this.#list = new RoomList((roomId) => this.#goTo(roomId));
    this.#conversation = new Conversation(this.#chat, { drafts: this.#drafts, leave: () => this.#goTo(null) });
  }

  begin() {
    const chat = this.#chat;
    const changed = () => this.#showSoon();
    chat.addEventListener("state", ({ detail }) => this.#stateChanged(detail));
    chat.addEventListener("rooms", changed);
    chat.addEventListener("timeline", changed);
    chat.addEventListener("reset", changed);
    chat.addEventListener("message", ({ detail }) => this.#heard(detail));
    chat.addEventListener("problem", ({ detail }) => announce(detail.message));
    chat.addEventListener("frame", ({ detail }) => inspector.note(detail));

    this.#on(window, "hashchange", () => this.#follow(true));
    this.#on(window, "online", () => chat.connectNow());
    this.#on(document, "visibilitychange", () => this.#lookedUpOrAway());
    this.#on(byId("try-now"), "click", () => chat.connectNow());
    const askBeforeLoss = signOutDialog(() => this.#leave());
    this.#on(byId("sign-out"), "click", () => (chat.unsent > 0 ? askBeforeLoss(chat.unsent) : this.#leave()));
    this.#on(byId("second-device"), "click", () => openWindow(""));
    // The new window does not get what this window keeps: it asks who the user is.
    this.#on(byId("another-user"), "click", () => openWindow("noopener"));
    const newChat = newChatDialog((people, name) => this.#openRoom(people, name));
    for (const id of ["new-chat", "first-chat"]) this.#on(byId(id), "click", newChat);
    byId("reset").hidden = !offers.reset;
    this.#on(byId("reset"), "click", resetDialog(() => this.#reset()));
    this.#on(byId("menu"), "click", () => byId("menu").hidePopover());
    chat.connect();
  }

  #on(target, event, listener) {
    target.addEventListener(event, listener, { signal: this.#listening.signal });
  }

  // ---- rooms ----

  async #openRoom(people, name) {
    const { roomId } = await this.#chat.openRoom(people, { name });
    this.#goTo(roomId);
  }

  /** The open room is in the address, so that reloading and going back do what people expect. */
  #goTo(roomId) {
    const hash = roomId === null ? "" : `#${roomId}`;
    if (location.hash !== hash) location.hash = hash;
    else if (this.#wide) this.#conversation.focus();
  }

  #follow(byHand) {
    const roomId = location.hash.slice(1);
    const known = this.#chat.room(roomId);
    if (!known && this.#chat.state !== "ready") return;
    // A copied address, or one from before a reset, may name a room that does not exist.
    if (!known && roomId) history.replaceState(null, "", location.pathname);
    if ((known?.roomId ?? null) === this.#conversation.roomId) return;
    this.#conversation.open(known ? roomId : null);
    this.#view();
    this.#show();
    if (known && byHand && this.#wide) this.#conversation.focus();
    if (!known && byHand) document.querySelector("#rooms button, #new-chat")?.focus();
  }

  /** On a phone, focusing the field would open the keyboard over the messages. */
  get #wide() {
    return matchMedia("(min-width: 720px)").matches;
  }

  /** This device views the open room as long as somebody can see it. */
  #view() {
    const { roomId } = this.#conversation;
    const seen = roomId !== null && document.visibilityState === "visible";
    const viewing = seen ? this.#chat.enter(roomId) : this.#chat.leave();
    // Without a connection the client does this once it has one; other errors are announced.
    viewing.catch((error) => error.code !== "DISCONNECTED" && announce(error.message));
  }

  #lookedUpOrAway() {
    if (document.visibilityState === "visible") {
      this.#conversation.lookedBack();
      this.#chat.connectNow();
    } else this.#conversation.lookedAway();
    this.#view();
  }

  async #reset() {
    const { success } = await this.#chat.request("resetRedisForDevelopment");
    if (!success) throw new Error("This server does not allow it.");
    announce("All chats are deleted.");
  }

  #heard({ message, live }) {
    const { roomId, senderId } = message;
    if (roomId === this.#conversation.roomId) this.#conversation.noteMessage(message);
    if (!live || senderId === this.#chat.userId) return;
    const room = this.#chat.room(roomId);
    const where = roomId === this.#conversation.roomId || !room?.isGroupChat ? "" : ` in ${titleOf(room)}`;
    announce(`${senderId}${where}: ${lineOf(message, 300)}`);
  }

  // ---- showing ----

  /** Runs once for everything that changed in one turn of the event loop. */
  #showSoon() {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      this.#show();
    });
  }

  #show() {
    const chat = this.#chat;
    if (this.#listening.signal.aborted) return;
    if (chat.state === "ready") this.#follow(false);
    const { roomId } = this.#conversation;
    this.#list.show(chat, roomId);
    this.#conversation.show();
    byId("chat").classList.toggle("room-open", Boolean(roomId && chat.room(roomId)));
    const { unread } = chat;
    const who = chat.userId ?? "Chat";
    document.title = unread > 0 ? `(${unread}) ${who} · Chat` : `${who} · Chat`;
  }

  #stateChanged({ state, error, opened, retryInMs }) {
    clearInterval(this.#countdown);
    const ready = state === "ready";
    byId("connection").textContent = ready ? "Connected" : state === "waiting" ? "Not connected" : "Connecting…";
    byId("chat").dataset.state = state;
    if (this.#chat.userId !== null) {
      byId("my-name").textContent = this.#chat.userId;
      fillAvatar(byId("my-avatar"), this.#chat.userId);
    }
    if (ready) {
      this.#refused = 0;
      byId("banner").hidden = true;
    }
    if (state === "waiting") {
      this.#showPause(retryInMs);
      this.#seeWhy(error, opened);
    }
    if (state === "closed" && error) this.#signOut(error.message);
    this.#showSoon();
  }

  #showPause(retryInMs) {
    const until = Date.now() + retryInMs;
    const tell = () => {
      const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
      byId("banner-text").textContent =
        `No connection. Trying again in ${seconds} s. What you write is sent as soon as there is one.`;
    };
    tell();
    byId("banner").hidden = false;
    this.#countdown = setInterval(tell, 1000);
  }

  /** Browsers do not say why a WebSocket was refused. If the server responds otherwise, the token is the reason. */
  async #seeWhy(error, opened) {
    if (opened || error) return;
    const there = await fetch("readyz").then((response) => response.ok, () => false);
    this.#refused = there ? this.#refused + 1 : 0;
    if (this.#refused < REFUSALS || this.#chat.state !== "waiting") return;
    this.#signOut("The server does not let you in: the token may have expired, or be signed with another key.");
  }

  /** The user signs out: nothing that they wrote stays in this browser. */
  #leave() {
    this.#kept.forget(this.#chat.userId);
    this.#drafts.forget(this.#chat.userId);
    this.#signOut();
  }

  #signOut(problem = "") {
    if (this.#listening.signal.aborted) return;
    this.#listening.abort();
    clearInterval(this.#countdown);
    this.#chat.close();
    forget();
    // A fresh page, so that nothing of this user stays in it.
    leaveProblem(problem);
    location.replace(location.pathname);
  }
}

function openWindow(features) {
  const size = "popup,width=1000,height=720";
  window.open(location.pathname, "_blank", features ? `${features},${size}` : size);
}

const offers = await (await fetch("page.json")).json();
const inspector = new Inspector();
const signIn = new SignIn(offers.signInByName, start);
const identity = remembered();
if (identity) start(identity);
else signIn.open(takeProblem());

byId("try-it").textContent = offers.signInByName
  ? "To see both sides, open this page as another user from the menu ⋮"
  : "";
