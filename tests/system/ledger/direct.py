"""A producer in Python: pushes jobs as Sidekiq::Client writes them, one at a time, and keeps its own ledger file.

Knows: the payload and the commands of a push. Refuses to know: who runs the jobs.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: redis-py sends a command again by itself; a ledger must know how often it asked.
NO_RETRY = Retry(NoBackoff(), 0)


class Producer:
    """Pushes to ``url`` and writes into the ledger's folder ``directory``."""

    def __init__(self, url: str, directory: Path) -> None:
        self.client = redis.Redis.from_url(url, retry=NO_RETRY)
        self._who = f"direct-{os.getpid()}/{secrets.token_hex(3)}"
        self._file = (directory / self._who.replace("/", "-")).open("ab", buffering=0)

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self.client.close()

    def write(self, word: str, jid: str, *more: str) -> None:
        """One line, on the disk when this returns."""
        self._file.write((" ".join([word, jid, f"{time.monotonic():.6f}", self._who, *more]) + "\n").encode())
        os.fdatasync(self._file.fileno())

    def push(self, queue: str = "default") -> str:
        """One job, acknowledged; its jid."""
        jid = secrets.token_hex(12)
        self.write("intent", jid, f"queue:{queue}")
        try:
            with self.client.pipeline(transaction=False) as pipeline:
                pipeline.sadd("queues", queue)
                pipeline.lpush(f"queue:{queue}", payload(jid, queue))
                pipeline.execute()
        except redis.RedisError as error:
            self.write("unknown", jid, f"queue:{queue}", type(error).__name__)
            raise
        self.write("acknowledged", jid, f"queue:{queue}")
        return jid


def payload(jid: str, queue: str = "default") -> str:
    """A job of class Nap as Sidekiq 6.4 writes it."""
    now = time.time()
    job = {"retry": True, "queue": queue, "backtrace": False, "class": "Nap", "args": ["x"], "jid": jid}
    return json.dumps({**job, "created_at": now, "enqueued_at": now}, separators=(",", ":"))
