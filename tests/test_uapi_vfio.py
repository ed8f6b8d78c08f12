# SPDX-License-Identifier: Apache-2.0
"""Every number and offset in uapi_vfio.py is what the C compiler says of csrc/dispatch/uapi_vfio.h."""

from __future__ import annotations

import re

import pytest
from support import CSRC, compiler, run

from iommufd_fast import uapi_vfio as vfio

HEADER = re.sub(r"/\*.*?\*/", "", (CSRC / "dispatch" / "uapi_vfio.h").read_text(), flags=re.S)
ENUMS = {
    "IOF_VFIO_DEVICE_": vfio.DeviceFlag,
    "IOF_VFIO_REGION_": vfio.RegionFlag,
    "IOF_VFIO_PCI_BAR": vfio.PciRegion,
    "IOF_VFIO_PCI_ROM": vfio.PciRegion,
    "IOF_VFIO_PCI_CONFIG": vfio.PciRegion,
    "IOF_VFIO_PCI_": vfio.PciIrq,
    "IOF_VFIO_IRQ_": vfio.IrqFlag,
    "IOF_VFIO_SET_IRQS": vfio.Command,
    "IOF_VFIO_SET_": vfio.IrqSetFlag,
    "IOF_VFIO_": vfio.Command,
}
STRUCTS = {
    "iof_vfio_region_info": vfio.REGION_INFO,
    "iof_vfio_cap": vfio.CAP,
    "iof_vfio_area": vfio.AREA,
    "iof_vfio_irq_info": vfio.IRQ_INFO,
    "iof_vfio_irq_set": vfio.IRQ_SET,
}


@pytest.fixture(scope="module")
def from_c(tmp_path_factory):
    wanted = [*re.findall(r"\b(IOF_VFIO_\w+) = ", HEADER), "IOF_VFIO_CAP_SPARSE"]
    for struct, dtype in STRUCTS.items():
        wanted += [f"sizeof(struct {struct})"] + [f"offsetof(struct {struct}, {m})" for m in dtype.names]
    lines = "".join(f'\tprintf("%s\\t%llu\\n", "{w}", (unsigned long long)({w}));\n' for w in wanted)
    folder = tmp_path_factory.mktemp("uapi")
    source = (
        f'#include <stddef.h>\n#include <stdio.h>\n#include "dispatch/uapi_vfio.h"\nint main(void)\n{{\n{lines}}}\n'
    )
    (folder / "x.c").write_text(source)
    done = run(*compiler().split(), f"-I{CSRC}", "-o", folder / "x", folder / "x.c")
    assert done.returncode == 0, done.stdout
    return {n: int(v) for n, v in (line.split("\t") for line in run(folder / "x").stdout.splitlines())}


def test_numbers(from_c):
    seen = set()
    for name in re.findall(r"\b(IOF_VFIO_\w+) = ", HEADER):
        prefix = next(p for p in ENUMS if name.startswith(p))
        enum = ENUMS[prefix]
        short = (
            name.removeprefix("IOF_VFIO_")
            if enum is vfio.Command
            else name.rpartition("PCI_")[2]
            if "PCI_" in name
            else name.removeprefix(prefix)
        )
        member = vfio.DeviceFlag.PCI if name == "IOF_VFIO_DEVICE_PCI" else enum[short]
        assert member == from_c[name], name
        seen.add((type(member), member))
    assert seen == {(type(m), m) for e in set(ENUMS.values()) for m in e}
    assert from_c["IOF_VFIO_CAP_SPARSE"] == vfio.SPARSE_CAP


@pytest.mark.parametrize("struct", STRUCTS)
def test_structs(struct, from_c):
    dtype = STRUCTS[struct]
    assert dtype.itemsize == from_c[f"sizeof(struct {struct})"]
    for member in dtype.names:
        assert dtype.fields[member][1] == from_c[f"offsetof(struct {struct}, {member})"], member
