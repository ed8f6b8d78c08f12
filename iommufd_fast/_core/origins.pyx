# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Where handles are made, for the warning about one that was never closed."""
import sys
import tracemalloc
import warnings

tracking = sys.flags.dev_mode or tracemalloc.is_tracing() or bool(sys.warnoptions)


def track_origins(bint on=True):
    """Remember where each handle is made, for the ResourceWarning of one that is never closed.

    On from the start in development mode (``-X dev``), with ``-W`` or with tracemalloc; costs about 0.3 µs per map.
    """
    global tracking
    tracking = on


def origin():
    """The line of Python that is running, when origins are tracked, else None."""
    if not tracking:
        return None
    frame = sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("iommufd_fast."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def leaked(str text, made, source=None):
    """Warn about a handle that was dropped without close()."""
    where = f", made at {made}" if made else " (iommufd_fast.track_origins() or -X dev tells where it was made)"
    warnings.warn(f"unclosed {text}{where}", ResourceWarning, stacklevel=2, source=source)
