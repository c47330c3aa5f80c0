// The two dialogs: a new chat, and deleting all of them.
import { byId } from "./dom.js";

/** `start(participants, name)` makes the room; what it throws is shown. */
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

/** `reset()` deletes all chats; what it throws is shown. */
export const resetDialog = (reset) => dialog("reset", { opened() {}, confirmed: reset });

/** Opens a dialog that stays open until what it is for is done or given up. */
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
