"""mmengine's Runner, except that a checkpoint fits the model or is refused."""

from mmengine.runner import Runner

from mmplugins.engine.inputs import InputError


class StrictRunner(Runner):
    """Loads checkpoints for testing, resuming and `load_from` strictly.

    Raises:
        InputError: keys are left over or missing, or shapes differ; the message lists them.
    """

    def load_checkpoint(self, filename: str, map_location="cpu", strict: bool = True, **kwargs):
        """As mmengine's, `strict` by default."""
        try:
            return super().load_checkpoint(filename, map_location, strict, **kwargs)
        except RuntimeError as error:
            if "do not match exactly" not in str(error):
                raise
            raise InputError(
                f"{filename} is not a checkpoint of this config's model. {error}"
                "Use the config it was trained with, or train.py --partial-checkpoint to start "
                "from what fits"
            ) from error
