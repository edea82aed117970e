"""A disk that can fail in every way the real one can, and always in the same way for a seed.

The fault model
---------------
A file is a set of 4096-byte pages. A write goes to the cache; a sync copies the written pages to the
platter, and sets the size. What each fault does to that (faults.md, group D):

    kill        the process dies: cache and platter stay, open files of the old process are dead
    crash       the power fails: the platter stays. Pages written but not synced are lost, or, when
                torn: any subset of them survives, or a prefix, or a prefix whose last page holds a
                whole number of new sectors (512 bytes). Creations, removals and renames that were
                not synced are each done or undone. Room that was allocated but not synced may go
    sync_error  the next syncs fail (D3). As on Linux the pages of a failed sync count as clean: some
                reached the platter, the others never will, and reading still shows them; a later
                sync says yes and does nothing for them
    lie         syncs return at once and do nothing (D4)
    full        nothing new can be allocated; pages that have room can be written (D5)
    readonly    every change fails (D5)
    flip        one bit of what is on the platter changes (D7), in a zone: log, mark or identity
    misdirect   a page holds what belongs elsewhere; stale: what it held before (D8)
    wipe, image and restore
                an empty disk, or an older copy of it (D9)

Slow and hung disks are delays, which the world makes (machine.py). Nothing here draws randomness but
from the generator it was given, and only when a fault needs it.
"""

import random
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TypeAlias

from quoit.base.errors import DiskFault, DiskFull

Place: TypeAlias = "tuple[str, int]"
"""(file, page)."""
Places: TypeAlias = "list[Place]"

__all__ = ["PAGE_BYTES", "SECTOR_BYTES", "ZONES", "Image", "SimDisk", "SimFile"]

PAGE_BYTES = 4096
SECTOR_BYTES = 512
ZONES = {"log": "*.log", "mark": "*.mark", "identity": "*.json"}
"""Zone -> pattern of the file names in it."""

Image: TypeAlias = "dict[str, tuple[dict[int, bytes], int]]"
"""What a copy of the platter holds: name -> (pages, size)."""

_ZEROS = bytes(PAGE_BYTES)
_ROOM_BYTES = 1 << 40


class _Inode:
    """A file's bytes, whatever its name.

    pages    the cache: page number -> bytes; absent pages are zeros
    durable  the platter
    dirty    pages written since the last sync, in the order of their first write
    room     bytes from the start that are allocated, so that writing them never needs more room
    """

    __slots__ = ("dirty", "durable", "durable_room", "durable_size", "pages", "room", "size")

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}
        self.durable: dict[int, bytes] = {}
        self.dirty: dict[int, None] = {}
        self.size = 0
        self.durable_size = 0
        self.room = 0
        self.durable_room = 0

    def settle(self) -> None:
        """The cache is what is on the platter."""
        self.pages = dict(self.durable)
        self.dirty = {}
        self.size = self.durable_size
        self.room = self.durable_room


