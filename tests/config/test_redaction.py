"""What is a secret is taken out, what is not stays."""

from __future__ import annotations

import pytest

from bgpd.config.redaction import REDACTED, redacted, redacted_text


def test_values_whose_key_says_that_they_are_secret() -> None:
    value = {
        "neighbor": [
            {"name": "leaf1", "password": "x", "password_file": "/etc/bgpd/leaf1.pw", "tcp_ao": {"keys": [1]}}
        ],
        "workload": {"mqtt": {"broker": "mqtts://bgpd:hunter2@broker:8883", "username": "bgpd", "api_token": "t"}},
        "secret": {"value": "v"},
        "key": "k",
        "token": "",
    }
    found = redacted(value)
    assert found["neighbor"][0] == {
        "name": "leaf1",
        "password": REDACTED,
        "password_file": "/etc/bgpd/leaf1.pw",
        "tcp_ao": {"keys": [1]},
    }
    mqtt = found["workload"]["mqtt"]
    assert mqtt == {"broker": f"mqtts://{REDACTED}@broker:8883", "username": "bgpd", "api_token": REDACTED}
    assert (found["key"], found["token"]) == (REDACTED, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connect to https://user:pa55@host/x failed", f"connect to https://{REDACTED}@host/x failed"),
        ('{"password": "a b", "next": 1}', f'{{"password": "{REDACTED}", "next": 1}}'),
        ("Authorization: Bearer abc.def", f"Authorization: {REDACTED}"),
        ("Authorization: Basic bWU6aHVudGVyMg==", f"Authorization: {REDACTED}"),
        ('{"password": "a\\"b c", "next": 1}', f'{{"password": "{REDACTED}", "next": 1}}'),
        (
            r'{"message": "{\"password\": \"a b\", \"next\": 1}"}',
            rf'{{"message": "{{\"password\": {REDACTED}, \"next\": 1}}"}}',
        ),
        ("mqtt://bgpd:p@ss@broker", f"mqtt://{REDACTED}@broker"),
        ("BGPD_TOKEN=abc other", f"BGPD_TOKEN={REDACTED} other"),
        ('password_file = "/etc/bgpd/x"', 'password_file = "/etc/bgpd/x"'),
        ("10.0.1.2@leaf mail a@b.c", "10.0.1.2@leaf mail a@b.c"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert redacted_text(text) == expected
