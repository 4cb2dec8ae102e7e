"""Commands that are sent signals at random moments, and what must be true of each afterwards.

    python tests/interruptions.py TRIALS [SEED [RESUMED]]

prints a table of what the trials showed; every RESUMEDth run that kept something is resumed. Each
must end within `LIMIT` seconds of the signal with exit code 130 and one line, leave no temporary
file, and resume to the numbers of a run that nothing interrupted.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

AT_ITS_END = 0.3
"""Seconds in which a program that has written its results ends; a signal then is one too late."""

LIMIT = 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START = 0.5
"""Seconds in which Python itself starts, when a signal reaches no handler yet."""

COMPILED = 0.7  # Time of a run relative to that of the first, which compiles

DATA = ["--models", "3", "--features", "--seed", "1"]
COMPARE = ["compare", "--strategies", "mixing,routing", "--budgets", "2"]
SUPPLIED, LEARNED = ["--estimates", "supplied"], ["--estimates", "learned"]
COMMANDS: dict[str, list[str]] = {
    "compare": [*COMPARE, *SUPPLIED, "table.arrow"],
    "compare, learned": [*COMPARE, *LEARNED, "table.arrow"],
    "compare, files": [*COMPARE, *SUPPLIED, "--sample", "300", "parts"],
    "compare, files, learned": [*COMPARE, *LEARNED, "--sample", "300", "parts"],
    "fit": ["fit", "--strategy", "pandora", "--budget", "0.001", *SUPPLIED, "parts"],
    "fit, learned": ["fit", "--strategy", "routing", "--budget", "0.001", *LEARNED, "parts"],
    "evaluate": ["evaluate", "policy.json", "parts"],
    "tune": ["tune", "--strategy", "cascading", "--budgets", "2", *SUPPLIED, "table.arrow"],
    "diagnose": [
        "diagnose", "--strategies", "routing", "--target", "0", "--resamples", "0", *SUPPLIED,
        "table.arrow",
    ],
    "import": [
        "import", "long", "log.csv", "OUT", "--query", "query_id", "--model", "model",
        "--quality", "quality", "--cost", "cost",
    ],
    "synthesize": ["synthesize", "OUT", "--queries", "1000000", *DATA],
    "inspect": ["inspect", "parts"],
}  # fmt: skip
"""Commands by name; OUT is where the result goes, elsewhere --out is added."""


def heed() -> None:
    """Heed signals, although a command in the background of a shell ignores them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class Place:
    """A folder with the inputs of the commands, and an environment in which they start fast."""

    folder: Path
    environment: dict[str, str]

    def words(self, name: str, out: str) -> list[str]:
        words = [out if word == "OUT" else word for word in COMMANDS[name]]
        made = {"import", "synthesize", "inspect"}
        return words if words[0] in made else [*words, "--out", out]

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cascjax", *words],
            cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=heed,
        )  # fmt: skip

    def run(self, words: list[str]) -> float:
        """Run a command to its end; return how many seconds it took."""
        start = time.monotonic()
        process = self.start(words)
        error = process.communicate()[1]
        assert process.returncode == 0, (words, error)
        return time.monotonic() - start


def make(folder: Path) -> Place:
    """Return a folder with inputs for every command."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # they compile once
    }
    place = Place(folder, environment)
    place.run(["synthesize", "table.arrow", "--queries", "800", *DATA])
    place.run(["synthesize", "parts", "--queries", "2400", "--parts", "6", *DATA])
    place.run(
        ["fit", "parts", "--strategy", "routing", "--budget", "0.001", "--out", "policy.json"]
    )
    with (folder / "log.csv").open("w") as log:
        log.write("query_id,model,quality,cost\n")
        for query in range(60_000):
            log.writelines(f"q{query},m{k},{(query * k) % 7 / 7},{0.1 + k}\n" for k in range(3))
    return place


def result(path: Path) -> Any:
    """Return the numbers that a command wrote, without times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            left_out = ("seconds", "settings", "command", "source")
            return {k: timeless(v) for k, v in value.items() if k not in left_out}
        return [timeless(each) for each in value] if isinstance(value, list) else value

    if path.is_file() and path.suffix == ".arrow":
        return path.read_bytes()
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    tables = {
        f.name: timeless(pq.read_table(f).to_pylist()) for f in files if f.suffix == ".parquet"
    }
    texts = {f.name: timeless(json.loads(f.read_text())) for f in files if f.suffix == ".json"}
    for text in texts.values():
        text.pop("checksum", None)
    return (
        tables | ({} if path.is_file() and not texts else texts)
        if path.is_dir()
        else texts.popitem()[1]
    )


