# SPDX-License-Identifier: Apache-2.0
"""Run by `make sdist-check` in an environment that has only the installed package and NumPy: the main job, once."""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

import iommufd_fast as iof

assert "site-packages" in iof.__file__, f"{iof.__file__} is not an installed package"
assert iof.__version__ == importlib.metadata.version("iommufd_fast")
assert (Path(iof.get_include()) / "iommufd_fast.h").is_file()
assert (Path(iof.get_library_dir()) / "libiommufd_fast.so").is_file()
for absent in ("click", "rich", "matplotlib", "pytest"):
    assert importlib.util.find_spec(absent) is None, f"{absent} is here: this environment proves nothing"

with iof.open() as ctx:
    dev = ctx.bind(iof.SoftDevice("intel"))
    ioas = ctx.ioas()
    dev.attach(ioas)
    buf = np.zeros(1 << 20, np.uint8)
    with ioas.map(buf) as m:
        dev.dma_write(m.iova + 4096, b"hello")
        assert buf[4096:4101].tobytes() == b"hello"
        assert not buf[:4096].any() and not buf[4101:].any()
    try:
        dev.dma_write(0x1000, b"nothing is mapped any more")
    except OSError:
        pass
    else:
        raise AssertionError("DMA reached memory that is not mapped")

print(f"iommufd_fast {iof.__version__}: installed from the source distribution, maps, writes, unmaps")
