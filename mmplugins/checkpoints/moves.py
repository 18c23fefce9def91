"""Moving tensors from the names of one layout to those of another, each exactly once."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

State = dict[str, Tensor]
Names = Sequence[tuple[str, str]]
Numbers = tuple[int, ...]
# No model has more layers; a number in a hostile name would have us count to it.
FIELDS = {"i": r"\d{1,4}", "j": r"\d{1,4}", "rest": r".+"}
SHOWN = 12  # names in a message, of what may be hundreds


class LayoutError(ValueError):
    """A state dict is not what a layout says, or the other layout has no place for it."""


@contextmanager
def shapes_told() -> Iterator[None]:
    """Within this context tensors of shapes that nobody expects raise what they should.

    Raises:
        LayoutError: instead of whatever else.
    """
    try:
        yield
    except LayoutError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise LayoutError(f"names or shapes that no such model has ({error})") from error


class Moves:
    """A state dict that is taken apart while another is built from it.

    Attributes:
        rest: what nobody has spoken for yet.
        moved: the other state dict.
        left: {name: why} of what has no place there and is not needed.
    """

    def __init__(self, state: State):
        self.rest = dict(state)
        self.moved: State = {}
        self.left: dict[str, str] = {}
        self._missing: list[str] = []

    def take(self, name: str) -> Tensor | None:
        """The tensor `name`, now spoken for; None if there is none."""
        return self.rest.pop(name, None)

    def need(self, name: str) -> Tensor | None:
        """The same; the end complains if there is none."""
        if name not in self.rest:
            self._missing.append(name)
        return self.take(name)

    def put(self, name: str, tensor: Tensor) -> None:
        """Give `tensor` its place."""
        if name in self.moved:
            raise LayoutError(f"two tensors would be named {name}")
        # A part of a larger tensor would be saved with all of it.
        self.moved[name] = tensor.clone(memory_format=torch.contiguous_format)

    def rename(
        self,
        names: Names,
        *,
        back: bool = False,
        optional: bool = False,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Move all tensors that have the first name of a pair to the second, or `back`.

        In both, {i} and {j} stand for numbers, {wb} for `weight` and `bias`, {rest} for anything.
        Unless `optional`, each name must be there, and for every number that any of `names` has.

        Args:
            names: pairs.
            back: from the second to the first.
            optional: all of them may be missing, but not some.
            change: what happens to the tensors on the way.
        """
        found: dict[str, set[Numbers]] = {}
        for pair in _expanded(names):
            old, new = reversed(pair) if back else pair
            pattern = re.compile(_pattern(old))
            matches = [match for name in self.rest if (match := pattern.fullmatch(name))]
            for match in matches:
                tensor = self.rest.pop(match.string)
                self.put(new.format(**match.groupdict()), change(tensor) if change else tensor)
            found[old] = {tuple(map(int, _fields(match).values())) for match in matches}
        if not optional or any(found.values()):
            self._missing += _gaps(found)

    def depth(self, name: str) -> int:
        """How many layers there are, by the numbers {i} of names like `name`."""
        pattern = re.compile(_pattern(name))
        numbers = [int(match["i"]) for name in self.rest if (match := pattern.fullmatch(name))]
        return max(numbers, default=-1) + 1

    def leave(self, patterns: Iterable[str], why: str) -> None:
        """Leave what matches any of `patterns` (as in `rename`) behind, and remember `why`."""
        for pattern in patterns:
            for name in [name for name in self.rest if re.fullmatch(_pattern(pattern), name)]:
                del self.rest[name]
                self.left[name] = why

    def refuse(self, pattern: str, why: str) -> None:
        """Raise if a name matches: the other layout cannot express it.

        Raises:
            LayoutError: with the name, and `why`.
        """
        for name in self.rest:
            if re.fullmatch(_pattern(pattern), name):
                raise LayoutError(f"{name}: {why}")

    def end(self) -> None:
        """See that nothing is left over and nothing is missing.

        Raises:
            LayoutError: lists both.
        """
        parts = []
        if self._missing:
            parts.append(f"missing: {some(self._missing)}")
        if self.rest:
            shapes = [f"{name} {tuple(t.shape)}" for name, t in self.rest.items()]
            parts.append(f"left over: {some(shapes)}")
        if parts:
            raise LayoutError("; ".join(parts))


def _expanded(names: Names) -> list[tuple[str, str]]:
    return [
        (old.replace("{wb}", kind), new.replace("{wb}", kind))
        for old, new in names
        for kind in (("weight", "bias") if "{wb}" in old else ("",))
    ]


def _pattern(template: str) -> str:
    """A regular expression with a group for each field."""
    parts = re.split(r"\{(\w+)\}", template)
    return "".join(
        re.escape(part) if number % 2 == 0 else f"(?P<{part}>{FIELDS[part]})"
        for number, part in enumerate(parts)
    )


def _fields(match: re.Match) -> dict[str, str]:
    return {name: text for name, text in match.groupdict().items() if name != "rest"}


def _gaps(found: dict[str, set[Numbers]]) -> list[str]:
    """Names that are missing: altogether, or for numbers that others have."""
    alike: dict[tuple[str, ...], set[Numbers]] = {}
    for template, seen in found.items():
        alike.setdefault(_fields_of(template), set()).update(seen)
    gaps = []
    for template, seen in found.items():
        fields = _fields_of(template)
        wanted = alike[fields] if fields else {()}
        if len(fields) == 1 and wanted:
            wanted = {(number,) for number in range(max(wanted)[0] + 1)}
        absent = sorted(wanted - seen) if wanted else [["*"] * len(fields)]
        gaps += [
            template.format(**dict(zip(fields, each, strict=True)), rest="*") for each in absent
        ]
    return gaps


def _fields_of(template: str) -> tuple[str, ...]:
    return tuple(name for name in re.findall(r"\{(\w+)\}", template) if name != "rest")


def some(names: Sequence[str]) -> str:
    """The first few of `names`, for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
