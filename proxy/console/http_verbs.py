"""The verbs over HTTP: ``POST /v1/KILL``, ``GET /v1/SHOW/CLIENTS``, as JSON, for who has a token.

Knows: paths, bodies, status codes and the bearer token. Refuses to know: any verb (``desk``), and the file of tokens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from aiohttp import web

from proxy.console.audit import Caller
from proxy.console.desk import Desk
from proxy.console.tokens import Tokens
from proxy.console.verb import BadArguments, UnknownVerb, VerbError

BODY_BYTES = 65_536
_NO_TOKENS = "verbs over HTTP are off: give --http-token-file FILE, a file with a line NAME TOKEN"
_NO_TOKEN = "a token is needed: send the header Authorization: Bearer TOKEN, with one of --http-token-file"
_STATUS: tuple[tuple[type[VerbError], int], ...] = ((UnknownVerb, 404), (BadArguments, 400), (VerbError, 409))


@dataclass(frozen=True, slots=True)
class HttpVerbs:
    """The handlers below ``/v1/``."""

    desk: Desk
    tokens: Tokens

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/v1/{verb:.+}", self._handle)]

    async def _handle(self, request: web.Request) -> web.Response:
        if not len(self.tokens):
            return _problem(403, _NO_TOKENS)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        name = self.tokens.name_of(token.strip()) if scheme.lower() == "bearer" else None
        if name is None:
            return _problem(401, _NO_TOKEN, {"WWW-Authenticate": "Bearer"})
        if request.method not in ("GET", "POST"):
            return _problem(405, "use POST, or GET for what changes nothing", {"Allow": "GET, POST"})
        words = re.split(r"[/\s]+", request.match_info["verb"].strip("/"))
        try:
            words += await _arguments(request)
            verb, _ = self.desk.table.find(words)
            if verb.changes and request.method != "POST":
                return _problem(405, f"{verb.name} changes something: use POST", {"Allow": "POST"})
            answer = await self.desk.call(words, Caller("http", address=request.remote, token=name))
        except VerbError as error:
            return _problem(next(status for kind, status in _STATUS if isinstance(error, kind)), str(error))
        return _json(200, {"verb": verb.name, "answer": answer.data, "notes": answer.notes})


async def _arguments(request: web.Request) -> list[str]:
    """``{"arguments": ["name=web", "NOW"]}``, or ``?argument=…`` as often as there are. Raises BadArguments."""
    body = await request.content.read(BODY_BYTES + 1) if request.body_exists else b""
    if not body:
        return list(request.query.getall("argument", []))
    try:
        given = json.loads(body)["arguments"] if len(body) <= BODY_BYTES else None
    except (ValueError, KeyError, TypeError):
        given = None
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise BadArguments('the body must be {"arguments": ["…", …]}, words of text')
    return given


def _problem(status: int, line: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json(status, {"error": line}, headers)


def _json(status: int, data: object, headers: dict[str, str] | None = None) -> web.Response:
    text = json.dumps(data, ensure_ascii=False) + "\n"
    more = {"Cache-Control": "no-store"} | (headers or {})
    return web.Response(status=status, text=text, content_type="application/json", headers=more)
