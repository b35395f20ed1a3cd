#!/usr/bin/env bash
# Sends a mail by SES that says which unit failed, where and how.
#
# backup-notify@.service runs it. No line of the journal goes into the mail: a mail is no place for what a log may hold.
# Input:   $1, the unit; ZMANIM_ENVIRONMENT, AWS_REGION, INSTANCE_ID (/run/zmanim/environment); MAIL_FROM, MAIL_TO
#          (/etc/restic/backup.conf); MONITOR_SERVICE_RESULT, MONITOR_EXIT_CODE, MONITOR_EXIT_STATUS (systemd).
# Output:  one mail.
# Twice:   yes; it sends another mail.
set -o errexit -o nounset -o pipefail

main() {
  local -r unit=${1:?"usage: notify-failure.sh UNIT"}
  local -r where="${ZMANIM_ENVIRONMENT:?} (${INSTANCE_ID:?}, ${AWS_REGION:?})"
  aws ses send-email --region "${AWS_REGION}" --cli-connect-timeout 5 --cli-read-timeout 15 --output text \
    --from "${MAIL_FROM:?}" --to "${MAIL_TO:?}" \
    --subject "zmanim ${ZMANIM_ENVIRONMENT}: ${unit} failed" \
    --text "${unit} failed on ${where} at $(date --utc +%Y-%m-%dT%H:%M:%SZ).

Result: ${MONITOR_SERVICE_RESULT:-unknown} (${MONITOR_EXIT_CODE:-unknown} ${MONITOR_EXIT_STATUS:-unknown})

What it said: journalctl --unit ${unit}"
}

main "$@"
