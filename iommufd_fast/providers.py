# SPDX-License-Identifier: Apache-2.0
"""Opening a context by the name of its provider."""

from __future__ import annotations

from iommufd_fast.context import Iommufd
from iommufd_fast.machine import Machine, default_machine


def open(provider: str = "engine", *, machine: Machine | None = None) -> Iommufd:
    """Open a context.

    Parameters
    ----------
    provider : str
        "engine": in this process, on `machine`.
    machine : Machine, optional
        By default the process's default machine.
    """
    if not isinstance(provider, str):
        raise TypeError(f"provider must be a string, not {type(provider).__name__}")
    if provider != "engine":
        raise ValueError(f"there is no provider {provider!r} in this version; 'engine' is the one there is")
    if machine is not None and not isinstance(machine, Machine):
        raise TypeError(f"machine must be a Machine, not {type(machine).__name__}")
    return (default_machine() if machine is None else machine).open()
