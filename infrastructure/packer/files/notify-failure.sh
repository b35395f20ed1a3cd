#!/usr/bin/env bash
# Sends a mail by SES that says which unit failed, where and how, with its last lines in the journal cleared of secrets.
#
# backup-notify@.service runs it; backup-notify-retry.service without a unit, to send what SES would not take before.
# What has rules (clearing, the spool, one mail an hour) is `zmanim-host notify`.
# Input:      $1, the unit (or nothing); ZMANIM_ENVIRONMENT, AWS_REGION, INSTANCE_ID (/run/zmanim/environment); MAIL_FROM,
#             MAIL_TO (/run/zmanim/account; without them mail waits); MONITOR_* and STATE_DIRECTORY (systemd).
# Output:     one mail, now or when SES answers again.
# Idempotent: yes; within the hour the second failure is counted in the next mail.
set -o errexit -o nounset -o pipefail

main() {
  exec "$(dirname "${BASH_SOURCE[0]}")/zmanim-host" notify "$@"
}

main "$@"
