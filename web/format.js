// How names, times and texts are shown.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const longDayAndYear = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const digits = new Intl.NumberFormat();
const list = new Intl.ListFormat(undefined, { type: "conjunction" });

const DAY_MS = 86_400_000;

/** How many midnights lie between a time and now. */
function daysAgo(date, now = new Date()) {
  const midnight = (of) => new Date(of.getFullYear(), of.getMonth(), of.getDate()).getTime();
  return Math.round((midnight(now) - midnight(date)) / DAY_MS);
}

export const timeOf = (timestamp) => clock.format(new Date(timestamp));
export const fullTimeOf = (timestamp) => full.format(new Date(timestamp));

/** A short form for lists: the time today, the weekday within a week, else the date. */
export function shortTimeOf(timestamp) {
  const date = new Date(timestamp);
  const days = daysAgo(date);
  if (days <= 0) return clock.format(date);
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(date) : shortDay.format(date);
}

/** The day of a message, for the line above it. */
export function dayOf(timestamp) {
  const date = new Date(timestamp);
  const days = daysAgo(date);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  const sameYear = date.getFullYear() === new Date().getFullYear();
  return (sameYear ? longDay : longDayAndYear).format(date);
}

/** Names in a row; after `most` of them the rest is only counted. */
export function names(all, most = 3) {
  if (all.length <= most) return list.format(all);
  return list.format([...all.slice(0, most - 1), `${number(all.length - most + 1)} others`]);
}

export const number = (value) => digits.format(value);

const byName = new Intl.Collator();

/** Everybody in a group, the user first; null if the server only counts them. */
export function membersOf({ isGroupChat, memberCount, members }, userId) {
  if (!isGroupChat || members.length !== memberCount - 1) return null;
  return [userId, ...members.toSorted(byName.compare)];
}

/** The title of a chat: a group without a name is called after its members. */
export function titleOf(room) {
  if (!room.isGroupChat) return room.friendId;
  const isNamed = room.groupName !== `Group (${room.memberCount})`;
  return isNamed || room.members.length === 0 ? room.groupName : names(room.members.toSorted(byName.compare), 4);
}

/** The content of a message, in one line with a limited number of characters. */
export function lineOf({ type, content }, characters) {
  return type === "image" ? "Image" : content.replace(/\s+/g, " ").slice(0, characters);
}

/** A text in pieces, `{text}` or `{link}`; only addresses of http and https are links. */
export function pieces(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"'`]+/gi)) {
    // Punctuation that ends a sentence is not part of the address.
    const address = match[0].replace(/[.,;:!?)\]}]+$/, "");
    if (!URL.canParse(address)) continue;
    if (match.index > end) found.push({ text: text.slice(end, match.index) });
    found.push({ link: address });
    end = match.index + address.length;
  }
  if (end < text.length) found.push({ text: text.slice(end) });
  return found;
}