@dataclass(frozen=True)
class Trial:
    """What one signal did."""

    command: str
    sent: str
    after: float  # seconds from the start to the signal
    took: float  # seconds from the signal to the end
    code: int
    error: str
    kept: bool
    faults: tuple[str, ...]


def trial(
    place: Place, name: str, sent: signal.Signals, after: float, whole: Any, resume: bool
) -> Trial | None:
    """Interrupt a command and resume it; None if it ended before the signal."""
    out = f"out-{time.monotonic_ns()}" + (".arrow" if "OUT" in COMMANDS[name] else "")
    if COMMANDS[name][0] == "fit":
        out += ".json"
    words, path = place.words(name, out), place.folder / out
    process = place.start(words)
    time.sleep(after)
    if process.poll() is not None:
        process.communicate()
        shutil.rmtree(path, ignore_errors=True)
        return None
    process.send_signal(sent)
    start = time.monotonic()
    try:
        error = process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        error = process.communicate()[1] + "\nit went on"
    took, kept, faults = time.monotonic() - start, "--resume" in error, []
    done = process.returncode == 0 and took < AT_ITS_END
    if done and (not path.exists() or result(path) == whole):
        return None
    *notes, line = error.splitlines() or [""]
    if process.returncode != 130:
        faults.append(f"exit code {process.returncode}")
    if took > LIMIT:
        faults.append(f"{took:.1f} s")
    if not line.startswith("cascjax: interrupted; "):
        faults.append("no line")
    if any(word in error for word in ("Traceback", "Exception ignored", "FATAL", "terminate")):
        faults.append("more than a line")
    if any("cascjax:" in note for note in notes):
        faults.append("two lines")
    if list(place.folder.glob(f"{out}*/**/.cascjax-*")) or list(place.folder.glob(".cascjax-*")):
        faults.append("temporary files")
    checkpoint = (
        path.with_name(f"{out}.checkpoint") if path.suffix == ".json" else path / "checkpoint"
    )
    if checkpoint.exists() != kept:
        faults.append("checkpoint of nothing" if checkpoint.exists() else "no checkpoint")
    if kept and resume:
        place.run([*words, "--resume"])
        if result(path) != whole:
            faults.append("other numbers")
    for left in (path, checkpoint):
        shutil.rmtree(left, ignore_errors=True)
        if left.is_file():
            left.unlink()
    return Trial(name, sent.name, after, took, process.returncode, error, kept, tuple(faults))


def trials(place: Place, count: int, seed: int, resumed: int = 1) -> list[Trial]:
    """Return trials of all commands in turn, each with a random signal at a random moment."""
    chance, done = random.Random(seed), []
    seconds: dict[str, float] = {}
    wholes: dict[str, Any] = {}
    kept = Counter[str]()
    while len(done) < count:
        name = list(COMMANDS)[len(done) % len(COMMANDS)]
        if name not in seconds:
            suffix = ".arrow" if "OUT" in COMMANDS[name] else ".json" * (COMMANDS[name][0] == "fit")
            out = f"whole-{len(done)}{suffix}"
            seconds[name] = COMPILED * place.run(place.words(name, out))
            wholes[name] = None if name == "inspect" else result(place.folder / out)
        after = chance.uniform(START, seconds[name])
        resume = kept[name] % resumed == 0
        ended = trial(place, name, chance.choice(SIGNALS), after, wholes[name], resume)
        if ended is not None:
            done.append(ended)
            kept[name] += ended.kept
            print(len(done), ended.command, ended.sent, f"{after:.1f} {ended.took:.1f}",
                  *ended.faults, file=sys.stderr, flush=True)  # fmt: skip
    return done


def main() -> None:
    count, seed, resumed = map(int, [*sys.argv[1:], *("", "0", "1")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as folder:
        done = trials(make(Path(folder)), count, seed, resumed)
    by_command = defaultdict(list)
    for each in done:
        by_command[each.command].append(each)
    print("| command | signals | exit 130, one line | kept a part | longest, s | faults |")
    print("|---|---|---|---|---|---|")
    for name, each in [*by_command.items(), ("all", done)]:
        faults = Counter(fault for trial in each for fault in trial.faults)
        named = ", ".join(f"{fault} ({n})" for fault, n in faults.items()) or "none"
        ended = sum(trial.code == 130 and "no line" not in trial.faults for trial in each)
        kept, longest = sum(trial.kept for trial in each), max(trial.took for trial in each)
        print(f"| {name} | {len(each)} | {ended} | {kept} | {longest:.1f} | {named} |")
    for each in done:
        if each.faults:
            print(each, file=sys.stderr)


if __name__ == "__main__":
    main()
