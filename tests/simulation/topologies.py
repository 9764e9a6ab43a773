"""Small topologies for tests: one host, one leaf, and a pod."""

from __future__ import annotations

from pathlib import Path

CONFIG = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "tor"
address = "10.0.11.0"
asn = 65201
import = "all"
hold_time_s = 9
[workload.kernel]
interfaces = ["pod*"]
"""
TOPOLOGY = """
name: small
topology:
  nodes:
    leaf1: {kind: linux, labels: {role: leaf, announces: "198.51.100.0/24"}}
    host1:
      kind: linux
      binds: [bgpd.toml:/etc/bgpd/bgpd.toml:ro]
      exec:
        - ip address add 10.0.11.1/31 dev eth0
        - ip route add 10.64.1.1/32 dev pod1 scope link
    pod1: {kind: linux}
  links:
    - endpoints: ["leaf1:eth1", "host1:eth0"]
    - endpoints: ["host1:pod1", "pod1:eth0"]
"""
LEFT_OUT = {
    "guests": [
        "host: [[workload.bgp]] exabgp: no node is at 127.0.0.2: nobody connects",
        "host: [[workload.bgp]] gobgp: no node is at 127.0.0.3: nobody connects",
    ],
}
"""Of the laboratory's topologies."""
LAB = Path(__file__).parents[2] / "labs" / "containerlab"


def written(directory: Path, *, topology: str = TOPOLOGY, config: str = CONFIG) -> str:
    """The name of a topology's file in a directory."""
    (directory / "bgpd.toml").write_text(config)
    path = directory / "small.clab.yml"
    path.write_text(topology)
    return str(path)
