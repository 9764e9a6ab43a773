"""The properties of the source MQTT: apart from `mqtt`, which loads ssl and the MQTT library, 6 MB."""

from __future__ import annotations

from bgpd.workload.sources import ClaimSource, Restart, SourceKind, SourceParts

MQTT = "mqtt"


def _make(parts: SourceParts) -> ClaimSource | None:
    config = parts.config.workload.mqtt
    if config is None:
        return None
    from bgpd.workload.feed.mqtt import MqttSource

    return MqttSource(parts, config)


KIND = SourceKind(
    name=MQTT, what="an orchestrator, by `[workload.mqtt]`", precedence=1, restart=Restart.SAVED, make=_make
)
