# SPDX-License-Identifier: Apache-2.0
"""The list of actions: functions that add steps to a world, with a weight for each kind of sequence."""

from __future__ import annotations

from collections.abc import Callable

from .world import World

Action = Callable[[World], object]
ACTIONS: dict[Action, dict[str, float]] = {}
THEMES = ("maps", "devices", "dirty", "nested", "viommu", "access", "vfio", "files", "pasid", "account")


def action(**weights: float) -> Callable[[Action], Action]:
    """Registers a function that adds its steps and returns something true, or returns nothing when it cannot.

    Weights by theme; `all` for those that are not named.
    """

    def enter(function: Action) -> Action:
        default = weights.pop("all", 0)
        ACTIONS[function] = {theme: weights.get(theme, default) for theme in THEMES}
        return function

    return enter
