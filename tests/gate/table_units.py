"""Defects of the units: each by itself, and all together."""

from __future__ import annotations

from tests.gate.seeds import Row, Seed, append, drop, each_of, new, sub

_FILES = "infrastructure/packer/files"
_API = f"{_FILES}/zmanim-api.service"
_REDIS = f"{_FILES}/redis.service"
_POSTGRESQL = f"{_FILES}/postgresql.service"
_TIMER = f"{_FILES}/restic-backup.timer"
_BACKUP = f"{_FILES}/restic-backup.service"
_SANDBOX = f"{_FILES}/zmanim-sandbox.conf"
_PRESET = f"{_FILES}/zmanim.preset"


def _new_unit(name: str, service: str) -> Seed:
    """Ship one more service, with these lines of its own."""
    return each_of(
        new(f"{_FILES}/{name}", f"[Unit]\nDescription=New\n[Service]\n{service}\n"),
        append(f"{_FILES}/install.tsv", f"file\t{name}\t/etc/systemd/system/{name}\troot:root\t0644\n"),
    )


ROWS = (
    Row("directive with a typing error", "units", sub(_API, r"^RestartSec=", "RestartSecs="), "RestartSecs", dod=4),
    Row("value that systemd does not know", "units", sub(_REDIS, r"^Type=notify$", "Type=notifyy"), "notifyy", dod=4),
    Row("program without a path", "units", sub(_API, r"^ExecStart=/opt/zmanim/", "ExecStart=zmanim/"), "zmanim/zmanim-api", dod=4),
    Row("hour that there is not", "units", sub(_TIMER, r"^OnCalendar=.*$", "OnCalendar=*-*-* 25:00:00 UTC"), "25:00:00", dod=4),
    Row("hour of whatever time zone", "units", sub(_TIMER, r"^(OnCalendar=.*) UTC$", r"\1"), "without UTC"),
    Row("directive of a newer systemd", "units", sub(_API, r"^RestartSec=2$", "RestartSec=2\nRestartSteps=5"), "systemd 252 knows no RestartSteps="),
    Row("value of a newer systemd", "units", sub(_API, r"^Type=exec$", "Type=notify-reload"), "came with systemd 253"),
    Row("directive in the wrong section", "units", sub(_API, r"^\[Unit\]$", "[Unit]\nRestart=no"), "knows no Restart= in [Unit]"),
    Row("API with fewer walls", "units", sub(_API, r"^(SystemCallFilter|ProtectSystem|RestrictNamespaces|CapabilityBoundingSet)=.*\n", "", every=True), "at most 2.5 is allowed", dod=4),
    Row("PostgreSQL with fewer walls", "units", sub(_POSTGRESQL, r"^(SystemCallFilter|ProtectSystem|RestrictNamespaces|NoNewPrivileges|CapabilityBoundingSet)=.*\n", "", every=True), "at most 2.5 is allowed"),
    Row("service without any wall", "units", _new_unit("bare.service", "ExecStart=/bin/kill -l"), "bare.service: exposure"),
    Row("services without what they share", "units", drop(f"{_FILES}/install.tsv", r"^file\tzmanim-sandbox\.conf"), "at most 2.5 is allowed"),
    Row("service that sets what all share", "units", sub(_API, r"^\[Service\]$", "[Service]\nProtectSystem=full"), "ProtectSystem= is set by zmanim-sandbox.conf"),
    Row("list that all services share", "units", append(_SANDBOX, "SystemCallFilter=~@clock\n"), "SystemCallFilter= in [Service] is not for all services"),
    Row("shared setting that is not of a sandbox", "units", append(_SANDBOX, "Restart=always\n"), "Restart= in [Service] is not for all services"),
    Row("shared setting of another section", "units", append(_SANDBOX, "[Unit]\nProtectHome=yes\n"), "ProtectHome= in [Unit] is not for all services"),
    Row("shared value that systemd does not know", "units", sub(_SANDBOX, r"^ProtectSystem=strict", "ProtectSystem=very"), "zmanim-sandbox.conf:4: Failed to parse"),
    Row("API that can ask for the instance's role", "addresses", drop(_API, r"^IPAddressDeny="), "zmanim-api.service:1: reaches the metadata service"),
    Row("API that can by IPv6", "addresses", sub(_API, r"^(IPAddressDeny=\S+) .*$", r"\1"), "IPAddressDeny=fd00:ec2::254"),
    Row("API whose denial was taken back", "addresses", sub(_API, r"^(IPAddressDeny=.*)$", r"\1\nIPAddressDeny="), "reaches the metadata service"),
    Row("Redis that is allowed what is denied", "addresses", sub(_REDIS, r"^IPAddressAllow=localhost$", "IPAddressAllow=localhost link-local"), "redis.service:49: reaches the metadata service"),
    Row("Redis whose denial a drop-in takes back", "addresses", each_of(new(f"{_FILES}/redis-open.conf", "[Service]\nIPAddressDeny=\n"), append(f"{_FILES}/install.tsv", "file\tredis-open.conf\t/etc/systemd/system/redis.service.d/open.conf\troot:root\t0644\n")), "redis.service:49: reaches the metadata service"),
    Row("new service that can", "addresses", _new_unit("new.service", "ExecStart=/bin/kill -l"), "new.service:1: reaches the metadata service"),
    Row("another's service that can", "addresses", drop(f"{_FILES}/install.tsv", r"^file\tzmanim-chronyd\.conf"), "enables chronyd.service, which reaches the metadata service"),
    Row("fetcher that may and can't", "addresses", sub(f"{_FILES}/zmanim-secrets.service", r"^PrivateDevices=yes$", "PrivateDevices=yes\nIPAddressDeny=any"), "zmanim-secrets.service may ask the metadata service, and has no way to it"),
    Row("readiness that asks while it is the API's user", "addresses", sub(f"{_FILES}/zmanim-ready.service", r"^IPAddressAllow=localhost$", "IPAddressAllow=localhost 169.254.169.254"), "zmanim-ready.service:29: reaches the metadata service"),
    Row("fetcher that runs as the API's user", "addresses", sub(f"{_FILES}/zmanim-release-fetch.service", r"^User=zmanim-release$", "User=zmanim"), "may ask the metadata service, and runs as zmanim, as zmanim-"),
    Row("secrets that can become any user", "addresses", sub(f"{_FILES}/zmanim-secrets.service", r"^CapabilityBoundingSet=$", "CapabilityBoundingSet=CAP_SETUID"), "zmanim-secrets.service:22: may ask the metadata service, and become any user"),
    Row("service on the list that is gone", "addresses", drop(_PRESET, r"^enable sshd\.service"), "sshd.service may ask the metadata service, and is no service"),
    Row("unit that ships disabled", "wiring", drop(_PRESET, r"^enable redis\.service"), "ships disabled", dod=4, lesson="shipped disabled"),
    Row("every unit disabled", "wiring", sub(_PRESET, r"^enable ", "disable ", every=True), "ships disabled", lesson="shipped disabled"),
    Row("unit that nothing starts", "wiring", drop(_PRESET, r"^enable restic-backup\.timer"), "restic-backup.timer", dod=4),
    Row("service that nothing starts", "wiring", _new_unit("idle.service", "ExecStart=/bin/kill -l"), "nothing that is enabled starts it"),
    Row("two units each after the other", "wiring", sub(_POSTGRESQL, r"^\[Unit\]$", "[Unit]\nAfter=zmanim-api.service"), "ordering cycle", dod=4),
    Row("service after its own target", "wiring", sub(_REDIS, r"^\[Unit\]$", "[Unit]\nAfter=zmanim.target"), "ordering cycle"),
    Row("program that is not in the image", "wiring", sub(_API, r"download-latest\.sh", "download-newest.sh"), "/opt/zmanim/download-newest.sh is not in the image"),
    Row("program of no package", "wiring", sub(_REDIS, r"^ExecStart=/usr/bin/redis-server", "ExecStart=/usr/bin/valkey-server"), "is in no package that the gate knows"),
    Row("command that zmanim-host lacks", "wiring", sub(f"{_FILES}/zmanim-memory.service", r"zmanim-host memory", "zmanim-host memories"), "has no command 'memories'"),
    Row("mount that no unit mounts", "wiring", sub(_API, r"^\[Unit\]$", "[Unit]\nRequiresMountsFor=/srv/data"), "no mount unit in the tree mounts it"),
    Row("Redis that can't write to its data", "wiring", drop(_REDIS, r"^ReadWritePaths=/data/redis"), "ReadWritePaths= lacks /data/redis", lesson="persistence switched off"),
    Row("PostgreSQL on the root disk", "wiring", sub(_POSTGRESQL, r"^(BindsTo=data\.mount|Requi\w+=zmanim-data-layout.*)\n", "", every=True), "would start on the root disk", lesson="volume lost by hand"),
    Row("release chosen as root", "wiring", sub(_API, r"^(User|Group)=.*\n", "", every=True), "as root", lesson="code as root"),
    Row("release chosen with full privileges", "wiring", sub(_API, r"^ExecStartPre=", "ExecStartPre=+"), "runs with full privileges", lesson="code as root"),
    Row("backup that may hang for ever", "wiring", drop(_BACKUP, r"^TimeoutStartSec="), "may hang for ever"),
    Row("backup that fails in silence", "wiring", drop(_BACKUP, r"^OnFailure="), "tells nobody when it fails", lesson="no mail"),
)  # fmt: skip
