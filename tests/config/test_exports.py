"""[[bmp]], [mrt], [workload.mqtt]: what is wrong with them is told with its place, and a change ends no session."""

from __future__ import annotations

import pytest

from bgpd.config.effects import Effect, config_diff
from bgpd.config.load import ConfigError, parse_config

BASE = '[router]\nasn = 65203\nrouter_id = "10.255.1.1"\n'


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[[bmp]]\naddress = "collector"\n', 5, "collector"),
        ('[[bmp]]\naddress = "10.0.9.9"\nport = 0\n', 6, "0"),
        ('[[bmp]]\naddress = "fe80::9"\n', 5, "nothing says on which interface"),
        ('[[bmp]]\naddress = "fe80::9%eth0"\n', 5, "nothing says on which interface"),
        ('[workload.mqtt]\nbroker = "mqtt://[fe80::9]"\n', 5, "nothing says on which interface"),
        (f'[workload.mqtt]\nbroker = "mqtt://10.0.9.9"\nhost = "{"h" * 256}"\n', 6, "255"),
        ('[[bmp]]\naddress = "10.0.9.9"\n[[bmp]]\naddress = "10.0.9.9"\n', 6, "already bmp[0]"),
        ('[mrt]\ndirectory = "mrt"\n', 5, "no absolute path"),
        ("[mrt]\nmax_bytes = 5\n", 5, "1048576"),
    ],
)
def test_errors_have_their_place(text: str, line: int, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(BASE + text, "x.toml")
    (problem,) = caught.value.problems
    assert problem.line == line
    assert what in str(problem)


def test_changes_end_no_session() -> None:
    before = parse_config(BASE, "x.toml")[0]
    after = parse_config(BASE + '[[bmp]]\naddress = "10.0.9.9"\n[mrt]\ndirectory = "/x"\n', "x.toml")[0]
    assert {change.effect for change in config_diff(before, after)} == {Effect.NO_OP}
