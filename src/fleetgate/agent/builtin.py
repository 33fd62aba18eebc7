"""The built-in engine: llama.cpp's HTTP server over the demonstration model, in a process of its own.

`python -m fleetgate.agent.builtin --port N --model PATH --slots K --parent-pid P` serves until it is
told to stop or its parent is gone. It says `listening http://…` on its standard output once it is
ready, and nothing else. Chat and embeddings are served side by side.

It is a demonstration and says so: its model is named `fleetgate-demo`, in lists and in answers.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleetgate.agent import leash, tinymodel

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST: Final = "127.0.0.1"
LISTENING: Final = "listening "
"""begins the line that tells its address"""


def missing() -> str | None:
    """What to install before the built-in engine can run; None: nothing."""
    absent = [name for name in ("xllamacpp", "gguf", "numpy") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"The built-in engine needs {' and '.join(absent)}: install the extra `local` "
        f"(`pip install 'fleetgate[local]'`), or point Fleetgate at an engine of yours."
    )


def command(model: Path, port: int, *, slots: int = 2, context: int | None = None) -> list[str]:
    """How this process starts one, for `supervise.Child`. A directory as `model` holds our own."""
    given = {
        "--port": port,
        "--model": model,
        "--slots": slots,
        "--context": tinymodel.CONTEXT if context is None else context,
        "--parent-pid": os.getpid(),
    }
    words = [word for name, value in given.items() for word in (name, str(value))]
    return [sys.executable, "-m", "fleetgate.agent.builtin", *words]


def _parameters(given: argparse.Namespace) -> Any:
    import xllamacpp  # noqa: PLC0415  (optional: extra `local`)

    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.model_alias = {given.alias}
    params.hostnames = [HOST]
    params.port = given.port
    params.n_parallel = given.slots
    # llama.cpp divides its context among the slots.
    params.n_ctx = given.context * given.slots
    # An embedding is computed in one batch, so a batch has to hold the longest text.
    params.n_batch = params.n_ubatch = given.context
    params.fit_params = False
    params.warmup = False
    # A model this small is slower on several threads than on one.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.endpoint_props = False  # only guards *changing* them; reading works
    params.ui = False
    # By default any web page may talk to it; nobody's page needs to.
    params.cors_origins = f"http://{HOST}"
    params.cors_origins_explicit = True
    params.cache_ram_mib = 0
    params.verbosity = 0
    return params


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleetgate.agent.builtin", description="The built-in engine.")
    parser.add_argument("--port", type=int, default=0, help="0: the kernel chooses")
    parser.add_argument("--model", required=True, help="a GGUF file, or a directory for our own")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--context", type=int, default=tinymodel.CONTEXT, help="tokens per slot")
    parser.add_argument("--alias", default=tinymodel.NAME, help="the model's name in answers")
    parser.add_argument("--parent-pid", type=int, required=True)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parse(arguments)
    if (advice := missing()) is not None:
        raise SystemExit(advice)
    # Nothing here is worth a tidy end: the default action is the quickest one.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    if (directory := Path(given.model)).is_dir():
        # Written here and not by the gateway, which would keep the memory that it takes.
        given.model = str(tinymodel.ensure(directory))

    import xllamacpp  # noqa: PLC0415  (optional: extra `local`)

    try:
        running = xllamacpp.Server(_parameters(given))
    except RuntimeError as error:
        raise SystemExit(f"llama.cpp does not start: {error}") from None
    sys.stdout.write(f"{LISTENING}{running.listening_address}\n")
    sys.stdout.flush()
    leash.wait_for_end(given.parent_pid)
    # An ordinary exit would wait for answers in flight that nobody reads any more.
    os._exit(0)


if __name__ == "__main__":
    main()
