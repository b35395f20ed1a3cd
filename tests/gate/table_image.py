"""Defects of the template, the scripts, the configuration and the pins."""

from __future__ import annotations

from tests.gate.seeds import Row, append, delete, drop, new, rehearsal, sub
from zmanim_ami.gate.repository import rehearsed

_PACKER = "infrastructure/packer"
_TEMPLATE = f"{_PACKER}/zmanim-ami.pkr.hcl"
_VARIABLES = f"{_PACKER}/variables.pkr.hcl"
_VERSIONS = f"{_PACKER}/versions.json"
_FILES = f"{_PACKER}/files"
_SCRIPTS = f"{_PACKER}/scripts"
_TABLE = f"{_FILES}/install.tsv"
_BACKUP = f"{_FILES}/backup.sh"
_INSTALL = f"{_SCRIPTS}/install-restic.sh"
_POSTGRESQL = f"{_FILES}/postgresql.conf"
_REDIS = f"{_FILES}/redis.conf"
_ENV = f"{_FILES}/config.env.template"

_BUILT = {"ok": True, "ami_id": "ami-0123456789abcdef0", "published": {"/zmanim/prod/ami-id": "ami-0123456789abcdef0"}}

ROWS = (
    # ---- The template (DoD 1, and what a build of it would end in, DoD 2) ----
    Row("template not formatted", "packer", sub(_TEMPLATE, r"^  region        =", "  region ="), "not formatted", dod=1),
    Row("template with a syntax error", "packer", sub(_TEMPLATE, r"^build \{", "build {{"), _TEMPLATE, dod=1),
    Row("variable that nobody declared", "packer", sub(_TEMPLATE, r"var\.subnet_id", "var.subnet_ids"), "subnet_ids", dod=1),
    Row("variable that nobody uses", "packer", append(_VARIABLES, '\nvariable "spare" {\n  description = "Nobody reads it anywhere."\n  type        = string\n  default     = ""\n}\n'), "variable spare is declared and not used", dod=1),
    Row("variable that no setting hands over", "packer", append(_VARIABLES, '\nvariable "spare" {\n  description = "Nobody hands it over."\n  type        = string\n  default     = ""\n}\n'), "variable spare is declared, and settings.py does not hand it over"),
    Row("setting that the template does not declare", "packer", sub(_VARIABLES, r'^variable "instance_type"', 'variable "instance_kind"'), "variable instance_type is handed over by settings.py and not declared", dod=1),
    Row("setting of another type", "packer", sub(_VARIABLES, r"^  type        = number", "  type        = string"), "variable root_volume_gib is a string, and settings.py hands over a number", dod=1),
    Row("variable that has not its setting's default", "packer", sub(_VARIABLES, r'"t4g\.small"', '"t4g.micro"'), "variable instance_type is 't4g.micro' by default, and its setting is not"),
    Row("variable without a description", "packer", sub(_VARIABLES, r'^  description = "AWS region to build in\."\n', ""), "variable region has no description"),
    Row("variable with a secret as its default", "packer", append(_VARIABLES, '\nvariable "db_password" {\n  description = "Password of the database."\n  type        = string\n  default     = "hunter2"\n}\n'), "looks like a secret"),
    Row("plugin that floats", "packer", sub(f"{_PACKER}/plugins.pkr.hcl", r'version = "= 1', 'version = ">= 1'), "floats"),
    Row("source image of anybody", "packer", sub(_TEMPLATE, r'owners( +)= \["amazon"\]', r'owners\1= ["self"]'), "owners"),
    Row("source image that floats", "packer", sub(_TEMPLATE, r"al2023-ami-\$\{source_ami_filter\.value\.release\}\.", "al2023-ami-2023."), "does not come from the release"),
    Row("source image of another architecture than its filter's", "packer", sub(_TEMPLATE, r"kernel\}-arm64", "kernel}-x86_64"), "does not come from the release"),
    Row("source image of another kind", "packer", sub(_TEMPLATE, r"al2023-ami-\$\{source", "al2023-ami-minimal-${source"), "does not come from the release"),
    Row("source image of another kernel than the pinned one", "packer", sub(_TEMPLATE, r"-kernel-\$\{source_ami_filter\.value\.kernel\}", "-kernel-*-${source_ami_filter.value.kernel}"), "does not come from the release"),
    Row("source image's filter of another architecture than its name", "packer", sub(_TEMPLATE, r'architecture( +)= "arm64"', r'architecture\1= "x86_64"'), "is not an arm64 one"),
    Row("builder without CPU credits", "packer", drop(_TEMPLATE, "enable_unlimited_credits"), "runs at a fraction"),
    Row("builder that everybody reaches", "packer", sub(_TEMPLATE, r"\? \[\] : \[var\.ssh_source_cidr\]", '? ["0.0.0.0/0"] : [var.ssh_source_cidr]'), "everybody may reach the builder"),
    Row("builder whose way in nobody narrows", "packer", drop(_TEMPLATE, "temporary_security_group_source_public_ip"), "everybody may reach the builder"),
    Row("builder with the old metadata service", "packer", sub(_TEMPLATE, r'http_tokens( +)= "required"', r'http_tokens\1= "optional"'), "IMDSv1"),
    Row("image with the old metadata service", "packer", drop(_TEMPLATE, r"imds_support +="), "imds_support"),
    Row("image that is not encrypted", "packer", sub(_TEMPLATE, r"= var\.root_encrypted", "= false"), "not encrypted"),
    Row("key left in the image", "packer", drop(_TEMPLATE, "ssh_clear_authorized_keys"), "key stays in the image"),
    Row("step without a script", "packer", delete(f"{_SCRIPTS}/configure-redis.sh"), "there is no scripts/configure-redis.sh", dod=2),
    Row("script that nothing runs", "packer", new(f"{_SCRIPTS}/install-nothing.sh", "#!/usr/bin/env bash\n"), "nothing runs it"),
    Row("steps in another order", "packer", sub(_TEMPLATE, r'"cleanup", "validate", "inventory"', '"validate", "cleanup", "inventory"'), "the last steps are", dod=2),
    # ---- What is shipped, and where it goes (DoD 2) ----
    Row("file that nothing installs", "install", new(f"{_FILES}/forgotten.conf", "x\n"), "nothing installs it"),
    Row("file that is installed and not there", "install", delete(f"{_FILES}/database.sql"), "database.sql is not there", dod=2),
    Row("row with a field too few", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*)\t0755$", r"\1"), "4 fields", dod=2),
    Row("row with a field too many", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*)$", r"\1\tx"), "6 fields", dod=2),
    Row("row with an empty field", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*\t)root:root\t", r"\1\t"), "4 fields"),
    Row("row that ends in a carriage return", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*)$", "\\1\r"), "a carriage return", dod=2),
    Row("row of another type", "install", sub(_TABLE, r"^file\tbackup\.sh", "link\tbackup.sh"), "the type is link"),
    Row("directory with a source", "install", sub(_TABLE, r"^directory\t-\t/data", "directory\tdata\t/data"), "a directory has no source"),
    Row("source that the build does not make", "install", sub(_TABLE, r"build:keys", "build:secrets"), "the build makes no secrets"),
    Row("source with two rows", "install", append(_TABLE, "file\tbackup.sh\t/opt/zmanim/backup-again.sh\troot:root\t0755\n"), "backup.sh has two rows"),
    Row("two files in one place", "install", sub(_TABLE, r"/opt/zmanim/restore\.sh", "/opt/zmanim/backup.sh"), "/opt/zmanim/backup.sh has two rows"),
    Row("destination that is not absolute", "install", sub(_TABLE, r"\t/opt/zmanim/backup\.sh", "\topt/zmanim/backup.sh"), "not an absolute path"),
    Row("destination that leads elsewhere", "install", sub(_TABLE, r"\t/opt/zmanim/backup\.sh", "\t/opt/zmanim/../backup.sh"), "without .."),
    Row("owner that nobody makes", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*\t)root:root", r"\1root:backup"), "nobody makes the owner 'backup'"),
    Row("mode that is not octal", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*\t)0755$", r"\1u=rwx"), "four octal digits"),
    Row("mode of three digits", "install", sub(_TABLE, r"^(file\tbackup\.sh\t.*\t)0755$", r"\g<1>755"), "four octal digits"),
    # ---- The build (DoD 2) ----
    Row("rehearsal of this tree that failed", "rehearsed", rehearsal(rehearsed.RESULT, ok=False, ami_id="", error="the run stopped at verify-ami"), "the rehearsal of this very tree failed", dod=2, lesson="never built"),
    Row("packer build by hand that made no image", "rehearsed", rehearsal(rehearsed.BY_HAND, ami_id=""), "made no image", dod=2),
    Row("rehearsal without an image", "rehearsed", rehearsal(rehearsed.RESULT, **{**_BUILT, "ami_id": ""}), "has no image", dod=2),
    Row("rehearsal that published another image", "rehearsed", rehearsal(rehearsed.RESULT, **{**_BUILT, "published": {"/zmanim/prod/ami-id": "ami-00000000"}}), "and published", dod=2),
    # ---- Scripts (DoD 3 and 8) ----
    Row("script that does not parse", "shell", sub(_INSTALL, r"^main\(\) \{", "main() {\n  if true; then"), "syntax error", dod=3),
    Row("shipped script that does not parse", "shell", append(f"{_FILES}/notify-failure.sh", "fi\n"), "syntax error", dod=3),
    Row("script with an unquoted variable", "shell", sub(_INSTALL, r'rm "\$\{STAGING\}/restic\.bz2"', "rm ${STAGING}/restic.bz2"), "SC2086", dod=3),
    Row("script with a variable that is never set", "shell", sub(_INSTALL, r"^  log .*$", '  log "restic ${fuond}"'), "fuond", dod=3),
    Row("script that shfmt would write otherwise", "shell", sub(_INSTALL, r"^  download", "      download"), "shfmt"),
    Row("script that goes on after an error", "shell", drop(_INSTALL, r"^set -o errexit"), "lacks set -o errexit"),
    Row("script without a header", "shell", drop(_INSTALL, r"^# Input:"), "the header does not say: Input:"),
    Row("download without a time limit", "shell", sub(f"{_SCRIPTS}/lib.sh", r" --max-time 300", ""), "curl without --max-time"),
    Row("download that takes an error page", "shell", sub(f"{_SCRIPTS}/lib.sh", r"curl --fail ", "curl "), "curl without --fail"),
    Row("backup that does not parse", "shell", sub(_BACKUP, r"^take_turn\(\) \{", "take_turn() {\n  ("), "syntax error", dod=8),
    Row("backup without pg_dump", "shell", sub(_BACKUP, r"^(\s+)pg_dump --", r"\1pg_restore --"), "does not back PostgreSQL up", dod=8),
    Row("backup that never comes to Redis", "shell", drop(_BACKUP, r"^  back_up_redis$"), "does not fetch Redis's snapshot", dod=8),
    Row("backup that only speaks of pg_dump", "shell", drop(_BACKUP, r"^  back_up_databases <<<.*$"), "does not back PostgreSQL up", dod=8),
    Row("secret in argv", "shell", sub(_BACKUP, r"redis-cli -s", 'redis-cli --pass "${REDISCLI_AUTH}" -s'), "a secret in argv"),
    Row("secret in a log", "shell", sub(_BACKUP, r"^  take_turn$", '  take_turn\n  log "${RESTIC_PASSWORD}"'), "a secret in an output"),
    Row("secret that is only said to be found", "shell", sub(_BACKUP, r"^  take_turn$", '  take_turn\n  log "key: ${JWT_KEY:+found}${JWT_KEY:-NOT SET}"'), "prints the value itself", lesson="secrets in logs"),
    Row("every word printed", "shell", sub(_BACKUP, r"^  take_turn$", "  take_turn\n  set -x"), "prints every expanded word", lesson="secrets in logs"),
    Row("password with a fallback", "shell", sub(_BACKUP, r"^  take_turn$", '  take_turn\n  export RESTIC_PASSWORD="${RESTIC_PASSWORD:-changeme}"'), "a fallback for a secret", lesson="changeme"),
    Row("repository made whatever happens", "shell", sub(_BACKUP, r"^  take_turn$", "  take_turn\n  restic init || true"), "hides a failure", lesson="init or true"),
    Row("dump through a pipe", "shell", sub(_BACKUP, r"^  take_turn$", "  take_turn\n  pg_dump zmanim | restic backup --stdin"), "restic can't see how pg_dump ended", lesson="truncated snapshots"),
    Row("prune whose failure is hidden", "shell", sub(_BACKUP, r"^  step complete$", "  step complete || :"), "hides a failure", lesson="no mail"),
    Row("mark of a running server removed", "shell", sub(_BACKUP, r"^  take_turn$", "  take_turn\n  rm --force /data/postgres/postmaster.pid"), "takes a running server's own mark away", lesson="postmaster.pid"),
    Row("clone reset at every start", "shell", sub(f"{_FILES}/download-latest.sh", r"^main\(\) \{", "main() {\n  git reset --hard origin/main"), "never a work tree", lesson="code as root"),
    # ---- What ships in Python ----
    Row("syntax of a newer Python", "shipped", append(f"{_FILES}/zmanim_host/secrets/escaping.py", "\n\ndef kind(value: int) -> str:\n    match value:\n        case _:\n            return ''\n"), "no Python 3.9"),
    Row("function of a newer library", "shipped", append(f"{_FILES}/zmanim_host/secrets/escaping.py", "\n\nimport math\n\nCUBE = math.cbrt(8)\n"), "not in Python 3.9"),
    Row("package from outside", "shipped", sub(f"{_FILES}/zmanim_host/secrets/escaping.py", r"^import hashlib$", "import hashlib\n\nimport requests"), "requests is not in the standard library"),
    Row("value given to a shell", "python", append(f"{_FILES}/zmanim_host/secrets/escaping.py", "\n\nimport os\n\nos.system('true')\n"), "S605"),
    Row("command that a shell takes apart", "python", append(f"{_FILES}/zmanim_host/secrets/escaping.py", "\n\nimport subprocess\n\nsubprocess.run('true', shell=True, check=True)\n"), "S602"),
    Row("running server's mark removed in Python", "shipped", append(f"{_FILES}/zmanim_host/storage/data_layout.py", '\n\nPath("/data/postgres/postmaster.pid").unlink()\n'), "postmaster.pid", lesson="postmaster.pid"),
    Row("snapshots by this machine's name", "shipped", sub(f"{_FILES}/zmanim_host/backup/restic.py", r'^HOST = "zmanim"$', "HOST = socket.gethostname()"), "one fixed name", lesson="retention by host name"),
    Row("dump that restic only reads", "shipped", sub(f"{_FILES}/zmanim_host/backup/restic.py", r'"--stdin-from-command", "--", \*command', '"--", *command'), "--stdin-from-command", lesson="truncated snapshots"),
    Row("repository made too easily", "shipped", sub(f"{_FILES}/zmanim_host/backup/restic.py", r"^        except NoRepository:", "        except HostError:"), "NoRepository alone", lesson="init or true"),
    # ---- The servers' configuration (DoD 6 and 7) ----
    Row("PostgreSQL without shared_buffers", "configuration", sub(_POSTGRESQL, r"^shared_buffers =", "# shared_buffers ="), "shared_buffers is not set", dod=6),
    Row("PostgreSQL's data on the root disk", "configuration", append(_POSTGRESQL, "data_directory = '/var/lib/pgsql/data'\n"), "data_directory is '/var/lib/pgsql/data' in the end", dod=6),
    Row("PostgreSQL's memory without a unit", "configuration", sub(_POSTGRESQL, r"^work_mem = 16MB", "work_mem = 16"), "work_mem is '16' in the end", dod=6),
    Row("PostgreSQL's sizes of another machine", "configuration", append(_POSTGRESQL, "shared_buffers = 2GB\n"), "comes after the include", dod=6, lesson="tuned for another machine"),
    Row("PostgreSQL on the network", "configuration", sub(f"{_FILES}/pg_hba.conf", r"^local +all .*$", "host all all 0.0.0.0/0 peer"), "connections come by the local socket only"),
    Row("PostgreSQL that trusts everybody", "configuration", sub(f"{_FILES}/pg_hba.conf", r"^(local +all +postgres +)peer", r"\1trust"), "method peer"),
    Row("Redis without an append-only file", "configuration", append(_REDIS, "appendonly no\n"), "appendonly is 'no' in the end", dod=7, lesson="persistence switched off"),
    Row("Redis without a limit", "configuration", drop(_REDIS, r"^maxmemory "), "maxmemory is not set", dod=7),
    Row("Redis that keeps what it should drop", "configuration", sub(_REDIS, r"allkeys-lru$", "noeviction"), "maxmemory-policy is 'noeviction'", dod=7),
    Row("Redis without snapshots", "configuration", sub(_REDIS, r"^save 60 .*$", 'save ""'), "no save rules", dod=7),
    Row("value in the API's template", "configuration", sub(_ENV, r"^JWT_SECRET=.*$", "JWT_SECRET=s3cr3t"), "holds a value"),
    Row("name that the API does not get", "configuration", drop(_ENV, r"^CLERK_ISSUER="), "lacks CLERK_ISSUER"),
    Row("name that the API reads and nobody writes", "configuration", sub("api/internal/config/config.go", r'get\("REDIS_URL"\)', 'get("CACHE_URL")'), "reads CACHE_URL"),
    # ---- The pins ----
    Row("pin without a checksum", "versions", sub(_VERSIONS, r'^      "sha256": "[0-9a-f]{63}', '      "sha256": "'), "does not match"),
    Row("checksum that is none", "versions", sub(_VERSIONS, r'"sha256": "[0-9a-f]{64}"', f'"sha256": "{"1" * 64}"'), "checksum is none"),
    Row("review that is overdue", "versions", sub(_VERSIONS, r'"review_by": "\d{4}', '"review_by": "2024'), "was to be looked at again by 2024"),
    Row("Redis that nobody builds", "versions", sub(_VERSIONS, r'^    "redis": \{(?=\n      "version")', '    "redis7": {'), "'redis' is a required property", lesson="not in the repositories"),
    Row("Redis of another major", "versions", sub(_VERSIONS, r'^      "major": "7"', '      "major": "8"'), "is not of the major 8"),
    Row("address of another version", "versions", sub(_VERSIONS, r"redis-7\.2\.\d+\.tar", "redis-7.0.0.tar"), "does not name its version"),
)  # fmt: skip
