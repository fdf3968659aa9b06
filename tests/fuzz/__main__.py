"""``make fuzz``: the frame scanner, the session and clients that share, under a fuzzer and sanitizers.

Builds the compiled modules once more, with clang's address and undefined-behaviour sanitizers and coverage, into
build/fuzz, and runs each of TARGETS on them for $FUZZ_SECONDS. What it finds stays in build/fuzz/found.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
#: Longest input, bytes, and how many random ones are there to begin with: an order of ``pooled`` means little without
#: those before it, and libFuzzer begins with single bytes.
TARGETS = {"scanner": (4096, 0), "session": (4096, 0), "pooled": (400, 200)}
# Not pointer-overflow: Cython's wrappers add 0 to a null pointer, which C leaves undefined and every compiler allows.
SANITIZERS = (
    "-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize=function,pointer-overflow"
)


def build() -> Path:
    """A directory with the program compiled for fuzzing. Ends the program when there is no clang."""
    if shutil.which("clang") is None:
        sys.exit("fuzz: no clang; run: sudo apt-get install --no-install-recommends clang libclang-rt-14-dev")
    target, source = BUILD / "modules", BUILD / "source"
    for old in (target, source):
        shutil.rmtree(old, ignore_errors=True)
    # A copy: pip builds in the tree, and its objects would end up in the next ordinary build.
    for name in ("protocol", "proxy"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source / name)
    flags = {"CC": "clang", "LDSHARED": "clang -shared", "CFLAGS": SANITIZERS, "LDFLAGS": ""}
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--target", str(target), str(source)], env=os.environ | flags, check=True)
    return target


def main() -> None:
    modules = build()
    # PYTHONMALLOC: every object has its own red zones.
    environment = os.environ | {
        "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:abort_on_error=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": f"{modules}{os.pathsep}{ROOT}",  # the compiled ones first, and the tests' own
        "PYTHONMALLOC": "malloc",
    }
    for target, (longest, seeds) in TARGETS.items():
        print(f"fuzz: {target}", flush=True)
        corpus, found = BUILD / "corpus" / target, BUILD / "found" / target
        for directory in (corpus, found):
            directory.mkdir(parents=True, exist_ok=True)
        for number in range(seeds):
            dice = random.Random(number)
            (corpus / f"random-{number}").write_bytes(dice.randbytes(dice.randrange(longest)))
        limits = [f"-max_total_time={os.environ.get('FUZZ_SECONDS', '600')}", f"-max_len={longest}", "-timeout=10",
                  "-rss_limit_mb=4096", f"-artifact_prefix={found}/"]  # fmt: skip
        program = [sys.executable, str(ROOT / "tests" / "fuzz" / f"{target}.py"), str(corpus)]
        code = subprocess.run([*program, *limits, *sys.argv[1:]], cwd=BUILD, env=environment, check=False).returncode
        if code:
            sys.exit(f"fuzz: {target} found something; what it was is in {found}")


if __name__ == "__main__":
    main()
