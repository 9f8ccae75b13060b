"""Network namespaces for the nodes of a cluster, each behind a cable of its own that can be taken out.

Meant for a process that has a network namespace for itself (`unshare --net`): nothing of the machine's own
network is touched, and the cables go with the process. Needs root and iproute2.
"""

import os
import shutil
import subprocess
from typing import Final

HUB: Final = "198.18.0.1"
"""Where this process is reached from all namespaces (a network for tests, RFC 2544)."""
BRIDGE: Final = "desbridge"


def missing() -> str:
    """Return what is missing for namespaces, and how to get it; empty where nothing is."""
    for command, package in (("ip", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(command) is None:
            return f"no {command}: apt-get install {package}"
    if os.geteuid() != 0:
        return "network namespaces need root: sudo make torture"
    tried = subprocess.run(
        ["unshare", "--net", "true"], capture_output=True, text=True, timeout=60, check=False
    )
    return f"no network namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def ip(*words: str) -> None:
    """Run `ip`."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def begin() -> None:
    """Give a new namespace its loopback."""
    ip("link", "set", "lo", "up")


class Wires:
    """A bridge in this process's namespace, with a cable to each node's."""

    def __init__(self) -> None:
        self._names: list[str] = []
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{HUB}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    def lay(self, number: int) -> tuple[str, str]:
        """Make a namespace behind a cable; return its name and its address."""
        name, address = f"des-{os.getpid()}-{number}", self.address(number)
        ip("netns", "add", name)
        self._names.append(name)
        ip("link", "add", f"cable{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"cable{number}", "master", BRIDGE, "up")
        ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "eth0", "up")
        return name, address

    @staticmethod
    def address(number: int) -> str:
        """Return the address of a namespace."""
        return f"198.18.0.{10 + number}"

    @staticmethod
    def pull(number: int) -> None:
        """Take a cable out: nothing passes, and nobody is told."""
        ip("link", "set", f"cable{number}", "down")

    @staticmethod
    def plug(number: int) -> None:
        """Put a cable in again."""
        ip("link", "set", f"cable{number}", "up")

    def part(self, number: int, others: list[int]) -> None:
        """Keep two sides from each other, while both reach the hub: packets are dropped on the way."""
        for other in others:
            ip("-n", self._names[number], "route", "add", "blackhole", self.address(other))

    def join(self, number: int, others: list[int]) -> None:
        """Undo `part`."""
        for other in others:
            ip("-n", self._names[number], "route", "delete", "blackhole", self.address(other))

    def close(self) -> None:
        """Remove the namespaces; what is in them must have ended."""
        for name in self._names:
            ip("netns", "delete", name)
        ip("link", "delete", BRIDGE)
