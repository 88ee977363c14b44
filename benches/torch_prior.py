"""A step of the prior in PyTorch, optimised for CPUs: key/value caches of fixed size that hold what each layer's pattern sees, one
compiled graph for all positions, and frozen weights.

`check()` compares it with the same network without a cache.
"""

import math

import torch
import torch._inductor.config as inductor
import torch.nn.functional as F
from torch import nn

inductor.freezing = True
inductor.cpp_wrapper = True

KINDS = ("row", "column", "convolution")


def kind(layer: int, layers: int) -> int:
    return 2 if layer + 1 == layers else 1 if layer % 4 == 1 else 0


class Layer(nn.Module):
    def __init__(self, d: int):
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.projection = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def finish(self, x, attended):
        x = x + self.projection(attended)
        return x + self.fc2(F.gelu(self.fc1(self.norm_mlp(x))))


class Prior(nn.Module):
    """One token of `batch` samples at a time. With `shared`, all of them have the same caption."""

    def __init__(self, config: dict, batch: int, shared: bool):
        super().__init__()
        prior = config["prior"]
        self.layers_, self.heads, self.width = prior["layers"], prior["heads"], prior["head_dim"]
        self.text, self.grid, self.kernel = config["text_length"], config["image_size"] // 8, prior["conv_kernel"]
        self.batch, self.shared = batch, shared
        d = self.heads * self.width
        self.token = nn.Embedding(config["dvae"]["vocab"], d)
        self.row, self.column = nn.Embedding(self.grid, d), nn.Embedding(self.grid, d)
        self.layers = nn.ModuleList(Layer(d) for _ in range(self.layers_))
        self.norm, self.logits = nn.LayerNorm(d), nn.Linear(d, config["dvae"]["vocab"])
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        g, half = self.grid, self.kernel // 2
        self.capacity = (g + 1, g * g, min(half * (g + 1) + 1, g * g))
        captions = 1 if shared else batch
        keys = [torch.randn(captions, self.heads, self.text, self.width) for _ in range(2 * self.layers_)]
        self.text_keys, self.text_values = keys[::2], keys[1::2]
        image = [
            torch.zeros(batch, self.heads, self.capacity[kind(i // 2, self.layers_)], self.width)
            for i in range(2 * self.layers_)
        ]
        self.image_keys, self.image_values = image[::2], image[1::2]
        self.inputs = [self.at(position) for position in range(g * g)]
        self.compiled = None

    def sees(self, kind: int, back: int) -> bool:
        g, half = self.grid, self.kernel // 2
        return (
            back <= g if kind == 0 else back % g == 0 if kind == 1 else any(abs(r * g - back) <= half for r in range(half + 1))
        )

    def index(self, kind: int, position: int) -> int:
        g = self.grid
        return position % g * g + position // g if kind == 1 else position % self.capacity[kind]

    def at(self, position: int):
        """What a step at a position needs, in tensors of fixed shapes: its row and column; where its keys are kept; which keys it
        reads, and 0 for those that it sees and −∞ for the others."""
        g = self.grid
        longest = (g + 1, g, g * (self.kernel // 2) and (self.kernel**2 + 1) // 2)
        kept, read, bias = [], [], []
        for kind_ in range(3):
            seen = [
                self.index(kind_, key)
                for key in range(max(0, position - self.capacity[kind_] + 1) if kind_ != 1 else 0, position + 1)
                if self.sees(kind_, position - key)
            ]
            size = min(longest[kind_], self.capacity[kind_])
            kept.append(torch.tensor([self.index(kind_, position)]))
            # A row's cache is read as it lies, without an index.
            seen_set = set(seen)
            if kind_ == 0:
                bias.append(torch.tensor([0.0 if slot in seen_set else -math.inf for slot in range(self.capacity[0])]))
                read.append(torch.zeros(1, dtype=torch.long))
            else:
                bias.append(torch.tensor([0.0] * len(seen) + [-math.inf] * (size - len(seen))))
                read.append(torch.tensor(seen + [seen[0]] * (size - len(seen))))
        return torch.tensor([position // g]), torch.tensor([position % g]), kept, read, bias

    def attend(self, layer: int, q, k, v):
        """Attention to the caption's keys and `k`, with `v`, in one softmax."""
        text_keys, text_values = self.text_keys[layer], self.text_values[layer]
        share = self.shared and self.batch > 1
        turn = (lambda x: x.transpose(0, 2)) if share else (lambda x: x)
        keys, bias = k
        scores = torch.cat((turn(turn(q) @ text_keys.transpose(2, 3)), q @ keys.transpose(2, 3) + bias), 3)
        weights = scores.softmax(3)
        text, image = weights[..., : self.text], weights[..., self.text :]
        return turn(turn(text) @ text_values) + image @ v

    def forward(self, token, row, column, kept, read, bias):
        x = self.token(token) + self.row(row) + self.column(column)
        for index, layer in enumerate(self.layers):
            which = kind(index, self.layers_)
            qkv = layer.qkv(layer.norm_attention(x)).view(self.batch, 3, self.heads, 1, self.width)
            q, k, v = qkv.unbind(1)
            keys, values = self.image_keys[index], self.image_values[index]
            keys.index_copy_(2, kept[which], k)
            values.index_copy_(2, kept[which], v)
            if which > 0:
                keys, values = keys.index_select(2, read[which]), values.index_select(2, read[which])
            attended = self.attend(index, q / math.sqrt(self.width), (keys, bias[which]), values)
            x = layer.finish(x, attended.reshape(self.batch, -1))
        return self.logits(self.norm(x))

    @torch.inference_mode()
    def step(self, token, position: int, compiled: bool = True):
        if compiled and self.compiled is None:
            self.compiled = torch.compile(self.forward, fullgraph=True, dynamic=False)
        return (self.compiled if compiled else self.forward)(token, *self.inputs[position])

    @torch.inference_mode()
    def whole(self, tokens):
        """The logits after each of `tokens`, `[batch, positions]`, without a cache of the image."""
        positions = torch.arange(tokens.shape[1])
        x = self.token(tokens) + self.row(positions // self.grid) + self.column(positions % self.grid)
        for index, layer in enumerate(self.layers):
            which = kind(index, self.layers_)
            qkv = layer.qkv(layer.norm_attention(x)).view(self.batch, -1, 3, self.heads, self.width)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            sees = [[q_ >= k_ and self.sees(which, q_ - k_) for k_ in positions.tolist()] for q_ in positions.tolist()]
            mask = torch.cat((torch.ones(len(positions), self.text, dtype=torch.bool), torch.tensor(sees)), 1)
            k = torch.cat((self.text_keys[index].expand(self.batch, -1, -1, -1), k), 2)
            v = torch.cat((self.text_values[index].expand(self.batch, -1, -1, -1), v), 2)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = layer.finish(x, attended.transpose(1, 2).reshape(self.batch, len(positions), -1))
        return self.logits(self.norm(x))


def check(config: dict) -> None:
    """Fails where steps and the whole stream differ."""
    for shared in (False, True):
        model = Prior(config, 2, shared).eval()
        tokens = torch.randint(config["dvae"]["vocab"], (2, model.grid**2))
        expected = model.whole(tokens)
        for compiled in (False, True):
            got = torch.stack([model.step(tokens[:, p], p, compiled) for p in range(model.grid**2)], 1)
            difference = (got - expected).abs().max() / expected.abs().max()
            assert difference < 1e-4, f"a step differs by {difference}"
