"""``make run`` without a Redis: one is started for it, and is gone afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import redis

from proxy.address import Address
from proxy.cli import trial


def test_a_redis_of_its_own_lives_as_long_as_the_run() -> None:
    with trial.own_redis() as url:
        address = Address.parse(url)
        with redis.Redis(port=address.port) as client:
            info = client.info()
            assert info["process_id"] != os.getpid()
            assert client.config_get("save")["save"] == ""
            directory = Path(client.config_get("dir")["dir"])
        assert directory.is_dir()
    assert not directory.exists()
    assert not Path(f"/proc/{info['process_id']}").exists()
    with pytest.raises(redis.ConnectionError), redis.Redis(port=address.port) as client:
        client.ping()


def test_a_missing_redis_is_one_line_that_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial.shutil, "which", lambda _: None)
    with pytest.raises(SystemExit) as ended, trial.own_redis():
        pass
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "sudo apt-get install redis-server" in err


def test_a_named_backend_needs_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKEND", "redis://10.9.8.7:1")
    ran: list[tuple[list[str], str]] = []
    monkeypatch.setattr(trial, "main", lambda arguments: ran.append((arguments, os.environ["SHUNT_BACKEND"])))
    trial.trial(["--http", "127.0.0.1:1"])
    assert ran == [(["run", "--http", "127.0.0.1:1"], "redis://10.9.8.7:1")]
    assert "SHUNT_BACKEND" not in os.environ
