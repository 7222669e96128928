"""A disk below SQLite that fails at one call, or from one call on: by a VFS of apsw, or by system calls under it.

What is failed is counted over all calls, so a test can go through them one after the other until a run is over before
the failure's turn comes. `xSync` counts and may fail but syncs nothing: this is about errors, not about power cuts.
"""

from __future__ import annotations

import ctypes
import errno
from urllib.parse import quote

import apsw

from privacy.ledger import _apsw

VFS_NAME = "failing"
BUSY_SECONDS = 0.05

_ERRORS = {
    "xRead": (apsw.IOError, apsw.SQLITE_IOERR_READ),
    "xWrite": (apsw.IOError, apsw.SQLITE_IOERR_WRITE),
    "xSync": (apsw.IOError, apsw.SQLITE_IOERR_FSYNC),
    "xTruncate": (apsw.IOError, apsw.SQLITE_IOERR_TRUNCATE),
    "xFileSize": (apsw.IOError, apsw.SQLITE_IOERR_FSTAT),
    "xLock": (apsw.IOError, apsw.SQLITE_IOERR_LOCK),
    "xUnlock": (apsw.IOError, apsw.SQLITE_IOERR_UNLOCK),
    "xCheckReservedLock": (apsw.IOError, apsw.SQLITE_IOERR_CHECKRESERVEDLOCK),
    "xOpen": (apsw.CantOpenError, apsw.SQLITE_CANTOPEN),
    "xDelete": (apsw.IOError, apsw.SQLITE_IOERR_DELETE),
    "xAccess": (apsw.IOError, apsw.SQLITE_IOERR_ACCESS),
}
_LONG, _POINTER, _INT = ctypes.c_long, ctypes.c_void_p, ctypes.c_int
_SYSTEM_CALLS = {
    "mmap": ctypes.CFUNCTYPE(_POINTER, _POINTER, ctypes.c_size_t, _INT, _INT, _INT, _LONG, use_errno=True),
    "open": ctypes.CFUNCTYPE(_INT, ctypes.c_char_p, _INT, _INT, use_errno=True),
    "fcntl": ctypes.CFUNCTYPE(_INT, _INT, _INT, _POINTER, use_errno=True),
    "ftruncate": ctypes.CFUNCTYPE(_INT, _INT, _LONG, use_errno=True),
    "pread64": ctypes.CFUNCTYPE(_LONG, _INT, _POINTER, ctypes.c_size_t, _LONG, use_errno=True),
    "pwrite64": ctypes.CFUNCTYPE(_LONG, _INT, _POINTER, ctypes.c_size_t, _LONG, use_errno=True),
}
_FAILED = {"mmap": ctypes.c_void_p(-1).value}


class Disk:
    """Fails once, at call number `at`, or with `sticky` from there on. Nothing fails until `arm`.

    layer   "files": what SQLite asks of its files. "system": what it asks of the system, which covers the shared memory
            of the write-ahead log and its locks, but no sync. One at a time: an error of a file is a pending exception,
            during which no Python may run for a system call
    full    says that there is no room, where a call can say so, instead of an I/O error
    after   fails after the call has done its work
    """

    def __init__(self, layer):
        self.files = layer == "files"
        self.vfs = _Vfs(self)
        self._keep = []
        self.healthy()
        for name, prototype in {} if self.files else _SYSTEM_CALLS.items():
            original = self.vfs.xGetSystemCall(name)
            call = prototype(self._system_call(name, prototype(original)))
            self._keep.append((name, original, call))
            self.vfs.xSetSystemCall(name, ctypes.cast(call, ctypes.c_void_p).value)

    def remove(self):
        for name, original, _ in self._keep:
            self.vfs.xSetSystemCall(name, original)
        self.vfs.unregister()

    def arm(self, at, *, sticky=False, full=False, after=False):
        self.calls, self.failed, self.armed = 0, [], True
        self.at, self.sticky, self.full, self.after = at, sticky, full, after

    def healthy(self):
        self.calls, self.failed, self.armed = 0, [], False
        self.at = None

    def connect(self, path, mode, _wait_seconds):
        options = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
        connection = _apsw.connect(f"file:{quote(str(path))}?{options}", BUSY_SECONDS, vfs=VFS_NAME)
        # Checkpoints are part of the test, not something that comes after a thousand pages.
        connection.execute("PRAGMA wal_autocheckpoint = 12")
        return connection

    def turn(self, name):
        """Count a call, and return whether it is to fail."""
        if not self.armed:
            return False
        self.calls += 1
        fails = self.calls == self.at or (self.sticky and self.calls > self.at)
        if fails:
            self.failed.append(name)
        return fails

    def file_call(self, name, original, *arguments):
        if not self.files or not self.turn(name):
            return original(*arguments)
        if self.after and name in ("xWrite", "xSync", "xTruncate", "xDelete"):
            original(*arguments)
        kind, code = _ERRORS[name]
        if self.full and name == "xWrite":
            kind, code = apsw.FullError, apsw.SQLITE_FULL
        error = kind(f"injected: {name}")
        error.extendedresult = code
        raise error

    def _system_call(self, name, original):
        def call(*arguments):
            if self.turn(name):
                if self.after and name in ("pwrite64", "ftruncate"):
                    original(*arguments)
                ctypes.set_errno(errno.ENOSPC if self.full else errno.EIO)
                return _FAILED.get(name, -1)
            return original(*arguments) or 0

        return call


class _Vfs(apsw.VFS):
    def __init__(self, disk):
        self.disk = disk
        super().__init__(VFS_NAME, "unix")

    def excepthook(self, *_):
        """Say nothing: errors that SQLite has no place for, on closing."""

    def xSleep(self, microseconds):
        """Do not wait: SQLite asks for a lock that fails for ten seconds, and nobody else is here."""
        return microseconds

    def xOpen(self, name, flags):
        return self.disk.file_call("xOpen", lambda: _File(self.disk, name, flags))

    def xDelete(self, name, sync_folder):
        return self.disk.file_call("xDelete", super().xDelete, name, sync_folder)

    def xAccess(self, name, flags):
        return self.disk.file_call("xAccess", super().xAccess, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self.disk = disk
        super().__init__("unix", name, flags)

    def excepthook(self, *_):
        """As above."""

    def xSync(self, flags):
        return self.disk.file_call("xSync", lambda _: None, flags)


def _counted(name):
    def method(self, *arguments):
        return self.disk.file_call(name, getattr(super(_File, self), name), *arguments)

    return method


for _name in ("xRead", "xWrite", "xTruncate", "xFileSize", "xLock", "xUnlock", "xCheckReservedLock"):
    setattr(_File, _name, _counted(_name))
