"""Command line of tools/report.py: from results to one page, tables, and all they show as JSON."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import plain_errors
from mmplugins.report.bundle import bundle
from mmplugins.report.cards import card
from mmplugins.report.gathering import gather
from mmplugins.report.page import page
from mmplugins.report.runs import baseline
from mmplugins.report.tables import as_csv, markdown
from mmplugins.report.verdict import verdict

EPILOG = """
A RUN is a results.json of tools/equivariance.py or tools/resolution.py, or a folder that holds such
files somewhere; those of one name are one model's. Differences are shown where one was measured
--against the other, or where the folder holds what tools/compare.py found. The report's own .json
holds what it shows but for sample pictures, and is a RUN, too.

  python tools/report.py runs --out report.html
  python tools/report.py runs/none runs/none-sizes runs/ape runs/ape-sizes --title "Nuclei"
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Make one page about any number of models from what was measured of them."""
    with plain_errors():
        args = parser().parse_args(argv)
        out = Path(args.out)
        _check_out(out)
        models = gather(args.runs)
        scores = card(models, baseline(models, args.baseline), args.metric)
        said = verdict(scores)
        files = {
            out: page(args.title, said, scores),
            out.with_suffix(".md"): markdown(args.title, said, scores),
            out.with_suffix(".csv"): as_csv(scores),
            out.with_suffix(".json"): json.dumps(bundle(models), ensure_ascii=False),
        }
        for file, text in files.items():
            write(file, text.encode())
        print(f"{said.text}\n\n{', '.join(map(str, files))}")


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = _Parser(
        description=main.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("runs", nargs="+", metavar="RUN", help="results, or folders of them")
    add(
        "--out",
        default="report.html",
        help="the page; .md, .csv, .json beside it [%(default)s]",
    )
    add("--title", default="Position encodings, side by side", help="of the page [%(default)s]")
    add("--baseline", metavar="NAME", help="compare with this one [the model without encodings]")
    add("--metric", choices=["box", "mask"], default="box", help="of detectors [%(default)s]")
    return result


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all else here does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _check_out(out: Path) -> None:
    if out.suffix != ".html":
        raise InputError(f"--out {out}: name a file that ends in .html")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"--out {out}: a file in a folder that is there")
