"""TLS on either side, from the files that the options name.

Knows: certificates and how strictly they are checked. Refuses to know: connections.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Verify = Literal["full", "ca", "none"]


def server_context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """For listeners. With ``client_ca`` a client must show a certificate of that authority.

    Raises OSError, SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(frozen=True, slots=True)
class BackendTls:
    """How a backend's certificate is checked, and which one is shown to it.

    ``verify``: ``full``, authority and host name; ``ca``, the authority only; ``none``. ``ca`` None: the system's.
    """

    verify: Verify = "full"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For connections of the data path. Raises OSError, SSLError."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.verify != "full":
            context.check_hostname = False
        if self.verify == "none":
            context.verify_mode = ssl.CERT_NONE
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context

    def redis_options(self) -> dict[str, Any]:
        """The same for redis-py's connections."""
        return {
            "ssl_ca_certs": self.ca and str(self.ca),
            "ssl_certfile": self.cert and str(self.cert),
            "ssl_keyfile": self.key and str(self.key),
            "ssl_cert_reqs": "none" if self.verify == "none" else "required",
            "ssl_check_hostname": self.verify == "full",
        }
