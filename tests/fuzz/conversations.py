"""Targets: whole conversations with the sans-IO machines of BGP and BFD, in any order, with time.

The input is a script. Beside what is said in one piece, anything is said: with a right header, so that it gets far, and
without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bgpd.bfd import packet
from bgpd.bfd.session import Session as BfdSession
from bgpd.message.exabgp_codec import KEEPALIVE, Notification, encode_message, encode_notification, encode_open
from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.iana import Family, MessageType
from bgpd.speaker import collision, connection, session
from bgpd.speaker.session import Output, SessionUp, UpdateReceived
from tests.fuzz.target import OF_NEIGHBORS, Script, Target
from tests.message.decoding import EVPN, MANDATORY, update
from tests.speaker.checked_session import CheckedSession
from tests.speaker.messages import REFRESH, open_of, settings

FAMILIES = tuple((int(one.afi), int(one.safi)) for one in Family)
ROUTES = encode_message(MessageType.UPDATE, update(MANDATORY, b"\x18\x0a\1\2"))
SAID = (
    encode_open(open_of(multiprotocol=FAMILIES)) + KEEPALIVE,
    encode_open(open_of(multiprotocol=FAMILIES, graceful=True)) + KEEPALIVE,
    encode_open(open_of(router_id="10.0.0.9", multiprotocol=FAMILIES, extended_message=True)),
    encode_open(open_of(hold_time_s=0, four_octet_as=False)),
    encode_open(open_of(65999)),
    KEEPALIVE,
    ROUTES,
    ROUTES * 3 + KEEPALIVE,
    REFRESH,
    encode_message(MessageType.UPDATE, update()),
    encode_message(MessageType.UPDATE, b"\0\0\0\1\0"),
    encode_message(MessageType.ROUTE_REFRESH, b"\0\1\1\1"),
    encode_notification(6, 4),
    encode_notification(6, 9, b"\6\2"),
    KEEPALIVE[:18],
    KEEPALIVE[18:],
)
MOST_UPDATES = 8
SECONDS = (0.0, 0.25, 1.0, 3.0, 9.0, 40.0, 300.0, 1e7)
SETTINGS = tuple(
    settings(graceful=True, multiprotocol=FAMILIES, dials=dials, extended_message=dials) for dials in (True, False)
)


class Conversation(CheckedSession):
    """Its driver reads UPDATEs by runs, as far as `most` allows, decodes them, and ends the session as the decoder
    says."""

    def __init__(self, script: Script) -> None:
        super().__init__(script.choice(SETTINGS))
        self.script = script
        self.most = 0
        self.decoder: UpdateDecoder | None = None

    def take(self, output: Output) -> None:
        super().take(output)
        match output:
            case SessionUp(_, negotiated):
                self.decoder = UpdateDecoder(negotiated, nlri_decoders=EVPN)
            case UpdateReceived(body):
                self.decode([body])

    def drain(self) -> None:
        while True:
            if self.most and self.read_run():
                continue
            output = self.session.next_output(self.now)
            if output is None:
                return
            self.take(output)

    def read_run(self) -> bool:
        bodies = self.session.updates(self.now, most=self.most, most_bytes=4096)
        if not bodies:
            return False
        assert self.up
        back = self.most - 1 if len(bodies) == self.most else 0
        if back:
            self.session.give_back(bodies[-back:])
        self.decode(bodies[: len(bodies) - back])
        return True

    def decode(self, bodies: Sequence[bytes]) -> None:
        assert self.decoder is not None
        waiting = list(bodies)
        while waiting:
            del waiting[: self.decoder.read_run(waiting, [])]
            if waiting:
                refusal = self.decoder.decode(waiting.pop(0)).notification
                if refusal is not None:
                    self.session.update_refused(self.now, Notification(*refusal), "malformed")
                    return

    def say(self, data: bytes) -> None:
        """The neighbor says this on one of the connections."""
        if self.open:
            self.receive(self.script.choice(sorted(self.open)), data)


def say_message(of: Conversation) -> None:
    of.say(of.script.choice(SAID))


def say_framed(of: Conversation) -> None:
    kind, length = of.script.choice(list(MessageType)), of.script.byte()
    of.say(encode_message(kind, of.script.take(length)))


def say_bytes(of: Conversation) -> None:
    of.say(of.script.take(of.script.byte()))


def close_one(of: Conversation) -> None:
    if of.open:
        of.close(of.script.choice(sorted(of.open)))


def read_by_runs(of: Conversation) -> None:
    of.most = of.script.byte() % 4


def leave_unread(of: Conversation) -> None:
    """Time passes before what came is read."""
    if of.open:
        of.session.received(of.script.choice(sorted(of.open)), of.script.choice(SAID))
        of.pass_time(of.script.choice(SECONDS))


STEPS: tuple[Callable[[Conversation], None], ...] = (
    say_message,
    say_message,
    say_message,
    say_framed,
    say_bytes,
    lambda of: of.start(),
    lambda of: of.stop(loud=bool(of.script.byte() & 1)),
    lambda of: of.dials_end(success=bool(of.script.byte() & 3)),
    lambda of: of.accept(),
    close_one,
    lambda of: of.pass_time(of.script.choice(SECONDS)),
    lambda of: of.reset(60.0 * (of.script.byte() & 1)),
    lambda of: of.lose_link(),
    lambda of: of.connect_now(),
    read_by_runs,
    leave_unread,
)


def run_session(data: bytes) -> None:
    """A BGP session: what the driver is told stays consistent, whatever the neighbor says and whenever."""
    script = Script(data)
    conversation = Conversation(script)
    while not script.is_over:
        script.choice(STEPS)(conversation)
        conversation.check()


def run_bfd(data: bytes) -> None:
    """A BFD session: each packet that it sends can be read, and its deadline lies ahead."""
    script, now = Script(data), 1000.0
    machine = BfdSession(7, interval_us=300_000, multiplier=3, random=lambda: 0.5, now=now)
    while not script.is_over:
        match script.byte() % 6:
            case 0:
                try:
                    machine.received(packet.decode(script.take(24)), now)
                except packet.Discarded:
                    continue
            case 1:
                now += script.choice(SECONDS)
                machine.tick(now)
                assert machine.deadline() > now or not machine.transmit_interval_us
            case 2:
                machine.configure(interval_us=1000 + script.byte() * 4000, multiplier=script.byte() or 1)
            case 3:
                machine.disable(now)
            case 4:
                machine.enable(now)
            case 5:
                if machine.is_steady:
                    machine.heard(now)
                repeated = machine.repeat(now, script.byte() / 255)
                assert not repeated or packet.decode(repeated).your_discriminator == machine.remote_discriminator
        for sent in machine.take_output():
            assert packet.decode(sent).my_discriminator == 7
        assert machine.ups - machine.downs == (machine.state is packet.State.UP)
        BfdSession(7, interval_us=1000, multiplier=1, random=lambda: 0.5, now=now).resume(machine.saved())


TARGETS = {
    "session": Target(run_session, (session, connection, collision), messages=20, share=OF_NEIGHBORS),
    "bfd-session": Target(run_bfd, (BfdSession,), messages=20),
}
