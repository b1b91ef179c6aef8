"""Damages a file of a run folder, a checkpoint, a source or a cache, reads what is left, and counts what follows.

    python tests/faults/fuzz.py --trials=1000 --seed=0      # make test-faults; a few minutes on two cores

Of a trial may come:
  detected   a line says what is damaged; the data that was meant, an older state, or a refusal follows
  harmless   what is read is what was written: the damaged bytes mean nothing, or were made again
  silent     other data without a word
  crash      anything but a refusal in one line

The exit code is 1 if any trial is silent or crashes. A trial follows from the seed and its number.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = ("detected", "harmless", "silent", "crash")
MARKS = ("damaged", "is not what it was")  # of a line that tells


def equal(a, b) -> bool:
    import numpy as np

    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return a == b


class Lab:
    """The sound folders of all targets; each is copied to one place, so that absolute paths stay the same."""

    def __init__(self, folder: Path, targets: dict):
        self.targets, self.sound, self.live = targets, folder / "sound", folder / "live"
        self.names = [name for name, target in targets.items() for _ in range(target.share)]
        self.expected = {}

    def prepare(self, name: str) -> None:
        """Makes a target's folder, and reads it once."""
        target = self.targets[name]
        shutil.rmtree(self.live, ignore_errors=True)
        self.live.mkdir(parents=True)
        target.make(self.live)
        if target.continues:
            shutil.copytree(self.live, self.sound / name)
        self.expected[name] = target.read(self.live)
        if not target.continues:
            shutil.copytree(self.live, self.sound / name)

    def trial(self, seed: int, number: int) -> tuple[str, str, str]:
        """Returns (target, outcome, what happened)."""
        import damage
        import numpy as np

        from jaxrepro.errors import UserError
        from jaxrepro.machine import machine_fault

        random = np.random.default_rng([seed, number])
        name = self.names[number % len(self.names)]
        if name not in self.expected:
            self.prepare(name)
        shutil.rmtree(self.live)
        shutil.copytree(self.sound / name, self.live)
        caches = {self.live / "data" / name for name in ("arrays", "known")}
        if random.random() < 0.5 and any(p.is_file() and not caches & {*p.parents} for p in self.live.rglob("*")):
            shutil.rmtree(self.live / "data" / "arrays", ignore_errors=True)
            if self.targets[name].checks_itself:
                shutil.rmtree(self.live / "data" / "known", ignore_errors=True)
        what = damage.damage(random, self.live / self.targets[name].below)
        said, before = io.StringIO(), list(logging.getLogger().handlers)
        handler = logging.StreamHandler(said)
        logging.getLogger().handlers[:] = [handler]
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                found = self.targets[name].read(self.live)
            told = any(mark in said.getvalue() for mark in MARKS)
            if equal(self.expected[name], found):
                return name, "detected" if told else "harmless", what
            return name, "detected" if told else "silent", what
        except UserError as error:
            return name, "detected", f"{what}: {error}"
        except Exception as error:
            if fault := machine_fault(error):
                return name, "detected", f"{what}: {fault}"
            return name, "crash", f"{what}: {traceback.format_exc()}"
        finally:
            logging.getLogger().handlers[:] = before


def work(seed: int, numbers: range) -> None:
    """Runs trials and prints a line of JSON for each."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no result
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAXREPRO_DATA"] = f"{folder}/live/data"
        os.environ["HOME"] = f"{folder}/home"
        os.environ.pop("TFDS_DATA_DIR", None)
        import targets

        targets.share_the_program()
        lab = Lab(Path(folder), targets.TARGETS)
        for number in numbers:
            os.write(out, (json.dumps([number, *lab.trial(seed, number)]) + "\n").encode())


def follow(worker: int, workers: int, seed: int, trials: int, found: list) -> None:
    """Runs every `workers`-th trial in a process of its own; a process that dies is a crash of its trial."""
    start = worker
    while start < trials:
        command = [sys.executable, __file__, f"--seed={seed}", f"--trials={trials}", f"--work={start},{workers}"]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        errors: list[str] = []
        drain = threading.Thread(target=lambda p=process, e=errors: e.extend(p.stderr))
        drain.start()
        for line in process.stdout:
            number, *rest = json.loads(line)
            found.append((number, *rest))
            start = number + workers
        process.wait()
        drain.join()
        if start < trials:
            found.append((start, "?", "crash", f"exit code {process.returncode}: {''.join(errors[-20:])}"))
            start += workers


def table(found: list) -> str:
    """Returns the counts of every target as text."""
    counts: dict[str, Counter] = {}
    for _, name, outcome, _ in sorted(found):
        counts.setdefault(name, Counter())[outcome] += 1
    rows = [[name, *(str(count[o]) for o in OUTCOMES)] for name, count in sorted(counts.items())]
    total = sum(counts.values(), Counter())
    rows.append([f"all {sum(total.values())}", *(str(total[o]) for o in OUTCOMES)])
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{row[0]:{width}}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in [["", *OUTCOMES], *rows]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--log", type=Path, help="where every trial is written, one line of JSON each")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        start, step = map(int, options.work.split(","))
        work(options.seed, range(start, options.trials, step))
        return 0
    found: list = []
    threads = [
        threading.Thread(target=follow, args=(i, options.workers, options.seed, options.trials, found))
        for i in range(options.workers)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(timeout=1)
        end = "\r" if sys.stderr.isatty() else "\n"
        if sys.stderr.isatty() or len(found) // 100 > getattr(main, "said", 0):
            main.said = len(found) // 100
            print(f"{len(found)} of {options.trials} trials", end=end, file=sys.stderr, flush=True)
    bad = [trial for trial in sorted(found) if trial[2] in ("silent", "crash")]
    for number, name, outcome, what in bad:
        print(f"\ntrial {number}, {name}, {outcome}: {what}")
    if options.log:
        options.log.write_text("".join(json.dumps(trial) + "\n" for trial in sorted(found)))
    print(table(found))
    return 1 if bad or len(found) < options.trials else 0


if __name__ == "__main__":
    sys.exit(main())
