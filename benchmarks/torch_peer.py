"""Our networks in plain PyTorch, written with its modules, and a process that times a training step of each.

    peer = TorchPeer()                  # TorchPeer(device="cuda") on a GPU
    peer.seconds("ResNet-12", batch=64, channels_last=False, steps=2)

PyTorch stays in a process of its own: the threads of two libraries would otherwise spin at each other. On a GPU float32
is multiplied as TF32, as JAX does there by default, cuDNN measures which of its convolutions is the fastest, and a step
can be captured once as a CUDA graph, which is then replayed without Python.
"""

import functools
import math
import multiprocessing
import time


class TorchPeer:
    """Times training steps elsewhere; a network is built at its first call.

    Attributes:
      ways: name -> (channels last?, as a CUDA graph?), what there is to time on this device.
    """

    def __init__(self, threads: int = 2, clock=time.perf_counter, device: str = "cpu"):
        self.ways = {"torch nchw": (False, False), "torch nhwc": (True, False)}
        if device == "cuda":
            self.ways |= {"torch graph nchw": (False, True), "torch graph nhwc": (True, True)}
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        context.Process(target=_serve, args=(other, threads, clock, device), daemon=True).start()

    def seconds(self, name: str, batch: int, channels_last: bool, steps: int = 1, graph: bool = False) -> float:
        """Returns the seconds of one step, the mean of `steps`; eager, or as a CUDA graph.

        Raises:
          RuntimeError: PyTorch could not do it, for want of a device or of memory, say.
        """
        self._pipe.send((name, batch, channels_last, steps, graph))
        found = self._pipe.recv()
        if isinstance(found, str):
            raise RuntimeError(f"PyTorch, {name}: {found}")
        return found


def _serve(pipe, threads: int, clock, device: str) -> None:
    import torch

    torch.set_num_threads(threads)
    finish = lambda: None  # noqa: E731
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        finish = torch.cuda.synchronize
    torch.manual_seed(0)
    make = functools.cache(functools.partial(_make_step, device))
    while True:
        try:
            name, batch, channels_last, steps, graph = pipe.recv()
        except EOFError:
            return
        try:
            step = make(name, batch, channels_last, graph)
            finish()
            start = clock()
            for _ in range(steps):
                step()
            finish()
            pipe.send((clock() - start) / steps)
        except (RuntimeError, AssertionError) as error:  # torch.cuda asserts that it was compiled in
            pipe.send(str(error).splitlines()[0])


def _make_step(device: str, name: str, batch: int, channels_last: bool, graph: bool):
    """Returns a function without arguments that takes one training step on random images."""
    import torch

    # Only while it is made: as the default of every step, the device would also hold what Adam keeps on the host.
    with torch.device(device):
        step = _make_eager_step(name, batch, channels_last, {"capturable": True} if graph else {})
    return _captured(step) if graph else step


