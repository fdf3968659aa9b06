"""What Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.console.metrics import PIECE_COMMANDS, PIECE_SAMPLES, Collector, Renderer, pieces
from proxy.engine.stats import EngineStats
from tests.console.source import FakeSource, Written, command


def scrape(source: FakeSource) -> dict[tuple[str, str], float]:
    """Every sample: (name, its labels' values joined) to value. Each family may be there once only."""
    renderer = Renderer()
    text = b"".join(renderer.render(piece) for piece in pieces(source, "1.2.3")).decode()
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_commands_are_counted_by_name() -> None:
    get = command("GET", 50_000, 60_000, errors=1)
    get.request_bytes, get.reply_bytes, get.cross_slot, get.unknown_keys = 10, 20, 3, 4
    seen = scrape(FakeSource(EngineStats(commands=[get, command("CLIENT SETNAME", 1000)])))
    assert seen["shunt_commands_total", "GET"] == 2
    assert seen["shunt_commands_total", "CLIENT SETNAME"] == 1
    assert seen["shunt_command_errors_total", "GET"] == 1
    assert seen["shunt_command_request_bytes_total", "GET"] == 10
    assert seen["shunt_command_reply_bytes_total", "GET"] == 20
    assert seen["shunt_command_cross_slot_total", "GET"] == 3
    assert seen["shunt_command_unknown_keys_total", "GET"] == 4


def test_latencies_are_a_histogram_in_seconds_at_every_doubling() -> None:
    seen = scrape(FakeSource(EngineStats(commands=[command("GET", 7_999, 8_000, 15_999, 16_000, 300 * 10**9)])))
    name = "shunt_command_duration_seconds"
    bounds = sorted(
        (float(labels.split()[-1]), value)
        for (sample, labels), value in seen.items()
        if sample == f"{name}_bucket" and not labels.endswith("+Inf")
    )
    assert [bound for bound, _ in bounds[:3]] == [8e-06, 1.6e-05, 3.2e-05]
    assert [value for _, value in bounds[:3]] == [1, 3, 4]
    assert bounds[-1][1] == 4
    assert len(bounds) == 24
    assert seen[f"{name}_bucket", "GET +Inf"] == seen[f"{name}_count", "GET"] == 5
    assert abs(seen[f"{name}_sum", "GET"] - 300.000048) < 1e-6


def test_waiting_commands_have_a_histogram_of_their_own() -> None:
    seen = scrape(FakeSource(EngineStats(commands=[command("BRPOP", waits_ns=(2 * 10**9,))])))
    assert seen["shunt_command_wait_seconds_count", "BRPOP"] == 1
    assert ("shunt_command_duration_seconds_count", "BRPOP") not in seen


def test_many_commands_come_in_pieces_and_none_is_missing() -> None:
    names = [f"CMD{n}" for n in range(max(PIECE_COMMANDS, PIECE_SAMPLES) * 3 + 1)]
    source = FakeSource(EngineStats(commands=[command(name, 1000) for name in names]))
    seen = scrape(source)
    assert {labels for name, labels in seen if name == "shunt_commands_total"} == set(names)
    assert {labels for name, labels in seen if name == "shunt_command_duration_seconds_count"} == set(names)
    assert max(len(piece.samples) for piece in pieces(source, "1")) <= 100


def test_errors_pipes_findings_and_losses_are_counted_by_why() -> None:
    stats = EngineStats(
        errors={"WRONGTYPE": 2, "ERR": 1},
        plain_pipes={"exec around subscribe": 1},
        pushes=5, rows=9, gap_rows=8, lost_replies=7, open_pops=6,
        undelivered=5, given_back=3, given_back_elements=4, not_given_back={"begun": 2},
    )  # fmt: skip
    source = FakeSource(stats, found={"cross-slot": 4}, counted={"clients_accepted": 11, "client_rx_bytes": 12})
    seen = scrape(source)
    assert seen["shunt_error_replies_total", "WRONGTYPE"] == 2
    assert seen["shunt_plain_pipes_total", "exec around subscribe"] == 1
    assert seen["shunt_findings_total", "cross-slot"] == 4
    assert seen["shunt_pushes_total", ""] == 5
    assert seen["shunt_exchanges_recorded_total", ""] == 9
    assert seen["shunt_exchanges_unrecorded_total", ""] == 8
    assert seen["shunt_lost_replies_total", ""] == 7
    assert seen["shunt_open_pops_total", ""] == 6
    assert seen["shunt_undelivered_pops_total", ""] == 5
    assert seen["shunt_pops_given_back_total", ""] == 3
    assert seen["shunt_elements_given_back_total", ""] == 4
    assert seen["shunt_pops_not_given_back_total", "begun"] == 2
    assert seen["shunt_clients_accepted_total", ""] == 11
    assert seen["shunt_client_rx_bytes_total", ""] == 12


def test_gauges_say_what_is_now() -> None:
    seen = scrape(FakeSource(up=False, drains=True))
    assert seen["shunt_clients", ""] == 3
    assert seen["shunt_backend_connections", ""] == 4
    assert seen["shunt_backend_up", ""] == 0
    assert seen["shunt_draining", ""] == 1
    [build] = [labels for name, labels in seen if name == "shunt_build_info"]
    assert "1.2.3" in build.split()


def test_the_capture_is_counted_only_when_there_is_one() -> None:
    assert not any(name.startswith("shunt_capture") for name, _ in scrape(FakeSource()))
    seen = scrape(FakeSource(written=Written(gaps=2, gap_rows=30, failing="No space left on device")))
    assert seen["shunt_capture_rows_total", ""] == 7
    assert seen["shunt_capture_written_bytes_total", ""] == 2_500_000
    assert seen["shunt_capture_gap_rows_total", ""] == 30
    assert seen["shunt_capture_failing", ""] == 1


def test_a_label_that_is_not_utf8_does_not_break_the_page() -> None:
    seen = scrape(FakeSource(EngineStats(errors={"\udcffERR": 1, 'a"b\\\n': 2})))
    assert seen["shunt_error_replies_total", "\\udcffERR"] == 1
    assert seen["shunt_error_replies_total", 'a"b\\\n'] == 2


def test_a_registry_shows_the_same_as_the_pieces() -> None:
    source = FakeSource(EngineStats(commands=[command(f"CMD{n}", 1000) for n in range(200)]))
    registry = CollectorRegistry()
    registry.register(Collector(source, "1"))
    renderer = Renderer()
    assert generate_latest(registry) == b"".join(renderer.render(piece) for piece in pieces(source, "1"))


def test_a_class_is_held_in_so_many_workers() -> None:
    seen = scrape(FakeSource(held={"queues": 2, "default": 0}))
    assert (seen["shunt_class_held", "queues"], seen["shunt_class_held", "default"]) == (2, 0)
    assert not any(name == "shunt_class_held" for name, _ in scrape(FakeSource()))
