"""Runs OpenAI's official clients for Python and JavaScript against dalle-server, the latter in Node and in a page on another origin.

`./scripts/test clients` installs what it needs and starts it with: SERVER MODEL CLIENTS, where CLIENTS is the folder in which
`npm install openai` was run. CHROMIUM names the browser.
"""

import http.server
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent


class Pages(http.server.SimpleHTTPRequestHandler):
    """This folder, and OpenAI's package below /openai."""

    package = None
    results = queue.Queue()

    def translate_path(self, path):
        path = path.split("?")[0]
        if path.startswith("/openai/"):
            return str(self.package / path.removeprefix("/openai/"))
        return str(HERE / path.lstrip("/"))

    def do_POST(self):
        self.results.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


Pages.extensions_map = {**Pages.extensions_map, ".mjs": "text/javascript"}


def main(server, model, clients):
    Pages.package = pathlib.Path(clients) / "node_modules/openai"
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{pages.server_port}"
    command = [server, "--model", model, "--port", "0", "--allow-origin", origin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().strip().removeprefix("listening on ")
            wait(address)
            subprocess.run([sys.executable, HERE / "client.py", address], check=True)
            environment = {**os.environ, "CLIENTS": str(clients)}
            subprocess.run(["node", HERE / "client.mjs", address], check=True, env=environment)
            in_page(f"{origin}/page.html?server={address}")
        finally:
            process.terminate()


def wait(address):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{address}/health/ready"):
                return
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server is not ready")


def in_page(url):
    """Opens the page in Chromium and waits for the result that it sends."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", url]
        with subprocess.Popen([browser, *options], stderr=subprocess.DEVNULL) as process:
            try:
                result = Pages.results.get(timeout=120)
            finally:
                process.terminate()
    if result != "ok":
        raise SystemExit(f"in a page: {result}")
    print("openai-node in a page on another origin: ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
