"""With egress, a machine reaches names of the internet and nothing else; without it nothing outside its cloud."""

from __future__ import annotations

import dataclasses
import http.server
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localcloud import control
from localcloud.host import cgroups
from localcloud.net.egress import Connection, connections
from localcloud.net.outside import packages_name
from localcloud.settings import CloudSettings
from tests.machines.localcloud.test_cleanup import kill
from tests.support.machines.host_state import difference, host_state
from tests.support.machines.lab import Lab, wait_for

NAME = "repo.test"
BODY = b"packages\n" * 100_000


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Outside:
    """Two servers on loopback that stand for the internet; a hosts file that says so; the certificate's authority."""

    hosts: Path
    certificate: Path


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    # An address of loopback that nobody else has taken: two runs of these tests may go on at once.
    address = f"127.{86 + (os.getpid() >> 16)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    hosts, certificate = folder / "hosts", folder / "cert.pem"
    hosts.write_text(f"{address} {NAME} {packages_name('eu-west-1')} ec2.eu-west-1.amazonaws.com\n")
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:{packages_name('eu-west-1')}"]
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-out", str(certificate), "-days", "2", *subject],
        check=True, capture_output=True,
    )  # fmt: skip
    plain = http.server.ThreadingHTTPServer((address, 80), _Handler)
    secret = http.server.ThreadingHTTPServer((address, 443), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, folder / "key.pem")
    secret.socket = context.wrap_socket(secret.socket, server_side=True)
    for server in (plain, secret):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Outside(hosts, certificate)
    for server in (plain, secret):
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def settings(cloud_settings: CloudSettings, outside: Outside) -> CloudSettings:
    state = cloud_settings.state.parent / "egress"
    return dataclasses.replace(cloud_settings, name="egress", state=state, egress=True, egress_hosts=outside.hosts)


@pytest.fixture(scope="module")
def open_lab(settings: CloudSettings) -> Iterator[Lab]:
    cloud = control.up(settings)
    try:
        yield Lab(cloud, settings.images[0].root, settings.state.parent)
    finally:
        control.down(settings.name, settings.state)


@pytest.fixture(scope="module")
def machine(open_lab: Lab, outside: Outside) -> str:
    instance = open_lab.launch_and_wait()
    open_lab.run(instance, f"cat >/root/ca.pem <<'END'\n{outside.certificate.read_text()}END\n")
    return instance


def curl(lab: Lab, instance: str, *arguments: str) -> str:
    """Return what curl got, or its complaint."""
    command = f"curl -sS --max-time 15 --cacert /root/ca.pem {' '.join(arguments)} 2>&1 | sha256sum"
    return lab.run(instance, command).split()[0]


def curl_output(lab: Lab, instance: str, *arguments: str) -> str:
    return lab.run(instance, f"curl -sS --max-time 15 --cacert /root/ca.pem {' '.join(arguments)} 2>&1 || true")


def last(lab: Lab, name: str) -> Connection:
    """Return the newest connection to a name, once it is over."""
    result: list[Connection] = wait_for(
        lambda: [each for each in connections(lab.cloud.directory) if each.name == name], what=name
    )
    return result[-1]


def test_a_machine_without_a_way_out_reaches_no_name_outside(lab: Lab, outside: Outside) -> None:
    instance = lab.launch_and_wait()
    for address in (NAME, "cdn.amazonlinux.com"):
        assert "Could not resolve host" in curl_output(lab, instance, "--insecure", f"http://{address}/")
    forced = f"--resolve {NAME}:80:{lab.cloud.egress_address}"
    assert "onnect" in curl_output(lab, instance, "--insecure", forced, f"http://{NAME}/")
    # Amazon's own packages are the cloud's there: a bucket that nobody may read.
    assert "AccessDenied" in lab.run(instance, f"curl -s https://{packages_name('eu-west-1')}/core/mirrors")
    assert not (lab.cloud.directory / "egress.jsonl").exists()
    lab.terminate(instance)


