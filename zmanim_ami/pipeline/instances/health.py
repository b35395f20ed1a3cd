"""Whether an instance's API answers now, asked on the instance: no port is opened for it."""

from __future__ import annotations

from zmanim_ami.pipeline import aws, run_command

# The API starts with the machine; on one whose API alone was stopped this starts it.
_SCRIPT = """\
systemctl start zmanim-api.service
end=$(($(date +%s) + SECONDS_LEFT))
until curl --silent --show-error --fail --max-time 5 --output /dev/null http://127.0.0.1:8080/health; do
  if [ "$(date +%s)" -ge "$end" ]; then
    journalctl --unit zmanim-api.service --no-pager --output cat --lines 20 >&2
    exit 1
  fi
  sleep 1
done
"""


def check(clients: aws.Clients, instance_id: str, seconds: int, poller: aws.Poller) -> None:
    """Have an instance's API started where it does not run, and wait until it answers. Raises CommandNotRun, aws's."""
    script = _SCRIPT.replace("SECONDS_LEFT", str(seconds))
    run_command.run_script(clients, instance_id, script, seconds + 30.0, poller)
