"""llama.cpp's own completion call, driven with the ids of tokens. Pure.

A chat becomes a prompt by the engine's own template (`/apply-template`), the prompt becomes ids
(`/tokenize`), and `/completion` tells the ids of what it says. Whoever has all ids can have another copy of
the same weights go on exactly where the first one stopped; text does not do, as it may be cut into other
tokens the second time.
"""
