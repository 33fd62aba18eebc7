"""What attempts draw from the socket, by the settings of the machine that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetgate.energy import energy, energy_cost, tariff_of

if TYPE_CHECKING:
    from fleetgate.config.schema import Settings
    from fleetgate.live import Deployment


class Draw:
    """Made of the settings, at start and at each reload."""

    def __init__(self, settings: Settings) -> None:
        self._watts = {
            name: (node.energy.busy, node.energy.idle) for name, node in settings.nodes.items() if node.energy
        }
        self._tariff = tariff_of(settings.energy, settings.currency) if settings.energy is not None else None

    def of(self, deployment: Deployment, seconds: float, when: float) -> tuple[int, int]:
        """Micro-watt-hours and nano-dollars of an attempt that began at `when` (unix time)."""
        watts = self._watts.get(deployment.engine.node.name) if self._watts else None
        if watts is None:
            return 0, 0
        used = energy(*watts, seconds, deployment.engine.in_flight)
        return used, energy_cost(used, self._tariff, when) if self._tariff is not None else 0
