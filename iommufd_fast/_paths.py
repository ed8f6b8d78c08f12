# SPDX-License-Identifier: Apache-2.0
"""Where a program that builds against this package finds headers and the library."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def get_include() -> str:
    """Return the folder of the C headers, for programs that cimport the ``_core`` modules or include the C API.

    Returns
    -------
    str
        An absolute path for ``include_dirs``. ``iommufd_fast.h`` lies directly in it.

    Raises
    ------
    FileNotFoundError
        The package is a source tree that was not built.
    """
    return _existing(_HERE / "include", "iommufd_fast.h")


def get_library_dir() -> str:
    """Return the folder of ``libiommufd_fast.so``, for ``library_dirs`` and ``runtime_library_dirs``.

    Programs link it with ``-liommufd_fast``. Extension modules must link this library and no copy of it: what is
    process-wide (the SIGSEGV fix-up table) exists once.

    Raises
    ------
    FileNotFoundError
        The package is a source tree that was not built.
    """
    return _existing(_HERE, "libiommufd_fast.so")


def _existing(folder: Path, name: str) -> str:
    if not (folder / name).exists():
        raise FileNotFoundError(
            f"{folder / name} does not exist: build the package first (make build, or pip install .)"
        )
    return str(folder)
