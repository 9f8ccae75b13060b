"""Three nodes, each in a network namespace of its own, whose cables are taken out while clients work.

The test runs itself again in a network namespace, so that it needs nothing of the machine's network.
"""

import asyncio
import os
import random
import subprocess
import sys

import pytest

from tests.e2e import namespaces
from tests.e2e.cluster_faults import kill_and_restart
from tests.e2e.cluster_kit import TTL_S, Cluster, Member, running_cluster
from tests.e2e.cluster_torture import torture

INSIDE = "DES_TEST_IN_NAMESPACE"
WITHIN_S = 840


class WiredMember(Member):
    """A node behind a cable."""

    def __init__(self, number: int, cluster: "WiredCluster") -> None:
        namespace, address = cluster.wires.lay(number)
        super().__init__(number, cluster, proxies_at=namespaces.HUB)
        self.process.listen = f"{address}:0"
        self.process.prefix = ("ip", "netns", "exec", namespace)
        self.process.arguments = ("--insecure-allow-plaintext-non-loopback",)
        del self.process.environment["DES_CLUSTER__ADVERTISE"]  # the others reach it by its cable


class WiredCluster(Cluster):
    """Nodes in namespaces; the database and the object store are in none of them."""

    member_type = WiredMember
    http_targets = ()  # theirs is their loopback

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.wires = namespaces.Wires()

    def close(self) -> None:
        super().close()
        self.wires.close()


async def cable_out_briefly(cluster: WiredCluster, dice: random.Random) -> str:
    return await _cable_out(cluster, dice, TTL_S / 2)


async def cable_out(cluster: WiredCluster, dice: random.Random) -> str:
    return await _cable_out(cluster, dice, TTL_S * 2)


async def _cable_out(cluster: WiredCluster, dice: random.Random, out_s: float) -> str:
    member = dice.choice(cluster.members)
    await asyncio.to_thread(cluster.wires.pull, member.number)
    await asyncio.sleep(out_s)
    await asyncio.to_thread(cluster.wires.plug, member.number)
    return f"cable of node {member.number} out for {out_s} s"


async def parted_from_peers(cluster: WiredCluster, dice: random.Random) -> str:
    member = dice.choice(cluster.members)
    others = [other.number for other in cluster.members if other is not member]
    await asyncio.to_thread(cluster.wires.part, member.number, others)
    await asyncio.sleep(TTL_S * 2)
    await asyncio.to_thread(cluster.wires.join, member.number, others)
    return f"node {member.number} reached database, store and clients, and no other node, for {TTL_S * 2} s"


FAULTS = (cable_out_briefly, cable_out, parted_from_peers, kill_and_restart)


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S + 60)
@pytest.mark.skipif(INSIDE in os.environ, reason="this is the run in the namespace")
def test_nodes_whose_network_is_cut_lose_and_double_nothing():
    if why := namespaces.missing():
        pytest.skip(why)
    inner = f"{__file__}::test_in_a_namespace"
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", inner],
        env=os.environ | {INSIDE: "1"},
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
@pytest.mark.skipif(INSIDE not in os.environ, reason="run by the test above, in a namespace (needs root)")
async def test_in_a_namespace(tmp_path):
    namespaces.begin()
    seed = int(os.environ.get("DES_TEST_SEED", "3"))
    count = int(os.environ.get("DES_TORTURE_CUTS", "0"))
    dice = random.Random(seed)
    faults = [dice.choice(FAULTS) for _ in range(count)] or [cable_out, parted_from_peers, cable_out_briefly]
    with running_cluster(tmp_path, 3, cluster_type=WiredCluster) as cluster:
        verdict = await torture(cluster, faults, seed=seed)
    assert verdict.acknowledged > 0
