"""The plain network of the MNIST-scale table."""

import flax.linen as nn
import jax

from jaxrepro.layers import Conv
from jaxrepro.models.mnist_frame import CHANNELS, network, torch_bias, torch_uniform


class TorchConv(nn.Module):
    """A 7×7 convolution with zero padding, a bias and PyTorch's initial values: [B, H, W, C] to [B, H, W, features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = torch_bias(49 * x.shape[-1])
        return Conv(self.features, (7, 7), padding=3, kernel_init=torch_uniform, bias_init=bias, name="conv")(x)


class CNN(nn.Module):
    """Ordinary convolutions. Maps images float [B, 28, 28, 1] to logits [B, 10]; 494,549 parameters."""

    resolution: int = 28
    channels: tuple[int, ...] = CHANNELS
    hidden: int = 256
    dropout: float = 0.7

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        return network(
            images,
            train,
            conv=TorchConv,
            resolution=self.resolution,
            channels=self.channels,
            hidden=self.hidden,
            dropout=self.dropout,
        )
