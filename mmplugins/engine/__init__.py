"""Training in OpenMMLab: what the root registries get from mmplugins, and the tools' shared code.

Imported for registration, so nothing here imports mmdet or mmseg before it is used.
"""

from mmplugins.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmplugins.engine.seeding import (
    SeededInfiniteSampler,
    SeededSampler,
    SeedIterationHook,
    SeedSample,
)

__all__ = [
    "LayerDecayOptimWrapperConstructor",
    "SeedIterationHook",
    "SeedSample",
    "SeededInfiniteSampler",
    "SeededSampler",
]
