"""Faults of a line or two, put into hosts and transports by hand, and the kind of tests that must
see each. `mutants.py` tries them out."""

from functools import partial

from faults import Fault

HOST_LAYERS = {
    "hosts": ("host_bounds", "asyncio_host", "trio_host", "hosts_alike", "sends_without_packets"),
    "interceptors": ("interceptors",),
    "draining": ("draining",),
    "kit": ("host_kit",),
    "worlds": ("simulation_programs",),
    "memory": ("memory_room",),
    "streams": ("framing", "stream"),
    "websocket": ("websocket",),
    "floods": ("floods", "turns"),
    "presence": ("presence", "inbox"),
    "nats": ("nats_client", "nats_tls", "nats"),
    "livekit": ("livekit_signalling",),
}
"""The kinds of tests by their files. A fault is to be caught by the kind that is there for it:

* hosts: what a participant promises, on each host by itself and on both alike;
* interceptors: what they promise, and what a handler is given;
* draining: leaving gracefully, and the totals of the statistics;
* kit: what the conformance kit asks of any host, at the instant at which it asks;
* worlds: whole programs on both hosts, over links that lose and repeat, with participants that
  leave and come back: every call and handler ends once, nothing is left, the oracle agrees;
* memory: the room in memory and its links;
* streams: frames, and the transport over byte streams and pipes;
* websocket: the same over WebSockets;
* floods: whatever a stranger sends, and however fast, other tasks get their turns;
* presence: who is here on a broker, and what waits for a host, without a server;
* nats: a room on a NATS server, and what is read from it;
* livekit: the signalling of a LiveKit room, without a server.
"""

_base = partial(Fault, folder="participant", module="base")
_handlers = partial(Fault, folder="participant", module="handlers")
_answering = partial(Fault, folder="participant", module="answering")
_calling = partial(Fault, folder="participant", module="calling")
_draining = partial(Fault, folder="participant", module="draining", layer="draining")
_chains = partial(Fault, folder="participant", module="interceptors", layer="interceptors")
_totals = partial(Fault, folder="participant", module="totals", layer="draining")
_async_base = partial(Fault, folder="participant", module="async_base", layer="interceptors")
_waiting = partial(Fault, folder="participant", module="waiting")
_asyncio = partial(Fault, folder="", module="asyncio")
_trio = partial(Fault, folder="", module="trio")
_memory = partial(Fault, folder="transports", module="memory", layer="memory")
_batches = partial(Fault, folder="transports", module="batches", layer="memory")
_links = partial(Fault, folder="transports", module="links", layer="memory")
_framing = partial(Fault, folder="transports", module="framing", layer="streams")
_stream = partial(Fault, folder="transports", module="stream", layer="streams")
_turns = partial(Fault, folder="transports", module="turns", layer="floods")
_pipes = partial(Fault, folder="transports", module="pipes", layer="streams")
_websocket = partial(Fault, folder="transports", module="websocket", layer="websocket")
_presence = partial(Fault, folder="transports", module="presence", layer="presence")
_nats_client = partial(Fault, folder="transports/nats", module="client", layer="nats")
_nats_traffic = partial(Fault, folder="transports/nats", module="traffic", layer="nats")
_signalling = partial(Fault, folder="livekit", module="signalling", layer="livekit")
_inbox = partial(Fault, folder="transports", module="inbox", layer="presence")

