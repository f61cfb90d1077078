"""nginx on loopback, serving a folder: started on a free port without any rights, its files in a temporary folder."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid {home}/pid;
error_log {home}/errors;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3;
  uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  types {{ image/jpeg jpg; }}
  server {{ listen 127.0.0.1:{port} backlog=8192; root {root}; }}
}}
"""
TICKS = os.sysconf("SC_CLK_TCK")


class WebServer:
    """A context manager; `url` is of the folder. Ends the program with a message where there is no nginx."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if self._program is None:
            sys.exit("nginx is not installed, and both sides download from it; Debian: apt-get install nginx-light")

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="tarloom-nginx-")
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        file = Path(self._home.name, "nginx.conf")
        user = "user root;" if os.geteuid() == 0 else ""
        file.write_text(CONFIGURATION.format(home=self._home.name, port=port, root=self._root.resolve(), user=user))
        command = [str(self._program), "-c", str(file), "-e", f"{self._home.name}/errors"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait_until_it_listens(port)
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._home.cleanup()

    @property
    def cpu(self) -> float:
        """Seconds of CPU that the server has used so far."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_cpu_of(int(process)) for process in (pid, *children))

    def _wait_until_it_listens(self, port: int) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        errors = Path(self._home.name, "errors")
        sys.exit(f"nginx does not start: {errors.read_text().strip() if errors.exists() else 'it says nothing'}")


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
