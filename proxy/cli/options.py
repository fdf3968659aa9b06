"""``docs/options.md``, made out of the configuration's fields: ``python -m proxy.cli.options``.

Knows: how the page looks. Refuses to know: any option; they are all in ``config``.
"""

from __future__ import annotations

from proxy import config as options
from proxy.config import RunConfig

_HEAD = """# Options of `shunt run`

This page is made by `make docs` out of `proxy/config.py`; a test keeps the two in step.

A value comes from the flag, else from the environment variable, else from the TOML file that `--config` (or
`SHUNT_CONFIG`) names, else it is the default. In the file, names are written as below, with `-` or `_`:

```toml
listen = ["redis://127.0.0.1:6380", "unix:///run/shunt/redis.sock"]
backend = "redis://10.0.0.5:6379"
capture = "/var/lib/shunt"
capture-max-bytes = "50GB"
http = "127.0.0.1:9380"
```

- URL: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix://[user:password@]/path[?db=n]`. In a
  password write `%40` for `@`, `%2F` for `/`, `%3A` for `:`, `%23` for `#`, `%3F` for `?`, `%25` for `%`.
- DURATION: a number with `us`, `ms`, `s`, `m`, `h` or `d`; without a unit it is seconds.
- SIZE: a number with `kB`, `MB`, `GB`, `TB` (thousands) or `KiB`, `MiB`, `GiB`, `TiB` (1024s); without a unit, bytes.
- `off` switches an option off where that is possible. Several `--listen` in the environment: separated by commas or
  spaces. A command line can be read by every user of a machine: put a URL with a password into the environment or
  the file.
- What can't be used ends `shunt run` with exit code 2 and one line that names the option and what to do.

| Option | Value | Default | Environment | What it does |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page as Markdown."""
    return _HEAD + "".join(_row(name) for name in RunConfig.model_fields)


def _row(name: str) -> str:
    text = RunConfig.model_fields[name].description or ""
    shape = options.shape(name).replace("|", r"\|") or "on or off"
    cells = (f"`{options.flag(name)}`", shape, options.default_text(name), f"`{options.environment(name)}`", text)
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    print(page(), end="")
