// What a browser sees: which pages of other origins may access the server.
import assert from "node:assert/strict";

import { POLLING, WEBSOCKET, http, upgrade } from "../support/raw.mjs";
import { overEachTransport, story } from "../support/story.mjs";
import { tokenOf } from "../support/token.mjs";

const ALLOWED = "https://a.example";
const FOREIGN = "https://b.example";
const token = tokenOf("alice");

const production = (stage) => stage.server({ APP_ENV: "prod", CORS_ORIGINS: ALLOWED });
const get = (server, Origin) => http(server, "GET", POLLING, { headers: Origin ? { Origin } : {} });
const preflight = (server, Origin) =>
  http(server, "OPTIONS", POLLING, {
    headers: {
      Origin,
      "Access-Control-Request-Method": "POST",
      "Access-Control-Request-Headers": "authorization,content-type,token",
    },
  });

/** Whether a page of `origin` may read the answer. */
const mayRead = (answer, origin) => ["*", origin].includes(answer.headers["access-control-allow-origin"]);

/** Checks that the preflight lets a page of `origin` send what clients send. */
function maySend(answer, origin) {
  assert.ok(answer.status >= 200 && answer.status < 300, `status ${answer.status} ${answer.body}`);
  assert.ok(mayRead(answer, origin), JSON.stringify(answer.headers));
  const methods = answer.headers["access-control-allow-methods"] ?? "";
  assert.match(methods, /\bPOST\b/);
  const headers = (answer.headers["access-control-allow-headers"] ?? "").toLowerCase();
  for (const name of ["token", "authorization", "content-type"]) assert.ok(headers.includes(name), headers);
}

/** Checks that a page of `origin` can connect over each protocol, and may read the answers. */
async function welcome(server, origin) {
  const answer = await get(server, origin);
  assert.equal(answer.status, 200);
  assert.ok(mayRead(answer, origin), JSON.stringify(answer.headers));
  maySend(await preflight(server, origin), origin);
  assert.equal((await upgrade(server, "/ws", { Origin: origin, token })).status, 101);
  assert.equal((await upgrade(server, WEBSOCKET, { Origin: origin, token })).status, 101);
}

story("in development pages of this machine may talk to the server", async (stage) => {
  const server = await stage.server();
  for (const origin of ["http://localhost:5173", "http://127.0.0.1:8080"]) await welcome(server, origin);

  // A page from the internet in the same browser may not
  const answer = await get(server, FOREIGN);
  assert.equal(answer.status, 403);
  assert.ok(!mayRead(answer, FOREIGN));
  assert.equal((await upgrade(server, "/ws", { Origin: FOREIGN, token })).status, 403);
  assert.equal((await upgrade(server, WEBSOCKET, { Origin: FOREIGN, token })).status, 403);
});

story("an open development server takes every page", async (stage) => {
  const server = await stage.server({ DEV_OPEN: "1" });
  for (const origin of [ALLOWED, FOREIGN, "http://localhost:5173"]) await welcome(server, origin);
});

story("in production only the pages that are named", async (stage) => {
  const server = await production(stage);

  // Given a page that the setting names
  const answer = await get(server, ALLOWED);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["access-control-allow-origin"], ALLOWED);
  // A cache must not give this answer to another page
  assert.match(answer.headers.vary ?? "", /\borigin\b/i);
  maySend(await preflight(server, ALLOWED), ALLOWED);
  assert.equal((await upgrade(server, "/ws", { Origin: ALLOWED, token })).status, 101);
  assert.equal((await upgrade(server, WEBSOCKET, { Origin: ALLOWED, token })).status, 101);

  // And pages that it does not name, though their names are similar
  for (const origin of [FOREIGN, "http://a.example", "https://a.example.evil.example", "https://a.example:8443", "null"]) {
    assert.ok(!mayRead(await get(server, origin), origin), origin);
    assert.ok(!mayRead(await preflight(server, origin), origin), origin);
    assert.equal((await upgrade(server, "/ws", { Origin: origin, token })).status, 403, origin);
    assert.equal((await upgrade(server, WEBSOCKET, { Origin: origin, token })).status, 403, origin);
  }

  // And clients that are not browsers name no page
  assert.equal((await get(server)).status, 200);
  assert.equal((await upgrade(server, "/ws", { token })).status, 101);
  assert.equal((await upgrade(server, WEBSOCKET, { token })).status, 101);
});

story("several pages may be named", async (stage) => {
  const origins = [ALLOWED, "http://localhost:5173"];
  const server = await stage.server({ APP_ENV: "prod", CORS_ORIGINS: origins.join(",") });
  for (const origin of origins) {
    assert.equal((await get(server, origin)).headers["access-control-allow-origin"], origin);
    assert.equal((await upgrade(server, "/ws", { Origin: origin, token })).status, 101);
  }
  assert.ok(!mayRead(await get(server, FOREIGN), FOREIGN));
});

story("in production no page may, unless one is named", async (stage) => {
  const server = await stage.server({ APP_ENV: "prod" });
  assert.ok(!mayRead(await get(server, FOREIGN), FOREIGN));
  assert.equal((await upgrade(server, "/ws", { Origin: FOREIGN, token })).status, 403);
  assert.equal((await upgrade(server, WEBSOCKET, { Origin: FOREIGN, token })).status, 403);
});

overEachTransport("pages", (each) => {
  each("the official client of a named page gets in, that of another does not", async (stage) => {
    const server = await production(stage);
    const alice = await stage.device(server, "alice", { extraHeaders: { token, Origin: ALLOWED } });
    await alice.hasNothing();
    // Over polling it is the browser that keeps the answers from the page, so there the server need not refuse
    if (stage.transport !== "WebSocket only") return;
    const mallory = stage.open(server, "alice", { extraHeaders: { token, Origin: FOREIGN } });
    await mallory.until("a refusal", () => mallory.refusals.length > 0);
    assert.equal(mallory.connects, 0);
    assert.deepEqual(mallory.takeAll(), []);
  });
});
