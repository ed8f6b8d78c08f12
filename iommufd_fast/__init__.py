# SPDX-License-Identifier: Apache-2.0
"""I/O address spaces for userspace: the model of Linux's iommufd as a fast engine in any process."""

from iommufd_fast._paths import get_include, get_library_dir
from iommufd_fast._version import __version__

__all__ = ["__version__", "get_include", "get_library_dir"]
