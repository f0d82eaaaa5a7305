"""Packaging. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

root = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (root / "taichi2dgs/__init__.py").read_text())[1]
bench = ["scikit-image>=0.22", "pytorch-msssim>=1", "matplotlib>=3.8"]
test = ["pytest>=8", "hypothesis>=6.100", *bench]

setup(
    name="taichi2dgs",
    version=version,
    description="Pictures as two-dimensional Gaussians, on any GPU or CPU, without nvcc",
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=["taichi2dgs", "taichi2dgs.kernels", "nets", "pipelines", "pipelines.training",
              "pipelines.baselines", "pipelines.configs"],
    package_dir={"pipelines.configs": "configs"},
    package_data={"taichi2dgs": ["py.typed"], "nets": ["py.typed", "weights/*"],
                  "pipelines": ["py.typed"], "pipelines.configs": ["*.yaml", "*/*.yaml"]},
    install_requires=["taichi>=1.7.4,<1.8", "torch>=2.1", "numpy>=1.24", "imageio>=2.31",
                      "tqdm>=4.60", "pyyaml>=6"],  # pillow comes with imageio
    extras_require={
        "demo": ["scikit-image>=0.22"],
        "test": test,
        "bench": bench,
        "cudaless": ["nvidia-cuda-nvcc>=13", "nvidia-cuda-cuobjdump>=13",
                     "nvidia-cuda-nvdisasm>=13"],  # assemble kernels; see tests/cudaless
        "dev": [*test, "ruff==0.17.6", "pyright[nodejs]==1.1.414", "pre-commit>=3.5"],
    },
    entry_points={"console_scripts": ["taichi2dgs=pipelines.cli:main"]},
)  # fmt: skip
