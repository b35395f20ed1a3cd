"""Defects in files of each kind that `-- --changed` must see: whatever a test or a check reads selects it."""

from __future__ import annotations

from tests.gate.seeds import Row, drop, sub

_PACKER = "infrastructure/packer"
_FILES = f"{_PACKER}/files"


ROWS = (
    Row("script changed", "unit", sub(f"{_FILES}/check-health.sh", r"exec /opt/zmanim/zmanim-host release-health", "exit 0"), "host/release/test_health.py", changed=True),
    Row("script changed, its own rules", "shell", drop(f"{_FILES}/check-health.sh", r"^set -o errexit"), "lacks set -o errexit", changed=True),
    Row("page changed", "docs", sub("docs/backups.md", r"inv backup\.now", "inv backup.soon"), "there is no such task", changed=True),
    Row("unit changed", "unit", drop(f"{_FILES}/zmanim-api.service", r"^EnvironmentFile=/run/zmanim/secrets/"), "host/secrets/test_parameter_table.py", changed=True),
    Row("JSON changed", "unit", sub("docs/ami-inventory.json", "tcp 53, loopback", "tcp 54, loopback"), "pipeline/docs/test_tree.py", changed=True),
    Row("SQL changed", "unit", sub(f"{_FILES}/database.sql", r"^(ALTER ROLE zmanim LOGIN) NOSUPERUSER", r"\1 SUPERUSER"), "infrastructure/packer/test_files.py", changed=True),
    Row("HCL changed", "packer", sub(f"{_PACKER}/variables.pkr.hcl", r'^variable "subnet_id"', 'variable "subnet"'), "subnet_id", changed=True),
    Row("YAML changed", "workflows", sub(".github/workflows/build-ami.yml", r'tags: \["v\*-ami"\]', 'tags: ["v*"]'), "is not triggered by the tags", changed=True),
    Row("module that a test runs as a child changed", "unit", sub("zmanim_ami/commands/shared.py", r"code=error\.exit_code", "code=1"), "commands/test_tasks.py", changed=True),
    Row("module that a check runs as a child changed", "configuration", sub(f"{_FILES}/zmanim_host/secrets/parameters.py", r'"jwt-secret"', '"jwt-key"'), "JWT_KEY", changed=True),
)  # fmt: skip
