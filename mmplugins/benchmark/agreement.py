"""Whether two forms of an encoding are the same function: else their costs say nothing."""

from collections.abc import Mapping

from torch import Tensor

from mmplugins.benchmark.cases import Row


class Disagreement(Exception):  # noqa: N818 - nothing broke
    """Two forms of one encoding are not the same function."""


def check(
    row: Row,
    results: Mapping[str, Tensor],
    reference: Row,
    expected: Mapping[str, Tensor],
    *,
    tolerance: float,
) -> float:
    """The largest relative difference between what both have of output and gradients.

    Relative to the norm of a whole tensor: single entries near zero have no precise digits.

    Raises:
        Disagreement: it is larger than `tolerance`.
    """
    differences = {
        name: _relative(results[name], expected[name]) for name in expected if name in results
    }
    name, worst = max(differences.items(), key=lambda item: item[1])
    if not worst <= tolerance:  # NaN is no agreement either
        what = name if name == "output" else f"gradient of {name}"
        raise Disagreement(
            f"{row} is not the same function as {reference}: the {what} differs by {worst:.1g} of "
            f"its norm, more than {tolerance:g}"
        )
    return worst


def _relative(found: Tensor, expected: Tensor) -> float:
    difference = (found - expected).norm() / expected.norm().clamp(min=1e-30)
    return float(difference) if difference.isfinite() else float("inf")
