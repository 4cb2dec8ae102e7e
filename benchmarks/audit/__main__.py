"""Run the audit: python -m benchmarks.audit [--quick] [--out docs/audit.md]."""

import sys
from pathlib import Path

import click

import cascjax as cj
from benchmarks.audit.checks import CHECKS, Row, Size
from benchmarks.audit.instances import KINDS

HEAD = """# Audit

Measured by `make audit` (`python -m benchmarks.audit{arguments}`) with cascjax {version}.
It compares the public interface with independent NumPy and SciPy implementations
(benchmarks/audit/reference.py) on random and degenerate instances (instances.py): {shapes}.

Deviations of qualities are shares of the range of quality. The bound of a share of fits or of
intervals is what 999 of 1,000 binomial samples keep within if 5% (of intervals above 0: 2.5%) is
true.
"""


def markdown(rows: list[Row]) -> str:
    """Return the table of all checks."""
    lines = ["| check | cases | worst deviation | bound | ok |", "|---|--:|--:|--:|---|"]
    lines += [
        f"| {r.check} | {r.cases:,} | {r.worst:.2g} | {r.bound:.2g} | {'yes' if r.ok else 'NO'} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--quick", is_flag=True, help="Few and small instances: under a minute.")
@click.option("--fits", type=click.IntRange(1), help="Fits with confidence.  [default: 300]")
@click.option("--only", multiple=True, help="Names of checks to run; by default all.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file of the table.")
def main(quick: bool, fits: int | None, only: tuple[str, ...], out: Path | None) -> None:
    """Audit the public interface; exit code 1 if a bound is exceeded."""
    if quick:
        kinds = ("ties", "zero cost", "wide costs")
        size = Size(kinds, ((12, 3),), range(1), 20, 2, fits or 2)
    else:
        size = Size(KINDS, ((3, 2), (40, 4)), range(1), 300, 40, fits or 300)
    rows = []
    for check in CHECKS:
        if only and check.__name__ not in only:
            continue
        for each in check(size):
            rows.append(each)
            print(each.check, each.worst, "" if each.ok else each.where, file=sys.stderr)
    print(markdown(rows))
    for each in rows:
        if not each.ok:
            print(f"{each.check}: {each.worst:.3g} is above {each.bound:.3g}: {each.where}")
    if out is not None:
        shapes = ", ".join(f"{n} queries and {k} models" for n, k in size.shapes)
        shapes += f"; instances per kind and shape: {len(size.seeds)}, from seed 0"
        arguments = (" --quick" if quick else "") + (f" --fits {fits}" if fits else "")
        head = HEAD.format(arguments=arguments, version=cj.__version__, shapes=shapes)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(head + "\n" + markdown(rows), encoding="utf-8")
    sys.exit(not all(each.ok for each in rows))


if __name__ == "__main__":
    main()
