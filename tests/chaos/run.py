"""A chaos run: rounds of random steps on real parts, and after each round all must be as the model says.

Which steps, in which order and what they do follows from the seed alone; when what of it meets what is the machine's.
A step is known by its name and number, so that a list of them can be replayed, with some left out.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from labs.process import LabError
from labs.traffic import FlowResult
from tests.chaos.checks import Witness, left_over, missing
from tests.chaos.claim_steps import ClaimSteps
from tests.chaos.host_steps import HostSteps
from tests.chaos.leaf_steps import LeafSteps
from tests.chaos.model import Model
from tests.chaos.network import Network
from tests.chaos.tenant_steps import TenantSteps
from tests.chaos.world import World

CALM_S = 120.0
"""Until all must be as before: hold times, restart timers, and a machine that has much else to do."""
FEWEST, MOST = 3, 9
"""Steps of a round."""
REPAIRED_AFTER = 0.3
"""How often a step is followed by the repair of what has been broken for longest."""
LONGEST_PAUSE_S = 1.0
"""Between two steps; most are much shorter."""
GROWTH_BYTES = 30_000_000
"""Beyond what the daemon took after the first round; 2,000 routes come and go at times."""


class Step(msgspec.Struct, frozen=True):
    """`number` is what its choices are made from."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name} {self.number}"


class ChaosFailed(Exception):
    """What was not as it must be; the text says what, with which seed, after which steps, and where the logs are."""


def rounds_of(seed: int, names: list[str]) -> Iterator[list[Step]]:
    """Rounds without end; each has some steps. In as many steps as there are names each comes once."""
    chance = random.Random(seed)
    number = 0
    deck: list[str] = []
    while True:
        found = []
        for _ in range(chance.randrange(FEWEST, MOST + 1)):
            if not deck:
                deck = chance.sample(names, len(names))
            found.append(Step(deck.pop(), number))
            number += 1
        yield found


def parse_rounds(text: str) -> list[list[Step]]:
    """What `Chaos` has written: a step in each line, rounds separated by empty lines; after "#" a line is a comment."""
    lines = [line.partition("#")[0].split() for line in text.splitlines() if not line.startswith("#")]
    found: list[list[Step]] = [[]]
    for words in lines:
        if words:
            found[-1].append(Step(words[0], int(words[1])))
        elif found[-1]:
            found.append([])
    return [steps for steps in found if steps]


def parse_seed(text: str) -> int:
    """The seed that the steps of such a list were made from."""
    return int(text.partition("# seed ")[2].split()[0])


