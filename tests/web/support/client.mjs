// The page's client, in Node.
import { Changing, patiently } from "../../clients/node/support/patience.mjs";
import { tokenOf } from "../../clients/node/support/token.mjs";
import { ChatClient } from "../../../web/chat-client.js";

/** A client of a user that is not connected yet. */
export function clientOf(server, user, options = {}) {
  const chat = new ChatClient({
    url: `ws://${server.host}/ws`,
    token: tokenOf(user),
    // As by default, only sooner.
    pausesMs: [50, 500],
    ackTimeoutMs: 3000,
    ...options,
  });
  // What arrived, for the tests to look at.
  chat.heard = [];
  chat.addEventListener("message", ({ detail: { message } }) => chat.heard.push(message.content));
  chat.problems = [];
  chat.addEventListener("problem", ({ detail }) => chat.problems.push(detail));
  return chat;
}

/** Waits for the next wanted event: returns its detail. */
export function told(chat, event, wanted = () => true) {
  let listener;
  const heard = new Promise((resolve) => {
    listener = ({ detail }) => wanted(detail) && resolve(detail);
    chat.addEventListener(event, listener);
  });
  const details = () => `state ${chat.state}, rooms ${JSON.stringify(chat.rooms)}`;
  return patiently(`${event} at ${chat.userId}`, heard, details).finally(() => chat.removeEventListener(event, listener));
}

/** Calls `check` at once and after each event until it returns something true, and returns that. */
export async function until(chat, what, check) {
  const changing = new Changing();
  const changed = () => changing.changed();
  const events = ["rooms", "timeline", "state", "message", "problem"];
  for (const event of events) chat.addEventListener(event, changed);
  const details = () => JSON.stringify({ state: chat.state, rooms: chat.rooms, heard: chat.heard });
  try {
    return await changing.until(`${what} at ${chat.userId}`, check, details);
  } finally {
    for (const event of events) chat.removeEventListener(event, changed);
  }
}
