# SPDX-License-Identifier: Apache-2.0
"""From an errno to an exception, for the extension modules: the one door they all use."""

from typing import NoReturn


def fail(err: int, what: str) -> NoReturn:
    """Raise the exception that stands for an errno.

    Parameters
    ----------
    err : int
        The errno, either sign (C returns it negative).
    what : str
        A sentence that names the object, the range and the remedy.

    Raises
    ------
    OSError
        The subclass that `iommufd_fast.errors` has for this errno; ``.errno`` is the positive number.
    """
    from iommufd_fast.errors import from_errno  # late: errors.py must not be imported by every extension's start

    raise from_errno(err, what)
