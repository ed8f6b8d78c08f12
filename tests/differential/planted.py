# SPDX-License-Identifier: Apache-2.0
"""A test of the tester: bugs put into a copy of the engine, one at a time, each of which must be found.

A bug is a replacement of text that has to stand in the file exactly once, so that one which no longer applies is
noticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bug:
    name: str
    file: str  # in csrc
    old: str
    new: str


BUGS = (
    Bug(
        "IOVA_RANGES that just fit are EMSGSIZE",
        "dispatch/ioas_commands.c",
        "cmd->num_iovas > room ? -EMSGSIZE",
        "cmd->num_iovas >= room ? -EMSGSIZE",
    ),
    Bug("ids are not used again", "ioas/object.c", "if (o->id < t->lowest)", "if (o->id < t->lowest && o->id > 9)"),
    Bug(
        "a fixed IOVA need not be aligned",
        "ioas/map.c",
        "if (iova & (ioas->alignment - 1))\n\t\treturn -EINVAL;",
        "if (iova & (ioas->alignment - 1) & 511)\n\t\treturn -EINVAL;",
    ),
    Bug(
        "a copy may write what was mapped to be read",
        "ioas/copy.c",
        "if (prot & IOF_PROT_WRITE && !slice->pages->writable)",
        "if (prot & IOF_PROT_WRITE && !slice->pages)",
    ),
    Bug(
        "dirty leaves are told whole",
        "ioas/dirty.c",
        "iof_pt_read_dirty(w->hwpt->pt, part, w->clear, false,",
        "iof_pt_read_dirty(w->hwpt->pt, part, w->clear, true,",
    ),
    Bug(
        "the container's UNMAP says nothing on errors",
        "dispatch/vfio_commands.c",
        "un->size = bytes;\n",
        "un->size = rc ? un->size : bytes;\n",
    ),
    Bug(
        "one page more may be locked",
        "pages/account.c",
        "if (n > limit || now > limit - n)",
        "if (n > limit + 1 || now > limit + 1 - n)",
    ),
    Bug(
        "an automatic IOVA's offset inside its page is added",
        "iova/index_hole.c",
        "\tat |= q->or_bits;",
        "\tat += q->or_bits;",
    ),
    Bug(
        "the event lost first is told, not the last",
        "ioas/veventq.c",
        "\t\tq->lost = true;\n\t\tq->lost_sequence = sequence;",
        "\t\tif (!q->lost)\n\t\t\tq->lost_sequence = sequence;\n\t\tq->lost = true;",
    ),
    Bug(
        "a requester id may get a table that its PASIDs cannot share",
        "ioas/attach.c",
        "return !(hwpt->kind & IOF_HWPT_KIND_PASID) && any_pasid(g) ? -EINVAL : 0;",
        "return !(hwpt->kind & IOF_HWPT_KIND_PASID) && any_pasid(g) && pasid ? -EINVAL : 0;",
    ),
    Bug(
        "a pin need not begin with a page",
        "ioas/access_use.c",
        "return !(p->byte & IOF_PAGE_MASK) && (",
        "return !(p->byte & 63) && (",
    ),
    Bug(
        "reads of faults that are no multiple are EINVAL",
        "ioas/fault.c",
        "if (n % RECORD)\n\t\treturn -ESPIPE;",
        "if (n % RECORD)\n\t\treturn -EINVAL;",
    ),
)


def plain_environment() -> dict[str, str]:
    """Without what a make above us would hand down."""
    return {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS")}


class Copy:
    """A copy of csrc and of what was built from it; only what a bug touches is compiled again."""

    def __init__(self, csrc: Path, built: Path, to: Path) -> None:
        self.csrc, self.built = to / "csrc", to / "built"
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(csrc, self.csrc)  # with their times, so that make finds nothing to do
        shutil.copytree(built, self.built, ignore=shutil.ignore_patterns("bin", "preload-programs"))
        for rules in self.built.rglob("*.d"):  # which sources an object was made from
            rules.write_text(rules.read_text().replace(str(built), str(self.built)))

    def plant(self, bug: Bug) -> None:
        path = self.csrc / bug.file
        text = path.read_text()
        if text.count(bug.old) != 1:
            raise ValueError(f"{bug.name}: what it replaces stands {text.count(bug.old)} times in {bug.file}")
        path.write_text(text.replace(bug.old, bug.new))

    def build(self) -> Path:
        """The preload library with what is planted now."""
        make = [
            "make",
            "-s",
            "-C",
            str(self.csrc),
            f"OUT={self.built}",
            "V=1",
            f"CC={os.environ.get('CC', 'cc')}",
            "WERROR=1",
        ]
        subprocess.run([*make, "preload"], check=True, stdout=subprocess.DEVNULL, env=plain_environment())
        return self.built / "libiommufd_fast_preload.so"

    def restore(self, bug: Bug, csrc: Path) -> None:
        (self.csrc / bug.file).write_text((csrc / bug.file).read_text())
