# SPDX-License-Identifier: Apache-2.0
"""``python -m iommufd_fast`` and the command ``iommufd-fast``."""

import sys

from iommufd_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