class SimFile:
    """One open file; implements base.seams.File."""

    __slots__ = ("_disk", "_inode", "_life", "name")

    def __init__(self, disk: "SimDisk", inode: _Inode, name: str) -> None:
        self._disk = disk
        self._inode = inode
        self._life = disk.life
        self.name = name

    def _alive(self, what: str) -> None:
        if self._life != self._disk.life:
            raise DiskFault(f"{what} {self.name}: the process that opened it is gone")

    def _changing(self, what: str) -> None:
        self._alive(what)
        if self._disk.is_readonly:
            self._disk.on_fault("readonly")
            raise DiskFault(f"{what} {self.name}: read-only file system")

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        self._alive("reading")
        pages = self._inode.pages
        size = min(size, self._inode.size - offset)
        if size <= 0:
            return b""
        first, last = offset // PAGE_BYTES, (offset + size - 1) // PAGE_BYTES
        data = b"".join([pages.get(page, _ZEROS) for page in range(first, last + 1)])
        start = offset - first * PAGE_BYTES
        return data[start : start + size]

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data` to the cache."""
        self._changing("writing")
        self._disk.on_step("pwrite", self.name)
        inode = self._inode
        end = offset + len(data)
        if self._disk.is_full and end > inode.room:
            self._write(offset, data[: max(0, inode.room - offset)])
            self._disk.on_fault("full")
            raise DiskFull(f"writing {self.name}: the disk is full; make room")
        self._write(offset, data)
        inode.room = max(inode.room, -(-end // PAGE_BYTES) * PAGE_BYTES)

    def _write(self, offset: int, data: bytes) -> None:
        inode = self._inode
        pages, dirty = inode.pages, inode.dirty
        at = 0
        while at < len(data):
            page, start = divmod(offset + at, PAGE_BYTES)
            part = data[at : at + PAGE_BYTES - start]
            if len(part) == PAGE_BYTES:
                pages[page] = part
            else:
                old = pages.get(page, _ZEROS)
                pages[page] = old[:start] + part + old[start + len(part) :]
            dirty[page] = None
            at += len(part)
        inode.size = max(inode.size, offset + len(data))

    def sync(self) -> None:
        """Cache to platter, unless a fault says otherwise."""
        self._alive("syncing")
        self._disk.on_step("sync", self.name)
        disk, inode = self._disk, self._inode
        if disk.sync_errors > 0:
            disk.sync_errors -= 1
            disk.on_fault("sync_error")
            disk.fail_sync(inode)
            raise DiskFault(f"syncing {self.name}: input/output error")
        if disk.is_lying:
            return
        pages, durable = inode.pages, inode.durable
        for page in inode.dirty:
            if page in pages:
                durable[page] = pages[page]
            else:
                durable.pop(page, None)
        inode.dirty = {}
        inode.durable_size = inode.size
        inode.durable_room = inode.room

    def allocate(self, size: int) -> None:
        """Reserve room; the new part is zeros."""
        self._changing("reserving room for")
        self._disk.on_step("allocate", self.name)
        inode = self._inode
        if self._disk.is_full and size > inode.room:
            self._disk.on_fault("full")
            raise DiskFull(f"reserving {size} bytes for {self.name}: the disk is full; make room")
        inode.room = max(inode.room, size)
        inode.size = max(inode.size, size)

    def truncate(self, size: int) -> None:
        """Cut or extend with zeros."""
        self._changing("truncating")
        inode = self._inode
        keep, rest = divmod(size, PAGE_BYTES)
        for page in [page for page in inode.pages if page >= keep]:
            if page == keep and rest:
                inode.pages[page] = inode.pages[page][:rest] + _ZEROS[rest:]
            else:
                del inode.pages[page]
            inode.dirty[page] = None
        inode.size = size
        inode.room = min(inode.room, -(-size // PAGE_BYTES) * PAGE_BYTES)

    def size(self) -> int:
        """Length in bytes."""
        self._alive("looking at")
        return self._inode.size

    def close(self) -> None:
        """Nothing is lost by it, and nothing is synced."""


class SimDisk:
    """One directory; implements base.seams.Disk. See the module's docstring for its faults.

    life         of the process: files opened in an earlier one are dead
    sync_errors  how many of the next syncs fail
    on_fault     told of each fault that made an operation fail
    on_step      told of each change (operation, file or "" for the directory) before it is made
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._unsynced: list[tuple[str, str, _Inode | None]] = []
        self.life = 1
        self.sync_errors = 0
        self.is_full = False
        self.is_readonly = False
        self.is_lying = False
        self.on_fault: Callable[[str], None] = _ignore
        self.on_step: Callable[[str, str], None] = _ignore_step

    # base.seams.Disk

    def _changing(self, what: str) -> None:
        if self.is_readonly:
            self.on_fault("readonly")
            raise DiskFault(f"{what}: read-only file system")

    def open(self, name: str, *, create: bool = False) -> SimFile:
        """Open for reading and writing."""
        inode = self._names.get(name)
        if inode is None:
            if not create:
                raise FileNotFoundError(name)
            self._changing(f"creating {name}")
            inode = self._names[name] = _Inode()
            self._unsynced.append(("create", name, inode))
        return SimFile(self, inode, name)

    def list(self) -> list[str]:
        """File names, sorted."""
        return sorted(self._names)

    def remove(self, name: str) -> None:
        """Delete a file; one that is open stays usable."""
        self._changing(f"removing {name}")
        self.on_step("remove", name)
        if name not in self._names:
            raise FileNotFoundError(name)
        del self._names[name]
        self._unsynced.append(("remove", name, None))

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing `new`."""
        self._changing(f"renaming {old}")
        self.on_step("rename", old)
        if old not in self._names:
            raise FileNotFoundError(old)
        self._names[new] = self._names.pop(old)
        self._unsynced.append(("rename", f"{old}/{new}", None))

    def sync_directory(self) -> None:
        """Make creations, removals and renames durable."""
        self.on_step("sync", "")
        if self.sync_errors > 0:
            self.sync_errors -= 1
            self.on_fault("sync_error")
            raise DiskFault("syncing the directory: input/output error")
        if not self.is_lying:
            self._durable_names = dict(self._names)
            self._unsynced = []

    def free_bytes(self) -> int:
        """Room left."""
        return 0 if self.is_full else _ROOM_BYTES

    # Faults of the world

    def sync_error(self, times: int = 1) -> None:
        """The next `times` syncs fail."""
        self.sync_errors = times

    def full(self, on: bool = True) -> None:
        """Nothing new can be allocated."""
        self.is_full = on

    def readonly(self, on: bool = True) -> None:
        """Nothing can be changed."""
        self.is_readonly = on

    def lie(self, on: bool = True) -> None:
        """Syncs do nothing and say that they did."""
        self.is_lying = on

    def clear_faults(self) -> None:
        """The disk works from now on; what was lost stays lost."""
        self.sync_errors = 0
        self.is_full = self.is_readonly = self.is_lying = False

    def fail_sync(self, inode: _Inode) -> None:
        """What a failed sync leaves: pages that look written and are not."""
        for page in inode.dirty:
            if page in inode.pages and self._rng.random() < 0.5:
                inode.durable[page] = inode.pages[page]
        inode.dirty = {}
        inode.durable_size = inode.size
        inode.durable_room = inode.room

    # The process and the power

    def kill(self) -> None:
        """The process died; the system lives, so nothing that was written is lost."""
        self.life += 1

    def crash(self, *, torn: bool = False) -> None:
        """The power failed; see the module's docstring. Open files are dead."""
        self.life += 1
        for name in sorted(self._names):
            self._crash_file(self._names[name], torn)
        self._crash_names()
        for name in sorted(self._names):
            self._names[name].settle()

    def _crash_file(self, inode: _Inode, torn: bool) -> None:
        dirty = list(inode.dirty)
        rng = self._rng
        kept: list[int] = []
        if torn and dirty:
            if rng.random() < 0.5:
                kept = [page for page in dirty if rng.random() < 0.5]
            else:
                kept = dirty[: rng.randrange(0, len(dirty) + 1)]
                if len(kept) < len(dirty):
                    self._tear(inode, dirty[len(kept)])
        for page in kept:
            inode.durable[page] = inode.pages.get(page, _ZEROS)
        if torn and rng.random() < 0.5:
            inode.durable_size = inode.size
            inode.durable_room = inode.room
        else:
            ends = [inode.durable_size, *((page + 1) * PAGE_BYTES for page in kept)]
            inode.durable_size = min(max(ends), max(inode.size, inode.durable_size))

    def _tear(self, inode: _Inode, page: int) -> None:
        """The first sectors of the page are new, the others old."""
        sectors = self._rng.randrange(0, PAGE_BYTES // SECTOR_BYTES)
        new, old = inode.pages.get(page, _ZEROS), inode.durable.get(page, _ZEROS)
        if sectors:
            cut = sectors * SECTOR_BYTES
            inode.durable[page] = new[:cut] + old[cut:]
            inode.durable_size = max(inode.durable_size, min(inode.size, page * PAGE_BYTES + cut))

    def _crash_names(self) -> None:
        names = dict(self._durable_names)
        for kind, name, inode in self._unsynced:
            if self._rng.random() < 0.5:
                continue
            if kind == "create" and inode is not None:
                names[name] = inode
            elif kind == "remove":
                names.pop(name, None)
            elif kind == "rename":
                old, _, new = name.partition("/")
                if old in names:
                    names[new] = names.pop(old)
        self._names = names
        self._durable_names = dict(names)
        self._unsynced = []

    # Damage, and other people's hands

    def flip(self, zone: str = "log") -> tuple[str, int] | None:
        """Change one bit of something that was written; (file, byte), or None if there is nothing."""
        places = []
        for name in sorted(self._names):
            if fnmatchcase(name, ZONES[zone]):
                inode = self._names[name]
                places += [(name, page) for page in sorted(inode.pages) if any(inode.pages[page])]
        if not places:
            return None
        name, page = places[self._rng.randrange(0, len(places))]
        held = self._names[name].pages[page]
        written = [at for at, byte in enumerate(held) if byte]
        offset = page * PAGE_BYTES + written[self._rng.randrange(0, len(written))]
        self.flip_at(name, offset, self._rng.randrange(0, 8))
        return name, offset

    def _written_pages(self, zone: str) -> Places:
        """(file, page) of everything in the zone that is on the platter and not only zeros."""
        return [
            (name, page)
            for name in sorted(self._names)
            if fnmatchcase(name, ZONES[zone])
            for page in sorted(self._names[name].durable)
            if any(self._names[name].durable[page])
        ]

    def misdirect(self, zone: str = "log") -> tuple[str, int] | None:
        """A page lies where another one should: (file, byte), or None if there are not two (D8)."""
        places = self._written_pages(zone)
        if len(places) < 2:
            return None
        (source, page), (name, at) = self._rng.sample(places, 2)
        wrong = self._names[source].durable[page]
        if wrong == self._names[name].durable[at]:
            return None
        self._put(name, at, wrong)
        return name, at * PAGE_BYTES

    def stale(self, zone: str = "log") -> tuple[str, int] | None:
        """A page is as it was before it was written, though its write was synced: (file, byte) (D8)."""
        places = self._written_pages(zone)
        if not places:
            return None
        name, page = places[self._rng.randrange(0, len(places))]
        self._put(name, page, _ZEROS)
        return name, page * PAGE_BYTES

    def _put(self, name: str, page: int, data: bytes) -> None:
        inode = self._names[name]
        inode.pages[page] = inode.durable[page] = data

    def flip_at(self, name: str, offset: int, bit: int = 0) -> None:
        """Change one bit, in the cache and on the platter."""
        inode = self._names[name]
        page, at = divmod(offset, PAGE_BYTES)
        for pages in (inode.pages, inode.durable):
            if page in pages or pages is inode.pages:
                changed = bytearray(pages.get(page, _ZEROS))
                changed[at] ^= 1 << bit
                pages[page] = bytes(changed)

    def image(self) -> Image:
        """A copy of the platter, as a backup would have it."""
        return {
            name: (dict(inode.durable), inode.durable_size)
            for name, inode in sorted(self._durable_names.items())
        }

    def restore(self, image: Image) -> None:
        """Put an older copy in place; no process may be running on it."""
        self.wipe()
        for name, (pages, size) in image.items():
            inode = _Inode()
            inode.durable = dict(pages)
            inode.durable_size = inode.durable_room = size
            inode.settle()
            self._names[name] = inode
        self._durable_names = dict(self._names)

    def clone(self, rng: random.Random) -> "SimDisk":
        """Another disk with the same platter."""
        twin = SimDisk(rng)
        twin.restore(self.image())
        return twin

    def wipe(self) -> None:
        """An empty disk."""
        self.life += 1
        self._names = {}
        self._durable_names = {}
        self._unsynced = []


def _ignore(kind: str) -> None:
    """Nobody wants to know."""


def _ignore_step(operation: str, name: str) -> None:
    """Nobody wants to know."""