HOST_FAULTS = [
    # what hosts share
    _base(
        name="the transport's departure_grace does not count",
        layer="hosts",
        original='if require_finite(departure_grace, "departure_grace") > config.departure_grace:',
        faulty='if require_finite(departure_grace, "departure_grace") > 1e9:',
    ),
    _calling(
        name="a call that waits for the connection is not checked",
        layer="hosts",
        original="            self._engine.check_call(*call[:3], response_timeout=call[3], "
        "ack_timeout=call[4])\n",
        faulty="",
    ),
    _calling(
        name="a call that failed at once is told so later",
        layer="worlds",
        original="        self._totals.calls_begun += 1\n        self._pump()\n",
        faulty="        self._totals.calls_begun += 1\n        self.wake_writer()\n",
    ),
    _calling(
        name="a cancelled call goes on in the engine",
        layer="worlds",
        original="            self._engine.cancel(request_id, now=self._clock())\n",
        faulty="",
    ),
    _calling(
        name="a call that is cancelled before it began begins all the same",
        layer="hosts",
        original="        if self._waiting.delayed.pop(waiter, None) is not None:\n",
        faulty="        if False:\n",
    ),
    _calling(
        name="a participant that is here is waited for",
        layer="hosts",
        original="        if identity in engine.participants:\n",
        faulty="        if False:\n",
    ),
    _base(
        name="a call that waits for the connection outlives its participant",
        layer="hosts",
        original="        self._is_closed = True\n        self._fail_delayed_calls()\n",
        faulty="        self._is_closed = True\n",
    ),
    _base(
        name="a packet that could not be sent is told to nobody",
        layer="worlds",
        original="            self._engine.send_failed(packet, now=self._clock())\n",
        faulty="            pass\n",
    ),
    _base(
        name="only the first packet that could not be sent is told",
        layer="hosts",
        original="        for packet in packets:\n",
        faulty="        for packet in packets[:1]:\n",
    ),
    _base(
        name="a transport that fails with nothing to send is asked for ever",
        layer="hosts",
        original="        if was_drained and not self._engine",
        faulty="        if False and not self._engine",
    ),
    _base(
        name="a send without a packet lets nobody else have a turn",
        layer="hosts",
        original="            return self._empty_sends > 0\n",
        faulty="            return False\n",
    ),
    _base(
        name="sends without packets add up across those with packets",
        layer="hosts",
        original="        self._empty_sends = -1\n",
        faulty="",
    ),
    _base(
        name="an event that cannot be ends the reading",
        layer="hosts",
        original="            except LocalProtocolError as error:\n                kind",
        faulty="            except ZeroDivisionError as error:\n                kind",
    ),
    _base(
        name="calls outlive a transport that failed",
        layer="hosts",
        original="            self._connection_lost(error)\n",
        faulty="            pass\n",
    ),
    _base(
        name="calls outlive a transport that ended",
        layer="hosts",
        original="            self._connection_lost(None)\n",
        faulty="            pass\n",
    ),
    _base(
        name="what comes of a deadline is told later",
        layer="kit",
        original="        # Timers fire early: the pump looks at the next deadline again.\n"
        "        self._pump()\n",
        faulty="        self.wake_writer()\n",
    ),
    _base(
        name="a deadline that comes before the others is missed",
        layer="worlds",
        original="deadline < self._timer_at",
        faulty="deadline > self._timer_at",
    ),
    _base(
        name="a lost connection is told to nobody",
        layer="hosts",
        original="            self._fail_delayed_calls()\n            self._pump()\n",
        faulty="            self._fail_delayed_calls()\n",
    ),
    _base(
        name="who waits for a participant does not hear of it",
        layer="worlds",
        original="                self._waiting.participant_came(event.identity)\n",
        faulty="",
    ),
    _answering(
        name="handlers run beyond the bounds",
        layer="hosts",
        original="        if refusal is None:\n",
        faulty="        if True:\n",
    ),
    _base(
        name="an error of sending that is over breaks the next connection",
        layer="hosts",
        original="        if self._sending_over == self._connections:\n",
        faulty="        if True:\n",
    ),
    _handlers(
        name="one handler more than max_invocations runs",
        layer="hosts",
        original="len(self._running) >= self._most\n",
        faulty="len(self._running) > self._most\n",
    ),
    _handlers(
        name="one handler more than max_invocations_per_caller runs",
        layer="hosts",
        original="self._running_of.get(caller_identity, 0) >= self._most_of_one",
        faulty="self._running_of.get(caller_identity, 0) > self._most_of_one",
    ),
    _handlers(
        name="a handler that was cancelled counts no more",
        layer="hosts",
        original="        cancel, running.cancel = running.cancel, None\n",
        faulty="        cancel, running.cancel = running.cancel, None\n"
        "        self.ended(invocation_id)\n",
    ),
    _handlers(
        name="a caller without handlers is remembered",
        layer="worlds",
        original="            if not self._running_of[caller]:\n",
        faulty="            if False:\n",
    ),
    _handlers(
        name="the text of an exception is sent",
        layer="worlds",
        original="ErrorCode.APPLICATION_ERROR, now=now)\n        if answered:\n",
        faulty="ErrorCode.APPLICATION_ERROR, data=str(error), now=now)\n        if answered:\n",
    ),
    _handlers(
        name="an RpcError in a group is 1500",
        layer="worlds",
        original="    while isinstance(error, BaseExceptionGroup)",
        faulty="    while False and isinstance(error, BaseExceptionGroup)",
    ),
    _handlers(
        name="a result that is no text is sent as one",
        layer="worlds",
        original="        raise TypeError(",
        faulty="        return repr(result)\n        raise TypeError(",
    ),
    _handlers(
        name="a handler that fails is logged nowhere",
        layer="hosts",
        original="        if answered or isinstance(error, Exception):\n",
        faulty="        if False:\n",
    ),
    _handlers(
        name="a method that was unregistered meanwhile is 1500",
        layer="hosts",
        original="            raise RpcError(ErrorCode.UNSUPPORTED_METHOD)\n",
        faulty="            raise LookupError(data.method)\n",
    ),
    _waiting(
        name="a participant that nobody waits for any more is kept",
        layer="worlds",
        original="            del self._expected[identity]\n",
        faulty="            pass\n",
    ),
    _waiting(
        name="a lost connection has no reason",
        layer="hosts",
        original="            error.__cause__ = self.error\n",
        faulty="            pass\n",
    ),
    # interceptors, and what a handler is given
    _chains(
        name="the interceptor that was added last is outermost",
        original="            self.all = (*self.all, interceptor)\n",
        faulty="            self.all = (interceptor, *self.all)\n",
    ),
    _chains(
        name="interceptors that equal each other are one",
        original="any(other is interceptor for other in self.all)",
        faulty="any(other == interceptor for other in self.all)",
    ),
    _chains(
        name="removing an interceptor removes its equals",
        original="for other in self.all if other is not interceptor)",
        faulty="for other in self.all if other != interceptor)",
    ),
    _chains(
        name="a call's own object alone learns the request id",
        original="        so_far = (*given, call)\n",
        faulty="        so_far = (call,)\n",
    ),
    _chains(
        name="copies that were handed on get no reason for cancelling",
        original="            handed_on.append(invocation)\n",
        faulty="            pass\n",
    ),
    _async_base(
        name="unknown methods do not reach the interceptors",
        original="            self._engine.hand_over_unknown_methods = are_there\n",
        faulty="            pass\n",
    ),
    _async_base(
        name="interceptors that were added before entering see no unknown methods",
        original="        super().open_engine(clock)\n        self._interceptors_changed()\n",
        faulty="        super().open_engine(clock)\n",
    ),
    _async_base(
        name="the arguments that an interceptor changed do not count",
        original="        info = given[-1]\n",
        faulty="        info = given[0]\n",
    ),
    _handlers(
        name="a cancelled handler is told no reason",
        layer="interceptors",
        original="        _set_cancel_reason(running.handed_on, code)\n",
        faulty="",
    ),
    _handlers(
        name="an invocation that expired looks as if the caller had left",
        layer="interceptors",
        original="    AbandonReason.EXPIRED: ErrorCode.RESPONSE_TIMEOUT,\n",
        faulty="    AbandonReason.EXPIRED: ErrorCode.RECIPIENT_DISCONNECTED,\n",
    ),
    _handlers(
        name="None is no answer",
        layer="interceptors",
        original="    if result is None:\n",
        faulty="    if False:\n",
    ),
    # draining, and the totals
    _handlers(
        name="draining takes new requests",
        layer="draining",
        original="        if self.is_draining:\n",
        faulty="        if False:\n",
    ),
    _base(
        name="a drain does not see the end of the last call",
        layer="draining",
        original="engine.has_packets or self._drains or",
        faulty="engine.has_packets or",
    ),
    _draining(
        name="draining does not wait for calls that wait for the connection",
        original="self._waiting.delayed or self._chains_of_calls",
        faulty="self._chains_of_calls",
    ),
    _draining(
        name="draining does not wait for interceptors around calls",
        original="self._waiting.delayed or self._chains_of_calls",
        faulty="self._waiting.delayed",
    ),
    _draining(
        name="draining does not wait for handlers that take time to end",
        original=" or self._handlers.are_running:\n",
        faulty=":\n",
    ),
    _draining(
        name="draining does not wait for what has not left",
        original="        return not (waiting or self._sending_over != NOT_SENDING) or",
        faulty="        return True or",
    ),
    _draining(
        name="draining ends for all at the first timeout",
        original="if until <= now]",
        faulty="if until <= now or now > 0]",
    ),
    _draining(
        name="the end of a handler does not end the draining",
        original="        if self._drains:\n            self._look_at_drains()\n"
        "\n    @abstractmethod",
        faulty="\n    @abstractmethod",
    ),
    _base(
        name="draining outlives its participant",
        layer="draining",
        original="        self._fail_drains()\n",
        faulty="",
    ),
    _totals(
        name="a peer that invents codes adds outcomes",
        original="    return _NAMES.get(code, OTHER)\n",
        faulty="    return str(code)\n",
    ),
    # asyncio
    _asyncio(
        name="asyncio: a call that fails at once gives nobody a turn",
        layer="hosts",
        original="            if ended.done():\n                await asyncio.sleep(0)\n",
        faulty="",
    ),
    _asyncio(
        name="asyncio: cancelling a task leaves its call",
        layer="worlds",
        original="            outcome = await ended\n        finally:\n            cancel()\n",
        faulty="            outcome = await ended\n        finally:\n            pass\n",
    ),
    _asyncio(
        name="asyncio: leaving closes no transport",
        layer="worlds",
        original="                    await self._transport.aclose()\n",
        faulty="                    await asyncio.sleep(0)\n",
    ),
    _asyncio(
        name="asyncio: leaving waits for no handler",
        layer="worlds",
        original="            while self._tasks:\n",
        faulty="            while False:\n",
    ),
    _asyncio(
        name="asyncio: leaving drops what waits to be sent",
        layer="hosts",
        original="            while self.has_packets:\n",
        faulty="            while self.has_packets and not self.is_closed:\n",
    ),
    _asyncio(
        name="asyncio: leaving waits for a transport without end",
        layer="hosts",
        original="                async with asyncio.timeout_at(latest):\n",
        faulty="                async with asyncio.timeout_at(latest + 60.0):\n",
    ),
    _asyncio(
        name="asyncio: a handler that closes its participant is cancelled",
        layer="hosts",
        original="        return lambda: task is not asyncio.current_task() and task.cancel()\n",
        faulty="        return task.cancel\n",
    ),
    _asyncio(
        name="asyncio: handlers see the reader's context",
        layer="hosts",
        original=", context=self._context.copy())",
        faulty=")",
    ),
    _asyncio(
        name="asyncio: timers fire late",
        layer="kit",
        original="self._loop.call_at(at, self.timer_fired)",
        faulty="self._loop.call_at(at + 1.0, self.timer_fired)",
    ),
    _asyncio(
        name="asyncio: nobody cancels a handler",
        layer="kit",
        original="        return lambda: task is not asyncio.current_task() and task.cancel()\n",
        faulty="        return lambda: None\n",
    ),
    # trio
    _trio(
        name="trio: timers fire late",
        layer="kit",
        original="self._timer.deadline = at",
        faulty="self._timer.deadline = at + 1.0",
    ),
    _trio(
        name="trio: nobody cancels a handler",
        layer="kit",
        original="        return scope.cancel\n",
        faulty="        return lambda: None\n",
    ),
    _trio(
        name="trio: a call that fails at once gives nobody a turn",
        layer="hosts",
        original="            await trio.lowlevel.checkpoint()  # a program that tries",
        faulty="            pass  # a program that tries",
    ),
    _trio(
        name="trio: cancelling a task leaves its call",
        layer="worlds",
        original="            await ended.wait()\n        finally:\n            cancel()\n",
        faulty="            await ended.wait()\n        finally:\n            pass\n",
    ),
    _trio(
        name="trio: leaving closes no transport",
        layer="worlds",
        original="                    await self._transport.aclose()\n",
        faulty="                    await trio.lowlevel.checkpoint()\n",
    ),
    _trio(
        name="trio: a cancelled scope drops what waits to be sent",
        layer="hosts",
        original="deadline=latest - LEAVING_TIME / 2, shield=True",
        faulty="deadline=latest - LEAVING_TIME / 2",
    ),
    _trio(
        name="trio: a cancelled scope closes no transport",
        layer="hosts",
        original="trio.CancelScope(deadline=latest, shield=True)",
        faulty="trio.CancelScope(deadline=latest)",
    ),
    _trio(
        name="trio: a handler runs that nobody waits for",
        layer="hosts",
        original="        await trio.lowlevel.checkpoint()  # nobody may want",
        faulty="        pass  # nobody may want",
    ),
    _trio(
        name="trio: handlers see the reader's context",
        layer="hosts",
        original="self._context.run(self._nursery.start_soon, self._handle,",
        faulty="self._nursery.start_soon(self._handle,",
    ),
    _trio(
        name="trio: a handler that has ended counts on",
        layer="worlds",
        original="            self.handler_ended(invocation)\n",
        faulty="            pass\n",
    ),
    # rooms in memory
    _memory(
        name="a packet comes back to its sender",
        original="            if receiver is not None and receiver is not sender and",
        faulty="            if receiver is not None and",
    ),
    _memory(
        name="news of a departure overtakes packets",
        original="way.take_turn(anyio.current_time())",
        faulty="anyio.current_time()",
    ),
    _batches(
        name="a batch has no bound in bytes",
        original="            if size > BATCH_BYTES and batch:\n",
        faulty="            if False:\n",
    ),
    _batches(
        name="a batch has no bound in events",
        original="    while events and len(batch) < BATCH_EVENTS:\n",
        faulty="    while events:\n",
    ),
    _memory(
        name="a cut lets through what is on its way",
        original="        self._lose_all_under_way()\n        self.deliver(Disconnected(cause))\n",
        faulty="        self.is_connected = False\n        self.deliver(Disconnected(cause))\n",
    ),
    _memory(
        name="who comes back has the old sid",
        original="replace(transport.arrival, participant_sid=self._new_sid())",
        faulty="transport.arrival",
    ),
    _memory(
        name="a packet that a link could not send is not told",
        layer="worlds",
        original="                failed.append(packet)\n",
        faulty="                pass\n",
    ),
    _memory(
        name="receiving gives nobody a turn",
        original="        if not gives_turn:\n",
        faulty="        if False:\n",
    ),
    _links(
        name="jitter changes the order",
        original="        if at >= self.arrives_until:\n",
        faulty="        if True:\n",
    ),
    _links(
        name="the grace of a link that holds packets back is 0",
        original="for link in links if link.reordering",
        faulty="for link in links if False",
    ),
    # byte streams
    _framing(
        name="an empty frame is a packet",
        original="                if not 0 < length <= max_bytes:\n",
        faulty="                if not 0 <= length <= max_bytes:\n",
    ),
    _framing(
        name="a frame may have one byte more",
        original="                if not 0 < length <= max_bytes:\n",
        faulty="                if not 0 < length <= max_bytes + 1:\n",
    ),
    _framing(
        name="a batch of frames has no bound in bytes",
        original="(frames and length > most_bytes)",
        faulty="(frames and False)",
    ),
    _framing(
        name="a peer may have our identity",
        original="            if peer.identity == self._our_identity:\n",
        faulty="            if False:\n",
    ),
    _framing(
        name="a stream may end within a frame",
        original="        if self._reader:\n            raise",
        faulty="        if False:\n            raise",
    ),
    _stream(
        name="packets for others go to the peer",
        original="            elif peer is not None and destination == peer.identity:\n",
        faulty="            elif peer is not None:\n",
    ),
    _stream(
        name="no packet leaves after one that fails",
        original="                failed.append(packet)\n",
        faulty="                failed.append(packet)\n                break\n",
    ),
    _stream(
        name="the peer is whoever its packets claim",
        original="PacketReceived(data, peer.identity)",
        faulty="PacketReceived(data)",
    ),
    _stream(
        name="one connection more than max_connections is open",
        original="        if open_connections >= max_connections:\n",
        faulty="        if open_connections > max_connections:\n",
    ),
    _stream(
        name="a connection that has ended counts on",
        original="            open_connections -= 1\n",
        faulty="            pass\n",
    ),
    _stream(
        name="the socket of a listener stays",
        original="                    Path(path).unlink()\n",
        faulty="                    pass\n",
    ),
    _stream(
        name="a connection that broke is an end",
        original="            raise _broken(error) from error\n        self._link.receive_bytes(",
        faulty="            return False\n        self._link.receive_bytes(",
    ),
    _pipes(
        name="file descriptors stay as they were made",
        original="        os.set_blocking(fd, was_blocking)\n",
        faulty="",
    ),
    _pipes(
        name="a file is taken for a pipe",
        original="            if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):\n",
        faulty="            if False:\n",
    ),
    # WebSockets
    _websocket(
        name="leaving waits for a peer that does not answer",
        original="            async with asyncio.timeout(CLOSING_TIME):\n",
        faulty="            async with asyncio.timeout(CLOSING_TIME + 60.0):\n",
    ),
    _websocket(
        name="a peer that reads no pong fills memory",
        original="        if self.transport.get_write_buffer_size() > MAX_UNREAD_PONGS:\n",
        faulty="        if False:\n",
    ),
    _websocket(
        name="a message is cut at what is asked for",
        original="data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]",
        faulty='data, self._rest = self._rest[:max_bytes], memoryview(b"")',
    ),
    _websocket(
        name="any object is taken for a connection",
        original="        if not isinstance(connection, Connection):\n",
        faulty="        if False:\n",
    ),
    # brokers
    _presence(
        name="one heartbeat that does not come is a departure",
        original="(MISSED_HEARTBEATS + 0.5) * announcement",
        faulty="1.0 * announcement",
    ),
    _presence(
        name="whoever knows an identity can let it leave",
        original="            if known is None or known.sid != sid:\n",
        faulty="            if known is None:\n",
    ),
    _presence(
        name="one who asks again and again is always answered",
        original="        if self._answers[identity] >= MAX_ANSWERS_EACH:\n",
        faulty="        if False:\n",
    ),
    _presence(
        name="a taken sid is announced for another participant",
        original="self._owners.get(sid, identity) == identity\n        arrival",
        faulty="True\n        arrival",
    ),
    _presence(
        name="a participant beyond MAX_PARTICIPANTS is recorded",
        original="        if known is None and len(self._present) >= MAX_PARTICIPANTS:\n",
        faulty="        if False:\n",
    ),
    _inbox(
        name="one sender takes the room of all",
        original="            has_room = share < SHARE and",
        faulty="            has_room = True or",
    ),
    _inbox(
        name="what was read still takes room",
        original="            self._all.add(event, -1)\n",
        faulty="",
    ),
    _inbox(
        name="what an inbox has dropped is told nowhere",
        original="            self._dropped += 1\n",
        faulty="            pass\n",
    ),
    _nats_client(
        name="a message that is too large is kept",
        original="self.needed <= MAX_MESSAGE_BYTES:",
        faulty="True:",
    ),
    _nats_client(
        name="a credential is sent in the clear",
        original="        if self._requires_tls and not self._is_encrypted:\n",
        faulty="        if False:\n",
    ),
    _nats_client(
        name="reading from NATS gives nobody a turn",
        original="            self._turn = 0\n            await asyncio.sleep(0)\n",
        faulty="            self._turn = 0\n",
    ),
    _nats_traffic(
        name="a packet on NATS has no sid",
        original="PacketReceived(data, origin.identity, origin.sid)",
        faulty="PacketReceived(data, origin.identity)",
    ),
    # what floods
    _framing(
        name="all packets that have come are one batch",
        layer="floods",
        original="self._max_frame_bytes, BATCH_EVENTS, BATCH_BYTES)",
        faulty="self._max_frame_bytes, 1 << 30, 1 << 30)",
    ),
    _turns(
        name="packets that have come give nobody a turn",
        original="        if self._left > 0 and not self._waiting:\n",
        faulty="        if True:\n",
    ),
    _turns(
        name="each stream has a round of its own",
        original="    if found is None:\n",
        faulty="    if True:\n",
    ),
    _websocket(
        name="a WebSocket is read in large pieces",
        layer="floods",
        original="        transport.max_size = READ_BYTES ",
        faulty="        transport.max_size = 1 << 22 ",
    ),
    _framing(
        name="so many packets as 256 KiB have room for are one batch",
        layer="floods",
        original="self._max_frame_bytes, BATCH_EVENTS, BATCH_BYTES)",
        faulty="self._max_frame_bytes, 1 << 30, BATCH_BYTES)",
    ),
    # LiveKit rooms
    _signalling(
        name="a LiveKit server that speaks is taken for a silent one",
        original="        self._heard_at = now\n        try:",
        faulty="        try:",
    ),
    _signalling(
        name="a silent LiveKit server has a moment more",
        original="now >= self._heard_at + self._ping_timeout",
        faulty="now > self._heard_at + self._ping_timeout",
    ),
    _signalling(
        name="a LiveKit server is told of no round trip",
        original="rtt=self._round_trip",
        faulty="rtt=0",
    ),
    _signalling(
        name="signalling that cannot be read raises",
        original="        except (DecodeError, ValueError, RecursionError):\n",
        faulty="        except RecursionError:\n",
    ),
]
