"""Times `dalle bench train-step` and `dvae-step`, and the same updates in PyTorch. Called by training.sh.

Programs take turns: each round times each of them for some updates, and a ratio is the median of the rounds' ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

THREADS = "2"
os.environ["OMP_NUM_THREADS"] = THREADS

import torch

import torch_training

torch.set_num_threads(int(THREADS))

RESULT = "benches/results/training.json"
# What is trained, the configuration, examples per update, and updates that each program does in a round.
CASES = (
    ("prior", "configs/emoji-128.json", 8, 3),
    ("prior", "configs/bench.json", 1, 1),
    ("dvae", "configs/emoji-128.json", 8, 3),
    ("dvae", "configs/bench.json", 2, 1),
)


def program(path: str, what: str, config: str, batch: int, updates: int) -> dict:
    """The row that `dalle bench` writes."""
    command = {"prior": "train-step", "dvae": "dvae-step"}[what]
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        subprocess.run(
            [path, "bench", command, "--config", config, "--batch", str(batch), "--repeats", str(updates), "--json", out],
            check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": THREADS},
        )
        return json.load(open(out))["rows"][0]


def median_seconds(updates: torch_training.Updates, count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        updates.update()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--base", help="the program `dalle` of another version")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    rows = []
    print(f"{'network':8} {'config':10} {'batch':>5} {'system':>14} {'ms an update':>13} {'min':>9} {'ratio':>6} {'range':>14}")
    for what, path, batch, count in CASES:
        config = json.load(open(path))
        network, clip = (torch_training.Prior, 4.0) if what == "prior" else (torch_training.Dvae, None)
        peer = torch_training.Updates(network(config, batch), clip)
        median_seconds(peer, 2)
        rounds = {"this project": [], "PyTorch": []}
        memory = 0
        for _ in range(arguments.rounds):
            ours = program(arguments.program, what, path, batch, count)
            rounds["this project"].append(ours["seconds"])
            memory = max(memory, ours["memory"] or 0)
            if arguments.base:
                rounds.setdefault("base", []).append(program(arguments.base, what, path, batch, count)["seconds"])
            rounds["PyTorch"].append(median_seconds(peer, count))
        for system, times in rounds.items():
            ratios = sorted(b / a for a, b in zip(rounds["this project"], times))
            row = {"network": what, "config": config["name"], "batch": batch, "system": system}
            row |= {"seconds": statistics.median(times), "least_seconds": min(times), "ratio": statistics.median(ratios)}
            row |= {"lowest_ratio": ratios[0], "highest_ratio": ratios[-1]}
            if system == "this project":
                row["memory"] = memory
            rows.append(row)
            print(f"{what:8} {config['name']:10} {batch:5} {system:>14} {1e3 * row['seconds']:13.1f} {1e3 * min(times):9.1f} "
                  f"{row['ratio']:6.2f} {ratios[0]:6.2f} – {ratios[-1]:.2f}", flush=True)
    os.makedirs(os.path.dirname(RESULT), exist_ok=True)
    with open(RESULT, "w") as file:
        json.dump({"threads": int(THREADS), "torch": torch.__version__, "rounds": arguments.rounds, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
