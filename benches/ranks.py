"""Prints the table of run 12 of docs/experiments.md: losses and bytes of the runs in a folder. Called by ranks.sh."""

import json
import pathlib
import sys


def lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


print("| run | updates | loss, last 50 updates | validation loss | compression error | KB in the machine | KB between machines |")
print("|---|---|---|---|---|---|---|")
for folder in sorted(path.parent for path in pathlib.Path(sys.argv[1]).glob("*/metrics.jsonl") if path.stat().st_size):
    metrics, ranks = lines(folder / "metrics.jsonl"), lines(folder / "ranks.jsonl")
    last = metrics[-1]["step"]

    def of(name: str, since: int = 0) -> list[float]:
        return [line[name] for line in metrics if name in line and line["step"] > since]

    # Without the logs in which averages were exchanged for validation.
    sent = lambda key: min((line[key][0] for line in ranks), default=None)
    cells = [
        f"{mean(of('loss', last - 50)):.3f}",
        f"{of('validation loss')[-1]:.3f}" if of("validation loss") else "–",
        f"{mean(of('compression error', last - 100)):.2f}" if of("compression error") else "–",
        *(f"{sent(key) / 1e3:.0f}" if ranks else "–" for key in ("bytes_in_machine", "bytes_between_machines")),
    ]
    print(f"| {folder.name} | {last} | " + " | ".join(cells) + " |")
