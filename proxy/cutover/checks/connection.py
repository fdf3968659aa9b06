"""Checks of the way to a server: whether it answers, TLS, credentials. Pure."""

from __future__ import annotations

from proxy.cutover.checks.said import Said, fail, good, time, unknown, warn
from proxy.cutover.finding import Side
from proxy.cutover.server_facts import Certificate, ServerFacts, Stage, Unknown, World

#: ``--connect-timeout`` of shunt run, seconds, and what is near it.
CONNECT_TIMEOUT_S = 0.8
SLOW_CONNECT_S = CONNECT_TIMEOUT_S / 2
#: A certificate that ends within so many days is renewed before anything is moved.
DAYS_LEFT = 21

_WAY = {
    Stage.NAME: (
        "its name can't be looked up",
        "Correct the host in the URL, or see what this machine knows of it: getent hosts {host}",
    ),
    Stage.CONNECT: (
        "it can't be connected to",
        "See that it runs and listens there, and that firewalls and security groups let this machine through.",
    ),
    Stage.ANSWER: (
        "it does not answer as a Redis",
        "See its log. A server that closes at once may want TLS: then write rediss:// in the URL.",
    ),
}


def reach(world: World, side: Side) -> Said:
    """Warns from half of shunt's own connect timeout on."""
    server = _server(world, side)
    failed, took_s = server.reach.failed, server.reach.connect_s
    if failed in _WAY:
        what, do = _WAY[failed]
        return fail(
            f"The {side} at {server.label} is not reached: {what}: {server.reach.why}.",
            do.format(host=server.place.address.host), stage=str(failed),
        )  # fmt: skip
    if failed is not None:
        return good(f"The {side} at {server.label} takes connections.")
    text = f"The {side} at {server.label} answers; connecting takes {time(took_s)}."
    if took_s > SLOW_CONNECT_S:
        do = f"shunt run gives up after {time(CONNECT_TIMEOUT_S)}: raise --connect-timeout, or find out what is slow."
        return warn(text, do, connect_s=took_s)
    return good(text, connect_s=took_s)


def tls(world: World, side: Side) -> Said:
    """What is encrypted, and how long the certificate holds."""
    server = _server(world, side)
    if server.reach.failed in (Stage.NAME, Stage.CONNECT):
        return _unreached(side)
    if server.reach.failed is Stage.TLS:
        return fail(
            f"No TLS with the {side}: {server.reach.why}.",
            f"Name the authority that signed its certificate with --{side}-tls-ca, or the host as the certificate has "
            "it; a server that speaks no TLS is redis://.",
        )
    if not server.place.address.tls:
        return _plain(world, side, server)
    certificate = server.certificate
    if not isinstance(certificate, Certificate):
        why = certificate if isinstance(certificate, Unknown) else Unknown("none was shown")
        return unknown(f"TLS with the {side} works, but its certificate is not known", why)
    text = f"TLS with the {side}; its certificate is valid for {certificate.days_left:,.0f} more days."
    if certificate.days_left < DAYS_LEFT:
        return warn(text, "Renew it before you move anything to it.", days_left=certificate.days_left)
    return good(text, days_left=certificate.days_left)


def _plain(world: World, side: Side, server: ServerFacts) -> Said:
    if side is Side.TARGET and world.source.place.address.tls and not server.place.address.is_local:
        return warn(
            "The source is reached over TLS, the target is not: commands and passwords would cross the network as "
            "they are.",
            "Write rediss:// for the target, unless the network between is yours.",
        )
    return good(f"The {side} is reached without TLS, as its URL says.")


def credentials(world: World, side: Side) -> Said:
    """Whether the server takes the URL's user and password."""
    server = _server(world, side)
    if server.reach.failed is Stage.CREDENTIALS:
        given = server.place.address.has_credentials
        do = (
            f"Correct user and password in the {side}'s URL (in a password write %40 for @, %2F for /)."
            if given
            else f"Put the password into the {side}'s URL: redis://:password@host, best by env:NAME."
        )
        return fail(f"The {side} refuses the credentials: {server.reach.why}.", do)
    if not server.reached:
        return _unreached(side)
    if not server.place.address.has_credentials:
        return good(f"The {side} asks for no password.")
    who = server.place.address.user or "default"
    return good(f"The {side} takes the password of user {who}.", user=who)


def _server(world: World, side: Side) -> ServerFacts:
    return world.target if side is Side.TARGET else world.source


def _unreached(side: Side) -> Said:
    return unknown("Not looked at", f"the {side} was not reached")
