"""Times `dalle bench decode` and ONNX Runtime. Called by benches/decode.sh."""

import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np
import onnxruntime

import model

ROUNDS = 20


def png(path: str) -> np.ndarray:
    """The pixels of an RGB8 PNG, [height, width, 3]."""
    data, at, body = open(path, "rb").read(), 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", chunk[:8])
        body += chunk if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width)
    image = np.zeros((height, 3 * width + 3), np.int64)
    above = np.zeros(3 * width + 3, np.int64)
    for y, line in enumerate(lines):
        row, kind = image[y], line[0]
        for x, value in enumerate(line[1:].tolist()):
            a, b, c = row[x], above[x + 3], above[x]
            if kind == 4:
                p = a + b - c
                value += min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            else:
                value += (0, a, b, (a + b) // 2)[kind]
            row[x + 3] = value % 256
        above = row
    return image[:, 3:].reshape(height, width, 3)


def ours(dalle: str, folder: str, threads: int, repeats: int, work: str) -> float:
    """Milliseconds of a decode."""
    out = os.path.join(work, "bench.json")
    config = os.path.join(folder, "config.json")
    subprocess.run(
        [dalle, "bench", "decode", "--config", config, "--repeats", str(repeats), "--json", out],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "RAYON_NUM_THREADS": str(threads)},
    )
    return 1e3 * json.load(open(out))["rows"][0]["seconds"]


def decoded(dalle: str, folder: str, tokens: np.ndarray, work: str) -> np.ndarray:
    path, out = os.path.join(work, "tokens.json"), os.path.join(work, "image.png")
    grid = int(len(tokens) ** 0.5)
    json.dump({"grid": grid, "tokens": tokens.tolist()}, open(path, "w"))
    subprocess.run([dalle, "dvae", "decode", path, "--model", folder, "--out", out], check=True)
    return png(out)


def main() -> None:
    dalle, rows = sys.argv[1], []
    print(f"{'model':12} {'threads':>8} {'ours, ms':>10} {'ONNX Runtime':>14} {'ratio':>7} {'range':>14}")
    with tempfile.TemporaryDirectory() as work:
        for name, folder in model.models(work):
            graph, tokens = model.graph(folder), model.tokens(folder)
            repeats = 40 if name == "emoji-128" else 5
            for threads in (1, 2):
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                # Spinning threads take CPU time from whatever else runs.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > os.cpu_count() else "1")
                session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
                image = session.run(None, {"tokens": tokens})[0][0, :, :, :3]
                difference = model.check_alike(decoded(dalle, folder, tokens, work), image, name)
                pairs = []
                for _ in range(ROUNDS):
                    a = ours(dalle, folder, threads, repeats, work)
                    times = []
                    for _ in range(repeats + 1):
                        begun = time.perf_counter()
                        session.run(None, {"tokens": tokens})
                        times.append(1e3 * (time.perf_counter() - begun))
                    pairs.append((a, statistics.median(times[1:])))
                ratios = sorted(b / a for a, b in pairs)
                row = {
                    "model": name, "threads": threads, "ours_ms": statistics.median(a for a, _ in pairs),
                    "onnxruntime_ms": statistics.median(b for _, b in pairs), "ratio": statistics.median(ratios),
                    "lowest_ratio": ratios[0], "highest_ratio": ratios[-1], "greatest_difference": difference,
                }
                rows.append(row)
                print(f"{name:12} {threads:8} {row['ours_ms']:10.2f} {row['onnxruntime_ms']:14.2f} {row['ratio']:7.2f} "
                      f"{ratios[0]:6.2f} – {ratios[-1]:.2f}", flush=True)
    os.makedirs("benches/results", exist_ok=True)
    with open("benches/results/decode-native.json", "w") as file:
        json.dump({"onnxruntime": onnxruntime.__version__, "rounds": ROUNDS, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
