"""The bearer tokens of the HTTP console: a file of names and tokens.

Knows: how the file is written, and how a token is compared without telling by time how much of it is right. Refuses to
know: HTTP. A token is never logged; its name is.

A line is ``NAME TOKEN``; empty lines and those that begin with # are none.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import stat
from pathlib import Path

_log = logging.getLogger(__name__)

SHORTEST = 16


class TokenError(Exception):
    """The file can't be used: one line with what to do."""


class Tokens:
    """``path`` None: there are none."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._digests: dict[str, bytes] = {}

    def read(self) -> None:
        """Read the file, or read it again; what was read before stays if it can't be used. Raises TokenError."""
        if self.path is None:
            return
        try:
            with self.path.open(encoding="utf-8") as file:
                open_to_all = stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IROTH
                self._digests = self._parsed(file.read())
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise TokenError(f"--http-token-file {self.path}: {why}; name a file with lines NAME TOKEN") from None
        if open_to_all:
            _log.warning("--http-token-file %s can be read by every user of this machine; chmod 600 it", self.path)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None: nobody's. All are compared, whichever it is."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for name, each in self._digests.items():
            if hmac.compare_digest(digest, each):
                found = name
        return found

    def __len__(self) -> int:
        return len(self._digests)

    def _parsed(self, text: str) -> dict[str, bytes]:
        digests: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            where = f"--http-token-file {self.path}: line {number}"
            if len(words) != 2:
                raise TokenError(f"{where} is not NAME TOKEN; write a name, a space and a token")
            if len(words[1]) < SHORTEST:
                raise TokenError(f"{where}: the token is shorter than {SHORTEST}; make one with openssl rand -hex 32")
            if words[0] in digests:
                raise TokenError(f"{where}: the name {words[0]} is there twice; give each token its own")
            digests[words[0]] = hashlib.sha256(words[1].encode()).digest()
        if not digests:
            raise TokenError(f"--http-token-file {self.path}: holds no token; write a line NAME TOKEN")
        return digests
