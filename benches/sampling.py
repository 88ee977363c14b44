"""Times sampling with `dalle bench sample`, with the same prior in PyTorch and with DALLE-pytorch. Called by sampling.sh.

Programs take turns: each round times each of them for some steps, and a ratio is the median of the rounds' ratios.

DALLE-pytorch runs with its fastest settings: its key/value cache on (called directly, because `generate_images` does not use it
without guidance), and `optimize_for_inference`, which turns sparse layers into masked dense ones that can be cached. Its MLPs are
gated and have 1.5 times the weights of ours. A step of it is timed once, over half an image.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types

THREADS = "2"
os.environ["OMP_NUM_THREADS"] = THREADS
# Spinning threads take CPU time from each other as soon as anything else is running.
os.environ["OMP_WAIT_POLICY"] = "passive"

import torch

import torch_prior

# Imports for its VQGAN, tokenizers and training, none of which is timed.
for name in ("taming", "taming.models", "taming.models.vqgan", "omegaconf", "youtokentome", "ftfy", "regex", "transformers",
             "tokenizers", "tokenizers.processors", "webdataset", "torchvision", "torchvision.transforms", "PIL", "requests"):
    try:
        __import__(name)
    except ImportError:
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: type(attribute, (), {})
        module.__path__ = []
        sys.modules[name] = module

from dalle_pytorch.dalle_pytorch import DALLE, DiscreteVAE

torch.set_num_threads(int(THREADS))

# Captions, and samples of each.
BATCHES = ((1, 1), (4, 1), (1, 4))
RESULT = "benches/results/sampling.json"


def dalle_pytorch(config: dict, batch: int) -> float:
    """Seconds per token of DALLE-pytorch, median over the second half of an image."""
    grid = config["image_size"] // 8
    prior = config["prior"]
    layers = prior["layers"]
    # Its convolutional layers cannot be cached; our only one is replaced with a row layer.
    types_ = ["axial_col" if i % 4 == 1 else "axial_row" for i in range(layers)]
    vae = DiscreteVAE(image_size=config["image_size"], num_layers=3, num_tokens=config["dvae"]["vocab"], codebook_dim=8, hidden_dim=8)
    model = DALLE(
        dim=prior["heads"] * prior["head_dim"],
        vae=vae,
        num_text_tokens=config["text_vocab"],
        text_seq_len=config["text_length"],
        depth=layers,
        heads=prior["heads"],
        dim_head=prior["head_dim"],
        attn_types=types_,
        optimize_for_inference=True,
        shift_tokens=False,
        rotary_emb=False,
    ).eval()
    text = torch.randint(1, config["text_vocab"], (batch, config["text_length"]))
    image = torch.zeros((batch, 0), dtype=torch.long)
    cache, times = {}, []
    with torch.no_grad():
        for _ in range(grid * grid):
            begun = time.perf_counter()
            logits = model(text, image, cache=cache)[:, -1, :]
            token = torch.distributions.Categorical(logits=logits).sample() - model.num_text_tokens
            image = torch.cat((image, token[:, None]), dim=1)
            times.append(time.perf_counter() - begun)
    return statistics.median(times[len(times) // 2 :])


class Peer:
    """The same prior in PyTorch."""

    def __init__(self, config: dict, captions: int, samples: int, compiled: bool):
        self.compiled = compiled
        self.model = torch_prior.Prior(config, captions * samples, samples > 1).eval()
        self.length = self.model.grid**2
        self.position = self.length // 8
        self.token = torch.zeros(captions * samples, dtype=torch.long)
        self.steps(3)

    def steps(self, count: int) -> float:
        """Median seconds of a step: logits, and a token sampled from them."""
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            logits = self.model.step(self.token, self.position, self.compiled)
            self.token = torch.multinomial(logits.softmax(1), 1)[:, 0]
            times.append(time.perf_counter() - begun)
            self.position = self.position + 1 if self.position + 1 < self.length else self.length // 8
        return statistics.median(times)


def program(path: str, config: str, captions: int, samples: int, steps: int) -> dict:
    """What `dalle bench sample` writes."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        subprocess.run(
            [path, "bench", "sample", "--config", config, "--batch", str(captions), "--samples", str(samples),
             "--repeats", str(steps), "--json", out],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": THREADS},
        )
        return json.load(open(out))


def key(row: dict) -> tuple:
    """What a row is of: one of the same replaces it, and the others stay."""
    return row["config"], row["captions"], row["samples"], row["system"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--base", help="the program `dalle` of another version")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--without-dalle-pytorch", action="store_true", help="keep the rows of DALLE-pytorch from before")
    parser.add_argument("configs", nargs="*", default=["configs/emoji-128.json", "configs/bench.json"])
    arguments = parser.parse_intermixed_args()
    torch_prior.check(json.load(open("configs/tiny.json")))
    rows = {}
    if os.path.exists(RESULT):
        rows = {key(row): row for row in json.load(open(RESULT))["rows"]}
    print(f"{'config':10} {'captions':>8} {'samples':>7} {'system':>18} {'ms a step':>10} {'min':>8} {'ratio':>6}")
    for path in arguments.configs:
        config = json.load(open(path))
        for captions, samples in BATCHES:
            rounds = {"this project": []}
            fractions = []
            compiled, eager = (Peer(config, captions, samples, compiled) for compiled in (True, False))
            for _ in range(arguments.rounds):
                ours = program(arguments.program, path, captions, samples, arguments.steps)
                rounds["this project"].append(ours["rows"][0]["seconds"])
                fractions.append(ours["rows"][0]["gigabytes_per_second"] / ours["read_gigabytes_per_second"])
                if arguments.base:
                    base = program(arguments.base, path, captions, samples, arguments.steps)
                    rounds.setdefault("base", []).append(base["rows"][0]["seconds"])
                rounds.setdefault("PyTorch, compiled", []).append(compiled.steps(arguments.steps))
                rounds.setdefault("PyTorch", []).append(eager.steps(arguments.steps))
            if captions == 1 and not arguments.without_dalle_pytorch:
                rounds["DALLE-pytorch"] = [dalle_pytorch(config, samples)]
            for system, times in rounds.items():
                ratio = statistics.median(b / a for a, b in zip(rounds["this project"], times))
                row = {"config": config["name"], "captions": captions, "samples": samples, "system": system}
                row |= {"seconds": statistics.median(times), "least_seconds": min(times), "ratio": ratio}
                if system == "this project":
                    row["share_of_read_bandwidth"] = statistics.median(fractions)
                rows[key(row)] = row
                print(f"{config['name']:10} {captions:8} {samples:7} {system:>18} {1e3 * row['seconds']:10.3f} "
                      f"{1e3 * min(times):8.3f} {ratio:6.2f}", flush=True)
            print(f"{'':10} share of the read bandwidth: {statistics.median(fractions):.2f}", flush=True)
    os.makedirs(os.path.dirname(RESULT), exist_ok=True)
    with open(RESULT, "w") as file:
        result = {"threads": int(THREADS), "torch": torch.__version__, "rows": list(rows.values())}
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
