#!/bin/sh
# An agent in sh and curl: counts its steps in its state until it is told to stop.
# Exit code 4: fenced. Writes one line a step to standard output.
set -eu
api="http://stateroom/v1/agents/$AGENT_ID"
call() { curl --silent --show-error --max-time 20 --unix-socket "$STATEROOM_SOCKET" \
  --header "X-Epoch: $EPOCH" "$@"; }

call --fail --request POST "$api/register" >/dev/null
state=$(call --fail --write-out '\n%header{x-state-version}' "$api/state")
version=${state##*
}
count=$(printf %s "${state%"$version"}")
while :; do
  count=$((${count:-0} + 1))
  answer=$(printf %s "$count" | call --write-out '\n%{http_code}' --request PUT \
    --header "If-Match: \"$version\"" --data-binary @- "$api/state")
  case $answer in
    *200) version=$((version + 1)) ;;
    *409) echo "fenced: $answer"; exit 4 ;;
    *) echo "unexpected: $answer"; exit 1 ;;
  esac
  call --fail --json "{\"activities\": [{\"kind\": \"count\", \"detail\": \"step $count\"}]}" \
    "$api/activities" >/dev/null
  call --fail --json "{\"notes\": [{\"text\": \"I counted to $count.\"}]}" "$api/notes" >/dev/null
  echo "step $count version $version"
  case $(call --fail --json '{"metrics": {"tasks": '"$count"'}}' "$api/heartbeat") in
    *'"stop": true'*) echo "told to stop"; exit 0 ;;
  esac
done
