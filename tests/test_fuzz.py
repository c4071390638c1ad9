"""2,000 mutations for every parser, and that the fuzzer notices what it is there for."""

import json
import random

import pytest

from mien.bench.fuzz import fuzz
from mien.bench.fuzz_target import Broken, Target
from mien.bench.fuzz_targets import TARGETS
from mien.bench.mutations import mutate
from mien.cli import main
from mien.commands.bench import BENCHES, built
from mien.protocol.errors import MienError, WireError


@pytest.mark.parametrize("target", TARGETS, ids=[t.name for t in TARGETS])
def test_parser(target: Target) -> None:
    count = 2000 if target.cost < 20 else 100  # those that draw pictures are no parsers
    outcome = fuzz(target, seed=1, count=count, max_cuts=60)
    assert outcome.findings == []
    assert outcome.inputs >= count
    if target.name not in ("log-mended", "log-shown"):  # they replay up to the damage
        assert outcome.rejected > outcome.inputs // 50
    if target.name not in ("avatar",):
        assert outcome.accepted > 0


def make_target(check: object) -> Target:
    return Target("made up", "", lambda: [b"sample " * 10], check)  # type: ignore[arg-type]


def problem_of(check: object, *, count: int = 200) -> str:
    findings = fuzz(make_target(check), seed=1, count=count).findings
    assert findings
    return findings[0].problem


def unless_sample(data: bytes) -> None:
    if data != b"sample " * 10:
        raise WireError("no")


def test_any_other_exception_is_found() -> None:
    def check(data: bytes) -> None:
        if len(data) == 5:
            raise IndexError("oops")
        unless_sample(data)

    outcome = fuzz(make_target(check), seed=1, count=0)
    assert [(f.number, f.problem, bytes.fromhex(f.data)) for f in outcome.findings] == [
        (-6, "IndexError: oops", b"sampl")
    ]


def test_a_broken_promise_is_found() -> None:
    def check(data: bytes) -> None:
        if data.startswith(b"t"):
            raise Broken("accepted a t")

    assert problem_of(check, count=20_000) == "accepted a t"


def test_a_big_allocation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.bench.fuzz.MAX_PEAK_BYTES", 1 << 20)

    def check(data: bytes) -> None:
        bytearray(2 << 20 if data != b"sample " * 10 else 1)

    assert problem_of(check).startswith("allocated ")


def test_a_hang_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.bench.fuzz.HANG_S", 0.05)

    def check(data: bytes) -> None:
        while data == b"sample":
            pass

    assert problem_of(check) == "still running after 0.05 s"


def test_slow_inputs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.bench.fuzz.MAX_CPU_S", 1e-4)

    def check(data: bytes) -> None:
        sum(range(100_000))

    assert "of CPU" in problem_of(check)


def test_a_target_whose_sample_is_refused_is_no_test() -> None:
    def check(data: bytes) -> None:
        raise WireError("never")

    with pytest.raises(MienError, match="its own sample is refused: never"):
        fuzz(make_target(check), seed=1, count=1)


def test_mutations_depend_on_the_seed_alone() -> None:
    samples = [b"first sample", b"the second sample"]
    runs = [[mutate(random.Random(f"{seed} {n}"), samples) for n in range(300)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) > 250


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "fuzz", "--count", "40", "--target", "stream", "--target", "event", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["target"] for r in rows] == ["stream", "event"]
    assert all(r["findings"] == [] and r["inputs"] > 40 and r["seed"] == 1 for r in rows)


def test_bench_refuses_what_is_not_built(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BENCHES, "patience", "how long a reader reads")
    assert main(["bench", "patience"]) == 2
    assert "`bench patience` is not there yet; there are: rate, fuzz, " in capsys.readouterr().err


def test_every_bench_is_built() -> None:
    assert built() == list(BENCHES)
