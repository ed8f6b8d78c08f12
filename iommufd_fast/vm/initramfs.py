# SPDX-License-Identifier: Apache-2.0
"""A guest's first file system: busybox and three scripts.

``/init`` mounts the host's root directory (9p, read-only) under a tmpfs overlay, so that the guest may write anywhere
and the host sees none of it; the one folder that is shared for writing is mounted at the very path it has on the host.
``/bind`` gives PCI devices to vfio-pci. ``/job`` is the command with its environment, run in a chroot there. What the
host must know goes through the virtio-serial port "control" as lines of JSON (see channel.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cpio

CONTROL = "/dev/iof-control"
ROOM = "/run/iof"  # where the guest finds what belongs to the harness

INIT = f"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
tell() {{ printf '%s\\n' "$1" > $control; }}
give_up() {{ echo "iof: $1"; [ -n "$control" ] && tell "{{\\"failed\\": \\"$1\\"}}"; poweroff -f; exit 1; }}

mount -t proc proc /proc && mount -t sysfs sys /sys || give_up "no /proc or /sys"
mount -t devtmpfs dev /dev 2> /dev/null
for port in /sys/class/virtio-ports/*; do
    [ -e $port/name ] && ln -sf ${{port##*/}} /dev/iof-$(cat $port/name)
done
[ -c {CONTROL} ] || give_up "the kernel has no virtio-serial ports (CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE)"
control={CONTROL}
( sleep @LIFETIME@; poweroff -f ) > /dev/null 2>&1 < /dev/null &

nine=trans=virtio,version=9p2000.L,msize=1048576
mount -t 9p -o ro,$nine,cache=loose root /host || give_up "the host's files cannot be mounted (CONFIG_9P_FS)"
mount -t tmpfs -o size=75% tmpfs /top && mkdir /top/upper /top/work
mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work overlay /root ||
    give_up "no overlay over the host's files (CONFIG_OVERLAY_FS)"
mount -t tmpfs tmpfs /root/run && mkdir /root{ROOM} && cp /bin/busybox /job /root{ROOM}/
mount --move /proc /root/proc && mount --move /sys /root/sys && mount --move /dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm /root/dev/hugepages
mount -t devpts devpts /root/dev/pts
ln -s /proc/self/fd /root/dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${{n%:*}} /root/dev/${{n#*:}}; done
mount -t tmpfs tmpfs /root/dev/shm
mount -t hugetlbfs huge /root/dev/hugepages 2> /dev/null
mount -t debugfs debug /root/sys/kernel/debug 2> /dev/null
mount -t tracefs trace /root/sys/kernel/tracing 2> /dev/null
mount -t cgroup2 cgroup /root/sys/fs/cgroup 2> /dev/null
control=/root{CONTROL}
share=@SHARE@
mount -t 9p -o rw,$nine,cache=none share "/root$share" || give_up "the shared folder cannot be mounted"
ip link set lo up 2> /dev/null
. /bind

tell '{{"booted": true}}'
chroot /root {ROOM}/busybox sh {ROOM}/job < /dev/null > /root/dev/iof-output 2>&1
status=$?
sync
tell "{{\\"exit\\": $status}}"
poweroff -f
"""

# A PCI device by vendor:device, as lspci -n shows them.
BIND = """bind() {
    for device in /root/sys/bus/pci/devices/*; do
        [ "$(cat $device/vendor):$(cat $device/device)" = "$1" ] || continue
        [ -e $device/driver ] && echo ${device##*/} > $device/driver/unbind
        echo vfio-pci > $device/driver_override
        echo ${device##*/} > /root/sys/bus/pci/drivers_probe
        [ -e $device/driver ] || give_up "${device##*/} did not go to vfio-pci"
        found=1
    done
    [ -n "$found" ] || give_up "no PCI device $1"
    found=
}
"""


@dataclass(frozen=True)
class Job:
    """What runs in the guest.

    Attributes
    ----------
    command : sequence of str
    env : mapping
        Its whole environment.
    cwd : Path
    share : Path
        A folder of the host that the guest may write into, seen there at the same path.
    bind : sequence of str
        "vendor:device" of PCI devices that go to vfio-pci first.
    lifetime : int
        Seconds after which the guest ends by itself, so that none outlives its host by much.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    share: Path
    bind: Sequence[str]
    lifetime: int


def job_script(job: Job) -> str:
    """The command as a script that replaces its shell by it."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in job.env.items() if name.isidentifier()]
    lines += [f"cd {shlex.quote(str(job.cwd))} || exit 126", f"exec {shlex.join(job.command)}"]
    return "\n".join(lines) + "\n"


def bind_script(bind: Sequence[str]) -> str:
    """Each device once, "1234:11e8" as sysfs spells it: 0x1234:0x11e8."""
    calls = ["bind " + ":".join(f"0x{int(part, 16):04x}" for part in name.split(":")) for name in bind]
    return BIND + "\n".join(calls) + "\n"


def initramfs(busybox: bytes, job: Job) -> bytes:
    """The archive that the kernel unpacks."""
    init = INIT.replace("@SHARE@", shlex.quote(str(job.share))).replace("@LIFETIME@", str(job.lifetime))
    folders = ("bin", "dev", "host", "proc", "root", "sys", "top")
    return cpio.archive(
        [
            *map(cpio.folder, folders),
            cpio.character_device("dev/console", 5, 1),
            cpio.file("bin/busybox", busybox, 0o755),
            cpio.file("init", init.encode(), 0o755),
            cpio.file("bind", bind_script(job.bind).encode()),
            cpio.file("job", job_script(job).encode()),
        ]
    )
