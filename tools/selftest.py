"""Let the equivariance instrument measure models whose verdict is known, on a CPU, in seconds.

    python tools/selftest.py

Each row is a small model of known verdict: exact to 1e-12 in float64 and to 1e-5 in float32, or
not exact by at least 1e-3. The last rows are faults that must be noticed. Ends with status 1 if a
row is not what it must be.
"""

import argparse
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmplugins.evaluation.selftest.verdicts import FAULTS, PARTS, selftest


def main() -> None:
    """Measure all rows and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    console = Console()
    total = sum(map(len, PARTS.values())) + len(FAULTS)
    rows = list(track(selftest(), "measuring", total, console=console, transient=True))
    table = Table("shift", "model or fault", "must be", "float64", "float32", "")
    for row in rows:
        told = "[green]ok" if row.passed else "[red]FAILED"
        errors = f"{row.double:.1e}", f"{row.single:.1e}"
        table.add_row(row.part, row.name, row.expected, *errors, told)
    console.print(table)
    failed = [row.name for row in rows if not row.passed]
    if failed:
        sys.exit(f"error: {len(failed)} of {total} rows failed: {', '.join(failed)}")
    print(f"all {total} rows are what they must be")


if __name__ == "__main__":
    main()
