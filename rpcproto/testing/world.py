"""Worlds: engines on virtual time, with a hostile network that a seed determines."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final, final

from rpcproto.core.config import RpcConfig
from rpcproto.core.engine import RpcEngine
from rpcproto.core.errors import LocalProtocolError
from rpcproto.core.events import Event
from rpcproto.core.messages import OutgoingPacket
from rpcproto.core.sealing import Cryptor
from rpcproto.testing.agenda import Agenda
from rpcproto.testing.engines import EngineFactory
from rpcproto.testing.ids import counting_ids
from rpcproto.testing.participants import WorldCall, WorldParticipant
from rpcproto.testing.transcript import Happening, lines
from rpcproto.transports.links import Fate, Link, Links, SentPacket
from rpcproto.wire import stamp

MAX_REPLAYED: Final = 64
"""So many of the newest packets to each participant can be replayed."""


class _Session:
    """What the network knows of a participant, from one connection to the next."""

    def __init__(self) -> None:
        self.number = 0
        self.connections = 0
        self.sequence = 0
        self.told_until = 0.0
        """When the last that it is told about the others arrives."""
        self.news_under_way = 0
        self.newest: deque[tuple[SentPacket, bytes]] = deque(maxlen=MAX_REPLAYED)
        """The newest packets to it, with their stamps."""

    def stamped(self, sent: SentPacket) -> bytes:
        """A packet from it as it arrives; what is not a packet by itself cannot be stamped."""
        self.sequence += 1
        try:
            return stamp(
                sent.data,
                sequence=self.sequence,
                sender_identity=sent.sender_identity,
                sender_sid=sent.sender_sid,
            )
        except LocalProtocolError:
            return sent.data


@final
class World:
    """Simulated participants with a network and a clock: deterministic, and without I/O.

    `join` participants, let them `register` handlers and `call` each other, and process everything
    with `run`. `now` is the time in seconds, from 0. It jumps from one event to the next. A packet
    that arrives at the instant of a deadline is processed before the deadline. Random decisions
    come from `seed`: the same program with the same seed has the same transcript.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        link: Link = Link(),  # noqa: B008 (frozen)
        presence: Link = Link(),  # noqa: B008 (frozen)
        stamped: bool = True,
        participants_complete: bool = False,
        departures_overtake: bool = True,
        config: RpcConfig = RpcConfig(),  # noqa: B008 (frozen)
        cryptors: Callable[[str], Cryptor | None] = lambda identity: None,
        engine_factory: EngineFactory = RpcEngine,
    ) -> None:
        """Use `link` in every direction, until `set_link` changes a direction.

        Announcements of joins and departures arrive in order, with the latency and jitter of
        `presence`. `participants_complete` is reported to each engine (R12). With
        `departures_overtake`, as in a LiveKit room, the announcement of a departure does not wait
        for packets that were sent before it. It overtakes them if `presence` is faster than the
        link (R9). Without it, the announcement arrives after all packets of the departed
        participant, except those that are held back or duplicated.

        With `stamped`, packets pass through a server, which stamps them with the sender's identity,
        sid and sequence number. Otherwise, each host knows the sender of a packet (R36). `config`
        is for all engines. `cryptors` returns the cryptor of each participant that joins (R43),
        such as a `ToyCryptor`. `engine_factory` makes the engines.
        """
        self.presence: Link = presence
        self.lose: Callable[[SentPacket], bool] = lambda sent: False
        """Returns whether a packet is lost, regardless of its link. Tests can replace it."""
        self.participants: dict[str, WorldParticipant] = {}
        """All participants that have ever joined, by identity."""
        self.calls: list[WorldCall] = []
        """All calls, in the order in which they were made."""
        self.sent: list[SentPacket] = []
        """All packets, in the order in which they were sent."""
        self._agenda = Agenda()
        self._random = Random(seed)
        self._stamped = stamped
        self._participants_complete = participants_complete
        self._departures_overtake = departures_overtake
        self._config = config
        self._cryptors = cryptors
        self._engine_factory = engine_factory
        self._id_sources = (counting_ids(f"{number:08x}") for number in itertools.count(1))
        self._sessions: dict[str, _Session] = {}
        self._links = Links(link, lambda *_: self._random)
        self._happenings: list[Happening] = []

    # time

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self._agenda.now

    @property
    def next_instant(self) -> float | None:
        """The instant of the next event that is planned, in seconds, or None."""
        return self._agenda.next_instant

    def at(self, instant: float, action: Callable[[], object]) -> None:
        """Call `action` at `instant` (seconds). If that is in the past, `run` calls it at once."""
        self._agenda.plan(instant, partial(self._act, action))

    def run(self, until: float | None = None) -> None:
        """Process all events in order of time. With `until` (seconds), stop after the events of
        that instant, and set `now` to it."""
        self._settle()
        self._agenda.run(until)

    # participants

    def join(
        self,
        identity: str,
        *,
        client_protocol: int = 0,
        capabilities: Collection[int] = (),
        uplink: float = math.inf,
        departure_grace: float | None = None,
    ) -> WorldParticipant:
        """Add a participant, and announce it to the others.

        `departure_grace` is how long its calls can be answered after their recipient left, in
        seconds (R9). None means the value of the config. `uplink` is the number of bytes that its
        host can send per second.

        Raises:
            ValueError: The identity was used before, or `uplink` is not above 0.
            LocalProtocolError: `departure_grace` is below 0 or not finite.
        """
        if identity in self.participants:
            raise ValueError(f"{identity!r} was used before: call come_back")
        if not uplink > 0:
            raise ValueError("uplink must be above 0")
        config = self._config
        if departure_grace is not None:
            config = replace(config, departure_grace=departure_grace)
        participant = WorldParticipant(
            identity,
            self._agenda,
            self.calls,
            self._carry,
            self._note,
            client_protocol=client_protocol,
            capabilities=capabilities,
            uplink=uplink,
            config=config,
            cryptor=self._cryptors(identity),
        )
        participant.begin(self._engine_factory, next(self._id_sources))
        self.participants[identity] = participant
        self._sessions[identity] = _Session()
        self._enter(participant, new_session=True)
        return participant

    def leave(self, identity: str) -> None:
        """Let a participant close its engine, send the small packets that are queued, and leave.

        Raises:
            KeyError: The identity is unknown.
        """
        participant = self.participants[identity]
        participant.engine.close(now=self.now)
        if participant.is_connected:
            participant.finish_sending()
        self._note(identity, "leaves")
        participant.has_left = True
        self._lose_connection(participant, noticed=True)

    def cut(self, identity: str, *, noticed: bool = True) -> None:
        """Break the connection of a participant, and lose all packets in flight to it.

        Its engine receives `disconnected`. If `noticed` is true, its departure is announced to the
        others.

        Raises:
            KeyError: The identity is unknown.
        """
        participant = self.participants[identity]
        if participant.is_connected:
            participant.engine.disconnected(now=self.now)
            self._note(identity, "loses its connection")
            self._lose_connection(participant, noticed=noticed)

    def come_back(self, identity: str, *, new_session: bool = False, replay: int = 0) -> None:
        """Reconnect a participant that was cut, or that left. If it is connected, nothing happens.

        After `leave` it has a new engine, with the same handlers. It has a new sid, unless the cut
        was not noticed and `new_session` is false. The newest `replay` packets to it arrive again
        (0 to 64).

        Raises:
            KeyError: The identity is unknown.
        """
        participant = self.participants[identity]
        if participant.is_connected:
            return
        if participant.has_left:
            participant.begin(self._engine_factory, next(self._id_sources))
        self._enter(participant, new_session=new_session or not participant.is_present)
        if replay:
            for sent, data in list(self._sessions[identity].newest)[-replay:]:
                link = self._links.way(sent.sender_identity, sent.destination_identity).link
                self._bring(participant, sent, data, self.now + link.latency)

    # the network

    def set_link(
        self, link: Link, *, sender: str | None = None, receiver: str | None = None
    ) -> None:
        """Use this link from now on for packets from `sender` to `receiver`. None stands for every
        participant. Packets in flight are not affected."""
        self._links.set_link(link, sender, receiver)

    def heal(self) -> None:
        """Stop losing, duplicating and holding back packets, and reconnect all participants."""
        self._links.heal()
        for identity in self.participants:
            self.come_back(identity)

    def send(self, sender: str, receiver: str, data: bytes) -> SentPacket:
        """Send any bytes from one participant to another, like a packet.

        Raises:
            KeyError: The sender is unknown. A packet to an unknown receiver is lost.
        """
        sid = self.participants[sender].sid
        sent = SentPacket(self.now, sender, sid, receiver, data)
        self._transmit(sent)
        return sent

    # what there is to read

    def transcript(self) -> str:
        """Return everything that has happened, one line each.

        Calls are numbered in the order in which they were made. A packet is listed at the time when
        it was sent, with its fate.
        """
        numbers = {call.request_id: call.number for call in self.calls}
        return "".join(f"{line}\n" for line in lines(self._happenings, numbers, self.participants))

    # within: who is here

    def _enter(self, participant: WorldParticipant, *, new_session: bool) -> None:
        identity, session = participant.identity, self._sessions[participant.identity]
        stale_sid = participant.sid if participant.is_present and new_session else ""
        session.connections += 1
        session.told_until = self.now
        if new_session:
            session.number += 1
            session.sequence = 0
            participant.sid = f"PA_{identity}_{session.number}"
        participant.is_connected = participant.is_present = True
        self._note(identity, f"is here as {participant.sid}")
        complete = self._participants_complete
        participant.engine.connected(now=self.now, participants_complete=complete)
        for other in self._others(participant):
            if other.is_present:
                self._tell_joined(participant, other, other.sid)
        participant.settle()
        if new_session:
            self._announce(participant, participant.sid, is_here=True)
        if stale_sid:  # the server notices the old session last
            self._announce(participant, stale_sid, is_here=False)

    def _lose_connection(self, participant: WorldParticipant, *, noticed: bool) -> None:
        was_present = participant.is_present
        participant.is_connected = False
        participant.is_present = was_present and not noticed
        participant.settle()
        if was_present and noticed:
            self._announce(participant, participant.sid, is_here=False)

    def _others(self, participant: WorldParticipant) -> list[WorldParticipant]:
        return [other for other in self.participants.values() if other is not participant]

    def _announce(self, about: WorldParticipant, sid: str, *, is_here: bool) -> None:
        """Let the others know, each in its time and in order."""
        for other in self._others(about):
            if not other.is_connected:
                continue
            session = self._sessions[other.identity]
            at = self.now + self.presence.latency + self.presence.jitter * self._random.random()
            waits = session.news_under_way > 0
            if not (is_here or self._departures_overtake):
                at = max(at, self._links.way(about.identity, other.identity).arrives_until)
                waits = True
            at = session.told_until = max(session.told_until, at)
            session.news_under_way += 1
            tell = partial(self._tell, other, session.connections, about, sid, is_here)
            if waits or at > self.now:
                self._agenda.plan(at, tell)
            else:
                tell()

    def _tell(
        self,
        participant: WorldParticipant,
        connection: int,
        about: WorldParticipant,
        sid: str,
        is_here: bool,
    ) -> None:
        """What was told on a connection that is no more is lost."""
        self._sessions[participant.identity].news_under_way -= 1
        if connection != self._connection_of(participant):
            return
        self._note(participant.identity, f"hears that {sid} {'is here' if is_here else 'is gone'}")
        if is_here:
            self._tell_joined(participant, about, sid)
        else:
            participant.engine.participant_left(about.identity, now=self.now, participant_sid=sid)
        participant.settle()

    def _tell_joined(
        self, participant: WorldParticipant, about: WorldParticipant, sid: str
    ) -> None:
        participant.engine.participant_joined(
            about.identity,
            now=self.now,
            participant_sid=sid,
            client_protocol=about.client_protocol,
            capabilities=about.capabilities,
        )

    def _connection_of(self, participant: WorldParticipant) -> int:
        """The number of its connection, 0 if it has none."""
        is_connected = participant.is_connected
        return self._sessions[participant.identity].connections if is_connected else 0

    # within: packets

    def _carry(self, sender: WorldParticipant, packet: OutgoingPacket) -> bool:
        """For participants: send a packet; whether that could be done."""
        sent = SentPacket(
            self.now,
            sender.identity,
            sender.sid,
            packet.destination_identity,
            packet.data,
            packet.request_id,
            packet.kind,
        )
        self._transmit(sent)
        return sent.fate is not Fate.NOT_SENT

    def _transmit(self, sent: SentPacket) -> None:
        """Let the link decide what becomes of a packet."""
        self.sent.append(sent)
        self._happenings.append((self.now, sent.sender_identity, sent))
        way = self._links.way(sent.sender_identity, sent.destination_identity)
        if way.fails():
            sent.fate = Fate.NOT_SENT
            return
        sender = self._sessions[sent.sender_identity]
        data = sender.stamped(sent) if self._stamped else sent.data
        receiver = self.participants.get(sent.destination_identity)
        if receiver is None or sent.destination_identity == sent.sender_identity:
            sent.fate = Fate.LOST
            return
        self._sessions[receiver.identity].newest.append((sent, data))
        if self.lose(sent):
            sent.fate = Fate.LOST
            return
        for at in way.arrivals(sent):
            self._bring(receiver, sent, data, at)

    def _bring(self, receiver: WorldParticipant, sent: SentPacket, data: bytes, at: float) -> None:
        connection = self._connection_of(receiver)
        self._agenda.plan(at, partial(self._arrive, receiver, connection, sent, data))

    def _arrive(
        self, receiver: WorldParticipant, connection: int, sent: SentPacket, data: bytes
    ) -> None:
        if not connection or connection != self._connection_of(receiver):
            if not sent.arrived_at:
                sent.fate = Fate.LOST
            return
        sent.arrived_at.append(self.now)
        if self._stamped:
            receiver.engine.receive_packet(data, now=self.now)
        else:
            receiver.engine.receive_packet(
                data, now=self.now, sender_identity=sent.sender_identity, sender_sid=sent.sender_sid
            )
        receiver.settle()

    # within: the rest

    def _act(self, action: Callable[[], object]) -> None:
        action()
        self._settle()

    def _settle(self) -> None:
        """Whatever was done with an engine alone, see what has come of it."""
        for participant in self.participants.values():
            participant.settle()

    def _note(self, identity: str, what: Event | str) -> None:
        self._happenings.append((self.now, identity, what))
