"""Synbols' five unlabelled encoders in plain PyTorch, written with its modules, for `torch_peer.py`.

step = make_step("VAE ResNet", place, images)      # a function without arguments that takes one training step
"""

import itertools

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

CODE = 64


class InfoMaxEncoder(nn.Module):
    def __init__(self, features):
        super().__init__()
        widths = (3, 64, 128, 256, 512)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[2:])
        self.last = nn.Linear(512 * 20 * 20, features)

    def forward(self, x):
        x = maps = F.relu(self.convs[0](x))
        for i, (conv, norm) in enumerate(zip(self.convs[1:], self.norms)):
            x = F.relu(norm(conv(x)))
            maps = x if i == 0 else maps
        return maps, self.last(x.flatten(1))


class DownBlock(nn.Module):
    def __init__(self, width, features, halves):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(features)])
        self.convs = nn.ModuleList(nn.Conv2d(w, features, 3, padding=1, bias=False) for w in (width, features))
        self.shortcut = nn.Conv2d(width, features, 1, bias=False) if width != features else nn.Identity()
        self.dropout, self.pool = nn.Dropout2d(0.3), nn.AvgPool2d(2) if halves else nn.Identity()

    def forward(self, x):
        h = self.convs[0](F.relu(self.norms[0](x)))
        h = self.convs[1](self.dropout(F.relu(self.norms[1](h))))
        return self.pool(h) + self.pool(self.shortcut(x))


class ResidualEncoder(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.low = nn.Sequential(DownBlock(3, 128, True), DownBlock(128, 128, False))
        self.high = nn.Sequential(DownBlock(128, 128, True), DownBlock(128, 256, True), DownBlock(256, 256, False))
        self.last = nn.Sequential(
            nn.BatchNorm2d(256), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4096, 512, bias=False),
            nn.BatchNorm1d(512), nn.LeakyReLU(0.2), nn.Linear(512, features),
        )  # fmt: skip

    def forward(self, x):
        low = self.low(x)
        return low, self.last(self.high(low))


class ConditionalNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.dense = nn.BatchNorm2d(width, affine=False), nn.Linear(CODE, 2 * width)

    def forward(self, x, z):
        gamma, beta = self.dense(z)[:, :, None, None].chunk(2, 1)
        return gamma * self.norm(x) + beta


class UpBlock(nn.Module):
    def __init__(self, width, features):
        super().__init__()
        self.norms = nn.ModuleList(ConditionalNorm(w) for w in (width, features))
        self.convs = nn.ModuleList(
            spectral_norm(nn.Conv2d(w, features, 3, padding=1, bias=False)) for w in (width, features)
        )
        shortcut = nn.Conv2d(width, features, 1, bias=False)
        self.shortcut = spectral_norm(shortcut) if width != features else nn.Identity()

    def forward(self, x, z):
        h = self.convs[0](F.interpolate(F.relu(self.norms[0](x, z)), scale_factor=2))
        h = self.convs[1](F.relu(self.norms[1](h, z)))
        return h + self.shortcut(F.interpolate(x, scale_factor=2))


class Decoder(nn.Module):
    def __init__(self, channels, two_levels):
        super().__init__()
        self.channels, layers, width = channels, [], CODE
        for _ in range(2):
            layers += [nn.Linear(width, 2 * channels, bias=False), nn.BatchNorm1d(2 * channels), nn.LeakyReLU(0.2)]
            width = 2 * channels
        self.first = nn.Sequential(*layers, nn.Linear(width, 16 * channels))
        self.low = nn.Linear(CODE, 128 * 16 * 16) if two_levels else None
        self.blocks = nn.ModuleList(
            [UpBlock(channels, 256), UpBlock(256, 128), UpBlock(256 if two_levels else 128, 64)]
        )
        self.last = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1), nn.Tanh())

    def forward(self, z):
        top = z[:, :CODE]
        x = self.first(top).reshape(len(z), self.channels, 4, 4)
        for i, block in enumerate(self.blocks):
            if i == 2 and self.low is not None:
                x = torch.cat([x, self.low(z[:, CODE:]).reshape(len(z), 128, 16, 16)], 1)
            x = block(x, top)
        return self.last(x)


class Autoencoder(nn.Module):
    def __init__(self, name):
        super().__init__()
        residual, two_levels = name.endswith("ResNet"), name.startswith("HVAE")
        self.encoder = (ResidualEncoder if residual else InfoMaxEncoder)(2 * CODE)
        self.decoder = Decoder(256 if residual else 512, two_levels)
        size = 128 * (16 * 16 if residual else 26 * 26)
        norm = nn.Sequential(nn.BatchNorm2d(128), nn.LeakyReLU(0.2)) if residual else nn.Identity()
        self.low = nn.Sequential(norm, nn.Flatten(), nn.Linear(size, 2 * CODE)) if two_levels else None

    def forward(self, x):
        low, output = self.encoder(x)
        parts = [output] if self.low is None else [output, self.low(low)]
        mean, log_variance = (torch.cat(p, 1) for p in zip(*(part.chunk(2, 1) for part in parts)))
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return mean, log_variance, self.decoder(z)


class DeepInfoMax(nn.Module):
    """As the released code computes it: every discriminator twice."""

    def __init__(self):
        super().__init__()
        self.encoder = InfoMaxEncoder(CODE)
        self.local = nn.Sequential(
            nn.Conv2d(128 + CODE, 512, 1), nn.ReLU(), nn.Conv2d(512, 512, 1), nn.ReLU(), nn.Conv2d(512, 1, 1)
        )
        self.maps = nn.Sequential(nn.Conv2d(128, 64, 3), nn.ReLU(), nn.Conv2d(64, 32, 3), nn.Flatten())
        self.whole = nn.Sequential(
            nn.Linear(22 * 22 * 32 + CODE, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1)
        )
        self.prior = nn.Sequential(nn.Linear(CODE, 1000), nn.ReLU(), nn.Linear(1000, 200), nn.ReLU(), nn.Linear(200, 1))

    def loss(self, x):
        maps, y = self.encoder(x)
        total = 0.0
        for m, sign in ((maps, -1), (torch.cat([maps[1:], maps[:1]]), 1)):
            tiled = y[:, :, None, None].expand(-1, -1, *m.shape[2:])
            total = total + F.softplus(sign * self.local(torch.cat([m, tiled], 1))).mean()
            total = total + 0.5 * F.softplus(sign * self.whole(torch.cat([self.maps(m), y], 1))).mean()
        prior = F.softplus(-self.prior(torch.rand_like(y))).mean() + F.softplus(self.prior(y)).mean()
        return total + 0.1 * prior


def make_step(name, place, images):
    """Returns a function without arguments that takes one training step."""
    model = place(DeepInfoMax() if name == "Deep InfoMax" else Autoencoder(name))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def loss():
        if name == "Deep InfoMax":
            return model.loss(images)
        mean, log_variance, output = model(images)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return ((images - output).abs().sum((1, 2, 3)) + 0.01 * kl).mean()

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
