import socket

import pytest
from des_server.listen import (
    Address,
    AddressInUseError,
    AddressInvalidError,
    AddressRefusedError,
    refuse_exposed,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7420", "127.0.0.1", 7420),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("0.0.0.0:1", "0.0.0.0", 1),
    ],
)
def test_an_address_is_read_and_written_alike(text, host, port):
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:x", "host:65536", "::1:5", "h:-1", "h:\u0663"]
)
def test_what_is_not_an_address_is_refused(text):
    with pytest.raises(AddressInvalidError):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.1.1:1", False),
        ("example.org:1", False),
    ],
)
def test_only_loopback_needs_no_flag(text, loopback):
    address = Address.parse(text)
    assert address.is_loopback() == loopback
    if loopback:
        refuse_exposed([address], tls=False, auth=False)
        return
    for tls, auth in ((False, False), (True, False), (False, True)):
        with pytest.raises(AddressRefusedError, match="insecure-allow-plaintext"):
            refuse_exposed([address], tls=tls, auth=auth)
    refuse_exposed([address], tls=True, auth=True)


def test_a_taken_port_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(AddressInUseError, match="in use"):
            address.bind()
