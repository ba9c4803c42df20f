"""Faults of hosts, each a small change of a source, and the scenario of the kit that finds it.

`make kit-faults` prints them as a table; `make kit-faults ALL=1` with every scenario that finds
each, within two minutes.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from planted_hosts import Fault, attempt

from rpcproto.testing.hosts import Scenario, scenarios


class _F(NamedTuple):
    """A fault; see `Fault`."""

    name: str
    old: str
    new: str
    found_by: str
    why_not: str = ""


_CALLBACK: Final = (
    _F(
        "handlers are never cancelled",
        "        return handling.cancel",
        "        return lambda: None",
        "handlers are cancelled when the host",
    ),
    _F(
        "cancelling a handler does not reach its future",
        "            self.future.cancel()",
        "            pass",
        "handlers are cancelled when the host",
    ),
    _F(
        "a handler runs although it was cancelled before",
        "if handling.is_cancelled:",
        "if False:",
        "a handler that is abandoned",
    ),
    _F(
        "a handler that was cancelled before it ran counts for ever",
        ("            self.handler_ended(invocation)\n            return\n"),
        ("            return\n"),
        "a handler that is abandoned",
    ),
    _F(
        "a handler that answered counts for ever",
        ("        self.answer(invocation, result)\n        self.handler_ended(invocation)"),
        "        self.answer(invocation, result)",
        "a handler that has",
    ),
    _F(
        "a handler that failed counts for ever",
        (
            "        self.answer_exception(invocation, error)\n"
            "        self.handler_ended(invocation)"
        ),
        "        self.answer_exception(invocation, error)",
        "a handler that has",
    ),
    _F(
        "the future of a handler is forgotten",
        ("        handling.future = result\n"),
        "",
        "handlers are cancelled when the host",
    ),
    _F(
        "a future is taken for the answer",
        'if not hasattr(result, "add_done_callback"):',
        "if True:",
        "a handler that calls",
    ),
    _F(
        "cancelling a call hides its outcome and does nothing else",
        ("            waiters.clear()\n            cancel_call()"),
        "            waiters.clear()",
        "a call that is cancelled while",
    ),
    _F(
        "outcomes are handed over inside the pump",
        "            self._loop.call_soon(partial(deliver, outcome))",
        "            deliver(outcome)",
        "no sign of life ends",
    ),
    _F(
        "handlers run inside the pump",
        "        self._loop.call_soon(partial(self._handle, invocation, handling))",
        "        self._handle(invocation, handling)",
        "many requests at once,",
    ),
    _F(
        "every outcome is handed over twice",
        "                waiters.pop()(outcome)",
        ("                waiters[0](outcome)\n                waiters[0](outcome)"),
        "leaving ends calls",
    ),
    _F(
        "outcomes are lost",
        "                waiters.pop()(outcome)",
        "                pass",
        "leaving ends calls",
    ),
    _F(
        "every handler runs twice",
        "        self._loop.call_soon(partial(self._handle, invocation, handling))",
        (
            "        self._loop.call_soon(partial(self._handle, invocation, handling))\n"
            "        self._loop.call_soon(partial(self._handle, invocation, handling))"
        ),
        "handlers are cancelled when the host",
    ),
    _F(
        "handlers never run",
        "        self._loop.call_soon(partial(self._handle, invocation, handling))",
        "        pass",
        "many requests at once,",
    ),
    _F(
        "the timer outlives the participant",
        (
            "        self._has_left = True\n"
            "        if self._timer is not None:\n"
            "            self._timer.cancel()"
        ),
        "        self._has_left = True",
        "leaving ends all calls",
    ),
    _F(
        "no timer is ever set",
        "        self._timer = self._loop.call_at(at, self.timer_fired)",
        "        pass",
        "no sign of life ends",
    ),
    _F(
        "only the first timer is set",
        (
            "        if self._timer is not None:\n"
            "            self._timer.cancel()\n"
            "        self._timer = self._loop"
        ),
        (
            "        if self._timer is not None:\n"
            "            return\n"
            "        self._timer = self._loop"
        ),
        "timers that fire early",
    ),
    _F(
        "a timer that is replaced stays set",
        (
            "        if self._timer is not None:\n"
            "            self._timer.cancel()\n"
            "        self._timer = self._loop"
        ),
        "        self._timer = self._loop",
        "no timer is left behind,",
    ),
    _F(
        "the timer fires a quarter of a second late",
        "call_at(at, self",
        "call_at(at + 0.25, self",
        "no sign of life ends",
    ),
    _F(
        "packets are sent although there is no room",
        "while self.has_packets and self._transport.has_room():",
        "while self.has_packets:",
        "leaving is not held",
    ),
    _F(
        "nobody notices that there is room again",
        ("        channel.on_room = self.wake_writer\n"),
        "",
        "a call that is cancelled before",
    ),
    _F(
        "packets are sent from within the sending of others",
        "if self._is_sending or self._has_left:",
        "if self._has_left:",
        "hundreds of packets",
    ),
    _F(
        "packets are sent after leaving",
        "if self._is_sending or self._has_left:",
        "if self._is_sending:",
        "leaving is not held",
    ),
    _F(
        "a call that was cancelled just now has its outcome",
        ("            waiters.clear()\n"),
        "",
        "a call that is cancelled when",
    ),
    _F(
        "one packet is sent each time",
        ("        self._is_sending = False\n\n    def set_timer"),
        ("            break\n        self._is_sending = False\n\n    def set_timer"),
        "a request that arrives",
    ),
    _F(
        "the flag against re-entry is never taken back",
        ("        self._is_sending = False\n\n    def set_timer"),
        ("\n    def set_timer"),
        "many calls are answered",
    ),
    _F(
        "packets are sent in the wrong order",
        (
            "            packet = self.next_packet()\n"
            "            if packet is None:\n"
            "                break\n"
        ),
        (
            "            following = self.next_packet()\n"
            "            packet = self.next_packet() or following\n"
            "            if following is not None and packet is not following:\n"
            "                self._transport.send(packet)\n"
            "                packet = following\n"
            "            if packet is None:\n"
            "                break\n"
        ),
        "a short call leaves",
    ),
    _F(
        "a packet that was not sent is forgotten",
        "self.packets_not_sent(error.packets)",
        "pass",
        "an answer that is not",
    ),
    _F(
        "a packet that was not sent counts as a lost connection",
        "self.packets_not_sent(error.packets)",
        "self.sending_failed(error)",
        "an answer that is not",
    ),
    _F(
        "a packet that was not sent is taken for the next one",
        "self.packets_not_sent(error.packets)",
        "self.packets_not_sent([self.next_packet() or packet])",
        "of packets that leave",
    ),
    _F(
        "a connection that breaks while sending is ignored",
        "                self.sending_failed(error)",
        "                pass",
        "leaving a channel that",
    ),
    _F(
        "a connection that breaks while sending has ended for good",
        "                self.sending_failed(error)",
        "                self.connection_ended()",
        "a channel that breaks",
    ),
    _F(
        "a connection that breaks loses its cause",
        "                self.sending_failed(error)",
        "                self.sending_failed(ConnectionError())",
        "a channel that breaks",
    ),
    _F(
        "the channel stays open",
        ("            self._timer.cancel()\n        self._transport.close()"),
        "            self._timer.cancel()",
        "leaving a connection",
    ),
    _F(
        "the channel is closed twice",
        ("            self._timer.cancel()\n        self._transport.close()"),
        (
            "            self._timer.cancel()\n"
            "        self._transport.close()\n"
            "        self._transport.close()"
        ),
        "leaving a connection",
    ),
    _F(
        "leaving ends nothing",
        ("        self.close_engine()\n        self._has_left"),
        "        self._has_left",
        "leaving ends calls",
    ),
    _F(
        "an exit in a handler goes through",
        (
            "        try:\n"
            "            result: Any = self.run_handler(invocation)\n"
            "        except BaseException"
        ),
        (
            "        try:\n"
            "            result: Any = self.run_handler(invocation)\n"
            "        except Exception"
        ),
        "whatever a handler",
    ),
    _F(
        "a handler that raises has no answer",
        ("        self.answer_exception(invocation, error)\n"),
        "",
        "a request that arrives",
    ),
    _F(
        "the text of an exception is sent",
        ("        self.answer_exception(invocation, error)\n"),
        ("        self.answer(invocation, str(error))\n"),
        "a request that arrives",
    ),
    _F(
        "the config is ignored",
        "config=config, departure_grace",
        "config=RpcConfig(), departure_grace",
        "a host goes by the",
    ),
    _F(
        "the channel's grace is ignored",
        ", departure_grace=channel.departure_grace",
        ", departure_grace=0.0",
        "a larger grace of the channel",
    ),
    _F(
        "the response timeout is ignored",
        "payload, response_timeout, None)",
        "payload, None, None)",
        "misuse is refused at",
    ),
    _F(
        "the destination is ignored",
        "CallArguments(destination_identity, method",
        'CallArguments("peer", method',
        "where the list of participants",
    ),
    _F(
        "only the first event of a batch counts",
        "channel.on_events = self.receive_events",
        "channel.on_events = lambda events: self.receive_events(events[:1])",
        "a server that is too",
    ),
    _F(
        "the events of a batch are taken from the end",
        "channel.on_events = self.receive_events",
        "channel.on_events = lambda events: self.receive_events(events[::-1])",
        "an answer that comes with",
    ),
    _F(
        "events that come while sending are dropped",
        "channel.on_events = self.receive_events",
        "channel.on_events = lambda events: self._is_sending or self.receive_events(events)",
        "hundreds of packets",
    ),
    _F(
        "a future that ends hands its answer over at once",
        "result.add_done_callback(lambda _: self._loop.call_soon(end))",
        "result.add_done_callback(lambda _: end())",
        "",
        "no code of the program runs in it, and the pump's guard takes the answer",
    ),
    _F(
        "events that come after leaving are refused",
        ("        self._transport.close()\n\n    # the hooks"),
        (
            "        self._transport.close()\n"
            "        self._transport.on_events = None\n"
            "\n"
            "    # the hooks"
        ),
        "nothing comes of what",
    ),
)

_BLOCKING: Final = (
    _F(
        "handlers are not told that they are abandoned",
        "            abandoned.cancel()",
        "            pass",
        "handlers are cancelled when the host",
    ),
    _F(
        "a handler cannot learn that it is abandoned",
        "    _abandoned.get().add_done_callback(lambda _: function())",
        "    pass",
        "handlers are cancelled when the host",
    ),
    _F(
        "handlers count for ever",
        "        self.handler_ended(invocation)\n",
        "",
        "a handler that has",
    ),
    _F(
        "the writer never stops writing for itself",
        ("                    self._is_writing = False\n                    return"),
        "                    return",
        "many calls are answered",
    ),
    _F(
        "a thread is started after leaving",
        "not self._is_writing and not self._has_left",
        "not self._is_writing",
        "leaving a connection",
    ),
    _F(
        "the timer outlives the participant",
        (
            "        if self._timer is not None:\n"
            "            self._timer.cancel()\n"
            "        self._transport.close()"
        ),
        "        self._transport.close()",
        "leaving ends all calls",
    ),
    _F(
        "an exit in a handler goes through",
        ("        except BaseException as error:\n            self._locked(self._end_with)"),
        ("        except Exception as error:\n            self._locked(self._end_with)"),
        "whatever a handler",
    ),
    _F(
        "misuse of a call is never reported",
        ("        except (RpcError, LocalProtocolError) as error:\n            end(error)"),
        (
            "        except RpcError as error:\n"
            "            end(error)\n"
            "        except LocalProtocolError:\n"
            "            pass"
        ),
        "misuse is refused at",
    ),
    _F(
        "a call without a connection never ends",
        ("        except (RpcError, LocalProtocolError) as error:\n            end(error)"),
        (
            "        except LocalProtocolError as error:\n"
            "            end(error)\n"
            "        except RpcError:\n"
            "            pass"
        ),
        "a channel that breaks",
    ),
    _F(
        "cancelling a call does not reach the engine",
        "            future.add_done_callback(lambda _: self._locked(cancel)())",
        "            pass",
        "a call that is cancelled while",
    ),
    _F(
        "packets are sent although there is no room",
        "self.has_packets and self._transport.has_room()",
        "self.has_packets",
        "leaving is not held",
    ),
    _F(
        "nobody notices that there is room again",
        ("        channel.on_room = self._locked(self.wake_writer)\n"),
        "",
        "a call that is cancelled before",
    ),
    _F(
        "a packet that was not sent is forgotten",
        "self._locked(self.packets_not_sent)(error.packets)",
        "pass",
        "an answer that is not",
    ),
    _F(
        "a connection that breaks while sending is ignored",
        "self._locked(self.sending_failed)(error)",
        "pass",
        "leaving a channel that",
    ),
    _F(
        "the channel stays open",
        ("            self._timer.cancel()\n        self._transport.close()"),
        "            self._timer.cancel()",
        "leaving a connection",
    ),
    _F(
        "the config is ignored",
        "config=config, departure_grace",
        "config=RpcConfig(), departure_grace",
        "a host goes by the",
    ),
    _F(
        "the channel's grace is ignored",
        ", departure_grace=channel.departure_grace",
        ", departure_grace=0.0",
        "a larger grace of the channel",
    ),
)

_CALLING_ON_CALLBACK: Final = (
    _F(
        "calls do not wait for the connection: they fail",
        "if waiting.connection is not Connection.CONNECTING:",
        "if True:",
        "calls wait for the",
    ),
    _F(
        "calls do not wait for the connection: they leave",
        "if waiting.connection is not Connection.CONNECTED and not self._is_closed:",
        "if waiting.connection in (Connection.LOST, Connection.ENDED) and not self._is_closed:",
        "leaving ends calls",
    ),
    _F(
        "misuse is not noticed while there is no connection",
        "self._engine.check_call(*call[:3], response_timeout=call[3], ack_timeout=call[4])",
        "pass",
        "misuse is refused at",
    ),
    _F(
        "calls that wait for the connection never begin",
        ("        for waiter, call in delayed.items():\n            try:"),
        ("        for waiter, call in ():\n            try:"),
        "calls wait for the",
    ),
    _F(
        "a call that waits cannot be cancelled",
        "if self._waiting.delayed.pop(waiter, None) is not None:",
        "if False:",
        "a call that is cancelled while",
    ),
    _F(
        "a call that has waited cannot be cancelled",
        ("        self._cancel_call(call.request_id)\n"),
        ("        pass\n"),
        "a call that waited",
    ),
    _F(
        "cancel does not reach the engine",
        ("            self._engine.cancel(request_id, now=self._clock())\n"),
        "",
        "cancelling a call makes",
    ),
    _F(
        "cancel ends nothing",
        ("        if pending is not None:\n            self._totals.call_ended(pending, OTHER"),
        ("        if False:\n            self._totals.call_ended(pending, OTHER"),
        "cancelling a call makes",
    ),
)

_BASE_ON_CALLBACK: Final = (
    _F(
        "calls fail without their message and data",
        "error_of(event.code, event.message, event.data)",
        "error_of(event.code)",
        "an error of the peer",
    ),
    _F(
        "the data of an error is dropped",
        "error_of(event.code, event.message, event.data)",
        "error_of(event.code, event.message)",
        "an error of the peer",
    ),
    _F(
        "calls that wait outlive the connection",
        ("            self._fail_delayed_calls()\n            self._pump()"),
        "            self._pump()",
        "calls that wait for",
    ),
    _F(
        "calls that wait outlive the participant",
        ("        self._fail_delayed_calls()\n        self._waiting.fail_expected()"),
        "        self._waiting.fail_expected()",
        "leaving ends calls",
    ),
    _F(
        "a lost connection has no cause",
        "waiting.connection_is(Connection.LOST, cause)",
        "waiting.connection_is(Connection.LOST)",
        "calls that wait for",
    ),
    _F(
        "the loss of the connection does not reach the engine",
        ("            self._engine.disconnected(now=self._clock())\n"),
        "",
        "an answer that comes with",
    ),
    _F(
        "a connection that was lost never comes back",
        "        waiting.connection_is(Connection.CONNECTED)",
        "        waiting.may_send and waiting.connection_is(Connection.CONNECTED)",
        "a connection that is lost",
    ),
    _F("the sid of a packet is dropped", "sender_sid=event.sender_sid,", "", "packets of another"),
    _F(
        "the sender of a packet is dropped",
        ("                        sender_identity=event.sender_identity,\n"),
        "",
        "a call that is cancelled has",
    ),
    _F(
        "the sid of a participant is dropped when it joins",
        ("                    participant_sid=event.participant_sid,\n                    client"),
        "                    client",
        "packets of another",
    ),
    _F(
        "the sid of a participant is dropped when it leaves",
        ("event.identity, now=now, participant_sid=event.participant_sid\n"),
        ("event.identity, now=now\n"),
        "the departure of an",
    ),
    _F(
        "the protocol of a participant is dropped",
        ("                    client_protocol=event.client_protocol,\n"),
        "",
        "a peer gets the packets that it can read: streams,",
    ),
    _F(
        "the capabilities of a participant are dropped",
        ("                    capabilities=event.capabilities,\n"),
        "",
        "a peer gets the packets that it can read: streams,",
    ),
    _F(
        "the server's version is dropped",
        ("                    server_version=event.server_version,\n"),
        "",
        "a server that is too",
    ),
    _F(
        "that the list of participants is complete is dropped",
        "participants_complete=event.participants_complete,",
        "",
        "a peer that leaves",
    ),
    _F(
        "every list of participants counts as complete",
        "participants_complete=event.participants_complete,",
        "participants_complete=True,",
        "where the list of participants",
    ),
    _F(
        "departures are dropped",
        (
            "                engine.participant_left(\n"
            "                    event.identity, now=now, participant_sid=event.participant_sid\n"
            "                )"
        ),
        "                pass",
        "a peer that leaves",
    ),
    _F(
        "abandoned handlers are not cancelled",
        "                self._handlers.abandon(event.invocation_id, event.reason)",
        "                pass",
        "handlers are cancelled when the host",
    ),
    _F(
        "an impossible event goes through",
        ("            except LocalProtocolError as error:\n                kind"),
        ("            except ZeroDivisionError as error:\n                kind"),
        "garbage and impossible",
    ),
    _F(
        "what comes after an impossible event is dropped",
        ("kind, error)\n        # Only"),
        ("kind, error)\n                break\n        # Only"),
        "garbage and impossible",
    ),
    _F(
        "a timer is never set for earlier",
        "if deadline is not None and (self._timer_at is None or deadline < self._timer_at):",
        "if deadline is not None and self._timer_at is None:",
        "a larger grace of the channel",
    ),
    _F(
        "after a timer nobody looks again",
        (
            "        # Timers fire early: the pump looks at the next deadline again.\n"
            "        self._pump()"
        ),
        "        pass",
        "no sign of life ends",
    ),
    _F(
        "after a timer no other is set",
        ("        self._timer_at = None\n        self._engine.handle_deadline"),
        "        self._engine.handle_deadline",
        "timers that fire early",
    ),
    _F(
        "a timer that fires is taken for its deadline",
        ("        self._timer_at = None\n        self._engine.handle_deadline(now=self._clock())"),
        (
            "        at, self._timer_at = self._timer_at, None\n"
            "        self._engine.handle_deadline(now=at or self._clock())"
        ),
        "timers that fire early",
    ),
    _F(
        "deadlines are read once a second",
        ("deadline = engine.next_deadline\n"),
        ("deadline = engine.next_deadline and max(engine.next_deadline, self._clock() + 1.0)\n"),
        "timers that fire early",
    ),
    _F(
        "nobody is told of packets",
        ("            self._is_drained = False\n            self.wake_writer()"),
        "            self._is_drained = False",
        "a call that is cancelled has",
    ),
    _F(
        "events that come up inside the pump wait for the next input",
        "            while events := engine.take_events():",
        "            if events := engine.take_events():",
        "",
        "these hosts give the engine no input from inside the pump",
    ),
    _F(
        "the config's grace is overridden",
        'if require_finite(departure_grace, "departure_grace") > config.departure_grace:',
        "if True:",
        "a larger grace of the config",
    ),
    _F(
        "leaving does not reach the engine",
        ("        self.engine.close(now=self._clock())\n"),
        "",
        "leaving ends all calls",
    ),
    _F(
        "the pump is not guarded against itself",
        ("        if self._is_pumping:\n            return"),
        ("        if False:\n            return"),
        "",
        "events are handed out in their order all the same; only deep recursion shows it",
    ),
)

_ANSWERING_ON_CALLBACK: Final = (
    _F(
        "handlers are not bounded",
        "        if refusal is None:",
        "        if True:",
        "a caller who comes",
    ),
    _F(
        "a request beyond the bound is not answered",
        "            self._handlers.refuse(self._engine, invocation, refusal, self._clock())",
        "            pass",
        "a caller who comes",
    ),
)

_HANDLERS_ON_CALLBACK: Final = (
    _F(
        "a request beyond the bound is answered without the reason",
        "invocation_id, code, data=data, now=now",
        "invocation_id, code, now=now",
        "a caller who comes",
    ),
    _F(
        "the data of a handler's RpcError is dropped",
        '"" if error.data is None else str.__str__(error.data)',
        '""',
        "a handler answers,",
    ),
    _F(
        "the message of a handler's RpcError is dropped",
        ("            str.__str__(error.message),\n"),
        ('            "",\n'),
        "a handler answers,",
    ),
    _F(
        "a handler's RpcError becomes a 1500",
        ("        if not isinstance(error, RpcError):\n            return None"),
        "        return None",
        "a handler answers,",
    ),
    _F(
        "the text of an exception is sent as data",
        "ErrorCode.APPLICATION_ERROR, now=now)",
        "ErrorCode.APPLICATION_ERROR, data=repr(error), now=now)",
        "a request that arrives",
    ),
    _F(
        "the bound of all callers is not looked at",
        ("            len(self._running) >= self._most\n            or "),
        "            ",
        "handlers that do not end when cancelled count against the bound in",
    ),
    _F(
        "the bound of one caller is not looked at",
        ("            or self._running_of.get(caller_identity, 0) >= self._most_of_one\n"),
        "",
        "a caller who comes",
    ),
    _F(
        "an abandoned handler counts no more, though it has not ended",
        ("        cancel, running.cancel = running.cancel, None\n"),
        (
            "        cancel, running.cancel = running.cancel, None\n"
            "        self.ended(invocation_id)\n"
        ),
        "a caller who comes",
    ),
    _F(
        "handlers of one caller count for ever",
        ("            self._running_of[caller] -= 1\n"),
        "",
        "a handler that has",
    ),
    _F(
        "a text of an odd class is refused",
        "                result = _text_of(result)",
        "                raise TypeError",
        "whatever a handler",
    ),
    _F(
        "a result that is no text has no answer",
        (
            "        except Exception as error:\n"
            "            self.answer_exception(engine, invocation, error, now)"
        ),
        ("        except Exception:\n            pass"),
        "whatever a handler",
    ),
    _F(
        "a handler is given the wrong caller",
        "RpcInvocationData(request_id, caller, payload",
        "RpcInvocationData(request_id, request_id, payload",
        "many requests at once,",
    ),
    _F(
        "a handler is given the wrong timeout",
        "payload, response_timeout, method)",
        "payload, response_timeout + 2.0, method)",
        "many requests at once,",
    ),
    _F(
        "a handler is given the wrong request id",
        "RpcInvocationData(request_id, caller, payload",
        "RpcInvocationData(str(invocation_id), caller, payload",
        "many requests at once,",
    ),
    _F(
        "an RpcError that cannot be sent is not answered",
        (
            "    except BaseException:  # whatever the handler has made of its exception\n"
            "        return None"
        ),
        (
            "    except BaseException:  # whatever the handler has made of its exception\n"
            "        return -1"
        ),
        "whatever a handler",
    ),
    _F(
        "a method without a handler crashes",
        "            raise RpcError(ErrorCode.UNSUPPORTED_METHOD)",
        "            raise KeyError(invocation.method)",
        "",
        "the engine answers such requests; this is for methods unregistered in between",
    ),
)

_BASE_ON_ASYNCIO: Final = (
    _F(
        "only the first of the packets that were not sent counts",
        "for packet in packets:",
        "for packet in packets[:1]:",
        "of packets that leave",
    ),
)

_WAITING_ON_CALLBACK: Final = (
    _F(
        "every outcome is lost",
        ("            waiter(outcome)\n"),
        ("            pass\n"),
        "leaving ends calls",
    ),
    _F(
        "errors after the loss of the connection have no cause",
        ("            error.__cause__ = self.error\n"),
        ("            pass\n"),
        "calls that wait for",
    ),
    _F(
        "packets leave although the connection is lost",
        "self.may_send = connection in (Connection.CONNECTED, Connection.CONNECTING)",
        "self.may_send = True",
        "",
        "the engine has dropped its packets, and takes no calls",
    ),
)

_ASYNCIO: Final = (
    _F(
        "handlers are never cancelled",
        "return lambda: task is not asyncio.current_task() and task.cancel()",
        "return lambda: None",
        "handlers are cancelled when the host",
    ),
    _F(
        "handlers count for ever",
        ("        self.handler_ended(invocation)\n"),
        "",
        "a handler that has",
    ),
    _F(
        "an exit in a handler goes through",
        ("        except BaseException as error:\n            self.answer_exception"),
        ("        except Exception as error:\n            self.answer_exception"),
        "whatever a handler",
    ),
    _F(
        "a packet that was not sent is forgotten",
        "self.packets_not_sent(error.packets)",
        "pass",
        "an answer that is not",
    ),
    _F(
        "a packet that was not sent counts as a lost connection",
        "self.packets_not_sent(error.packets)",
        "self.sending_failed(error)",
        "an answer that is not",
    ),
    _F(
        "a connection that breaks while sending is ignored",
        "                    self.sending_failed(error)",
        "                    pass",
        "leaving a channel that",
    ),
    _F(
        "only the first event of a batch counts",
        ("self.receive_events(events)\n        except"),
        ("self.receive_events(events[:1])\n        except"),
        "a server that is too",
    ),
    _F(
        "cancelling a call does not reach the engine",
        ("        finally:\n            cancel()"),
        ("        finally:\n            pass"),
        "a call that is cancelled while",
    ),
    _F(
        "the timer outlives the participant",
        (
            "            self._writer.cancel()\n"
            "            if self._timer is not None:\n"
            "                self._timer.cancel()"
        ),
        "            self._writer.cancel()",
        "leaving ends all calls",
    ),
    _F(
        "the transport stays open", "await self._transport.aclose()", "pass", "leaving a connection"
    ),
    _F(
        "leaving waits until all is sent",
        "timeout=LEAVING_TIME / 2",
        "timeout=None",
        "leaving is not held",
    ),
    _F(
        "the reader outlives the participant",
        ("        self._reader.cancel()\n"),
        "",
        "leaving a connection",
    ),
    _F(
        "no timer is ever set",
        "        self._timer = self._loop.call_at(at, self.timer_fired)",
        "        pass",
        "no sign of life ends",
    ),
    _F(
        "the writer sleeps through new packets",
        "        if self._writer_waits is not None and not self._writer_waits.done():",
        "        if False:",
        "a call that is cancelled has",
    ),
)

_ASYNC_BASE_ON_ASYNCIO: Final = (
    _F(
        "the transport's grace is ignored",
        ("            departure_grace=transport.departure_grace,\n"),
        "",
        "a larger grace of the channel",
    ),
    _F(
        "the response timeout is ignored",
        (
            "call = CallArguments(\n"
            "            destination_identity, method, payload, response_timeout,"
        ),
        ("call = CallArguments(\n            destination_identity, method, payload, None,"),
        "misuse is refused at",
    ),
)

_ASYNC_BASE_ON_TRIO: Final = (
    _F("the config is ignored", ("            config=config,\n"), "", "a host goes by the"),
)

_TRIO: Final = (
    _F(
        "handlers are never cancelled",
        "return scope.cancel",
        "return lambda: None",
        "handlers are cancelled when the host",
    ),
    _F(
        "handlers count for ever",
        "            self.handler_ended(invocation)",
        "            pass",
        "a handler that has",
    ),
    _F(
        "an exit in a handler goes through",
        ("        except BaseException as error:\n            cancelled"),
        ("        except Exception as error:\n            cancelled"),
        "whatever a handler",
    ),
    _F(
        "a packet that was not sent is forgotten",
        "self.packets_not_sent(error.packets)",
        "pass",
        "an answer that is not",
    ),
    _F(
        "a connection that breaks while sending is ignored",
        "                        self.sending_failed(error)",
        "                        pass",
        "leaving a channel that",
    ),
    _F(
        "cancelling a call does not reach the engine",
        ("        finally:\n            cancel()"),
        ("        finally:\n            pass"),
        "a call that is cancelled while",
    ),
    _F(
        "no timer is ever set",
        "        self._timer.deadline = at",
        "        pass",
        "no sign of life ends",
    ),
    _F(
        "the transport stays open", "await self._transport.aclose()", "pass", "leaving a connection"
    ),
    _F(
        "leaving takes its time",
        "deadline=latest - LEAVING_TIME / 2",
        "deadline=latest + LEAVING_TIME",
        "leaving is not held",
    ),
    _F(
        "the writer sleeps through new packets",
        "self._writer_is_wanted.unpark_all()",
        "pass",
        "a call that is cancelled has",
    ),
)

FAULTS: Final = [
    Fault(fault.name, host, module, fault.old, fault.new, fault.found_by, fault.why_not)
    for host, module, faults in (
        ("callback", "callback_host", _CALLBACK),
        ("blocking", "blocking_host", _BLOCKING),
        ("callback", "rpcproto.participant.calling", _CALLING_ON_CALLBACK),
        ("callback", "rpcproto.participant.base", _BASE_ON_CALLBACK),
        ("callback", "rpcproto.participant.answering", _ANSWERING_ON_CALLBACK),
        ("callback", "rpcproto.participant.handlers", _HANDLERS_ON_CALLBACK),
        ("asyncio", "rpcproto.participant.base", _BASE_ON_ASYNCIO),
        ("callback", "rpcproto.participant.waiting", _WAITING_ON_CALLBACK),
        ("asyncio", "rpcproto.asyncio", _ASYNCIO),
        ("asyncio", "rpcproto.participant.async_base", _ASYNC_BASE_ON_ASYNCIO),
        ("trio", "rpcproto.participant.async_base", _ASYNC_BASE_ON_TRIO),
        ("trio", "rpcproto.trio", _TRIO),
    )
    for fault in faults
]


def finders_of(fault: Fault) -> Sequence[Scenario]:
    """The scenario that finds this fault; none if nobody can notice it."""
    if fault.why_not:
        return ()
    [scenario] = (each for each in scenarios() if each.name.startswith(fault.found_by))
    return (scenario,)


def table(*, all_finders: bool) -> Iterator[str]:
    """Plant every fault, and tell line by line which scenario finds it."""
    for fault in FAULTS:
        tried = scenarios() if all_finders else finders_of(fault)
        found = [scenario.name for scenario in tried if attempt(fault, scenario)]
        verdict = "; ".join(found) or f"not found: {fault.why_not or 'although it should be'}"
        yield f"{fault.host:8}  {fault.name:72}  {verdict}"
    noticeable = [fault for fault in FAULTS if not fault.why_not]
    others = len(FAULTS) - len(noticeable)
    yield f"{len(noticeable)} faults that a peer or the program can notice, {others} that cannot be"


if __name__ == "__main__":
    for line in table(all_finders="--all" in sys.argv[1:]):
        print(line, flush=True)
