"""The verbs over HTTP: who may, with what, and which status says what."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.console import http
from proxy.console.http_verbs import HttpVerbs
from proxy.console.tokens import TokenError, Tokens
from tests.console.world import FakeWorld, client, desk

TOKEN, OTHER = "0123456789abcdef-deploy", "fedcba9876543210-audit"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def tokens(tmp_path: Path, text: str = f"# who may\n\ndeploy {TOKEN}\naudit {OTHER}\n") -> Tokens:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    found = Tokens(path)
    found.read()
    return found


@asynccontextmanager
async def served(found: Tokens, world: FakeWorld | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    world = world or FakeWorld(rows=[client()])
    at, _ = await desk(world)
    console = await http.start("127.0.0.1", 0, world.source, None, HttpVerbs(at, found).routes())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{console.port}") as session:
        yield session
    await console.close()


async def ask(session: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
    async with session.request(method, path, **more) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def test_a_verb_answers_with_its_data(tmp_path: Path) -> None:
    async with served(tokens(tmp_path)) as session:
        for method, path in (("GET", "/v1/SHOW/CLIENTS"), ("POST", "/v1/show/clients"), ("GET", "/v1/show%20clients")):
            status, said = await ask(session, method, path, headers=AUTHORIZED)
            assert (status, said["verb"], said["notes"]) == (200, "SHOW CLIENTS", [])
            assert said["answer"][0]["addr"] == "127.0.0.1:5000"
        body = {"arguments": ["name=web", "NOW"]}
        assert (await ask(session, "POST", "/v1/KILL", headers=AUTHORIZED, json=body))[1]["answer"] == "1 client ended"
        status, said = await ask(session, "POST", "/v1/KILL?argument=web", headers=AUTHORIZED)
        assert said["answer"] == "no client web is connected"


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "says"),
    [
        ("GET", "/v1/SHOW/CLIENTS", {"headers": {}}, 401, "a token is needed"),
        ("POST", "/v1/SHUTDOWN", {"headers": {"Authorization": "Bearer wrong"}}, 401, "a token is needed"),
        ("POST", "/v1/SHUTDOWN", {"headers": {"Authorization": f"Basic {TOKEN}"}}, 401, "a token is needed"),
        ("GET", "/v1/SHUTDOWN", {}, 405, "SHUTDOWN changes something: use POST"),
        ("DELETE", "/v1/SHUTDOWN", {}, 405, "use POST, or GET for what changes nothing"),
        ("POST", "/v1/FLUSHALL", {}, 404, "there is no verb 'FLUSHALL'"),
        ("POST", "/v1/KILL", {}, 400, "write KILL CLIENT [NOW]"),
        ("POST", "/v1/KILL", {"data": b"web"}, 400, "the body must be"),
        ("POST", "/v1/KILL", {"json": {"arguments": [1]}}, 400, "the body must be"),
        ("POST", "/v1/KILL", {"json": ["web"]}, 400, "the body must be"),
        ("POST", "/v1/KILL", {"data": b" " * 70_000}, 400, "the body must be"),
        ("POST", "/v1/KILL", {"json": {"arguments": ["web"]}}, 409, "still under way: 127.0.0.1:5000"),
    ],
)
async def test_what_is_not_done_has_a_status_and_a_line(
    method: str, path: str, more: dict[str, Any], status: int, says: str, tmp_path: Path
) -> None:
    world = FakeWorld(rows=[client()], stuck={"0:1"})
    async with served(tokens(tmp_path), world) as session:
        got, said = await ask(session, method, path, **({"headers": AUTHORIZED} | more))
        assert (got, says in said["error"]) == (status, True), said
        assert ("shutdown", "drain") not in world.done


async def test_without_tokens_the_verbs_are_off_and_say_how_to_have_them() -> None:
    async with served(Tokens()) as session:
        status, said = await ask(session, "POST", "/v1/SHUTDOWN", headers=AUTHORIZED)
        assert (status, "give --http-token-file FILE" in said["error"]) == (403, True)
        assert (await session.get("/healthz")).status == 200


async def test_each_tokens_name_is_known_and_no_token_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    found = tokens(tmp_path)
    assert (found.name_of(TOKEN), found.name_of(OTHER), found.name_of(""), found.name_of(TOKEN[:-1])) == (
        "deploy", "audit", None, None,
    )  # fmt: skip
    async with served(found) as session:
        await ask(session, "POST", "/v1/KILL", headers=AUTHORIZED, json={"arguments": ["web"]})
    assert '"token": "deploy"' in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no token"),
        (f"{TOKEN}\n", "line 1 is not NAME TOKEN"),
        ("deploy short\n", "line 1: the token is shorter than 16; make one with openssl rand"),
        (f"a {TOKEN}\na {OTHER}\n", "line 2: the name a is there twice"),
    ],
)
def test_a_file_that_can_not_be_used_says_where(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match=says) as caught:
        tokens(tmp_path, text)
    assert TOKEN not in str(caught.value)


def test_what_was_read_before_stays_when_the_file_breaks(tmp_path: Path) -> None:
    found = tokens(tmp_path)
    (tmp_path / "tokens").write_text("broken")
    with pytest.raises(TokenError):
        found.read()
    assert found.name_of(TOKEN) == "deploy"


def test_a_file_that_everyone_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = tokens(tmp_path)
    (tmp_path / "tokens").chmod(0o644)
    found.read()
    assert "can be read by every user of this machine; chmod 600 it" in caplog.text
