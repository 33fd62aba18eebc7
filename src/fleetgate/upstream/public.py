"""Which addresses are of the internet at large: the only ones where something is fetched that a caller names.

What is not known to be public is not. An address of this machine is none, whatever it is listed as, so that
nobody reaches our own listener; nor is one of its own IPv6 network, where neighbours have public addresses
behind the same firewall.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_UNICAST: Final = IPv6Network("2000::/3")
"""all of IPv6 that was ever given out for the internet"""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NEIGHBOURS: Final = 64
"""bits of an IPv6 address that a network has in common"""
_EXTRA: Final = (
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, long given up
    IPv4Network("192.31.196.0/24"),  # AS112
    IPv4Network("192.52.193.0/24"),  # AMT
    IPv4Network("192.175.48.0/24"),  # AS112
    IPv4Network("192.0.0.0/24"),
    IPv6Network("2001::/23"),
    IPv6Network("3fff::/20"),  # for documentation
    IPv6Network("2620:4f:8000::/48"),  # AS112
)
"""what `ipaddress` takes for public and is not for us"""


def not_public(address: str) -> str | None:
    """Why nothing is fetched from this address, or None."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return "no address"
    inner = ip if isinstance(ip, IPv4Address) else _inside(ip)
    if isinstance(inner, IPv6Address) and inner not in _UNICAST:
        return "not public"
    if not inner.is_global or inner.is_multicast or inner.is_reserved or inner.is_private:
        return "not public"
    if any(inner in network for network in _EXTRA if network.version == inner.version):
        return "not public"
    return "of this machine or its network" if _near(inner) else None


def _inside(ip: IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that is written inside an IPv6 one, else itself."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    return IPv4Address(ip.packed[12:]) if ip in _NAT64 else ip


def _near(ip: IPv4Address | IPv6Address) -> bool:
    """Whether it is this machine, or a neighbour: asked of the routing table, nothing is sent."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            source = ip_address(probe.getsockname()[0].partition("%")[0])
    except OSError:
        return False  # there is no way there at all
    if isinstance(ip, IPv4Address) or isinstance(source, IPv4Address):
        return source == ip
    shift = 128 - _NEIGHBOURS
    return int(source) >> shift == int(ip) >> shift