def test_a_machine_fetches_by_name_over_http_and_tls(open_lab: Lab, machine: str) -> None:
    whole = open_lab.run(machine, "yes packages | head -n 100000 | sha256sum").split()[0]
    for url in (f"http://{NAME}/", f"https://{NAME}/", f"https://{packages_name('eu-west-1')}/"):
        assert curl(open_lab, machine, url) == whole
    connection = last(open_lab, NAME)
    assert (connection.port, connection.ended) == (443, "closed")
    assert connection.received > len(BODY)
    assert connection.source == open_lab.describe(machine)["PrivateIpAddress"]


def test_a_machine_still_has_the_clouds_own_aws(open_lab: Lab, machine: str) -> None:
    # The hosts file would lead it elsewhere: that name never comes to the proxy.
    looked_up = open_lab.run(machine, "getent ahostsv4 ec2.eu-west-1.amazonaws.com | awk '{print $1; exit}'")
    assert looked_up == open_lab.cloud.gateway
    assert open_lab.run(machine, "curl -sS -o /dev/null -w '%{ssl_verify_result}' https://sts.amazonaws.com/") == "0"
    forced = f"--resolve sts.amazonaws.com:80:{open_lab.cloud.egress_address}"
    assert "local cloud's own" in curl_output(open_lab, machine, forced, "http://sts.amazonaws.com/")
    assert open_lab.run(machine, "getent hosts $(uname -n) >/dev/null && echo known") == "known"
    assert open_lab.run(machine, "getent hosts ip-10-0-0-1.eu-west-1.compute.internal; echo $?") == "2"


def test_no_address_is_reached_whatever_it_is_called(open_lab: Lab, machine: str) -> None:
    out = open_lab.cloud.egress_address
    assert "onnect" in curl_output(open_lab, machine, "http://192.0.2.1/")
    assert "no name of the internet" in curl_output(open_lab, machine, "-H 'Host: 127.0.0.1'", f"http://{out}/")
    assert "no name of the internet" in curl_output(open_lab, machine, "-H 'Host: localhost'", f"http://{out}/")
    assert "as to a proxy" in curl_output(open_lab, machine, "--proxy", f"http://{out}:80", f"http://{NAME}/")
    # curl sends no server name to an address.
    assert "unrecognized name" in curl_output(open_lab, machine, "--insecure", f"https://{out}/")
    for port in (22, 8080):
        connect = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{out}/{port}'"
        assert open_lab.try_run(machine, connect)["Status"] == "Failed"


@pytest.mark.parametrize("victim", ["", "unshare", "egress", "server"])
def test_nothing_of_the_egress_stays_after_down_whoever_was_killed_before(settings: CloudSettings, victim: str) -> None:
    one = dataclasses.replace(settings, name="victim")
    before = host_state(one.directory)
    try:
        _end(one, victim)
    finally:
        control.down(one.name, one.state)
    assert difference(before, one.directory) == {}


def _end(one: CloudSettings, victim: str) -> None:
    """Start a cloud, kill that process of it, and see everything of it end by itself."""
    cloud = control.up(one)
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert cloud.egress_address not in listening  # it is in the cloud's own namespace
    if victim == "unshare":
        kill(cloud, victim)
    elif victim:
        os.kill(_modules(cloud.directory)[victim], signal.SIGKILL)
    if victim:
        wait_for(lambda: control.find(one.name, one.state) is None, what="the cloud's end")
        wait_for(lambda: not _modules(cloud.directory), what="everybody's end")


def _modules(directory: Path) -> dict[str, int]:
    """Return the cloud's own Python processes by their modules."""
    modules = {}
    for pid in cgroups.members(cgroups.cloud_groups(directory)[0]):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "python" in words[0] and "-m" in words:
            modules[words[words.index("-m") + 1].rpartition(".")[2]] = pid
    return modules
