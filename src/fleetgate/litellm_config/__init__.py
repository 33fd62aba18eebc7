"""Reads a LiteLLM configuration: its tree -> a tree in our form, with notes on what was not understood.

Pure: no file is opened, nothing of a file is executed, the environment is an argument. Every value keeps
the place in the LiteLLM file that it came from, so that later findings point there too. Reading goes
`source` (typed access, variables) -> `entries` (what each entry of `model_list` names) -> `machines`
(nodes, engines, providers and their names) -> `groups` (steps) -> `reading` (everything else, assembly).
"""

from fleetgate.litellm_config.reading import convert

__all__ = ["convert"]
