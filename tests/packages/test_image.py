"""The image's steps, carried out without an engine; then the daemon runs in what they made, with what its user may."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labs.namespace import Namespace
from tests.packages.built import ROOT
from tests.packages.image import as_script

pytestmark = [pytest.mark.netns, pytest.mark.long]

ALLOWED = "net_admin,net_raw,net_bind_service"
CONFIG = """
[router]
asn = 65203
router_id = "10.255.1.1"

[[workload.static]]
prefix = "10.64.1.5/32"
interface = "pod1"
"""
# As an engine starts it: the image's user without capabilities, and those that --cap-add names in the bounding set.
RUN = f"""
enter="chroot $root setpriv --reuid=bgpd --regid=bgpd --clear-groups --inh-caps=-all --ambient-caps=-all"
enter="$enter --bounding-set=-all,+{ALLOWED.replace(",", ",+")}"
cp "$3" "$root/etc/bgpd/bgpd.toml"
nsenter --net="$2" $enter bgpd run --config /etc/bgpd/bgpd.toml >"$work/log" 2>&1 &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
tries=0
until $enter bgpd show workloads --json 2>/dev/null | grep -q '"state": *"announced"'; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] && kill -0 $daemon || {{ cat "$work/log" >&2; exit 1; }}
    sleep 0.5
done
grep -E '^(Uid|CapEff|CapBnd):' /proc/$daemon/status
plain="${{enter%,+net_admin*}} /opt/bgpd/bin/python3-plain"
nsenter --net="$2" $plain -I -m bgpd.bfd /run/bgpd-bfd/bfd.sock 2>"$work/bfd" &
bfd=$!
trap 'kill $daemon $bfd; wait || true' EXIT
until grep -q 'listens on /run/bgpd-bfd/bfd.sock' "$work/bfd"; do
    kill -0 $bfd || {{ cat "$work/bfd" >&2; exit 1; }}
    sleep 0.5
done
sed -n 's/^CapBnd:/BfdCapBnd:/p' /proc/$bfd/status
ip -n "$4" route show proto 217
$enter bgpd --version
du -sm "$root/opt/bgpd" | cut -f 1
"""


def test_image_s_daemon_runs_as_its_user_with_three_capabilities(tmp_path: Path) -> None:
    config = tmp_path / "bgpd.toml"
    config.write_text(CONFIG)
    config.chmod(0o644)
    mount = tmp_path / "mount"
    mount.mkdir()
    script = as_script(ROOT / "packages/image/Dockerfile", ROOT) + RUN
    with Namespace("image", prefix="I") as network:
        network.batch("link add pod1 type veth peer name pod1p", "link set pod1 up", "link set pod1p up")
        words = [str(mount), f"/run/netns/{network.name}", str(config), network.name]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *words],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = done.stdout.splitlines()
    found = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert found["Uid"].split() == ["179"] * 4
    assert (int(found["CapEff"], 16), int(found["CapBnd"], 16)) == (0x3400, 0x3400)
    assert int(found["BfdCapBnd"], 16) == 0
    assert any(line.startswith("10.64.1.5 dev pod1") for line in lines)
    assert "(compiled)" in lines[-2]
    assert int(lines[-1]) < 110, "MiB below /opt/bgpd"
