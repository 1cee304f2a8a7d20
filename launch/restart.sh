#!/usr/bin/env bash
# Runs a command, and again as long as it ends so that it is to be started again: 143 (preempted, everything is saved),
# 75 (another process died, or a step hung), or killed by a signal (137 for want of memory). Anything else is the end: 0
# done, 2 something to mend, 130 Ctrl-C. Ctrl-C and SIGTERM are passed on to the command, and then this ends, too: the
# machine is going, and whoever gives a new one starts it again.
#
#   launch/restart.sh exif-jax train --config=pretext ... --workdir=gs://BUCKET/runs/pretext
#
# RESTARTS: at most so many (100); PAUSE: seconds before each, in which the other processes end, too (10).
set -u
if [ $# -eq 0 ]; then
  echo "usage: $0 COMMAND [ARGUMENT ...]" >&2
  exit 2
fi
# The command is in a group of its own, so that it gets signals from here alone.
set -m
stopped=''
child=''
pass_on() {
  stopped=yes
  if [ -n "$child" ]; then kill "-$1" "$child" 2>/dev/null; fi
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

for ((left = ${RESTARTS:-100}; ; left--)); do
  "$@" &
  child=$!
  # A signal ends `wait` early, the command goes on for a while.
  while
    wait "$child"
    status=$?
    kill -0 "$child" 2>/dev/null
  do :; done
  if [ -n "$stopped" ]; then
    wait "$child"
    status=$?
  fi
  if [ -n "$stopped" ] || { [ $status -ne 75 ] && [ $status -lt 129 ]; } || [ $status -eq 130 ]; then exit $status; fi
  if [ "$left" -le 0 ]; then
    echo "$0: status $status again, and no restart is left" >&2
    exit $status
  fi
  echo "$0: status $status, starting again in ${PAUSE:-10} s ($left restarts left)" >&2
  sleep "${PAUSE:-10}"
  if [ -n "$stopped" ]; then exit $status; fi
done
