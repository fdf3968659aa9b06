"""Checks of what is on the target already, and of how it keeps data. Pure."""

from __future__ import annotations

from typing import Any

from proxy.cutover.checks.said import Said, fail, good, known, many, named, warn
from proxy.cutover.server_facts import Jobs, Unknown, World


def emptiness(world: World) -> Said:
    """Keys that are there already mix with what is moved; jobs that are there already run."""
    keys = known(world.target.keys, "Whether the target is empty is not known")
    total = sum(keys.values())
    if not total:
        return good("The target is empty.")
    where = [f"database {db}: {many(count, 'key')}" for db, count in sorted(keys.items()) if count]
    if world.follow and world.target.text("role") != "master":
        return good(f"The target holds {many(total, 'key')}, as a replica does.", where)
    jobs = world.target.jobs
    if isinstance(jobs, Jobs) and jobs.waiting:
        return _with_jobs(jobs)
    if world.follow:
        return fail(
            f"The target holds {many(total, 'key')}: to follow the source would delete them.",
            "Empty it if nobody needs them (FLUSHALL on the target; look twice at the address), or leave --follow out.",
            where,
        )
    text = f"The target holds {many(total, 'key')} already"
    if isinstance(jobs, Unknown):
        text += f"; whether Sidekiq's jobs are among them is not known ({jobs.why})"
    elif not jobs.looked_at_all:
        text += ", too many to look at all of them; among the first there are none of Sidekiq's jobs"
    else:
        text += ", none of them a job of Sidekiq's"
    return warn(f"{text}.", "See whose they are; a test's are best deleted before anything is moved.", where)


def _with_jobs(jobs: Jobs) -> Said:
    total = sum(jobs.waiting.values())
    return fail(
        f"{many(total, 'job')} of Sidekiq's wait on the target already, in {named(sorted(jobs.waiting))}: they would "
        "run after the switch.",
        "If a test left them: FLUSHDB on the target (look twice at the address). If a switch back left them: let their "
        "workers finish first.",
        [f"{key}: {count:,}" for key, count in sorted(jobs.waiting.items())], jobs=dict(jobs.waiting),
    )  # fmt: skip


def persistence(world: World) -> Said:
    """A target that keeps less than the source loses at its next restart what the source would not have."""
    source = known(world.source.text("aof_enabled"), "How the source keeps its data is not known")
    target = known(world.target.text("aof_enabled"), "How the target keeps its data is not known")
    before, after = world.source.setting("save"), world.target.setting("save")
    do = "Turn it on: CONFIG SET appendonly yes (or save) and CONFIG REWRITE on the target."
    if source == "1" and target != "1":
        return warn("The source has an append-only file, the target has none: a crash costs more there.", do)
    if target == "1":
        return good("The target has an append-only file.")
    what = "Neither has an append-only file; whether the {} saves snapshots is not known"
    before, after = known(before, what.format("source")), known(after, what.format("target"))
    if before and not after:
        return warn("The source saves snapshots, the target saves nothing: a restart would empty it.", do)
    if not after:
        return warn("Neither source nor target saves anything: a restart of the target would empty it.", do)
    return good("The target saves snapshots, as the source does.") if before else good("The target saves snapshots.")


def replicas(world: World) -> Said:
    """Without a replica nobody takes the target's place when it dies."""
    before = known(world.source.number("connected_slaves"), "How many replicas the source has is not known")
    after = known(world.target.number("connected_slaves"), "How many replicas the target has is not known")
    data: dict[str, Any] = {"source": before, "target": after}
    if before and not after:
        return warn(
            f"The source has {many(before, 'replica')}, the target none: nothing could take its place.",
            "Add a replica before you switch, or plan to right after.", **data,
        )  # fmt: skip
    return good(f"The target has {many(after, 'replica')}, the source {before:,}.", **data)
