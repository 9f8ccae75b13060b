"""Addresses to listen on: what they mean, whether they are free, whether they are this machine's own."""

import ipaddress
import socket
from dataclasses import dataclass

from des.errors import DesError, InvalidInputError


class AddressInvalidError(InvalidInputError):
    """Not an address that can be listened on."""


class AddressRefusedError(InvalidInputError):
    """Listening there would offer the store, in plain text and to everyone, to other machines."""


class AddressInUseError(DesError):
    """Somebody else listens there, or the address is not this machine's."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: `host:port`; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read "127.0.0.1:7420", "localhost:0" or "[::1]:7420".

        >>> str(Address.parse("[::1]:7420"))
        '[::1]:7420'

        Raises:
            AddressInvalidError: no host, no port, or a port outside 0 to 65535.
        """
        host, colon, digits = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise AddressInvalidError(f"address {text!r}: write an IPv6 address as [address]:port")
        if not colon or not host:
            raise AddressInvalidError(f"address {text!r} is not host:port")
        if not (digits.isascii() and digits.isdigit() and int(digits) <= 0xFFFF):
            raise AddressInvalidError(f"address {text!r}: port {digits!r} is not 0 to 65535")
        return cls(host, int(digits))

    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach the address. A name other than localhost counts as not."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def is_everywhere(self) -> bool:
        """Tell whether this listens on all of the machine's addresses and so says none of them."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def bind(self) -> socket.socket:
        """Return a listening socket.

        Raises:
            AddressInUseError: it cannot be had; the message says why.
        """
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            raise AddressInUseError(f"cannot listen on {self}: {error.strerror or error}") from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(128)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise AddressInUseError(f"cannot listen on {self}: {error.strerror or error}") from error
        return sock

    def with_port(self, port: int) -> "Address":
        """Return the address with the port that the system chose."""
        return Address(self.host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def advertised(listen: Address, advertise: str, *, own_port: bool = False) -> str:
    """Return where other nodes reach this one.

    Args:
        listen: where it listens, with the port that it got.
        advertise: what the settings say; empty for the address itself.
        own_port: take only the host from `advertise`: the process has a port of its own.

    Raises:
        AddressInvalidError: `advertise` is no address, or is missing and `listen` says no host.
    """
    if not advertise:
        if listen.is_everywhere():
            raise AddressInvalidError(
                f"other nodes cannot reach {listen}: set cluster.advertise to an address of this machine"
            )
        return str(listen)
    given = Address.parse(advertise)
    return str(given.with_port(listen.port) if own_port or not given.port else given)


def refuse_exposed(addresses: list[Address], *, tls: bool, auth: bool) -> None:
    """Refuse to be reached from other machines without both TLS and authentication.

    Raises:
        AddressRefusedError: an address is not loopback, and one of the two is not set up.
    """
    if tls and auth:
        return
    lacking = (
        "neither TLS nor authentication" if not (tls or auth) else "no authentication" if tls else "no TLS"
    )
    for address in addresses:
        if not address.is_loopback():
            raise AddressRefusedError(
                f"{address} can be reached from other machines, and this server has {lacking}; "
                "give --insecure-allow-plaintext-non-loopback if that is meant"
            )
