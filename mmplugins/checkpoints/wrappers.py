"""Prefixes that trainers and larger models put before the names of weights."""

from collections.abc import Iterator

from mmplugins.checkpoints.moves import State

WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")  # DDP, torch.compile, trainers, hosts


def bare(state: State) -> State:
    """`state` without the prefixes that all names share."""
    for prefix in WRAPPERS * 2:
        if state and all(name.startswith(prefix) for name in state):
            state = within(state, prefix)
    return state


def within(state: State, prefix: str) -> State:
    """The part of `state` whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def parts(state: State) -> Iterator[tuple[str, State]]:
    """(prefix, part) of `state` as a whole, and of each wrapper in it."""
    yield "", state
    for prefix in (*WRAPPERS, "encoder.", "module.backbone."):
        if part := within(state, prefix):
            yield prefix, part
