"""Times the page's CPU decoder and ONNX Runtime Web in Chromium, both on one thread of a Web Worker. Called by benches/decode.sh.

The page of the benchmark, page.html, talks to both workers and posts what it measured.
"""

import hashlib
import http.server
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading

import model

ROUNDS = {"emoji-128": 40, "n_hid-32": 14, "n_hid-64": 10}
PATIENCE = 600
HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-quic", "--no-proxy-server"]


def measure(root: str, chromium: str) -> list[dict]:
    """Opens the page and waits for what it posts."""
    answer, done = [], threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=root)

        def do_POST(self) -> None:
            answer.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_) -> None:
            pass

    Handler.extensions_map = {**Handler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/page.html"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert done.wait(PATIENCE), f"Chromium did not finish in {PATIENCE} s"
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    assert "error" not in answer[0], answer[0]["error"]
    return answer[0]


def main() -> None:
    site, peer = sys.argv[1], sys.argv[2]
    chromium = os.environ["CHROMIUM"]
    version = subprocess.run([chromium, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as work:
        root = os.path.join(work, "root")
        shutil.copytree(site, root)
        shutil.copytree(peer, os.path.join(root, "ort"), ignore=shutil.ignore_patterns("*.map", "*.jsep*", "*asyncify*", "*jspi*"))
        for name in ("page.html", "peer.js"):
            shutil.copy(os.path.join(HERE, name), root)
        listed = []
        for name, folder in model.models(work):
            files = []
            for file in ("config.json", "decoder.safetensors"):
                content = open(os.path.join(folder, file), "rb").read()
                url = f"/{name}/{file}"
                os.makedirs(os.path.join(root, name), exist_ok=True)
                open(os.path.join(root, name, file), "wb").write(content)
                files.append({"name": file, "url": url, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
            open(os.path.join(root, name, "decoder.onnx"), "wb").write(model.graph(folder))
            listed.append({"name": name, "files": files, "tokens": model.tokens(folder).tolist(), "rounds": ROUNDS[name]})
        json.dump(listed, open(os.path.join(root, "models.json"), "w"))
        measured = measure(root, chromium)
    rows = []
    print(f"{'model':12} {'ours, ms':>10} {'ONNX Runtime Web':>18} {'ratio':>7} {'range':>14}")
    for found in measured["rows"]:
        assert found["contrast"] > 100, f"{found['model']}: the image is too flat to compare"
        assert found["difference"] <= 1, f"{found['model']}: the images differ by {found['difference']} of 255"
        ratios = sorted(b / a for a, b in zip(found["ours"], found["peer"]))
        row = {
            "model": found["model"], "threads": 1, "ours_ms": statistics.median(found["ours"]),
            "onnxruntime_web_ms": statistics.median(found["peer"]), "ratio": statistics.median(ratios),
            "lowest_ratio": ratios[0], "highest_ratio": ratios[-1], "rounds": found["rounds"],
            "greatest_difference": found["difference"],
        }
        rows.append(row)
        print(f"{row['model']:12} {row['ours_ms']:10.2f} {row['onnxruntime_web_ms']:18.2f} {row['ratio']:7.2f} "
              f"{ratios[0]:6.2f} – {ratios[-1]:.2f}")
    os.makedirs("benches/results", exist_ok=True)
    package = json.load(open(os.path.join(os.path.dirname(peer.rstrip("/")), "package.json")))
    with open("benches/results/decode-browser.json", "w") as file:
        json.dump({"browser": version, "onnxruntime_web": package["version"], "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
