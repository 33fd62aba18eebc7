"""Forms with files: written as clients write them, and read as engines read them."""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.upstreams import Received

BOUNDARY = "form-of-a-test"


@dataclass(frozen=True)
class Part:
    name: str
    content: bytes
    file: str | None = None
    type: str | None = None


def written(*parts: Part) -> tuple[bytes, dict[str, str]]:
    """A body and its headers."""
    body = b""
    for part in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part.name}"'
        head += f'; filename="{part.file}"' if part.file is not None else ""
        head += f"\r\nContent-Type: {part.type}" if part.type else ""
        body += head.encode() + b"\r\n\r\n" + part.content + b"\r\n"
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return body + f"--{BOUNDARY}--\r\n".encode(), headers


def recording(content: bytes, model: str = "m", **fields: str) -> tuple[bytes, dict[str, str]]:
    """A form as for a transcription."""
    return written(
        Part("file", content, "speech.wav", "audio/wav"),
        Part("model", model.encode()),
        *(Part(name, value.encode()) for name, value in fields.items()),
    )


def read(request: Received) -> list[Part]:
    """What an engine finds in a form."""
    head = f"Content-Type: {request.header('content-type')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    assert message.is_multipart()
    assert not message.defects
    return [
        Part(
            str(part.get_param("name", header="content-disposition")),
            part.get_payload(decode=True),
            part.get_filename(),
            part.get_content_type() if "content-type" in part else None,
        )
        for part in message.iter_parts()
    ]
