"""List the position encodings: where they act, what they read, cost and claim.

    python tools/list_encodings.py                          all, as a table
    python tools/list_encodings.py SaPE2 IRPE               one by one: equations, options, claims
    python tools/list_encodings.py --markdown README.md     put a fresh table into a file

Parameters and multiply-adds (products and convolutions, counted) are those that the encoding adds
to a ViT-S/16 for 224 x 224 pixels with its default options. "canvas" is exact when the valid
patches move within a larger, masked canvas, "roll" when the grid is cyclic.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmplugins import catalogue
from mmplugins.registry import POSITION_ENCODINGS, position_encoding_class


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="encodings to describe in full")
    parser.add_argument(
        "--markdown",
        type=Path,
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the table in Markdown, or replace the one that FILE holds between its marks",
    )
    args = parser.parse_args()
    console = Console()
    try:
        if args.markdown == Path("-"):
            print(catalogue.markdown())
        elif args.markdown:
            fresh = catalogue.rewrite(args.markdown.read_text())
            temporary = args.markdown.with_suffix(".tmp")
            temporary.write_text(fresh)
            temporary.replace(args.markdown)
        elif args.names:
            for name in args.names:
                describe(name, console)
        else:
            console.print(_table("", catalogue.HEADER, [e.cells() for e in catalogue.entries()]))
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"error: {error.args[0] if isinstance(error, KeyError) else error}")


def describe(name: str, console: Console) -> None:
    """Its equations, options and claims."""
    encoding = position_encoding_class(dict(type=name), POSITION_ENCODINGS)
    name = encoding.__name__
    console.rule(name)
    console.print(escape(sys.modules[encoding.__module__].__doc__.strip()), highlight=False)
    rows = catalogue.options(name)
    if rows:
        console.print(_table("options", ["option", "default", "choices"], rows))
    (entry,) = (e for e in catalogue.entries() if e.name == name)
    console.print(_table("by default", ["", ""], zip(catalogue.HEADER, entry.cells(), strict=True)))


def _table(title: str, header: list[str], rows) -> Table:
    table = Table(*header, title=title or None)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


if __name__ == "__main__":
    main()
