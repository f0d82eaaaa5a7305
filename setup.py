"""Packaging. Tool settings are in pyproject.toml, what else an sdist has in MANIFEST.in."""

import re
from pathlib import Path

from setuptools import setup

root = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (root / "taichi2dgs/__init__.py").read_text())[1]
url = "https://github.com/taichi2dgs/taichi2dgs"
readme = (root / "README.md").read_text(encoding="utf-8")
readme = re.sub(r"(!\[[^]]*\])\((?!http)", rf"\1({url}/raw/main/", readme)  # pictures, then links,
readme = re.sub(r"\]\((?!http|#)", f"]({url}/blob/main/", readme)  # work where it is alone
plot = ["matplotlib>=3.8"]
bench = [
    "scikit-image>=0.22",
    "scipy>=1.10",
    "pytorch-msssim>=1",
    "flip-evaluator>=1.7",
    "imagecodecs>=2023.9",
    *plot,
]
film = ["av>=11"]  # mp4; gif and webp need nothing
datasets = ["pyarrow>=15"]  # Parquet; other formats of data sets need nothing
test = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "scikit-learn>=1.3",
    "webdataset>=0.2.86",
    *datasets,
    *bench,
]
view = ["playwright>=1.45"]  # tests of the page, with Chromium and Node.js; it needs nothing
tiff = ["tifffile>=2023.8.30", "imagecodecs>=2023.8.12"]  # 16 bits of colour, and floats
exr = ["OpenEXR>=3.5"]
heic = ["pillow-heif>=1"]
remote = ["fsspec>=2023.10", "s3fs>=2023.10"]  # URLs; others than s3:// need packages of their own
cluster = ["ray>=2.40"]
servers = ["moto[s3]>=5", "flask>=3", "flask-cors>=4", "psutil>=5.9", *remote, *cluster]  # tests
docs = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.27"]

setup(
    name="taichi2dgs",
    version=version,
    description="Pictures as two-dimensional Gaussians, on any GPU or CPU, without nvcc",
    long_description=readme,
    long_description_content_type="text/markdown",
    author="taichi2dgs contributors",
    url=url,
    project_urls={
        "Documentation": "https://taichi2dgs.github.io/taichi2dgs/",
        "Changelog": f"{url}/blob/main/CHANGELOG.md",
        "Issues": f"{url}/issues",
        "Paper": "https://arxiv.org/abs/2512.12774",
    },
    license="Apache-2.0",
    keywords=["gaussian splatting", "image representation", "taichi", "differentiable rendering"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Multimedia :: Graphics",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=["taichi2dgs", "taichi2dgs.kernels", "taichi2dgs.rendering", "taichi2dgs.fitting",
              "taichi2dgs.storage", "taichi2dgs.exchange", "taichi2dgs.viewing",
              "taichi2dgs.viewer", "nets", "pipelines", "pipelines.commands", "pipelines.starts",
              "pipelines.training", "pipelines.baselines", "pipelines.configs"],
    package_dir={"pipelines.configs": "configs", "taichi2dgs.viewer": "viewer"},
    package_data={"taichi2dgs": ["py.typed"], "nets": ["py.typed", "weights/*"],
                  "pipelines": ["py.typed"], "pipelines.configs": ["*.yaml", "*/*.yaml"],
                  "taichi2dgs.viewer": ["*.html", "*.css", "*.js"]},
    # Pictures are read and written by Pillow, whose modes, palettes and profiles imageio hides;
    # benchmarks and tests use imageio.
    install_requires=["taichi>=1.7.4,<1.8", "torch>=2.1", "numpy>=1.24", "imageio>=2.31",
                      "pillow>=10.1", "tqdm>=4.60", "pyyaml>=6"],
    extras_require={
        "demo": ["scikit-image>=0.22"],
        "test": test,
        "bench": bench,
        "docs": docs,
        "view": view,
        "plot": plot,
        "film": film,
        "tiff": tiff,
        "exr": exr,
        "heic": heic,
        "datasets": datasets,
        "remote": remote,
        "cluster": cluster,
        "servers": servers,
        "cudaless": ["nvidia-cuda-nvcc>=13", "nvidia-cuda-cuobjdump>=13",
                     "nvidia-cuda-nvdisasm>=13"],  # assemble kernels; see tests/cudaless
        "dev": [*test, *view, *tiff, *exr, *heic, "ruff==0.17.6", "pyright[nodejs]==1.1.414",
                "pre-commit>=3.5"],
    },
    entry_points={"console_scripts": ["taichi2dgs=pipelines.cli:main"]},
)  # fmt: skip
