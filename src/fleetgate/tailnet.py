"""Asks the Tailscale daemon of this machine who is behind an address of its network.

Rules: one question, one short answer, over the daemon's own unix socket; the caller bounds the time.
Whatever is odd about the answer is a failure, never a name. Machines that carry a tag belong to nobody.

The local API as its documentation has it: `GET /localapi/v0/whois?addr=IP:PORT` with the host
`local-tailscaled.sock` gives an object with `Node` and `UserProfile`, and 404 for addresses it does not
know.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final
from urllib.parse import quote

import msgspec

HOST: Final = "local-tailscaled.sock"
LARGEST: Final = 256 * 1024
"""Bytes of an answer."""
RANGES: Final = (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd7a:115c:a1e0::/48"))


class TailnetDown(Exception):
    """The daemon did not answer, or not with what it should."""


class _Node(msgspec.Struct, rename="pascal"):
    tags: list[str] | None = None


class _Profile(msgspec.Struct, rename="pascal"):
    login_name: str = ""


class _Whois(msgspec.Struct, rename="pascal"):
    node: _Node
    user_profile: _Profile


def in_tailnet(address: str) -> bool:
    """Whether an address is one that Tailscale gives out. Others may use that range too."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in RANGES)


async def whois(socket: str, address: str, port: int) -> str | None:
    """The login of the user whose machine this is; None: a machine of nobody. Raises TailnetDown."""
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    # HTTP/1.0, so that the answer comes in one piece and ends with the connection.
    head = f"GET /localapi/v0/whois?addr={quote(where, safe='')} HTTP/1.0\r\nHost: {HOST}\r\n\r\n"
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(head.encode("ascii"))
            answer = await reader.read(LARGEST)
            while len(answer) < LARGEST and (more := await reader.read(LARGEST - len(answer))):
                answer += more
        finally:
            writer.close()
    except (OSError, ValueError) as error:
        raise TailnetDown(f"{socket}: {error}") from error
    return _login(answer)


def _login(answer: bytes) -> str | None:
    head, blank, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if not blank or len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise TailnetDown("what came is no answer")
    if words[1] == b"404":
        return None
    if words[1] != b"200":
        raise TailnetDown(f"it answered with status {words[1].decode('ascii', 'replace')[:10]}")
    try:
        found = msgspec.json.decode(body, type=_Whois)
    except msgspec.DecodeError:
        raise TailnetDown("its answer cannot be read") from None
    return None if found.node.tags else found.user_profile.login_name or None
