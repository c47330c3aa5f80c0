// The user of this window: a name, for which a development server gives tokens, or a token from elsewhere.
//
// It is kept for this window only (sessionStorage): another window may be another user. A window that this one opens
// begins with a copy, which makes it a second device of the same user.
import { ChatError } from "./chat-client.js";
import { byId } from "./dom.js";

const KEY = "chat-server.identity";
const PROBLEM = "chat-server.problem";

/** The user who signed in here before: `{name}` or `{token}`, or null. */
export const remembered = () => JSON.parse(sessionStorage.getItem(KEY) ?? "null");
export const forget = () => sessionStorage.removeItem(KEY);
const remember = (identity) => sessionStorage.setItem(KEY, JSON.stringify(identity));

/** Why the user was signed out, kept for the page that comes next. */
export const leaveProblem = (text) => sessionStorage.setItem(PROBLEM, text);
export function takeProblem() {
  const text = sessionStorage.getItem(PROBLEM) ?? "";
  sessionStorage.removeItem(PROBLEM);
  return text;
}

/** The token of this identity: a text, or a function that asks the server for a fresh one. */
export const tokenFor = ({ name, token }) => token ?? (() => askForToken(name));

async function askForToken(id) {
  const response = await fetch("dev/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id }),
  });
  const { token, message } = await response.json();
  if (response.ok) return token;
  // Asking again would not help, unless the server is at fault.
  throw new ChatError(response.status < 500 ? "UNAUTHORIZED" : "UNAVAILABLE", message);
}

/** The form. `signIn(identity)` is called with the user's identity. */
export class SignIn {
  #byName;
  #offered;

  constructor(offersNames, signIn) {
    this.#offered = offersNames;
    this.#byName = offersNames;
    byId("other-way").hidden = !offersNames;
    byId("other-way").addEventListener("click", () => {
      this.#byName = !this.#byName;
      this.#show();
    });
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const identity = this.#read();
      if (!identity) return;
      remember(identity);
      signIn(identity);
    });
  }

  open(problem = "") {
    byId("sign-in").hidden = false;
    byId("chat").hidden = true;
    this.#show();
    byId("sign-in-problem").textContent = problem;
  }

  close() {
    byId("sign-in").hidden = true;
    byId("chat").hidden = false;
    byId("token").value = "";
  }

  #show() {
    const byName = this.#byName;
    byId("by-name").hidden = !byName;
    byId("by-token").hidden = byName;
    byId("other-way").textContent = byName ? "Use a token instead" : "Use a name instead";
    byId("sign-in-hint").textContent = byName
      ? "This server runs in development: any name will do."
      : `Paste a JSON Web Token that this server accepts${this.#offered ? ": make token ID=alice prints one." : "."}`;
    byId("sign-in-problem").textContent = "";
    byId(byName ? "name" : "token").focus();
  }

  #read() {
    const name = byId("name").value.trim();
    const token = byId("token").value.trim();
    const missing = this.#byName ? !name && "Give a name." : !token && "Paste a token.";
    byId("sign-in-problem").textContent = missing || "";
    if (missing) return null;
    return this.#byName ? { name } : { token };
  }
}
