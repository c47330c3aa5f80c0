// A bare relay, as one would write it by hand: socket.io, one XADD per message, then everyone in the room gets it. No
// tokens, no membership, no unread counts, no lists. `chat-bench` compares the chat server with it.
//
// REDIS_URL is the address of Redis. The port is any free one; it is printed when the relay listens.
import { createServer } from "node:http";
import { Redis } from "ioredis";
import { Server } from "socket.io";

const redis = new Redis(process.env.REDIS_URL ?? "redis://127.0.0.1:6379");
const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.on("connection", (socket) => {
  const { user } = socket.handshake.auth;

  socket.on("join", ({ roomId }, ack) => {
    socket.join(roomId);
    ack({ ok: true, data: { roomId } });
  });

  socket.on("sendMessage", async ({ roomId, content }, ack) => {
    try {
      const id = await redis.xadd(`relay:${roomId}`, "*", "sender", user, "content", content);
      const timestamp = new Date().toISOString();
      io.to(roomId).emit("newMessage", { id, roomId, senderId: user, content, timestamp });
      ack({ ok: true, data: { id, roomId, timestamp } });
    } catch (error) {
      ack({ ok: false, error: { message: error.message } });
    }
  });
});

http.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${http.address().port}`));
