"""Model files whose weights are nothing but noise: the hardest case for going on where another one stopped.

They have the demonstration model's vocabulary, bytes among it, so that their words are cut into tokens in
other ways than any tokenizer would, and characters into several tokens.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

from fleetgate.agent import tinymodel

if TYPE_CHECKING:
    from pathlib import Path

SLOW: Final = tinymodel.Shape(width=256, inner=1024, heads=4, layers=6)
"""takes half a millisecond for a token, so that an answer is easily broken off in its midst"""


def noise(directory: Path, seed: int, shape: tinymodel.Shape = tinymodel.TINY) -> Path:
    """A model file with random weights."""
    path = directory / f"noise-{seed}-{shape.width}.gguf"
    if path.exists():
        return path
    shutil.copy(tinymodel.ensure(directory / f"shape-{shape.width}", shape), path)
    reader = gguf.GGUFReader(path, "r+")
    random = np.random.default_rng(seed)
    for tensor in reader.tensors:
        if tensor.data.dtype == np.float16:
            values = random.normal(0.0, shape.width**-0.5, tensor.data.shape)
            tensor.data[:] = values.astype(np.float16)
    reader.data.flush()
    return path
