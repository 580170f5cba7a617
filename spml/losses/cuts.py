"""The normalised cut (Tang et al., CVPR 2018) and the kernel cut, which adds the dense-CRF loss (ECCV 2018)."""

from dataclasses import dataclass

from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.losses.base import Inputs, Loss
from spml.losses.dense_crf import Gaussian
from spml.losses.maps import Maps, mean, scaled
from spml.losses.quadratic import quadratic

SMALLEST = 1e-12  # a class of less total weight than this counts as absent


def normalised_cut(probability: Tensor, rgb: Tensor, valid: Tensor, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """Return sum_k S_k' W (1 - S_k) / (d' S_k) of each image, d = W 1; a class without weight adds nothing.

    Its gradient of a class is d (S' W S) / (d' S)^2 - 2 W S / (d' S).

    Args:
        As `spml.losses.dense_crf.dense_crf`; 1 is one at the valid pixels.

    Returns:
        (B,) of the type of `probability`, from about 0 (similar pixels share a class) to K; 0 for an image without
        valid pixels.
    """
    gaussian = Gaussian.of(rgb, valid, sigma_xy, sigma_rgb)
    return _cut(quadratic(probability, gaussian), _degree(probability, gaussian))


def kernel_cut(
    probability: Tensor, rgb: Tensor, valid: Tensor, sigma_xy: float, sigma_rgb: float
) -> tuple[Tensor, Tensor]:
    """The dense-CRF energy and the normalised cut of each image, (B,) each, by one filtering of the probabilities."""
    gaussian = Gaussian.of(rgb, valid, sigma_xy, sigma_rgb)
    association = quadratic(probability, gaussian)  # (B, K)
    return -association.sum(1), _cut(association, _degree(probability, gaussian))


def _degree(probability: Tensor, gaussian: Gaussian) -> Tensor:
    """d' S_k: (B, K)."""
    degree = gaussian(gaussian.valid[:, None].to(probability.dtype))  # (B, 1, h, w)
    return (degree * probability).sum((2, 3))


def _cut(association: Tensor, degree: Tensor) -> Tensor:
    """The sum over classes of 1 - S' W S / (d' S): the normalised cut, because S' W 1 = d' S."""
    there = degree > SMALLEST
    return (1 - association / degree.clamp(min=SMALLEST)).masked_fill(~there, 0).sum(1)


@dataclass(frozen=True)
class NormalisedCutSettings:
    """The ranges of the dense-CRF loss. The paper's code names no weight; with ours cross-entropy stays larger."""

    weight: float = setting(0.1, number(low=0), "of this loss, which is at most the number of classes")
    sigma_xy: float = setting(100.0, number(above=0), "range in pixels of the crop")
    sigma_rgb: float = setting(15.0, number(above=0), "range in grey values")
    scale: float = setting(0.5, number(above=0), "size of the maps, as a part of the crop")


@dataclass(frozen=True)
class KernelCutSettings:
    """The sum of both with the weights of `dense_crf` and `normalised_cut`."""

    weight: float = setting(1.0, number(low=0), "of the sum")
    crf_weight: float = setting(2e-9, number(low=0), "of the dense-CRF energy in the sum")
    cut_weight: float = setting(0.1, number(low=0), "of the normalised cut in the sum")
    sigma_xy: float = setting(100.0, number(above=0), "range in pixels of the crop")
    sigma_rgb: float = setting(15.0, number(above=0), "range in grey values")
    scale: float = setting(0.5, number(above=0), "size of the maps, as a part of the crop")


def normalised_cut_loss(inputs: Inputs, settings: NormalisedCutSettings) -> Tensor:
    """The mean over images of all processes of `normalised_cut`."""
    maps = Maps.of(inputs, scaled(inputs, settings.scale))
    sigma_xy = settings.sigma_xy * settings.scale
    energy = normalised_cut(maps.probability, maps.rgb, maps.valid, sigma_xy, settings.sigma_rgb)
    return mean(energy, energy.new_tensor(len(energy)), inputs)


def kernel_cut_loss(inputs: Inputs, settings: KernelCutSettings) -> Tensor:
    """The mean over images of all processes of the two parts of `kernel_cut`, weighted."""
    maps = Maps.of(inputs, scaled(inputs, settings.scale))
    sigma_xy = settings.sigma_xy * settings.scale
    crf, cut = kernel_cut(maps.probability, maps.rgb, maps.valid, sigma_xy, settings.sigma_rgb)
    energy = settings.crf_weight * crf + settings.cut_weight * cut
    return mean(energy, energy.new_tensor(len(energy)), inputs)


NORMALISED_CUT = Loss(
    help="each class keeps the pixels that resemble its own: normalised cut of dense Gaussian pairs",
    settings=NormalisedCutSettings,
    inputs=("logit", "rgb", "valid"),
    function=normalised_cut_loss,
)
KERNEL_CUT = Loss(
    help="dense CRF plus normalised cut, for one filtering",
    settings=KernelCutSettings,
    inputs=("logit", "rgb", "valid"),
    function=kernel_cut_loss,
)
