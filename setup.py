"""Package metadata; the wheel carries configs and tools as OpenMMLab's packages do."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "mmplugins" / "__init__.py").read_text())[1]
MIM = ("configs", "tools", "model-index.yml")
LEFT = shutil.ignore_patterns("__pycache__", "results")  # what was measured is in the repository

ONEDL = [
    "onedl-mmengine>=0.10.12",
    "onedl-mmcv>=2.3.6",
    "onedl-mmdetection>=3.5",
    "onedl-mmsegmentation>=1.4",
]
OPENMMLAB = [
    "mmengine>=0.11.0rc3",
    "mmcv-lite==2.1.0",
    "mmdet==3.3.0",
    "mmsegmentation==1.2.2",
    "ftfy",
    "regex",
]
# Pretraining by mmpretrain, and graphs for other runtimes.
PRETRAIN = ["onedl-mmpretrain>=1.3.6"]
EXPORT = ["onnx>=1.18", "onnxscript", "onnxruntime"]
TEST = ["pytest", "pytest-xdist", "hypothesis", "beartype", "ruff", "playwright"]


class BuildWithMim(build_py):
    """Copies configs, tools and the model index to `mmplugins/.mim` of a built package.

    An editable install reads them from the checkout instead, so it leaves no copies or links.
    """

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "mmplugins", ".mim")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=LEFT)
            else:
                shutil.copy2(source, target / name)


setup(
    name="mmplugins",
    version=VERSION,
    description="Position encodings for OpenMMLab's detectors and segmenters, "
    "swapped by one line of a config",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="position encoding, vision transformer, SaPE2, iRPE, PEG, DETR, OpenMMLab",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(include=["mmplugins", "mmplugins.*"]),
    package_data={
        "mmplugins.position_encodings": ["README.md"],
        "mmplugins.checkpoints": ["README.md"],
        "mmplugins.report": ["page.*"],
    },
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.4",
        "torchvision",
        "numpy",
        "timm",
        "safetensors",
        "pycocotools",
        "jaxtyping",
        "rich",
        "filelock",
        "matplotlib",
        "Pillow",
        "scipy",
        "shapely",
        "plotly",
        "Jinja2",
    ],
    extras_require={
        "onedl": ONEDL,
        "openmmlab": OPENMMLAB,
        "pretrain": PRETRAIN,
        "export": EXPORT,
        "test": TEST,
        "dev": [*ONEDL, *PRETRAIN, *EXPORT, *TEST],
    },
    cmdclass={"build_py": BuildWithMim},
    zip_safe=False,
)
