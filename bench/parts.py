"""What stands around the gateway: its configuration, nginx as upstream and as the limit, our own upstream."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.rig import Missing, Rig, Running, find, free_port, python, wait_until_up

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL: Final = "bench-model"
PATH: Final = "/v1/chat/completions"
QUESTION: Final = json.dumps(
    {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Say something short about gateways, please."},
        ],
        "temperature": 0.7,
        "max_tokens": 64,
    }
)
STREAMED: Final = json.dumps({**json.loads(QUESTION), "stream": True})
ANSWER: Final = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A gateway is a door with a memory. " * 6},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 26, "completion_tokens": 54, "total_tokens": 80},
    }
)
CATALOGUE: Final = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

_NGINX: Final = """daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx-{port}.pid;
error_log {directory}/nginx-{port}.error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body-{port};
  proxy_temp_path {directory}/proxy-{port};
  fastcgi_temp_path {directory}/fastcgi-{port};
  uwsgi_temp_path {directory}/uwsgi-{port};
  scgi_temp_path {directory}/scgi-{port};
  keepalive_requests 100000000;
  {upstream}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    {locations}
  }}
}}
"""
_FIXED: Final = """location = /v1/chat/completions {{ default_type application/json; return 200 '{answer}'; }}
    location = /v1/models {{ default_type application/json; return 200 '{catalogue}'; }}"""
_UPSTREAM: Final = "upstream mock {{ server 127.0.0.1:{port}; keepalive 512; keepalive_requests 100000000; }}"
_PASS: Final = """location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }"""


def nginx(rig: Rig, core: int, *, before: int | None = None) -> tuple[Running, int]:
    """nginx in one process: a fixed answer, or `proxy_pass` in front of the port `before`. Raises Missing."""
    program = find("nginx")
    if program is None:
        raise Missing("nginx is not installed")
    port = free_port()
    upstream = "" if before is None else _UPSTREAM.format(port=before)
    locations = _PASS if before is not None else _FIXED.format(answer=ANSWER, catalogue=CATALOGUE)
    path = rig.directory / f"nginx-{port}.conf"
    path.write_text(
        _NGINX.format(directory=rig.directory, port=port, upstream=upstream, locations=locations),
        encoding="utf-8",
    )
    log = rig.directory / f"nginx-{port}.error.log"
    one = rig.start(f"nginx-{port}", [program, "-c", str(path), "-e", str(log)], core)
    wait_until_up(one, port, "/v1/models")
    return one, port


def own_upstream(rig: Rig, core: int, *, chunks: int = 0, every: float = 0.0) -> tuple[Running, int]:
    """Our own upstream: a fixed answer, and streams of `chunks` pieces, one per `every` seconds."""
    port = free_port()
    arguments = (str(port), str(chunks), str(every))
    one = rig.start(f"upstream-{port}", python("bench.upstream", *arguments), core)
    wait_until_up(one, port, "/v1/models")
    return one, port


def any_upstream(rig: Rig, core: int) -> tuple[Running, int]:
    """The quickest upstream there is: nginx, else our own."""
    try:
        return nginx(rig, core)
    except Missing:
        return own_upstream(rig, core)


def gateway(
    rig: Rig, core: int, upstream: int, state: Path, blocks: Mapping[str, Any] | None = None
) -> tuple[Running, int, float]:
    """`fleetgate serve` in front of `upstream`, and how many seconds it took to be ready.

    `blocks`: in place of those of its configuration; without them it is open, and bounds nothing.
    """
    port = free_port()
    config = rig.directory / f"fleetgate-{port}.yaml"
    blocks = {**_config(upstream), **(blocks or {})}
    blocks["gateway"] = {"auth": "open", **blocks.get("gateway", {}), "listen": f"127.0.0.1:{port}"}
    config.write_text(json.dumps(blocks), encoding="utf-8")  # JSON is YAML
    flags = ["serve", "--config", str(config), "--state", str(state), "--log", "json"]
    one = rig.start(f"fleetgate-{port}", [command("fleetgate"), *flags], core)
    try:
        ready = wait_until_up(one, port, "/readyz")
        wait_until_up(one, port, "/readyz")
    except Missing as missing:
        raise Missing(f"{missing}: {rig.last_words(one.name)}") from None
    return one, port, ready


def command(name: str) -> str:
    """Where the installed command is: beside the interpreter that runs us. Raises Missing."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise Missing(f"{name} is not installed beside {sys.executable}")
    return str(path)


def _config(upstream: int) -> dict[str, Any]:
    return {
        "nodes": {
            "here": {
                "address": "127.0.0.1",
                "engines": [{"kind": "openai", "port": upstream, "models": [{"id": MODEL, "name": MODEL}]}],
            }
        },
    }
