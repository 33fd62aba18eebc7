"""Proofs under faults: real gateways as processes, killed, raced and cut off. `python -m chaos`."""
