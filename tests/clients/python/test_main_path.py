"""The main path with python-socketio, over each transport."""

import unittest

from support import TRANSPORTS, ChatTestCase, expired, token_of


class MainPath:
    """The stories; each subclass tells them over its transports."""

    transports: list[str]

    async def alice_and_bob(self, server):
        """Two connected users and the id of their chat."""
        alice = await self.connected(server, "alice", self.transports)
        bob = await self.connected(server, "bob", self.transports)
        room = (await alice.done("initializeChat", {"participants": ["bob"]}))["roomId"]
        await bob.take("chatList", lambda chats: [chat["roomId"] for chat in chats] == [room])
        return alice, bob, room

    async def test_a_chat_from_its_opening_to_its_reading(self):
        # Given Alice and Bob, as clients of the replaced server connect
        server = await self.server()
        alice = await self.connected(server, "alice", self.transports)
        bob = await self.connected(server, "bob", self.transports)
        self.assertEqual((alice.list, bob.list), ([], []))

        # When Alice opens a chat, then she gets the list and the status, and Bob gets his list
        await alice.emit("initializeChat", {"participants": ["bob"]})
        event, chats = await alice.next()
        self.assertEqual(event, "chatList")
        room = chats[0]["roomId"]
        self.assertEqual(await alice.take("status"), f"{room} initialized")
        chats = await bob.take("chatList")
        self.assertEqual((chats[0]["roomId"], chats[0]["friendId"]), (room, "alice"))

        # When she writes, then both get the same
        await alice.emit("sendMessage", {"roomId": room, "content": "Hello Bob ☕"})
        message = await alice.take("newMessage")
        self.assertEqual(message["content"], "Hello Bob ☕")
        self.assertEqual((message["seq"], message["senderId"]), (1, "alice"))
        self.assertEqual(await bob.take("newMessage"), message)
        await bob.take("chatList", lambda chats: chats[0]["unreadCnt"] == 1)

        # When Bob enters, then he gets the history as one list, and all is read
        await bob.emit("enterChat", {"roomId": room})
        history = await bob.take("chatHistory")
        self.assertEqual([it["content"] for it in history], ["Hello Bob ☕"])
        self.assertEqual(await bob.take("status"), f"{room} entered")
        await bob.take("chatList", lambda chats: chats[0]["unreadCnt"] == 0)
        mark = {"roomId": room, "userId": "bob", "seq": 1, "messageId": message["id"]}
        self.assertEqual(await alice.take("messageRead"), mark)

        # When he leaves and Alice writes more, then he marks it himself
        await bob.emit("leaveChat")
        self.assertEqual(await bob.take("status"), "leaved from all rooms")
        await alice.emit("sendMessage", {"roomId": room, "content": "Lunch?"})
        second = await bob.take("newMessage", lambda it: it["seq"] == 2)
        await bob.take("chatList", lambda chats: chats[0]["unreadCnt"] == 1)
        await bob.emit("markAsRead", {"roomId": room, "messageId": second["id"]})
        self.assertEqual(await bob.take("status"), f"{second['id']} marked")
        await bob.take("chatList", lambda chats: chats[0]["unreadCnt"] == 0)

        # And the list comes again for whoever requests it
        bob.take_all()
        await bob.emit("getChatList")
        chats = await bob.take("chatList")
        self.assertEqual([chat["lastMessage"]["content"] for chat in chats], ["Lunch?"])

    async def test_acks_have_one_argument(self):
        server = await self.server()
        alice, bob, room = await self.alice_and_bob(server)
        again = await bob.done("initializeChat", {"participants": ["alice"]})
        self.assertEqual(again, {"roomId": room, "created": False})
        self.assertEqual(await alice.done("getChatList"), {"rooms": 1})
        sent = await alice.done("sendMessage", {"roomId": room, "content": "Hi", "clientMessageId": "m-1"})
        self.assertEqual((sent["roomId"], sent["seq"], sent["duplicate"]), (room, 1, False))
        repeated = await alice.done("sendMessage", {"roomId": room, "content": "Hi", "clientMessageId": "m-1"})
        self.assertEqual(repeated, {**sent, "duplicate": True})
        entered = await bob.done("enterChat", {"roomId": room})
        self.assertEqual(entered, {"roomId": room, "seq": 1, "hasMore": False})
        marked = await bob.done("markAsRead", {"roomId": room, "messageId": sent["id"]})
        self.assertEqual(marked, {"roomId": room, "readSeq": 1, "unreadCnt": 0})
        page = await bob.done("getHistory", {"roomId": room})
        self.assertEqual([it["id"] for it in page["messages"]], [sent["id"]])
        self.assertEqual(await bob.done("leaveChat"), {})
        self.assertEqual(await bob.done("authenticate", {"token": token_of("bob")}), {"expiresAt": None})

    async def test_refusals_go_to_the_callback_or_to_error(self):
        server = await self.server()
        alice, _, room = await self.alice_and_bob(server)
        carol = await self.connected(server, "carol", self.transports)
        for code, event, data in [
            ("UNKNOWN_EVENT", "dance", None),
            ("INVALID_PAYLOAD", "sendMessage", {"roomId": room}),
            ("INVALID_PAYLOAD", "initializeChat", {"participants": "bob"}),
            ("MESSAGE_TOO_LARGE", "sendMessage", {"roomId": room, "content": "x" * 16385}),
            ("NOT_MEMBER", "enterChat", {"roomId": room}),
        ]:
            with self.subTest(event=event, code=code):
                error = await carol.refused(code, event, data)
                await carol.emit(event, data)
                self.assertEqual(await carol.take("error"), error)
        self.assertEqual(carol.ends, [])
        self.assertEqual(await alice.done("getChatList"), {"rooms": 1})

    async def test_a_token_is_found_in_each_place(self):
        server = await self.server()
        token = token_of("alice")
        for headers, auth in [
            ({"token": token}, None),
            ({"Authorization": f"Bearer {token}"}, None),
            ({}, {"token": token}),
        ]:
            with self.subTest(headers=list(headers), auth=bool(auth)):
                alice = self.device(server, "alice")
                self.assertEqual(await alice.connect(self.transports, headers, auth), [])
                await alice.client.disconnect()

    async def test_a_bad_token_gets_an_error_and_no_list(self):
        server = await self.server()
        for token, code, message in [
            ("garbage", "UNAUTHORIZED", "connection failed"),
            (expired("alice"), "TOKEN_EXPIRED", "token expired"),
            (None, "UNAUTHORIZED", "connection failed"),
        ]:
            with self.subTest(code=code, message=message):
                mallory = self.device(server, "alice")
                await mallory.open(self.transports, {"token": token} if token else {})
                # First the texts of the replaced server.
                while isinstance(error := await mallory.take("error"), str):
                    self.assertIn(error, ("token expired", "connection failed"))
                self.assertEqual((error["code"], error["message"]), (code, message))
                await mallory.until("the end", lambda device=mallory: device.ends)
                self.assertEqual(mallory.ends, [mallory.client.reason.SERVER_DISCONNECT])
                self.assertEqual(mallory.take_all(), [])

    async def test_delta_devices_get_what_changes(self):
        server = await self.server()
        alice = await self.connected(server, "alice", self.transports, auth={"chatList": "delta"})
        room = (await alice.done("initializeChat", {"participants": ["bob"]}))["roomId"]
        (event, entry), status = alice.take_all()
        self.assertEqual((event, entry["roomId"]), ("chatEntry", room))
        self.assertEqual(status, ("status", f"{room} initialized"))
        await alice.done("sendMessage", {"roomId": room, "content": "Hello"})
        await alice.take("newMessage")
        self.assertEqual(alice.take_all(), [])

    async def test_requests_are_done_in_their_order(self):
        # When Alice sends 200 messages without waiting
        server = await self.server()
        alice, bob, room = await self.alice_and_bob(server)
        acks = []
        for number in range(200):
            data = {"roomId": room, "content": str(number)}
            await alice.client.emit("sendMessage", data, callback=acks.append)
        # Then all see them in that order, and they were numbered in that order too
        messages = []
        while len(messages) < 200:
            messages.append(await bob.take("newMessage"))
        self.assertEqual([int(it["content"]) for it in messages], list(range(200)))
        self.assertEqual([it["seq"] for it in messages], list(range(1, 201)))
        await alice.done("getChatList")
        self.assertEqual([ack["data"]["seq"] for ack in acks], list(range(1, 201)))

    async def test_a_native_device_of_the_same_user_gets_the_same(self):
        server = await self.server()
        alice, bob, room = await self.alice_and_bob(server)
        laptop = await self.native(server, "bob")
        self.assertEqual([chat["roomId"] for chat in laptop.list], [room])
        await alice.done("sendMessage", {"roomId": room, "content": "To both"})
        message = await laptop.take("newMessage")
        self.assertEqual(await bob.take("newMessage"), message)
        await laptop.emit("sendMessage", {"roomId": room, "content": "From the laptop"})
        for device in (alice, bob, laptop):
            await device.take("newMessage", lambda it: it["content"] == "From the laptop")

    async def test_a_restarted_server_has_its_clients_back(self):
        # Given Alice and Bob with a chat
        first = await self.server()
        alice, bob, room = await self.alice_and_bob(first)
        await alice.done("sendMessage", {"roomId": room, "content": "Before"})
        await bob.take("newMessage")

        # When the server is stopped and started again on the same port
        self.assertEqual(await first.stop(), 0, first.log())
        for device in (alice, bob):
            await device.until("the end", lambda device=device: device.ends)
            device.take_all()
        second = await self.server(PORT=str(first.port))

        # Then both come back by themselves, are greeted, and have their list again
        for device, unread in ((alice, 0), (bob, 1)):
            device.server = second
            chats = await device.greeted()
            self.assertEqual([(chat["roomId"], chat["unreadCnt"]) for chat in chats], [(room, unread)])
            self.assertEqual(device.connects, 2)
        await alice.done("sendMessage", {"roomId": room, "content": "After"})
        self.assertEqual((await bob.take("newMessage"))["seq"], 2)


def load_tests(_loader, _tests, _pattern):
    """The same stories over each transport."""
    suite = unittest.TestSuite()
    for name, transports in TRANSPORTS.items():
        bases = (MainPath, ChatTestCase)
        case = type(f"MainPath ({name})", bases, {"transports": transports, "__module__": __name__})
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    unittest.main()
