"""Package URLs of what is in an image: by these names databases of vulnerabilities are asked."""

from __future__ import annotations

from collections.abc import Mapping

from packageurl import PackageURL


def rpm(row: Mapping[str, str], os: Mapping[str, str]) -> PackageURL:
    """Return that of an RPM: a row of an inventory's `rpms`, of the system that its `os` tells of."""
    qualifiers = {
        "arch": row["arch"],
        "distro": f"{os['ID']}-{os['VERSION_ID']}",
        "upstream": row["source"],
        # Without one rpm says 0, and a package URL nothing.
        "epoch": row["epoch"] if row["epoch"] != "0" else "",
    }
    return PackageURL("rpm", os["ID"], row["name"], f"{row['version']}-{row['release']}", qualifiers)


def golang(path: str, version: str) -> PackageURL:
    """Return that of a Go module, as `github.com/jackc/pgx/v5` and `v5.8.0`, or of `stdlib`."""
    namespace, _, name = path.rpartition("/")
    return PackageURL("golang", namespace, name, version)


def source(name: str, version: str, url: str, sha256: str) -> PackageURL:
    """Return that of what was compiled from an archive that no index of packages knows."""
    return PackageURL("generic", None, name, version, {"checksum": f"sha256:{sha256}", "download_url": url})
