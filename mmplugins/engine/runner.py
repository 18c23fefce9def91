"""mmengine's Runner, except that a checkpoint fits the model or is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.runner import Runner

from mmplugins.engine.inputs import InputError


class StrictRunner(Runner):
    """Loads checkpoints for testing, resuming and `load_from` strictly."""

    def load_checkpoint(self, filename: str, map_location="cpu", strict: bool = True, **kwargs):
        """As mmengine's, `strict` by default."""
        with refuse_misfits(filename):
            return super().load_checkpoint(filename, map_location, strict, **kwargs)


@contextmanager
def refuse_misfits(filename: str) -> Iterator[None]:
    """Around a strict load of `filename`.

    Raises:
        InputError: keys are left over or missing, or shapes differ; the message lists them.
    """
    try:
        yield
    except RuntimeError as error:
        if "do not match exactly" not in str(error):
            raise
        raise InputError(
            f"{filename} is not a checkpoint of this config's model. {error}"
            "Use the config it was trained with, or train.py --partial-checkpoint to start "
            "from what fits"
        ) from error
