// Tokens, good and bad.
import { createHmac } from "node:crypto";

/** The JWT_SECRET of every server under test. */
export const SECRET = "a-secret-for-tests-of-more-than-32-bytes";

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token with these claims. */
export function withClaims(claims, secret = SECRET) {
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

/** A good token of `user`. */
export const tokenOf = (user) => withClaims({ id: user });

/** A token of `user` that expires `secs` from now; below 0 it has expired. */
export const expiring = (user, secs) => withClaims({ id: user, exp: Math.floor(Date.now() / 1000) + secs });

/** A token that nobody signed. */
export const unsigned = (user) => `${encode({ alg: "none", typ: "JWT" })}.${encode({ id: user })}.`;
