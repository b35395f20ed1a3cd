from __future__ import annotations

import datetime
import pwd
import re
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from localcloud.host.certificates import Authority, ensure_authority, issue, server_names
from localcloud.machine.base import fit, login_id


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The few files of a root file system that matter here, laid out as on Amazon Linux."""
    root = tmp_path / "root"
    for directory in ("etc/pki/ca-trust/source/anchors", "etc/pki/ca-trust/extracted/pem", "etc/pki/tls/certs",
                      "usr/lib/systemd/system", "etc/ssl"):  # fmt: skip
        (root / directory).mkdir(parents=True)
    (root / "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem").write_text("others\n")
    # An absolute link, as the guest sees it: on the host it leads to the host's own bundle.
    (root / "etc/pki/tls/certs/ca-bundle.crt").symlink_to("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
    (root / "usr/lib/systemd/system/systemd-networkd.service").touch()
    return root


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return ensure_authority(tmp_path / "authority")


def test_the_guest_trusts_the_authority_once_however_often_it_is_fitted(root: Path, authority: Authority) -> None:
    pem = authority.certificate.read_bytes()
    for _ in range(3):
        fit(root, pem)
    bundle = (root / "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem").read_bytes()
    assert bundle.startswith(b"others\n")
    assert bundle.count(pem) == 1
    assert (root / "etc/pki/ca-trust/source/anchors/localcloud-authority.crt").read_bytes() == pem


def test_another_authority_takes_the_first_one_s_place(root: Path, authority: Authority, tmp_path: Path) -> None:
    other = ensure_authority(tmp_path / "other").certificate.read_bytes()
    fit(root, authority.certificate.read_bytes())
    fit(root, other)
    bundle = (root / "etc/pki/tls/certs/ca-bundle.crt").readlink()
    text = (root / str(bundle).lstrip("/")).read_bytes()
    assert other in text
    assert authority.certificate.read_bytes() not in text


def test_a_link_that_leads_out_of_the_tree_is_not_followed(root: Path, authority: Authority, tmp_path: Path) -> None:
    outside = tmp_path / "host-bundle"
    outside.write_text("the host's own\n")
    (root / "etc/ssl/certs").mkdir()
    (root / "etc/ssl/certs/ca-certificates.crt").symlink_to("../../../../host-bundle")
    fit(root, authority.certificate.read_bytes())
    assert outside.read_text() == "the host's own\n"


def test_the_guest_names_no_endpoint_and_asks_by_dhcp(root: Path, authority: Authority) -> None:
    fit(root, authority.certificate.read_bytes())
    written = "".join(path.read_text() for path in root.rglob("*localcloud*") if path.is_file())
    assert "10.212." not in written
    assert "10.213." not in written
    assert "DHCP=ipv4" in written
    enabled = root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    assert str(enabled.readlink()) == "/usr/lib/systemd/system/systemd-networkd.service"


@pytest.mark.incident("a machine's ec2-user was the host's user 1000, who could enter its processes and become root")
def test_a_machine_s_login_user_has_the_id_of_nobody_here(root: Path, authority: Authority) -> None:
    assert login_id(()) == 48000
    assert login_id({0, 1000, 48000, 48001, 48003}) == 48002
    fit(root, authority.certificate.read_bytes())
    written = (root / "etc/cloud/cloud.cfg.d/99-localcloud.cfg").read_text()
    user = re.search(r"^system_info: {default_user: {uid: (\d+)}}$", written, re.MULTILINE)
    assert user is not None
    assert int(user[1]) not in {each.pw_uid for each in pwd.getpwall()}


def test_the_authority_is_made_once_and_its_key_is_private(authority: Authority) -> None:
    again = ensure_authority(authority.certificate.parent)
    assert again.certificate.read_bytes() == authority.certificate.read_bytes()
    assert authority.key.stat().st_mode & 0o777 == 0o600
    assert authority.certificate.parent.stat().st_mode & 0o777 == 0o700


def test_the_authority_may_sign_for_aws_alone(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    constraint = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraint.critical
    assert constraint.value.permitted_subtrees == [x509.DNSName("amazonaws.com")]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    remaining = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert remaining > datetime.timedelta(days=365)


def test_the_server_answers_to_every_region_and_to_buckets(authority: Authority, tmp_path: Path) -> None:
    assert {"*.amazonaws.com", "*.eu-west-1.amazonaws.com", "*.s3.eu-west-1.amazonaws.com"} <= set(server_names())
    issue(authority, tmp_path)
    assert (tmp_path / "server.pem").stat().st_mode & 0o777 == 0o600
    server, client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(cafile=str(authority.certificate)),
    )
    server.load_cert_chain(tmp_path / "server.pem")
    for name in ("sts.amazonaws.com", "ssm.us-east-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"):
        _handshake(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, client, "example.com")


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
