"""Updates of the prior and of the dVAE in PyTorch: the networks and losses of this project, eager, in f32, with fused AdamW and an
average of the weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from torch_prior import kind


class Updates:
    """A network whose `loss` is minimised."""

    def __init__(self, network: nn.Module, clip: float | None):
        self.network, self.clip = network, clip
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    def update(self) -> None:
        self.optimizer.zero_grad()
        self.network.loss().backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 0.001)


class Resblocks(nn.Module):
    def __init__(self, d: int):
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.projection = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x, mask, heads):
        batch, slots, d = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(batch, slots, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.projection(attended.transpose(1, 2).reshape(batch, slots, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm_mlp(x))))


class Prior(nn.Module):
    """The transformer over a caption and the tokens of an image, with a batch of random pairs."""

    def __init__(self, config: dict, batch: int):
        super().__init__()
        prior = config["prior"]
        self.heads, self.text, self.grid = prior["heads"], config["text_length"], config["image_size"] // 8
        layers, d = prior["layers"], prior["heads"] * prior["head_dim"]
        text_vocab, image_vocab = config["text_vocab"], config["dvae"]["vocab"]
        self.token, self.position = nn.Embedding(text_vocab, d), nn.Embedding(self.text, d)
        self.image, self.row, self.column = nn.Embedding(image_vocab, d), nn.Embedding(self.grid, d), nn.Embedding(self.grid, d)
        self.blocks = nn.ModuleList(Resblocks(d) for _ in range(layers))
        self.norm, self.text_logits, self.image_logits = nn.LayerNorm(d), nn.Linear(d, text_vocab + 1), nn.Linear(d, image_vocab)
        self.masks = [self.mask(which, prior["conv_kernel"]) for which in range(3)]
        self.kinds = [kind(layer, layers) for layer in range(layers)]
        self.captions = torch.randint(text_vocab, (batch, self.text))
        self.images = torch.randint(image_vocab, (batch, self.grid**2))

    def mask(self, which: int, kernel: int) -> torch.Tensor:
        """0 where a query sees a key, else −∞."""
        g, half, slots = self.grid, kernel // 2, self.text + self.grid**2
        query, key = torch.arange(slots)[:, None], torch.arange(slots)[None]
        back = query - key
        near = torch.zeros_like(back, dtype=torch.bool)
        for rows in range(half + 1):
            near |= (back - rows * g).abs() <= half
        pattern = (back <= g, back % g == 0, near)[which]
        sees = (back >= 0) & ((key < self.text) | ((query >= self.text) & pattern))
        return torch.zeros(slots, slots).masked_fill(~sees, -math.inf)

    def loss(self):
        places = torch.arange(self.grid**2)
        image = self.image(self.images) + self.row(places // self.grid) + self.column(places % self.grid)
        x = torch.cat((self.token(self.captions) + self.position.weight, image), 1)
        for block, which in zip(self.blocks, self.kinds):
            x = block(x, self.masks[which], self.heads)
        x = self.norm(x)
        text = self.text_logits(x[:, : self.text - 1]).flatten(0, 1)
        image = self.image_logits(x[:, self.text - 1 : -1]).flatten(0, 1)
        text = F.cross_entropy(text, self.captions[:, 1:].flatten())
        return text / 8 + F.cross_entropy(image, self.images.flatten()) * 7 / 8


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, kernels: tuple[int, ...], layers: int):
        super().__init__()
        widths = [n_in] + 3 * [n_out // 4] + [n_out]
        self.identity = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.path = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel, padding=kernel // 2) for i, kernel in enumerate(kernels)
        )
        self.gain = 1 / layers**2

    def forward(self, x):
        y = x
        for conv in self.path:
            y = conv(F.relu(y))
        return self.identity(x) + self.gain * y


class Dvae(nn.Module):
    """Encoder and decoder of appendix A, with a batch of random images."""

    def __init__(self, config: dict, batch: int):
        super().__init__()
        sizes = config["dvae"]
        h, blocks, self.vocab = sizes["n_hid"], sizes["blocks_per_group"], sizes["vocab"]

        def group(n_in: int, n_out: int, kernels: tuple[int, ...]) -> nn.Sequential:
            return nn.Sequential(*(Block(n_out if i else n_in, n_out, kernels, 4 * blocks) for i in range(blocks)))

        encoder, decoder, n_in = [nn.Conv2d(3, h, 7, padding=3)], [nn.Conv2d(self.vocab, sizes["n_init"], 1)], h
        for factor in (1, 2, 4, 8):
            encoder += [nn.MaxPool2d(2)] if factor > 1 else []
            encoder.append(group(n_in, factor * h, (3, 3, 3, 1)))
            n_in = factor * h
        n_in = sizes["n_init"]
        for factor in (8, 4, 2, 1):
            decoder += [nn.Upsample(scale_factor=2, mode="nearest")] if factor < 8 else []
            decoder.append(group(n_in, factor * h, (1, 3, 3, 3)))
            n_in = factor * h
        self.encoder = nn.Sequential(*encoder, nn.ReLU(), nn.Conv2d(8 * h, self.vocab, 1)).to(memory_format=torch.channels_last)
        self.decoder = nn.Sequential(*decoder, nn.ReLU(), nn.Conv2d(h, 6, 1)).to(memory_format=torch.channels_last)
        images = torch.rand(batch, 3, config["image_size"], config["image_size"]) * 0.8 + 0.1
        self.images = images.contiguous(memory_format=torch.channels_last)

    def loss(self):
        x, logits = self.images, self.encoder(self.images)
        noise = torch.rand_like(logits).clamp_(2**-24, 1 - 2**-24)
        maps = self.decoder(F.softmax((logits - (-noise.log()).log()) / 0.5, 1))
        mu, ln_b = maps[:, :3], maps[:, 3:]
        distance = (x.log() - (1 - x).log() - mu).abs()
        reconstruction = (distance * (-ln_b).exp() + ln_b + (x * (1 - x)).log() + math.log(2)).sum() / x.numel()
        q = F.log_softmax(logits, 1)
        return reconstruction + 2 * (q.exp() * (q + math.log(self.vocab))).sum() / x.numel()
