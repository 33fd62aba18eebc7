"""What a key looks like: `fg_<kind>_<12 id>_<43 secret><6 checksum>`.

The id is public: it names the key in lists and logs. The secret has 256 bits. The checksum lets a
mistyped or invented key be refused without a look into the database, and lets scanners of leaked
text tell a real key from a look-alike.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.domain import KeyKind

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_LENGTH: Final = 12
SECRET_LENGTH: Final = 43
CHECK_LENGTH: Final = 6

_FORM: Final = re.compile(
    rb"fg_(%s)_([0-9A-Za-z]{%d})_([0-9A-Za-z]{%d})([0-9A-Za-z]{%d})"
    % ("|".join(KeyKind).encode(), ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH)
)


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key taken apart."""

    kind: str
    id: str
    secret: bytes


def mint_id(token: Callable[[int], bytes]) -> str:
    """A fresh public id. `token` gives so many random bytes."""
    return base62(int.from_bytes(token(16)), ID_LENGTH)


def mint_secret(token: Callable[[int], bytes]) -> str:
    """A fresh secret of 256 bits."""
    return base62(int.from_bytes(token(32)), SECRET_LENGTH)


def whole(kind: KeyKind, key_id: str, secret: str) -> str:
    """The key as it is shown, once."""
    text = f"fg_{kind.value}_{key_id}_{secret}"
    return text + checksum(text.encode())


def parse(presented: bytes) -> KeyText | None:
    """The parts of a key whose form and checksum are right."""
    found = _FORM.fullmatch(presented)
    if found is None or checksum(presented[:-CHECK_LENGTH]).encode() != found[4]:
        return None
    return KeyText(found[1].decode(), found[2].decode(), found[3])


def checksum(text: bytes) -> str:
    return base62(zlib.crc32(text), CHECK_LENGTH)


def base62(number: int, length: int) -> str:
    """The last `length` digits of a number, most significant first."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))
