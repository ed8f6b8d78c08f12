# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole suite.

IOF_NIGHTLY=1 (``make nightly``) also runs what is marked ``nightly`` and gives hypothesis more examples.
IOF_SHARED=DIR (``make test SHARED=DIR``) names a folder with larger inputs; tests that need it skip without it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

NIGHTLY = bool(os.environ.get("IOF_NIGHTLY"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

# derandomize: a run that fails must fail again; the nightly run is the one that looks for new failures.
settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=QUIET)
settings.load_profile("nightly" if NIGHTLY else "quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not NIGHTLY:
        skip = pytest.mark.skip(reason="nightly: make nightly runs it")
        for item in items:
            if item.get_closest_marker("nightly"):
                item.add_marker(skip)


def pytest_report_header() -> list[str]:
    import iommufd_fast

    return [f"iommufd_fast: {Path(iommufd_fast.__file__).parent}"]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of larger inputs (golden tables, traces)."""
    name = os.environ.get("IOF_SHARED", "")
    if not name or not Path(name).is_dir():
        pytest.skip("no folder of larger inputs: make test SHARED=DIR")
    return Path(name)
