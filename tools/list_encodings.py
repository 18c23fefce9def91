"""List the position encodings: where they act, what they read, cost and claim.

    python tools/list_encodings.py                          all, as a table
    python tools/list_encodings.py SaPE2 IRPE               one by one: equations, options, claims
    python tools/list_encodings.py --markdown README.md     put a fresh table into a file
    python tools/list_encodings.py Mine --import my_package  an encoding of your own

Parameters and multiply-adds (products and convolutions, counted) are those that the encoding adds
to a ViT-S/16 for 224 x 224 pixels with its default options. "canvas" is exact when the valid
patches move within a larger, masked canvas, "roll" when the grid is cyclic.
"""

import argparse
import inspect
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmplugins import catalogue
from mmplugins.disk import write
from mmplugins.registry import POSITION_ENCODINGS, position_encoding_class


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="encodings to describe in full")
    parser.add_argument("--import", nargs="+", default=[], dest="modules", metavar="MODULE")
    parser.add_argument(
        "--markdown",
        type=Path,
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the table in Markdown, or replace the one that FILE holds between its marks",
    )
    args = parser.parse_args()
    if args.names and args.markdown:
        parser.error("--markdown is a table of all encodings: leave the names out")
    console = Console()
    try:
        for module in args.modules:
            import_module(module)
        if args.markdown:
            write_markdown(args.markdown)
        elif args.names:
            for name in args.names:
                describe(name, console)
        else:
            list_all(console)
    except (ImportError, KeyError, OSError, ValueError) as error:
        sys.exit(f"error: {error.args[0] if isinstance(error, KeyError) else error}")


def write_markdown(file: Path) -> None:
    """Print the table, or put it into `file`."""
    if file == Path("-"):
        print(catalogue.markdown())
        return
    write(file, catalogue.rewrite(file.read_text()).encode())


def list_all(console: Console) -> None:
    """The table, as much of it as one can read."""
    columns = range(len(catalogue.HEADER)) if console.width >= 180 else (0, 1, 3, 4, 6)
    rows = [[entry.cells()[column] for column in columns] for entry in catalogue.entries()]
    console.print(_table("", [catalogue.HEADER[column] for column in columns], rows))
    if len(columns) < len(catalogue.HEADER):
        print("In wider windows, or with the name of an encoding, there is more to see.")


def describe(name: str, console: Console) -> None:
    """Its equations, options and claims."""
    encoding = position_encoding_class(dict(type=name), POSITION_ENCODINGS)
    name = encoding.__name__
    console.rule(name)
    about = inspect.getdoc(sys.modules[encoding.__module__]) or inspect.getdoc(encoding)
    console.print(escape(about), highlight=False, soft_wrap=True)
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
