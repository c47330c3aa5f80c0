// asyncapi.yaml by itself and compared with the sources: it is valid, and names exactly what the server knows.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Parser } from "@asyncapi/parser";

import { Document, TEXT } from "../support/asyncapi.mjs";
import { http } from "../support/raw.mjs";
import { repository } from "../support/repository.mjs";
import { story } from "../support/story.mjs";
import { SECRET } from "../support/token.mjs";

const document = new Document();

/** A source file up to its tests. */
const source = (path) => readFileSync(join(repository, path), "utf8").split("#[cfg(test)]")[0];
const sources = () =>
  readdirSync(join(repository, "src"), { recursive: true })
    .filter((path) => path.endsWith(".rs"))
    .map((path) => source(join("src", path)));

/** What the first group of `pattern` matches; it must match something. */
function found(text, pattern) {
  const all = [...text.matchAll(pattern)].map(([, name]) => name);
  assert.notEqual(all.length, 0, `nothing matches ${pattern}: has the source moved?`);
  return new Set(all);
}

/** The text between two others. */
function between(text, from, to) {
  const start = text.indexOf(from);
  assert.ok(start >= 0, `there is no ${from}: has the source moved?`);
  return text.slice(start, text.indexOf(to, start));
}

async function problems(text) {
  const { diagnostics } = await new Parser().parse(text);
  // 0 is an error, 1 a warning; anything above is advice.
  return diagnostics.filter(({ severity }) => severity <= 1).map(({ path, message }) => `${path.join(".")}: ${message}`);
}

describe("the document", () => {
  it("is what the official parser takes for AsyncAPI 3.0", async () => {
    assert.equal(document.json.asyncapi, "3.0.0");
    assert.deepEqual(await problems(TEXT), []);
  });

  for (const [what, from, to] of [
    ["a reference to nothing", "#/components/schemas/Initialized'", "#/components/schemas/Initialised'"],
    ["an action that is none", "action: receive", "action: take"],
    ["an operation with a message of another channel", "- $ref: '#/channels/native/messages/status'", "- $ref: '#/channels/socketIo/messages/status'"],
  ]) {
    it(`is not taken with ${what}`, async () => {
      assert.ok(TEXT.includes(from));
      assert.notDeepEqual(await problems(TEXT.replace(from, to)), []);
    });
  }

  it("has examples that are right, field by field", () => {
    const closed = Document.closed();
    let count = 0;
    for (const door of Object.keys(document.json.channels)) {
      for (const [key, { examples = [] }] of Object.entries(document.messages(door))) {
        for (const { payload } of examples) {
          assert.equal(closed.faults(door, key, payload), undefined, `${key} at ${door}`);
          count += 1;
        }
      }
    }
    assert.notEqual(count, 0);
  });

  it("says in every object which fields must be there", () => {
    const walk = (node, path) => {
      if (typeof node !== "object" || node === null) return;
      if (node.type === "object") assert.ok(node.properties || node.maxProperties === 0, `${path} takes anything`);
      for (const [key, value] of Object.entries(node)) walk(value, `${path}.${key}`);
    };
    walk(document.json.channels, "channels");
    walk(document.json.components.schemas, "schemas");
  });
});

describe("the document names what the sources name", () => {
  it("the requests", () => {
    const names = between(source("src/protocol/request.rs"), "pub fn text(self)", "pub fn of(");
    const inSource = found(names, /=> "(\w+)",$/gm);
    assert.deepEqual(document.requests(), inSource);
  });

  it("the events", () => {
    const text = sources().join("\n");
    // The argument is the name itself, or a constant that holds it
    const constants = Object.fromEntries([...text.matchAll(/const (\w+): &str = ("\w+");/g)].map(([, name, held]) => [name, held]));
    const given = [...found(text, /(?:Frame|Self)::event\(\s*("\w+"|[A-Z_]+)/g)];
    const inSource = new Set(given.map((name) => JSON.parse(constants[name] ?? name)));
    assert.deepEqual(sorted(document.events("socketIo")), sorted(inSource));
    // Classic clients speak Socket.IO.
    inSource.delete("roomMembers");
    assert.deepEqual(sorted(document.events("native")), sorted(inSource));
  });

  it("the error codes", () => {
    const variants = found(between(source("src/error.rs"), "pub enum ErrorCode {", "}"), /^ {4}(\w+),$/gm);
    const words = [...variants].map((name) => name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase());
    assert.deepEqual(document.codes(), new Set(words));
  });

  it("the close codes", () => {
    const ours = found(between(source("src/hub/device.rs"), "pub fn code(self)", "pub fn reason"), /=> (\d{4}),/g);
    const broken = found(source("src/gateway/socket.rs"), /End::Broken\((\d{4}),/g);
    const listed = document.json.channels.native["x-close-codes"].map(({ code }) => String(code));
    assert.deepEqual(listed, sorted(new Set([...ours, ...broken])));
  });

  it("the limits, as the settings have them by themselves", () => {
    const example = readFileSync(join(repository, ".env.example"), "utf8");
    for (const { setting, most } of document.json["x-limits"].filter((limit) => limit.setting)) {
      assert.equal(new RegExp(`^#${setting}=(.*)$`, "m").exec(example)?.[1], String(most), setting);
    }
    const { content } = document.json.components.schemas.SendMessage.properties;
    const of = (setting) => document.json["x-limits"].find((limit) => limit.setting === setting).most;
    for (const { maxLength, items } of content.oneOf) assert.equal(maxLength ?? items.maxLength, of("MAX_CONTENT_BYTES"));
  });

  it("the version", () => {
    const { version } = document.json.info;
    assert.deepEqual(found(readFileSync(join(repository, "Cargo.toml"), "utf8"), /^version = "(.*)"$/gm), new Set([version]));
  });
});

const sorted = (names) => [...names].sort();

for (const environment of ["development", "production"]) {
  story(`in ${environment} the server serves the document`, async (stage) => {
    const server = await stage.server({ APP_ENV: environment, JWT_SECRET: SECRET });
    const { status, headers, body } = await http(server, "GET", "/asyncapi.yaml");
    assert.equal(status, 200);
    assert.equal(headers["content-type"], "application/yaml");
    assert.equal(body, TEXT);
  });
}
