"""Whether a training is over in about the time that a trial of this machine's speed would take: then none is made."""

from collections.abc import Sequence

import keras

from vggflow.data.parallel import usable_cores
from vggflow.models.network_summary import summarise
from vggflow.training.frozen_features import Cache
from vggflow.training.hardware import Hardware
from vggflow.training.matrix_speed import multiply_adds_a_second
from vggflow.training.phases import Plan

SHORT_SECONDS = 10.0
# What two cores with AVX2 do in convolutions; more cores are faster.
PROCESSOR_SPEED = 2e11
# Of the speed of large matrix products, what convolutions and their gradients reach on GPUs, with a margin: on an H200
# 0.44 in steps and 0.64 forwards.
SHARE_OF_MATRICES = 0.25
MATRIX_SIDE = 4096
# What a core needs for a photograph of 0.2 megapixels.
DECODE_SECONDS = 0.003


def is_short(model: keras.Model, plans: Sequence[Plan], images: int, train: int, cache: Cache) -> bool:
    """Whether all of it takes less than `SHORT_SECONDS`, by the multiply-adds of its steps and the images to decode.

    Args:
        model: The whole network.
        images: All that go through the frozen layers.
        train: Those that are learnt from.
        cache: Says which phases read features.
    """
    work = _multiply_adds(model, plans, images, train, cache)
    if cache.hardware.kind == "CPU":  # which also decodes, in a small part of that time
        return work / PROCESSOR_SPEED < SHORT_SECONDS
    # Where nothing is kept, in every epoch.
    rounds = 1 if cache.features.cache == "auto" else sum(plan.phase.epochs for plan in plans)
    decoding = rounds * images * DECODE_SECONDS / usable_cores()
    if work / PROCESSOR_SPEED + decoding < SHORT_SECONDS:  # no GPU is slower
        return True
    return decoding < SHORT_SECONDS and decoding + work / _device_speed(cache.hardware) < SHORT_SECONDS


def _device_speed(hardware: Hardware) -> float:
    """Multiply-adds a second that all devices together reach in convolutions."""
    dtype = keras.DTypePolicy(hardware.policy).compute_dtype
    return SHARE_OF_MATRICES * len(hardware.devices) * multiply_adds_a_second(dtype, MATRIX_SIDE)


def _multiply_adds(model: keras.Model, plans: Sequence[Plan], images: int, train: int, cache: Cache) -> float:
    costs = {layer.name: layer.multiply_adds for layer in summarise(model).layers}
    all_of_them = sum(costs.values())
    total = float(images * all_of_them)
    for plan in plans:
        learning = sum(costs.get(name, 0) for name in plan.learning)
        # Backwards a layer costs about twice what it costs forwards.
        frozen = 0 if plan.cut and cache.keeps_features(plan.phase) else all_of_them - learning
        total += plan.phase.epochs * train * (3 * learning + frozen)
    return total
