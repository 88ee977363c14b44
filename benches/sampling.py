"""Times sampling with `dalle bench sample` and with DALLE-pytorch at the same sizes. Called by sampling.sh.

DALLE-pytorch runs with its fastest settings: its key/value cache on (called directly, because `generate_images` does not use it
without guidance), and `optimize_for_inference`, which turns sparse layers into masked dense ones that can be cached. Its MLPs are
gated and have 1.5 times the weights of ours.
"""

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


def theirs(config: dict, batch: int) -> float:
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


def ours(dalle: str, path: str, batch: int, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        subprocess.run(
            [dalle, "bench", "sample", "--config", path, "--samples", str(batch), "--repeats", str(steps), "--json", out],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": THREADS},
        )
        return json.load(open(out))["rows"][0]["seconds"]


def main() -> None:
    dalle, paths = sys.argv[1], sys.argv[2:]
    rows = []
    print(f"{'config':14} {'samples':>8} {'ours, tokens/s':>16} {'DALLE-pytorch':>16} {'ratio':>7}")
    for path in paths:
        config = json.load(open(path))
        steps = (config["image_size"] // 8) ** 2 // 2
        for batch in (1, 4):
            a, b = batch / ours(dalle, path, batch, steps), batch / theirs(config, batch)
            rows.append({"config": config["name"], "samples": batch, "ours": a, "dalle_pytorch": b, "ratio": a / b})
            print(f"{config['name']:14} {batch:8} {a:16.1f} {b:16.1f} {a / b:7.2f}", flush=True)
    os.makedirs("benches/results", exist_ok=True)
    with open("benches/results/dalle_pytorch.json", "w") as file:
        json.dump({"threads": int(THREADS), "torch": torch.__version__, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
