"""The certificates by which machines believe that the cloud is AWS.

One authority per directory, made once and trusted by the base images (machine/base.py). It may only sign names below
amazonaws.com: whoever steals its key can impersonate nothing else. Each cloud gets a leaf that is valid for every
region's services and for S3's virtual hosts.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import botocore.session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from support.cache import locked
from support.files import write_atomically

_YEARS = datetime.timedelta(days=3650)
_DOMAIN = "amazonaws.com"


@dataclass(frozen=True)
class Authority:
    """Where the authority's certificate and private key are, both PEM."""

    certificate: Path
    key: Path


def ensure_authority(directory: Path) -> Authority:
    """Return the authority of that directory, making it (mode 0700) when it is not there."""
    authority = Authority(directory / "ca.pem", directory / "ca.key")
    with locked(directory / ".lock", "the certificate authority"):
        if not (authority.certificate.exists() and authority.key.exists()):
            directory.chmod(0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            write_atomically(authority.key, _private_pem(key), 0o600)
            write_atomically(authority.certificate, _self_signed(key).public_bytes(serialization.Encoding.PEM), 0o600)
    return authority


def server_names() -> list[str]:
    """Return the names that a cloud answers to: every AWS region's services, global ones, S3's virtual hosts."""
    regions = botocore.session.get_session().get_available_regions("ec2")
    prefixes = ("", "s3.", "s3.dualstack.", "dualstack.")
    regional = [f"*.{prefix}{region}.{_DOMAIN}" for region in sorted(regions) for prefix in prefixes]
    return [f"*.{_DOMAIN}", f"*.s3.{_DOMAIN}", *regional]


def issue(authority: Authority, directory: Path) -> None:
    """Write a cloud's certificate chain and key into `directory` as server.pem (mode 0600)."""
    ca_key = serialization.load_pem_private_key(authority.key.read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    ca = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(name) for name in server_names()]
    certificate = (
        _builder(_name(f"*.{_DOMAIN}"), ca.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    write_atomically(directory / "server.pem", pem + authority.certificate.read_bytes() + _private_pem(key), 0o600)


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("localcloud test authority")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(_DOMAIN)], None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _YEARS)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
