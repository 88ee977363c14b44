"""Writes the README's tables of measurements from benches/results. Run it after a benchmark: `python3 benches/tables.py`.

A table stands between `<!-- table NAME -->` and `<!-- end -->`. `--check` changes nothing and fails if one is out of date.
"""

import json
import re
import sys

RESULTS = "benches/results"
MODELS = {
    "emoji-128": "`configs/emoji-128.json`: 6 layers, width 128, 32 + 256 positions",
    "bench": "`configs/bench.json`: 12 layers, width 512, the paper's 256 + 1024 positions",
}
DECODERS = {
    "emoji-128": ("dVAE of width 24", "128 × 128"),
    "n_hid-32": ("dVAE of width 32", "256 × 256"),
    "n_hid-64": ("dVAE of width 64", "256 × 256"),
}
DVAES = {"emoji-128": "dVAE of `configs/emoji-128.json`, 128 × 128 pixels", "bench": "dVAE of `configs/bench.json`, 256 × 256 pixels"}
PRIORS = {"emoji-128": "prior of `configs/emoji-128.json`", "bench": "prior of `configs/bench.json`"}


def rows(name: str) -> list[dict]:
    with open(f"{RESULTS}/{name}.json") as file:
        return json.load(file)["rows"]


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines])


def sampling() -> str:
    found = {(row["config"], row["captions"], row["samples"], row["system"]): row for row in rows("sampling")}
    peers = {"PyTorch, compiled": "PyTorch, `torch.compile`", "PyTorch": "PyTorch", "DALLE-pytorch": "DALLE-pytorch"}
    peers = {system: name for system, name in peers.items() if any(key[3] == system for key in found)}
    lines = []
    for config, model in MODELS.items():
        for captions, samples in ((1, 1), (4, 1), (1, 4)):

            ours = found[config, captions, samples, "this project"]["least_seconds"]
            line = [model, f"{captions} × {samples}", f"{captions * samples / ours:.0f}"]
            for system in peers:
                row = found.get((config, captions, samples, system))
                line += [f"{captions * samples / row['least_seconds']:.0f}", f"{row['least_seconds'] / ours:.1f}"] if row else ["–", "–"]
            lines.append(line)
            model = ""
    head = ["model", "captions × samples", "this project"]
    return table(head + [cell for name in peers.values() for cell in (name, "ratio")], lines)


def training() -> str:
    lines = []
    for row in rows("training"):
        if row["system"] == "PyTorch":
            ours = next(
                other for other in rows("training")
                if (other["network"], other["config"], other["system"]) == (row["network"], row["config"], "this project")
            )
            name = (PRIORS if row["network"] == "prior" else DVAES)[row["config"]]
            least = [found["least_seconds"] for found in (ours, row)]
            lines.append([name, str(row["batch"]), *(f"{1e3 * seconds:.0f} ms" for seconds in least), f"{least[1] / least[0]:.1f}"])
    return table(["network", "batch", "this project", "PyTorch", "ratio"], lines)


def decode_browser() -> str:
    lines = []
    for row in rows("decode-browser"):
        model, pixels = DECODERS[row["model"]]
        lines.append([model, pixels, f"{row['ratio']:.1f}", f"{row['lowest_ratio']:.1f} – {row['highest_ratio']:.1f}"])
    return table(["model", "pixels", "ratio", "range"], lines)


def decode_native() -> str:
    found = {(row["model"], row["threads"]): row for row in rows("decode-native")}
    lines = []
    for name, (model, pixels) in DECODERS.items():
        for threads in (1, 2):
            row = found[name, threads]
            times = [f"{row[key]:.1f} ms" for key in ("ours_ms", "onnxruntime_ms")]
            ratios = [f"{row['ratio']:.1f}", f"{row['lowest_ratio']:.1f} – {row['highest_ratio']:.1f}"]
            lines.append([model, pixels, str(threads), *times, *ratios])
            model = pixels = ""
    return table(["model", "pixels", "threads", "this project", "ONNX Runtime", "ratio", "range"], lines)


def main() -> None:
    with open("README.md") as file:
        before = file.read()
    text = before
    for made in (sampling, training, decode_browser, decode_native):
        name = made.__name__.replace("_", "-")
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match: match[1] + made() + "\n" + match[2], text)
        assert count == 1, f"README.md: expected one table {name}, found {count}"
    if "--check" in sys.argv:
        assert text == before, "README.md: a table differs from benches/results; run `python3 benches/tables.py`"
    elif text != before:
        with open("README.md", "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
