"""Puts what cascjax reproduce wrote into PAPER.md, below its mark.

    python benchmarks/paper.py FOLDER...

Of every folder all experiments that it holds, in the order of the command's own list.
"""

import argparse
from pathlib import Path

from cascjax.experiments import EXPERIMENTS

PAGE = Path(__file__).with_name("PAPER.md")
MARK = "<!-- pages: made by cascjax reproduce, put here by paper.py -->"


def main() -> None:
    """Writes the page again: what stands above the mark stays."""
    parser = argparse.ArgumentParser(description="Put pages of cascjax reproduce into PAPER.md.")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    folders: list[Path] = parser.parse_args().folders
    # What is not given again would be lost: a misspelt folder is no folder without pages.
    for folder in folders:
        if not any((folder / f"{name}.md").exists() for name in EXPERIMENTS):
            parser.error(f"{folder} holds nothing that cascjax reproduce wrote")
    head, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        parser.error(f"{PAGE} has no line {MARK!r}: put one where the pages are to begin")
    found = [
        path.read_text(encoding="utf-8").rstrip("\n")
        for name in EXPERIMENTS
        for folder in folders
        if (path := folder / f"{name}.md").exists()
    ]
    PAGE.write_text("\n\n".join([head + MARK, *found]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
