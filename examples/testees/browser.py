"""A testee for `rpcproto conform --room`: LiveKit's JavaScript client in a headless chromium.

LIVEKIT_CLIENT is the folder `dist` of the npm package `livekit-client`.

LIVEKIT_CLIENT=node_modules/livekit-client/dist \\
    rpcproto conform --room --exec "python examples/testees/browser.py"
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIENT = Path(os.environ.get("LIVEKIT_CLIENT", "node_modules/livekit-client/dist"))
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
)
NAMES = ("LIVEKIT_URL", "LIVEKIT_TOKEN", "CONFORM_E2EE_PASSPHRASE")


class Handler(SimpleHTTPRequestHandler):
    """Serves the page, LiveKit's client, and what the page is to do."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def translate_path(self, path: str) -> str:
        name = path.lstrip("/").partition("?")[0]
        return str((CLIENT if name.startswith("livekit-client") else HERE) / name)

    def do_GET(self) -> None:
        if self.path != "/environment":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({name: os.environ.get(name) for name in NAMES}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> int:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium on the PATH")
    if not (CLIENT / "livekit-client.umd.js").exists():
        sys.exit(f"no livekit-client in {CLIENT}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page = f"http://127.0.0.1:{server.server_port}/browser.html"
        command = [chromium, *OPTIONS, f"--user-data-dir={profile}", page]
        return subprocess.run(command, env=os.environ | {"HOME": profile}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
