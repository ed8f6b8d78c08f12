# SPDX-License-Identifier: Apache-2.0
"""Every number, size and offset in uapi.py is what the C compiler says of csrc/dispatch/uapi.h."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import CSRC, compiler, run

import iommufd_fast as iof
from iommufd_fast import uapi

HEADER = "".join((CSRC / "dispatch" / name).read_text() for name in ("uapi.h", "uapi_guest.h"))
FAULTS = (uapi.FaultFlag, uapi.FaultPerm, uapi.FaultCode)
ENUMS = {
    "IOF_CMD_": uapi.Command,
    "IOF_MAP_": uapi.MapFlag,
    "IOF_OPTION_": uapi.Option,
    "IOF_HWPT_": uapi.HwptFlag,
    "IOF_BIND_": uapi.BindFlag,
    "IOF_ATTACH_": uapi.AttachFlag,
    **{f"IOF_FAULT_{m.name}": e for e in FAULTS for m in e},
    "IOF_VEVENT_": uapi.VeventFlag,
    "IOF_DATA_": uapi.HwptData,
    "IOF_INVALIDATE_": uapi.InvalidateData,
    "IOF_VIOMMU_": uapi.ViommuType,
    "IOF_VEVENTQ_": uapi.VeventqType,
    "IOF_VTD_S1_": uapi.VtdS1Flag,
    "IOF_VTD_INV_": uapi.VtdInvFlag,
}
GUESTS = ("VTD_S1", "VTD_S1_INVALIDATE", "ARM_SMMUV3", "ARM_SMMUV3_INVALIDATE", "ARM_SMMUV3_EVENT", "AMD_GUEST")
# Struct names of the header that are not the lower-case name of a command.
STRUCTS = {
    "iof_uapi_range": "RANGE",
    "iof_cmd_set_dirty_tracking": "HWPT_SET_DIRTY_TRACKING",
    "iof_cmd_get_dirty_bitmap": "HWPT_GET_DIRTY_BITMAP",
    "iof_cmd_change_process": "IOAS_CHANGE_PROCESS",
    "iof_cmd_device_info": "DEVICE_GET_INFO",
    "iof_cmd_bind": "DEVICE_BIND_IOMMUFD",
    "iof_cmd_attach": "DEVICE_ATTACH_PT",
    "iof_cmd_detach": "DEVICE_DETACH_PT",
    "iof_fault_record": "FAULT_RECORD",
    "iof_fault_response": "FAULT_RESPONSE",
    "iof_vevent_header": "VEVENT_HEADER",
    **{f"iof_{name.lower()}": name for name in GUESTS},
}


def structs() -> dict[str, list[str]]:
    """Struct names of the header and their members."""
    found = {}
    text = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.S)
    for name, body in re.findall(r"struct (iof_\w+) \{(.*?)\n\}", text, re.S):
        declared = re.sub(r"\b(u?int\d+_t)\b|\[\d+\]", "", body).replace(";", ",")
        found[name] = [m.strip() for m in declared.split(",") if m.strip()]
    return found


def constants() -> list[str]:
    return re.findall(r"\b(IOF_\w+) = ", HEADER)


@pytest.fixture(scope="module")
def from_c(tmp_path_factory):
    """What the compiler says: {expression: value}."""
    wanted = constants() + [f"sizeof(struct {s})" for s in structs()]
    for struct, members in structs().items():
        wanted += [f"offsetof(struct {struct}, {m})" for m in members]
        wanted += [f"sizeof(((struct {struct} *)0)->{m})" for m in members]
    lines = "".join(f'\tprintf("%s\\t%llu\\n", "{w}", (unsigned long long)({w}));\n' for w in wanted)
    folder = tmp_path_factory.mktemp("uapi")
    (folder / "x.c").write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "dispatch/uapi.h"\n#include "dispatch/uapi_guest.h"\n'
        f"int main(void)\n{{\n{lines}}}\n"
    )
    done = run(*compiler().split(), f"-I{CSRC}", "-o", folder / "x", folder / "x.c")
    assert done.returncode == 0, done.stdout
    output = run(folder / "x").stdout
    return {name: int(value) for name, value in (line.split("\t") for line in output.splitlines())}


def test_numbers(from_c):
    seen = set()
    for name in constants():
        prefix = next(p for p in ("IOF_OPTION_SET", "IOF_OPTION_GET", *ENUMS) if name.startswith(p))
        enum = uapi.OptionOp if prefix in ("IOF_OPTION_SET", "IOF_OPTION_GET") else ENUMS[prefix]
        known = {uapi.OptionOp: "IOF_OPTION_", **dict.fromkeys(FAULTS, "IOF_FAULT_")}
        member = enum[name.removeprefix(known.get(enum, prefix))]
        assert member == from_c[name], name
        seen.add(member)
    everything = {m for e in (*ENUMS.values(), uapi.OptionOp) for m in e}
    assert {(type(m), m) for m in everything} == {(type(m), m) for m in seen}
    assert len(constants()) > 35


@pytest.mark.parametrize("struct", structs())
def test_struct(struct, from_c):
    name = STRUCTS.get(struct, struct.removeprefix("iof_cmd_").upper())
    dtype = getattr(uapi, name)
    assert list(dtype.names) == structs()[struct]
    assert dtype.itemsize == from_c[f"sizeof(struct {struct})"]
    for member in dtype.names:
        field, offset = dtype.fields[member][:2]
        assert offset == from_c[f"offsetof(struct {struct}, {member})"], member
        assert field.itemsize == from_c[f"sizeof(((struct {struct} *)0)->{member})"], member


def test_every_command_has_a_struct():
    records = {"RANGE", "FAULT_RECORD", "FAULT_RESPONSE", "VEVENT_HEADER", *GUESTS}
    assert {c.name for c in uapi.Command} | records == {n for n in vars(uapi) if isinstance(getattr(uapi, n), np.dtype)}


# -- the raw door -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ctx():
    with iof.Machine("intel") as m, m.open() as c:
        yield c


def command(dtype, **fields):
    made = np.zeros((), dtype)
    made[dtype.names[0]] = dtype.itemsize
    for name, value in fields.items():
        made[name] = value
    return made


def test_a_life_through_the_raw_door(ctx):
    alloc = command(uapi.IOAS_ALLOC)
    assert ctx.ioctl(uapi.Command.IOAS_ALLOC, alloc) == 0 and alloc["out_ioas_id"] == 1
    buf = np.zeros(8192, np.uint8)
    address = (buf.ctypes.data + 4095) & ~4095
    m = command(
        uapi.IOAS_MAP, flags=uapi.MapFlag.READABLE | uapi.MapFlag.WRITEABLE, ioas_id=1, user_va=address, length=4096
    )
    ctx.ioctl(uapi.Command.IOAS_MAP, m)
    assert m["iova"] == 0x1000
    ctx.ioctl(uapi.Command.IOAS_UNMAP, command(uapi.IOAS_UNMAP, ioas_id=1, iova=0x1000, length=4096))
    ctx.ioctl(uapi.Command.DESTROY, command(uapi.DESTROY, id=1))
    with pytest.raises(iof.NotFound) as e:
        ctx.ioctl(uapi.Command.DESTROY, command(uapi.DESTROY, id=1))
    assert e.value.errno == 2


def test_an_object_destroyed_through_the_raw_door_is_closed(ctx):
    ioas = ctx.ioas()
    ctx.ioctl(uapi.Command.DESTROY, command(uapi.DESTROY, id=ioas.id))
    other = ctx.ioas()
    assert other.id == ioas.id and ioas.closed and not other.closed
    with pytest.raises(ValueError, match="was destroyed"):
        ioas.map(bytearray(4096))
    ioas.close()
    assert not other.closed and ctx.ioases == (other,)


def test_device_door(ctx):
    dev, ioas = ctx.bind(0), ctx.ioas()
    attach = command(uapi.DEVICE_ATTACH_PT, pt_id=ioas.id)
    dev.ioctl(uapi.Command.DEVICE_ATTACH_PT, attach)
    hwpt = dev.hwpt
    assert hwpt.id == attach["pt_id"] and hwpt.ioas is ioas and hwpt.automatic and ctx.hwpts == (hwpt,)
    dev.ioctl(uapi.Command.DEVICE_DETACH_PT, command(uapi.DEVICE_DETACH_PT))
    assert hwpt.closed and dev.hwpt is None and dev.endpoints[0].blocked


@pytest.mark.parametrize(
    ("cmd", "buffer", "error"),
    [
        (uapi.Command.DESTROY, b"\x08\0\0\0\1\0\0\0", (BufferError, ValueError)),
        (uapi.Command.DESTROY, bytearray(3), ValueError),
        (uapi.Command.DESTROY, bytearray(b"\xff\0\0\0\1\0\0\0"), ValueError),  # claims more than the buffer has
        (uapi.Command.DESTROY, None, iof.BadAddress),
        (uapi.Command.DESTROY, bytearray(b"\4\0\0\0\1\0\0\0"), iof.Invalid),
        (0x3B7F, None, iof.UnknownCommand),
        (0x1234, bytearray(8), iof.UnknownCommand),
        (-1, bytearray(8), ValueError),
        (1.5, bytearray(8), TypeError),
        ("DESTROY", bytearray(8), TypeError),
    ],
)
def test_bad_calls(cmd, buffer, error, ctx):
    before = ctx.digest()
    with pytest.raises(error):
        ctx.ioctl(cmd, buffer)
    assert ctx.digest() == before
