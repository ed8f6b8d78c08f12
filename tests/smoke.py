# SPDX-License-Identifier: Apache-2.0
"""Run by `make sdist-check` in an environment that has only the installed package and NumPy: the main job, once."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
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

# The preload library: a process that knows nothing of the package has /dev/iommu.
preload = Path(iof.get_library_dir()) / "libiommufd_fast_preload.so"
env = os.environ | {"LD_PRELOAD": str(preload), "IOMMUFD_FAST_MACHINE": "mock"}
code = "import os, fcntl; fcntl.ioctl(os.open('/dev/iommu', os.O_RDWR), 0x3B81, bytearray([12] + 11 * [0]))"
subprocess.run([sys.executable, "-I", "-c", code], env=env, check=True)

print(f"iommufd_fast {iof.__version__}: installed from the source distribution, maps, writes, unmaps, preloads")
