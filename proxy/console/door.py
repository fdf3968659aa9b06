"""Where the console listens: its usual place, and the sockets there.

Knows: the usual places, how a socket file is made for its owner alone, and that one left behind by a process that is
gone is replaced while one that is in use is not. Refuses to know: what is served there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path

from proxy.address import Address

FILE = "shunt.sock"
#: The service manager's folder for shunt, where there is no user's own.
RUN = Path("/run/shunt")
#: Who may talk to the console: the user that shunt runs as.
MODE = 0o600
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid
ANSWERS_S = 1.0


class DoorError(Exception):
    """The console can't be opened there: one line with what to do."""


def usual(environ: Mapping[str, str], run: Path = RUN) -> Address | None:
    """Where a console is opened if nobody says where; None: there is no folder for it. Makes ``run`` where it may."""
    own = environ.get("XDG_RUNTIME_DIR")
    if not run.exists() and os.access(run.parent, os.W_OK | os.X_OK):  # started by root, and not by a service manager
        with contextlib.suppress(OSError):
            run.mkdir(mode=0o700)
    for folder in (Path(own) if own else None, run):
        if folder is not None and folder.is_absolute() and os.access(folder, os.W_OK | os.X_OK):
            return Address("unix", path=str(folder / FILE))
    return None


def existing(environ: Mapping[str, str], run: Path = RUN) -> Address | None:
    """The first of the usual places where a console's socket is."""
    own = environ.get("XDG_RUNTIME_DIR")
    for folder in (Path(own) if own else None, run):
        if folder is not None and (folder / FILE).is_socket():
            return Address("unix", path=str(folder / FILE))
    return None


class Door:
    """``address``, bound and not yet listening between ``open`` and ``close``."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.sockets: list[socket.socket] = []
        self._file: tuple[int, int] | None = None

    async def open(self) -> None:
        """Takes the place. Raises DoorError."""
        address = self.address
        try:
            if address.scheme == "unix":
                self.sockets = [_bind_unix(address.path)]
                self._file = _identity(address.path)
            else:
                self.sockets = await _bind_tcp(address)
        except OSError as error:
            why = error.strerror or str(error)
            raise DoorError(f"--console {address}: {why}; name another place, or off") from None

    def close(self) -> None:
        """Gives the place up. A socket file that another shunt has put there since stays."""
        if self._file is not None and _identity(self.address.path) == self._file:
            os.unlink(self.address.path)
        for each in self.sockets:
            each.close()
        self.sockets, self._file = [], None


def peer(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end of a unix socket."""
    pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid


def _bind_unix(path: str) -> socket.socket:
    each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        each.setblocking(False)
        os.fchmod(each.fileno(), MODE)  # Linux gives the file this mode when it is bound: it is never open to others
        _make_way(path)
        each.bind(path)
    except BaseException:
        each.close()
        raise
    return each


def _make_way(path: str) -> None:
    """Remove a socket file whose process is gone. Raises DoorError where one answers, or where it is no socket."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise DoorError(f"--console unix://{path}: there is a file that is no socket; name another place, or off")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWERS_S)
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        pid, _ = peer(asking)
        raise DoorError(
            f"--console unix://{path}: process {pid} has its console there; end it, or name another place for this one"
        )


async def _bind_tcp(address: Address) -> list[socket.socket]:
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            sockets.append(each)
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(place)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
