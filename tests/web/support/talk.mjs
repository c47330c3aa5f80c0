// Some chats to look at.
import { told } from "./client.mjs";

/** Alice's chats: a group that discusses the weekend, and people who wrote to her. */
export async function talk(stage, server) {
  const users = {};
  for (const name of ["alice", "bob", "carol", "dora"]) users[name] = await stage.client(server, name);
  const { alice, bob, carol, dora } = users;
  const say = async (who, roomId, content) => (await who.send(roomId, content)).id;

  const project = await bob.openRoom(["alice", "carol"], { name: "Release 2.0" });
  await say(bob, project.roomId, "The build is green, we can ship tomorrow morning.");
  const family = await dora.openRoom(["alice"]);
  await say(dora, family.roomId, "Happy birthday, Alice! 🎉");
  await say(dora, family.roomId, "Call me when you have a minute.");
  const carols = await carol.openRoom(["alice"]);
  await say(alice, carols.roomId, "Did the parcel arrive?");
  await say(carol, carols.roomId, "This morning, thank you!");

  const { roomId } = await alice.openRoom(["bob", "carol", "dora"], { name: "Weekend in the hills" });
  await say(alice, roomId, "Who is in for a walk on Saturday?");
  await say(bob, roomId, "Me! The weather should be lovely.");
  await say(carol, roomId, "Me too. Shall we take the early train? It leaves at 7:40, and there is a café at the top.");
  await say(carol, roomId, "Here is the way: https://hills.example/routes/12");
  await say(alice, roomId, "Looks good. I can bring the map and sandwiches for all of us.");
  await say(dora, roomId, "Count me in!");
  await say(alice, roomId, "Great, see you at the station then.");
  // Two of the three read to the end.
  for (const reader of [bob, dora]) {
    const seen = told(alice, "timeline", () => alice.readersOf({ roomId, seq: 7, readBy: [] }).includes(reader.userId));
    await reader.enter(roomId);
    await seen;
  }
  for (const user of Object.values(users)) user.close();
  return { roomId };
}
