"""What a kernel needs to know of a term: its rows, and the tensors that it may cut and save."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor


class Term(ABC):
    """A part of attention that is a function of few, small tensors.

    Each of `tensors` is [B or 1, h or 1, ...]: kernels hand a term those of some images and heads
    alone, `of(tensors)`, and compute it again in place of saving what it computed.
    """

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it is computed from."""

    @abstractmethod
    def of(self, tensors: Sequence[Tensor]) -> "Term":
        """The same function of other tensors, as many as `tensors`."""


class LogitBias(Term):
    """A term in logits, added to scale * q k^T, for N query and N key tokens."""

    num_tokens: int

    @abstractmethod
    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """The bias of the queries `start` to `stop`, for kernels that go through them in chunks."""

    def summands(self, start: int, stop: int) -> Iterator[Float[Tensor, "B h n N"]]:
        """Of these rows, at least one: to add them to something needs no memory for their sum."""
        yield self.rows(start, stop)

    def rows_in(
        self, out: Float[Tensor, "B h n N"], start: int, stop: int
    ) -> Float[Tensor, "B h n N"]:
        """`out` with these rows in place of what it held, the same for all images if shared.

        What leads to the tensors of this bias is written into the history of `out`, which has none.
        """
        summands = self.summands(start, stop)
        return reduce(Tensor.add_, summands, out.copy_(next(summands)))

    def dense(self) -> Float[Tensor, "B h N N"]:
        """The whole bias: the specification."""
        return self.rows(0, self.num_tokens)

    @staticmethod
    def sum(biases: Sequence["LogitBias | None"]) -> "LogitBias | None":
        """All of `biases` in one; None when there are none."""
        some = [bias for bias in biases if bias is not None]
        if len(some) > 1:
            return SumBias(some)
        return some[0] if some else None


class Context(Term):
    """A term in values, added to p v, where p are the attention probabilities."""

    @abstractmethod
    def rows(
        self, probs: Float[Tensor, "B h n N"], start: int, stop: int
    ) -> Float[Tensor, "B h n d"]:
        """What the queries `start` to `stop`, whose probabilities are given, read."""

    @staticmethod
    def sum(contexts: Sequence["Context | None"]) -> "Context | None":
        """All of `contexts` in one; None when there are none."""
        some = [context for context in contexts if context is not None]
        if len(some) > 1:
            return SumContext(some)
        return some[0] if some else None


class DenseBias(LogitBias):
    """One of which all rows, or all that anybody wants, are there already."""

    def __init__(self, values: Float[Tensor, "B h n N"]):
        self.values = values
        self.num_tokens = values.shape[2]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The values."""
        return (self.values,)

    def of(self, tensors: Sequence[Tensor]) -> "DenseBias":
        """Other values."""
        return DenseBias(*tensors)

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """As they are."""
        return self.values[:, :, start:stop]


class SumBias(LogitBias):
    """biases[0] + biases[1] + ..."""

    def __init__(self, biases: Sequence[LogitBias]):
        self.biases = biases
        self.num_tokens = biases[0].num_tokens

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those of the first, then those of the second, ..."""
        return tuple(tensor for bias in self.biases for tensor in bias.tensors)

    def of(self, tensors: Sequence[Tensor]) -> "SumBias":
        """Each with its own."""
        return SumBias(list(_dealt(self.biases, tensors)))

    def rows(self, start: int, stop: int) -> Float[Tensor, "B h n N"]:
        """The sum of their rows."""
        return reduce(torch.add, self.summands(start, stop))

    def summands(self, start: int, stop: int) -> Iterator[Float[Tensor, "B h n N"]]:
        """All of theirs."""
        for bias in self.biases:
            yield from bias.summands(start, stop)

    def rows_in(
        self, out: Float[Tensor, "B h n N"], start: int, stop: int
    ) -> Float[Tensor, "B h n N"]:
        """The first bias's, and the others' summands on top."""
        first, *others = self.biases
        summands = SumBias(others).summands(start, stop)
        return reduce(Tensor.add_, summands, first.rows_in(out, start, stop))


class SumContext(Context):
    """contexts[0] + contexts[1] + ..."""

    def __init__(self, contexts: Sequence[Context]):
        self.contexts = contexts

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those of the first, then those of the second, ..."""
        return tuple(tensor for context in self.contexts for tensor in context.tensors)

    def of(self, tensors: Sequence[Tensor]) -> "SumContext":
        """Each with its own."""
        return SumContext(list(_dealt(self.contexts, tensors)))

    def rows(
        self, probs: Float[Tensor, "B h n N"], start: int, stop: int
    ) -> Float[Tensor, "B h n d"]:
        """The sum of what they read."""
        return reduce(torch.add, (context.rows(probs, start, stop) for context in self.contexts))


def _dealt(terms: Sequence[Term], tensors: Sequence[Tensor]) -> Iterator[Term]:
    rest = iter(tensors)
    for term in terms:
        yield term.of(list(islice(rest, len(term.tensors))))
