// The dialogs: a new chat, who is in a group, signing out with unsent messages, deleting all chats.
import { byId, fillAvatar, h } from "./dom.js";
import { membersOf, number, titleOf } from "./format.js";

/** `start(participants, name)` creates the room; the dialog shows what it throws. */
export function newChatDialog(start) {
  const people = byId("people");
  const listed = () => people.value.split(",").map((name) => name.trim()).filter(Boolean);
  const group = byId("group-part");
  const fit = () => (group.hidden = listed().length < 2);
  people.addEventListener("input", fit);
  return dialog("new-chat", {
    opened() {
      people.value = "";
      byId("group-name").value = "";
      fit();
    },
    async confirmed() {
      const participants = listed();
      if (participants.length === 0) throw new Error("Give at least one name.");
      await start(participants, group.hidden ? "" : byId("group-name").value.trim());
    },
  });
}

/** Shows who is in a group: to be called with the room and one's own id. */
export function membersDialog() {
  const element = byId("members-dialog");
  return (room, userId) => {
    const all = membersOf(room, userId);
    byId("members-title").textContent = titleOf(room);
    byId("members-count").textContent = `${number(room.memberCount)} members`;
    byId("members-unknown").hidden = all !== null;
    byId("members-list").replaceChildren(...(all ?? []).map((user) => memberRow(user, user === userId)));
    element.showModal();
  };
}

function memberRow(user, isOwn) {
  const avatar = fillAvatar(h("span", { class: "avatar small", "aria-hidden": "true" }), user);
  return h("li", {}, avatar, h("bdi", {}, user), isOwn ? h("span", { class: "quiet" }, "You") : null);
}

/** Asks before unsent messages are lost; `signOut()` discards them. To be called with their number. */
export function signOutDialog(signOut) {
  const ask = dialog("sign-out", { opened() {}, confirmed: async () => signOut() });
  return (count) => {
    const messages = count === 1 ? "1 message is" : `${number(count)} messages are`;
    byId("sign-out-text").textContent = `${messages} not sent yet. If you sign out now, they are deleted.`;
    ask();
  };
}

/** `reset()` deletes all chats; the dialog shows what it throws. */
export const resetDialog = (reset) => dialog("reset", { opened() {}, confirmed: reset });

/** Opens a dialog that stays open until its task is done or cancelled. */
function dialog(id, { opened, confirmed }) {
  const element = byId(`${id}-dialog`);
  const problem = byId(`${id}-problem`);
  const form = byId(`${id}-form`);
  const submit = form.querySelector("[type=submit]");
  form.querySelector(".cancel").addEventListener("click", () => element.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (submit.disabled) return;
    submit.disabled = true;
    problem.textContent = "";
    try {
      await confirmed();
      element.close();
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      submit.disabled = false;
    }
  });
  return () => {
    problem.textContent = "";
    opened();
    element.showModal();
  };
}