class Chaos:
    """One run. What failed, and with it all logs, go to `folder`."""

    def __init__(self, seed: int, folder: Path, *, progress: Callable[[str], None] = print) -> None:
        self.seed = seed
        self.model = Model()
        self.done: dict[str, int] = {}
        """How often each step was made."""
        self.summary: list[str] = []
        self._folder = folder
        self._progress = progress
        self._slow = 0
        """Rounds in which BFD found a leaf dead to which nothing was done: this machine was too slow."""
        self._script: list[str] = [f"# seed {seed}"]
        self._began = time.monotonic()

    def run(self, *, seconds: float = 0.0, rounds: Iterable[list[Step]] | None = None) -> None:
        """Rounds from the seed for so long, or those that are given.

        Raises: ChaosFailed: see above.
        """
        with Network(self.model) as network:
            self._world = World(network, self.model)
            try:
                self._run(network, seconds, rounds)
            except (LabError, ChaosFailed) as error:
                raise ChaosFailed(self._report(network, str(error))) from error
            finally:
                with contextlib.suppress(LabError):  # what is stopped would not end otherwise
                    self._world.repair_all()

    def _run(self, network: Network, seconds: float, rounds: Iterable[list[Step]] | None) -> None:
        self._claims = ClaimSteps(self._world)
        parts = (LeafSteps(self._world), HostSteps(self._world), self._claims, TenantSteps(self._world))
        self._steps = {step.__name__: step for part in parts for step in part.steps()}
        self._witness = Witness(network)
        self._wait_calm(network, "at the start")
        self._began = time.monotonic()
        for number, steps in enumerate(rounds or rounds_of(self.seed, sorted(self._steps)), 1):
            if rounds is None and time.monotonic() - self._began > seconds:
                break
            self._round(network, number, steps)
        self._wait_calm(network, "at the end", left_over)
        self.summary.append(f"{sum(self.done.values())} steps of {len(self.done)} kinds, seed {self.seed}")
        if self._slow:
            self.summary.append(f"in {self._slow} rounds BFD failed for no other reason than a slow machine")
        megabytes = [memory / 1e6 for memory in self._witness.memory]
        self.summary.append(
            f"resident memory {megabytes[0]:.0f} MB after the first round, {megabytes[-1]:.0f} MB after the last, "
            f"at most {max(megabytes):.0f} MB; the loop was held for {self._witness.longest_hold_s:.3f} s at most"
        )

    def _round(self, network: Network, number: int, steps: list[Step]) -> None:
        self._world.hurt.clear()
        self._world.touched.clear()
        self._witness.begin_round()
        self._say(f"round {number}")
        network.start_flows()
        try:
            for step in steps:
                self._make(step)
            self._world.chance = random.Random(steps[-1].number)
            self._world.repair_all()
            self._claims.calm()
            took_s = self._wait_calm(network, f"after round {number}")
        finally:
            results = network.stop_flows()
        problems = self._witness.look(self.model, self._world.touched)
        self._slow += bool(self._witness.bfd_down - self._world.hurt)
        self._world.hurt.update(self._witness.bfd_down)
        problems += [*self._lost(results), *self._grown()]
        if problems:
            raise ChaosFailed("\n".join(problems))
        self._say(f"all as it should be after {took_s:.1f} s; {_words(results)}")

    def _make(self, step: Step) -> None:
        world = self._world
        world.chance, world.detail = random.Random(f"{self.seed} {step.number}"), ""
        repairs, pause_s = world.chance.random() < REPAIRED_AFTER, LONGEST_PAUSE_S * world.chance.random() ** 3
        self._script.append(str(step))
        self._steps[step.name]()
        self.done[step.name] = self.done.get(step.name, 0) + 1
        if world.detail:
            self._script[-1] += f"  # {world.detail}"
        self._say(self._script[-1])
        time.sleep(pause_s)
        if repairs and (repaired := world.repair_one()):
            self._say(f"  repaired: {repaired}")

    def _wait_calm(
        self, network: Network, when: str, lacking: Callable[[Network, Model], list[str]] = missing
    ) -> float:
        """Seconds until all is as the model says, twice in a row."""
        self._script.append("")
        began = time.monotonic()
        holds, told = 0, ""
        while holds < 2:
            lacks = lacking(network, self.model)
            holds = 0 if lacks else holds + 1
            if lacks and lacks[0] != told:
                told = lacks[0]
                self._say(f"  waits: {told}")
            if lacks and time.monotonic() - began > CALM_S:
                raise ChaosFailed(f"{when}, {CALM_S:.0f} s later:\n" + "\n".join(lacks))
            time.sleep(0.3)
        return time.monotonic() - began

    def _lost(self, results: dict[str, FlowResult]) -> Iterator[str]:
        """What was lost though no step of this round may cost it."""
        leaves = {"leaf1": {1}, "leaf2": {2}, "both": {1, 2}, "both, IPv6": {1, 2}, "the VRF": {3}}
        for name, result in results.items():
            if result.lost and not leaves[name] & self._world.hurt:
                yield (
                    f"the ping by {name} lost {result.lost} of {result.sent} packets, for {result.outage_ms:.0f} ms, "
                    f"and nothing was done that may cost them"
                )

    def _grown(self) -> Iterator[str]:
        first, last = self._witness.memory[0], self._witness.memory[-1]
        if last - first > GROWTH_BYTES:
            yield f"the daemon has {last / 1e6:.0f} MB, after the first round it had {first / 1e6:.0f} MB"

    def _say(self, text: str) -> None:
        self._progress(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def _report(self, network: Network, what: str) -> str:
        """Keep all that tells why; the text for people."""
        folder = self._folder / f"seed-{self.seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        script = "\n".join(self._script) + "\n"
        (folder / "steps").write_text(script)
        (folder / "failure").write_text(what + "\n")
        for name, directory in {"bgpd": network.host.directory, "bgpd-bfd": network.bfd.directory}.items():
            shutil.copytree(directory, folder / name, ignore=_sockets)
        for number, frr in network.frr.items():
            shutil.copytree(frr.directory, folder / f"leaf{number}", ignore=_sockets)
        for number, raw in network.raw.items():
            (folder / f"leaf{number}.log").write_text("\n".join([*raw.log, *raw.heard.complaints, ""]))
        kernel = [network.host_namespace.ip("-N", *words.split()) for words in KERNEL_STATE]
        (folder / "kernel").write_text("\n".join(kernel))
        return f"{what}\nseed {self.seed}, after these steps:\n{script}\nlogs, journal and kernel: {folder}"


KERNEL_STATE = (
    "-4 route show table all",
    "-6 route show table all",
    "-4 rule show",
    "-6 rule show",
    "nexthop show",
    "link show",
    "address show",
)


def _sockets(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not (path := Path(directory, name)).is_file() and not path.is_dir()]


def _words(results: dict[str, FlowResult]) -> str:
    lost = [f"{result.lost} by {name}" for name, result in results.items() if result.lost]
    return f"packets lost: {', '.join(lost)}" if lost else "no packet lost"
