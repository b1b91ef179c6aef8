"""The plain network of the MNIST-scale table."""

import flax.linen as nn
import jax

from jaxrepro.layers.torch_init import TorchConv
from jaxrepro.models.scale.frame import KERNEL, Frame, apply_frame


class CNN(nn.Module):
    """Ordinary convolutions. Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,549 parameters."""

    frame: Frame = Frame()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return apply_frame(self.frame, images, train, conv=lambda features: TorchConv(features, KERNEL))
