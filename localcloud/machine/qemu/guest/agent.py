"""The local cloud's agent in a machine with a kernel of its own: runs what comes through a virtio-serial port.

One JSON object a line, both ways. First it says {"hello": BOOT_ID}. To {"id": N, "command": [...], "input": "...",
"timeout": SECONDS or null} it answers {"id": N, "returncode": N, "stdout": "...", "stderr": "...", "timed_out": bool};
commands run beside each other, as root. It stands for what entering the namespaces of a machine without a kernel does,
and for SSM's agent; nothing of AWS's is in it. It is run by the image's own Python, 3.9 or newer, and only by that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any

PORT = "localcloud.agent"
_PORTS = Path("/sys/class/virtio-ports")
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "USER": "root",
}


def find_port(ports: Path = _PORTS) -> Path | None:
    """Return the port's device. By its name in sysfs: udev, which makes a link of that name, may not run yet."""
    for entry in sorted(ports.glob("*/name")):
        if entry.read_text().strip() == PORT:
            return Path("/dev") / entry.parent.name
    return None


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one request's command to its end, or for `timeout` seconds, and return the answer."""
    answer: dict[str, Any] = {"id": request["id"], "timed_out": False}
    try:
        child = subprocess.Popen(
            request["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return {**answer, "returncode": 127, "stdout": "", "stderr": f"{error}\n"}
    try:
        stdout, stderr = child.communicate(request.get("input") or "", timeout=request.get("timeout"))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        stdout, stderr = child.communicate()
        answer["timed_out"] = True
    return {**answer, "returncode": child.returncode, "stdout": stdout, "stderr": stderr}


def serve(port: IO[bytes], hello: str) -> None:
    """Say hello, then answer each request until the port ends. A line that is no request is nobody's: left out."""
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            # A raw port may take less than it is given.
            rest = memoryview(json.dumps(message).encode() + b"\n")
            while rest:
                rest = rest[port.write(rest) :]

    send({"hello": hello})
    for line in port:
        try:
            request = json.loads(line)
            known = isinstance(request["id"], int) and isinstance(request["command"], list)
        except (ValueError, KeyError, TypeError):
            continue
        if known:
            threading.Thread(target=lambda given=request: send(run(given)), daemon=True).start()


def main() -> None:
    """Serve for as long as the machine runs."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    while (device := find_port()) is None:
        time.sleep(0.2)
    while True:
        with open(device, "r+b", buffering=0) as port:
            serve(port, boot_id)
        time.sleep(1)  # nobody is at the other end: asked again soon


if __name__ == "__main__":
    main()