def _captured(step):
    """Returns what replays a step that was captured, after the warm-up that PyTorch's documentation asks for."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return lambda kept=step: graph.replay()  # the step holds the memory that the graph reads


def _make_eager_step(name: str, batch: int, channels_last: bool, adam: dict):
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format

    def place(module):
        return module.to(memory_format=layout)

    def images(size, channels):
        return torch.rand(batch, channels, size, size).mul_(2).sub_(1).contiguous(memory_format=layout)

    if name == "DCGAN 64":
        return _dcgan_step(place, images(64, 3), adam)
    if name == "YOTO":
        return _yoto_step(place(_yoto()), images(32, 3), adam)
    if name == "Deep InfoMax" or "VAE" in name:
        import torch_representations

        return torch_representations.make_step(name, place, images(32, 3))
    network, size, channels, classes = {
        "ResNet-12": (_resnet12, 32, 3, 26),
        "WRN-28-4": (_wide_resnet, 32, 3, 26),
        "Conv-4 GAP": (_conv4, 32, 3, 26),
        "VGG-16": (_vgg16, 32, 3, 26),
        "SESN's CNN": (_sesn_cnn, 28, 1, 10),
    }[name]
    model, x, labels = place(network()), images(size, channels), torch.randint(0, classes, (batch,))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-4, **adam)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return step


def _conv4():
    from torch import nn

    layers, width = [], 3
    for features, stride in zip((32, 64, 128, 256), (1, 2, 2, 2)):
        conv = nn.Conv2d(width, features, 3, stride, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(features), nn.LeakyReLU(inplace=True)]
        width = features
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 26))


def _vgg16():
    from torch import nn

    layers, width = [], 3
    for block in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for features in block:
            layers += [nn.Conv2d(width, features, 3, padding=1), nn.ReLU(inplace=True)]
            width = features
        layers.append(nn.MaxPool2d(2))
    head = []
    for width in (512 * 49, 4096):
        head += [nn.Linear(width, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head, nn.Linear(4096, 26))


def _resnet12():
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width, features):
            super().__init__()
            self.shortcut = nn.Conv2d(width, features, 1)
            layers = []
            for i in range(3):
                conv = nn.Conv2d(features if i else width, features, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(features)]
                layers += [nn.ReLU(inplace=True), nn.Dropout2d(0.1)] if i < 2 else []
            self.main = nn.Sequential(*layers)

        def forward(self, x):
            return nn.functional.relu(self.main(x) + self.shortcut(x))

    layers, width = [], 3
    for features in (64, 128, 256, 512):
        layers += [Block(width, features), nn.MaxPool2d(3, 2, 1)]
        width = features
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, 26)]
    return nn.Sequential(*layers, *head)


def _wide_resnet():
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width, features, stride):
            super().__init__()
            self.shortcut = nn.Conv2d(width, features, 1, stride, bias=False) if width != features else nn.Identity()
            self.main = nn.Sequential(
                nn.BatchNorm2d(width), nn.ReLU(inplace=False), nn.Conv2d(width, features, 3, stride, 1, bias=False),
                nn.BatchNorm2d(features), nn.ReLU(inplace=True), nn.Dropout2d(0.1),
                nn.Conv2d(features, features, 3, padding=1, bias=False),
            )  # fmt: skip

        def forward(self, x):
            return self.shortcut(x) + self.main(x)

    layers, width = [nn.Conv2d(3, 16, 3, padding=1, bias=False)], 16
    for i, features in enumerate((64, 128, 256)):
        for j in range(4):
            layers.append(Block(width, features, 2 if i > 0 and j == 0 else 1))
            width = features
    head = [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 26)]
    return nn.Sequential(*layers, *head)


def _sesn_cnn():
    from torch import nn

    layers, width = [], 1
    for i, features in enumerate((32, 63, 95)):
        pool = nn.MaxPool2d(4, padding=2) if i == 2 else nn.MaxPool2d(2)
        layers += [nn.Conv2d(width, features, 7, padding=3), nn.ReLU(inplace=True), pool, nn.BatchNorm2d(features)]
        width = features
    head = [nn.Linear(4 * width, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(inplace=True), nn.Dropout(0.7)]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(256, 10))


def _yoto():
    import torch
    from torch import nn
    from torch.nn import functional as F

    widths, hidden, latent = (16, 32, 64), 512, 256

    class FiLM(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.sigma, self.mu = (
                nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, features)) for _ in range(2)
            )

        def forward(self, x, condition):
            return x * (1 + 0.1 * self.sigma(condition))[..., None, None] + 0.1 * self.mu(condition)[..., None, None]

    class Block(nn.Module):
        def __init__(self, width, features, transposed):
            super().__init__()
            if transposed:
                self.first = nn.ConvTranspose2d(width, features, 3, padding=1)
                self.second = nn.ConvTranspose2d(features, features, 3, 2, 1, output_padding=1)
            else:
                self.first = nn.Conv2d(width, features, 3, 2, 1)
                self.second = nn.Conv2d(features, features, 3, padding=1)
            self.film = FiLM(features)

        def forward(self, x, condition):
            return self.film(self.second(F.leaky_relu(self.first(x), 0.3)), condition)

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.ModuleList(Block(i, o, False) for i, o in zip((3, *widths), widths))
            self.encoder_head = nn.Sequential(
                nn.Linear(16 * widths[-1], hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 2 * latent)
            )
            self.decoder_head = nn.Sequential(
                nn.Linear(latent, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 16 * widths[-1]), nn.LeakyReLU(0.2)
            )
            down = widths[::-1]
            self.decoder = nn.ModuleList(Block(i, o, True) for i, o in zip((down[0], *down), down))
            self.output = nn.Conv2d(down[-1], 6, 3, padding=1)

        def forward(self, x, beta):
            condition = torch.stack([beta.log(), torch.zeros_like(beta)], -1)
            for i, block in enumerate(self.encoder):
                x = block(F.leaky_relu(x, 0.3) if i else x, condition)
            mean, raw = self.encoder_head(x.flatten(1)).chunk(2, -1)
            std = 1e-6 + F.softplus(raw)
            x = self.decoder_head(mean + std * torch.randn_like(mean)).reshape(len(x), -1, 4, 4)
            for block in self.decoder:
                x = F.leaky_relu(block(x, condition), 0.3)
            return mean, std, self.output(x)

    return VAE()


def _yoto_step(model, images, adam):
    import torch
    from torch.nn import functional as F

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-5, **adam)
    low, high = math.log(0.125), math.log(512.0)

    def step():
        optimizer.zero_grad()
        beta = torch.exp(torch.rand(len(images), device=images.device) * (high - low) + low)
        mean, std, output = model(images, beta)
        centre, raw = output.chunk(2, 1)
        width = 1e-6 + F.softplus(raw)
        nll = (0.5 * ((images - centre) / width) ** 2 + width.log() + 0.5 * math.log(2 * math.pi)).sum((1, 2, 3))
        kl = (0.5 * (mean**2 + std**2 - 1) - std.log()).sum(1)
        (nll + beta * kl).mean().backward()
        optimizer.step()

    return step


def _dcgan_step(place, images, adam):
    """The step of the PyTorch tutorial: the discriminator on real and false images, then the generator."""
    import torch
    from torch import nn

    widths, latent = (64, 128, 256, 512), 100
    layers, width = [nn.ConvTranspose2d(latent, 512, 4, bias=False), nn.BatchNorm2d(512), nn.ReLU(True)], 512
    for features in (256, 128, 64):
        layers += [nn.ConvTranspose2d(width, features, 4, 2, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU(True)]
        width = features
    generator = place(nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()))
    layers, width = [], 3
    for i, features in enumerate(widths):
        layers += [nn.Conv2d(width, features, 4, 2, 1, bias=False), *([nn.BatchNorm2d(features)] if i else [])]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        width = features
    discriminator = place(nn.Sequential(*layers, nn.Conv2d(width, 1, 4, bias=False), nn.Flatten(0)))
    nets, adam = (discriminator, generator), {"lr": 2e-4, "betas": (0.5, 0.999)} | adam
    optimizers = [torch.optim.Adam(net.parameters(), **adam) for net in nets]
    real, false = torch.ones(len(images)), torch.zeros(len(images))
    loss = nn.BCEWithLogitsLoss()

    def step():
        discriminator.zero_grad()
        loss(discriminator(images), real).backward()
        fake = generator(torch.randn(len(images), latent, 1, 1, device=images.device))
        loss(discriminator(fake.detach()), false).backward()
        optimizers[0].step()
        generator.zero_grad()
        loss(discriminator(fake), real).backward()
        optimizers[1].step()

    return step
