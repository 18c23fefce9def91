"""How low and how high AP gets when every image may choose its own view: the reference or a shift.

    AP-, AP+     image by image, the view that lowers (raises) the AP of all images most, given what
                 the other images have chosen so far
    Delta AP     AP+ - AP-
    AP min       every image takes the view in which its own AP is least

AP is the mean over IoU .50:.95 and the classes with truth.
Sources: greedy bounds https://arxiv.org/abs/2008.05787, the minimum by image "pm-k" of
https://arxiv.org/abs/2008.09604. Deviation: greedy search starts with all images at the one view
that is worst (best) for all, which makes AP- <= M(d) <= AP+ for every shift d; ties keep a choice.
A greedy bound is no extreme: some choices may lie beyond it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmplugins.evaluation.statistics.weighted import Matches

Choices = Int[np.ndarray, " n"]
Progress = Callable[[int, int], None]

_ROUNDING = 1e-12  # a smaller change of AP is none


@dataclass(frozen=True, eq=False)
class Bounds:
    """AP of choices; a choice is 0 for the reference and 1 + s for shift s.

    Attributes:
        single: M of each view, taken by all images.
        low: AP-.
        high: AP+.
        minimum: AP min.
        low_choices: of each image.
        high_choices: likewise.
        minimum_choices: likewise; 0 for images without truth.
    """

    single: Float[np.ndarray, " V"]
    low: float
    high: float
    minimum: float
    low_choices: Choices
    high_choices: Choices
    minimum_choices: Choices

    @property
    def difference(self) -> float:
        """Delta AP."""
        return self.high - self.low


def bounds(views: Sequence[Sequence[Matches]], progress: Progress | None = None) -> Bounds:
    """Bounds of AP from the matches of each view, class by class.

    Args:
        views: the reference's and each shift's, of the same classes, objects and images.
        progress: told how many images are decided, and of how many; both bounds decide all.

    Raises:
        ValueError: there is no truth.
    """
    search = Search(views)
    single = np.array([search.precision(np.full(search.images, v)) for v in range(len(views))])
    total = 2 * search.images
    told = progress or (lambda done, of: None)
    low = search.greedy(int(single.argmin()), -1, lambda done: told(done, total))
    high = search.greedy(int(single.argmax()), 1, lambda done: told(search.images + done, total))
    minimum = search.worst_of_each()
    return Bounds(
        single,
        *(search.precision(choices) for choices in (low, high, minimum)),
        *(low, high, minimum),
    )


class Search:
    """AP of any choice of views; `views` as for `bounds`."""

    def __init__(self, views: Sequence[Sequence[Matches]]) -> None:
        self._classes = [
            _Class(of_views) for of_views in zip(*views, strict=True) if of_views[0].truths.any()
        ]
        if not self._classes:
            raise ValueError("bounds of AP need true objects inside the core")
        self.images = len(self._classes[0].truths)
        self._views = len(views)

    def precision(self, choices: Choices) -> float:
        """AP of all images, each in its view."""
        return float(np.mean([of_class.precision(choices) for of_class in self._classes]))

    def greedy(self, start: int, sign: int, progress: Callable[[int], None]) -> Choices:
        """Choices that lower (sign -1) or raise (1) AP, from all images in view `start`."""
        choices = np.full(self.images, start)
        for image in range(self.images):
            touched = [c for c in self._classes if c.is_found_in[image]]
            if touched:
                trials = sign * sum(c.trials(choices, image, self._views) for c in touched)
                best = int(trials.argmax())
                if trials[best] > trials[choices[image]] + _ROUNDING:
                    choices[image] = best
            progress(image + 1)
        return choices

    def worst_of_each(self) -> Choices:
        """The view in which each image by itself has the least AP."""
        choices = np.zeros(self.images, int)
        for image in range(self.images):
            there = [c for c in self._classes if c.truths[image]]
            if there:
                own = sum(c.alone(image, self._views) for c in there) / len(there)
                choices[image] = int(np.argmax(own <= own.min() + _ROUNDING))
        return choices


class _Class:
    """The matches of one class in all views, by falling score."""

    def __init__(self, of_views: Sequence[Matches]) -> None:
        self.truths = of_views[0].truths
        image = np.concatenate([matches.image for matches in of_views])
        score = np.concatenate([matches.score for matches in of_views])
        view = np.repeat(np.arange(len(of_views)), [len(matches.image) for matches in of_views])
        order = np.lexsort((image, -score))  # ties by image, as COCO's code ranks them
        self._image, self._score, self._view = image[order], score[order], view[order]
        self._hit, self._ignored = (
            np.concatenate(part, axis=1)[:, order]
            for part in ([m.hit for m in of_views], [m.ignored for m in of_views])
        )
        self.is_found_in = np.bincount(image, minlength=len(self.truths)) > 0

    def precision(self, choices: Choices) -> float:
        rows = np.flatnonzero(self._view == choices[self._image])
        matches = self._matches(rows, self._image[rows], self.truths)
        return float(matches.average_precision(np.ones((1, len(self.truths)))).mean())

    def trials(self, choices: Choices, image: int, views: int) -> Float[np.ndarray, " V"]:
        """AP with `image` in each view and all others where they are.

        All others are made one image, of weight 1 in all trials; `image` in view v is another one,
        of weight 1 in trial v.
        """
        of_it = self._image == image
        rows = np.flatnonzero(of_it | (self._view == choices[self._image]))
        places = np.where(of_it[rows], 1 + self._view[rows], 0)
        own = self.truths[image]
        truths = np.array([self.truths.sum() - own, *[own] * views])
        weights = np.hstack([np.ones((views, 1)), np.eye(views)])
        return self._matches(rows, places, truths).average_precision(weights).mean(axis=1)

    def alone(self, image: int, views: int) -> Float[np.ndarray, " V"]:
        """AP of nothing but `image` in each view."""
        rows = np.flatnonzero(self._image == image)
        matches = self._matches(rows, self._view[rows], np.full(views, self.truths[image]))
        return matches.average_precision(np.eye(views)).mean(axis=1)

    def _matches(self, rows: np.ndarray, image: np.ndarray, truths: np.ndarray) -> Matches:
        return Matches(image, self._score[rows], self._hit[:, rows], self._ignored[:, rows], truths)
