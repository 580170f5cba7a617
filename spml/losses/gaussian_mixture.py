"""A Gaussian mixture around each image's labelled pixels supervises the others (AGMM; Wu et al., CVPR 2023).

`Sparsely Annotated Semantic Segmentation with Adaptive Gaussian Mixtures`. Use it beside cross-entropy, which is a loss
of its own. The Gaussians' deviation is one, as in the authors' code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spml.config.kinds import number
from spml.config.settings import setting
from spml.grouping.memory import Exchange
from spml.losses.base import Inputs, Loss
from spml.losses.maps import directions, mean

SMALLEST = 1e-6  # added before taking a logarithm


@dataclass(frozen=True)
class Centres:
    """The mean feature of the labelled pixels of each image and class."""

    mean: Tensor  # (B, K, D) float; 0 where none
    labelled: Tensor  # (B, K) bool: the image has labelled pixels of the class

    @classmethod
    def of(cls, feature: Tensor, label: Tensor, classes: int) -> "Centres":
        """The means of features (B, D, h, w) over the pixels of each class below `classes` in `label` (B, H, W) int64.

        They equal means of features enlarged bilinearly to the labels' size. We shrink the labels' weights instead.
        """
        size, batch = feature.shape[-2:], len(label)
        target = torch.where((label >= 0) & (label < classes), label, classes)
        one_hot = F.one_hot(target, classes + 1)[..., :-1].permute(0, 3, 1, 2).to(feature.dtype)  # (B, K, H, W)
        with torch.enable_grad():  # the transpose of the enlargement
            small = feature.new_zeros(batch, classes, *size, requires_grad=True)
            (share,) = torch.autograd.grad(_enlarge(small, label.shape[-2:]), small, one_hot)
        count = one_hot.sum((2, 3))  # (B, K)
        total = torch.einsum("bkhw,bdhw->bkd", share, feature)
        return cls(total / count.clamp(min=1)[..., None], count > 0)


def _enlarge(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _log(probability: Tensor) -> Tensor:
    return (probability + SMALLEST).log()


def mixture(feature: Tensor, centre: Tensor) -> Tensor:
    """G = exp(-d^2), d the mean over channels of |f - mu|: (P, D, h, w) and (P, D) -> (P, h, w) in 0..1."""
    distance = torch.cdist(feature.flatten(2).transpose(1, 2), centre[:, None], p=1) / feature.shape[1]  # (P, hw, 1)
    return (-distance.square()).exp().view(len(feature), *feature.shape[-2:])


def agreement(
    probability: Tensor, feature: Tensor, label: Tensor, valid: Tensor, centres: Centres
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of P against G on all valid pixels, and of G against the label y on the labelled ones.

    sum over pixels of the mean over the image's labelled classes of -(G ln P + (1 - G) ln(1 - P)) / 2, and of
    -(y ln G + (1 - y) ln(1 - G)) / 2. Gradients reach P and G in both.

    Args:
        probability: (B, K, H, W) float, P.
        feature: (B, D, h, w) float; G is computed at its size and enlarged bilinearly to (H, W).
        label: (B, H, W) int64; a class below K, 255 is void or padding, any other value unlabelled.
        valid: (B, H, W) bool; other pixels (padding, void) add nothing.
        centres: of the same images.

    Returns:
        Both sums over the batch, as scalars; zero where no pixel is labelled.
    """
    image, class_ = centres.labelled.nonzero(as_tuple=True)  # P pairs
    share = 1 / centres.labelled.sum(1).to(probability.dtype)[image]  # of its image's classes
    gaussian = mixture(feature[image], centres.mean[image, class_])[:, None]
    gaussian = _enlarge(gaussian, label.shape[-2:]).squeeze(1)  # (P, H, W)
    p = probability[image, class_]
    own = label[image] == class_[:, None, None]
    all_ = -(gaussian * _log(p) + (1 - gaussian) * _log(1 - p)) / 2
    given = -torch.where(own, _log(gaussian), _log(1 - gaussian)) / 2
    labelled = (label >= 0) & (label < probability.shape[1]) & valid
    return (
        (all_.masked_fill(~valid[image], 0).sum((1, 2)) * share).sum(),
        (given.masked_fill(~labelled[image], 0).sum((1, 2)) * share).sum(),
    )


def separation(centres: Centres, exchange: Exchange) -> Tensor:
    """The mean over pairs of classes of exp(-delta^2), delta the mean over channels of |mu_k - mu_l|; 0 without pairs.

    mu_k is the mean of the images' centres over all processes. The centres of other processes have no gradient here;
    each process computes its own. Returns a scalar, this process's share: the value divided by the number of processes,
    with the whole gradient.
    """
    own = (centres.mean * centres.labelled[..., None]).sum(0)  # (K, D)
    count = exchange.total(centres.labelled.sum(0))  # (K,)
    everybody = own + (exchange.total(own.detach()) - own.detach())
    mu = everybody[count > 0] / count[count > 0, None]  # (L, D)
    one, other = torch.triu_indices(len(mu), len(mu), 1, device=mu.device)
    delta = (mu[one] - mu[other]).abs().mean(1)  # (L (L - 1) / 2,)
    value = (-delta.square()).exp().sum() / max(len(delta), 1)
    return value - value.detach() * (1 - 1 / exchange.processes)


def absence(probability: Tensor, tag: Tensor, valid: Tensor, background: int | None = None) -> Tensor:
    """The sum over valid pixels of -sum_k ln(1 - P_k) over the classes k that the image does not have: a scalar.

    Args:
        probability: (B, K, H, W) float, P.
        tag: (B, K) bool; an image without tags is one of unknown classes, and adds nothing.
        valid: (B, H, W) bool; other pixels (padding, void) add nothing.
        background: a class that tags do not name, and that is never absent; None: there is none.
    """
    absent = ~tag & tag.any(1, keepdim=True)  # (B, K)
    if background is not None:
        absent[:, background] = False
    absent = absent[:, :, None, None]
    surprise = -_log(1 - probability).masked_fill(~absent, 0).sum(1)  # (B, H, W)
    return surprise.masked_fill(~valid, 0).sum()


@dataclass(frozen=True)
class GaussianMixtureSettings:
    """The released recipe adds all parts to cross-entropy with the weight 1."""

    weight: float = setting(1.0, number(low=0), "of this loss")


def function(inputs: Inputs, settings: GaussianMixtureSettings) -> Tensor:
    """`agreement`, `separation` and `absence`, each as a mean over all processes; logits are enlarged to the crop."""
    label, valid = inputs.label, inputs.valid
    classes, feature = inputs.logit.shape[1], directions(inputs.embedding)
    probability = _enlarge(inputs.logit, label.shape[-2:]).softmax(1)
    centres = Centres.of(feature, label.where(valid, 255), classes)
    everywhere, given = agreement(probability, feature, label, valid, centres)
    labelled = ((label >= 0) & (label < classes) & valid).sum()
    everywhere = everywhere + absence(probability, inputs.tag, valid, inputs.background)
    return mean(everywhere, valid.sum(), inputs) + mean(given, labelled, inputs) + separation(centres, inputs.exchange)


LOSS = Loss(
    help="Gaussians around the labelled pixels' embeddings supervise the other pixels (AGMM)",
    settings=GaussianMixtureSettings,
    inputs=("logit", "embedding", "label", "valid", "tag", "background"),
    function=function,
)
