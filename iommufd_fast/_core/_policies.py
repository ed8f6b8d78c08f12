# SPDX-License-Identifier: Apache-2.0
"""Names of how memory is held, for the extension modules."""

from __future__ import annotations

from iommufd_fast._core.machines import POLICIES
from iommufd_fast.errors import IommufdError, failed

_PHYSICAL = (POLICIES["mlock"], POLICIES["io_uring"])


def named(kernel: bool, trusted: object, policy: object) -> int:
    """The number of a policy that a caller has named."""
    if trusted is not None:
        raise ValueError("give either trusted or policy: a policy says both")
    if not isinstance(policy, str) or policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(map(repr, POLICIES))}, not {policy!r}")
    if kernel:
        raise ValueError(f"policy={policy!r} is for the engine; a kernel always pins")
    return POLICIES[policy]


def refusal(err: int, what: str, size: int, policy: int, default: str) -> IommufdError:
    """The exception for a map that failed under a policy; 0: the machine's, `default`."""
    if (policy or POLICIES[default]) not in _PHYSICAL:
        return failed(err, "map", what)
    from iommufd_fast.remedies import refused_hold

    return refused_hold(err, "map", what, size)
