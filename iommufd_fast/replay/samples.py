# SPDX-License-Identifier: Apache-2.0
"""The traces that come with the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data"
SAMPLES = {
    "nvme": ("nvme-dd-vtd-strict.ftrace.gz", "recorded: dd on an NVMe disk behind VT-d, 16 727 events"),
    "nic": ("nic-rings-synthetic.ftrace.gz", "synthetic: 12 receive rings, never fewer than 12 288 mappings live"),
}


def path(name: str) -> Path:
    """The file of a sample."""
    return FOLDER / SAMPLES[name][0]
