#!/usr/bin/env -S node --experimental-websocket
// A chat in the terminal with one other user. Needs Node 20.10 or newer and nothing else.
//
//   TOKEN=$(make token ID=alice) node --experimental-websocket examples/chat.mjs bob [address]
//
// A line that you type is sent as a message; one that begins with { goes out as a frame, as it is.
import { createInterface } from "node:readline";

const [friend, address = "ws://127.0.0.1:3000/ws"] = process.argv.slice(2);
const token = process.env.TOKEN;
if (!friend || !token || !globalThis.WebSocket) {
  console.error("usage: TOKEN=<token> node --experimental-websocket examples/chat.mjs <user> [address]");
  process.exit(2);
}

// Browsers can set no headers, so the token goes into the list of subprotocols; that works everywhere.
const socket = new WebSocket(`${address}?chatList=delta`, ["chat", token]);
const waiting = new Map();

// Sends an event and resolves with its ack, or rejects with its error.
function request(event, data) {
  const id = crypto.randomUUID();
  socket.send(JSON.stringify({ event, data, id }));
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

const showMessage = ({ seq, senderId, content }) => console.log(`${seq} ${senderId}: ${content}`);
const showEntry = ({ groupName, friendId, unreadCnt }) =>
  console.log(`* chat with ${groupName ?? friendId}, ${unreadCnt} unread`);
const show = {
  hello: ({ userId, version }) => console.log(`* chat-server ${version} knows you as ${userId}`),
  status: (text) => console.log(`* ${text}`),
  chatList: (rooms) => rooms.forEach(showEntry),
  chatEntry: showEntry,
  chatHistory: (messages) => messages.forEach(showMessage),
  newMessage: showMessage,
  messageRead: ({ userId, seq }) => console.log(`* ${userId} has read up to ${seq}`),
};

socket.onmessage = ({ data: text }) => {
  const { event, id, data } = JSON.parse(text);
  const answer = waiting.get(id);
  waiting.delete(id);
  if (answer) return event === "ack" ? answer.resolve(data) : answer.reject(data);
  (show[event] ?? (() => console.log(text)))(data);
};
socket.onerror = () => {
  console.error("cannot connect: is the server running, is the token good?");
  process.exit(1);
};
socket.onclose = ({ code, reason }) => {
  console.log(`* closed: ${code} ${reason}`.trimEnd());
  process.exit();
};
socket.onopen = async () => {
  const { roomId } = await request("initializeChat", { participants: [friend] });
  await request("enterChat", { roomId });
  const input = createInterface({ input: process.stdin });
  input.on("close", () => socket.close(1000));
  for await (const line of input) {
    if (line.startsWith("{")) socket.send(line);
    else if (line) {
      const clientMessageId = crypto.randomUUID();
      request("sendMessage", { roomId, content: line, clientMessageId }).catch((error) => console.error(error.message));
    }
  }
};
