"""Which addresses are public: the only ones where something is fetched that a caller names."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetgate.upstream import public
from fleetgate.upstream.public import not_public

REFUSED = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "100.100.100.200"),
    *("192.0.0.1", "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.31.196.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fd7a:115c:a1e0::1", "fec0::1"),
    *("ff02::1", "2001:db8::1", "3fff::1", "2001::1", "2001:10::1", "100::1", "64:ff9b:1::1", "5f00::1"),
    *("::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("::ffff:100.64.0.1", "::ffff:0.0.0.0", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:1::1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::c0a8:101", "", "no address", "1.2.3"),
]
"""private, shared, local, reserved, of documentation, of metadata, and the same inside IPv6"""


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public(address):
    assert not_public(address) is not None


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_what_is_public(address):
    assert not_public(address) is None


@given(st.ip_addresses(v=4))
def test_an_address_that_is_refused_is_refused_in_every_disguise(address):
    disguises = [
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::",
    ]
    if not_public(str(address)) is not None:
        assert all(not_public(one) is not None for one in disguises)


@given(st.ip_addresses())
def test_nothing_that_python_takes_for_private_passes(address):
    if not_public(str(address)) is None and getattr(address, "ipv4_mapped", None) is None:
        inner = ipaddress.ip_address(str(address))
        assert inner.is_global or inner in ipaddress.ip_network("64:ff9b::/96")
        assert not any((inner.is_private, inner.is_loopback, inner.is_link_local, inner.is_multicast))


@pytest.mark.parametrize(
    ("source", "address", "why"),
    [
        ("8.8.4.4", "8.8.4.4", "of this machine or its network"),
        ("8.8.4.4", "8.8.4.5", None),
        ("2606:4700:0:1::1", "2606:4700:0:1::1", "of this machine or its network"),
        ("2606:4700:0:1::1", "2606:4700:0:1:ffff::9", "of this machine or its network"),
        ("2606:4700:0:1::1", "2606:4700:0:2::1", None),
    ],
)
def test_this_machine_and_its_neighbours_are_not_public(monkeypatch, source, address, why):
    class Probe:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def connect(self, _):
            pass

        def getsockname(self):
            return (source, 1)

    monkeypatch.setattr(public.socket, "socket", Probe)
    assert not_public(address) == why


def test_the_routing_table_is_asked_and_nothing_is_sent():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        assert public._near(ipaddress.ip_address("127.0.0.1")) is True
        with pytest.raises(BlockingIOError):
            listener.recv(1)
