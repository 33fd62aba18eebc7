"""What Fleetgate costs, measured beside nginx in the same run. `python -m bench` prints one table."""
