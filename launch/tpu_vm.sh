#!/usr/bin/env bash
# A Cloud TPU slice by a queued resource, and a run on all of its hosts. Needs gcloud, logged in.
#
#   launch/tpu_vm.sh create            asks for the slice (spot unless SPOT=no) and returns; it may take days
#   launch/tpu_vm.sh wait              until the slice is there
#   launch/tpu_vm.sh start -- --config=pretext --config.data.photos=gs://BUCKET/records --workdir=gs://BUCKET/runs/pretext
#   launch/tpu_vm.sh logs [HOST]       follows the log of one host (0)
#   launch/tpu_vm.sh stop              SIGTERM on all hosts: the run saves and ends
#   launch/tpu_vm.sh delete            gives the slice back, and ends the bill
#
# A spot slice that was taken away is gone: delete, create, wait, and the same `start` continues.
# In the environment: NAME, ZONE, PROJECT; TYPE (v5litepod-256), RUNTIME (v2-alpha-tpuv5-lite), SOURCE (what pip installs).
set -euo pipefail
NAME=${NAME:-exif-jax}
TYPE=${TYPE:-v5litepod-256}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
SOURCE=${SOURCE:-exif-jax}
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 1 ] || usage
: "${ZONE:?set ZONE, such as us-west4-a}" "${PROJECT:?set PROJECT, the project that pays}"
at=(--zone="$ZONE" --project="$PROJECT")

on_hosts() {  # WHICH COMMAND
  gcloud compute tpus tpu-vm ssh "$NAME" "${at[@]}" --worker="$1" --command="$2"
}

command=$1
shift
case "$command" in
  create)
    kind=(--spot)
    if [ "${SPOT:-yes}" = no ]; then kind=(); fi
    gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${at[@]}" \
      --accelerator-type="$TYPE" --runtime-version="$RUNTIME" "${kind[@]}"
    ;;
  wait)
    until state=$(gcloud compute tpus queued-resources describe "$NAME" "${at[@]}" --format='value(state.state)') &&
      [ "$state" = ACTIVE ]; do
      case "$state" in
        FAILED | SUSPENDED) echo "$NAME: $state; delete it and ask again" >&2; exit 1 ;;
      esac
      sleep 60
    done
    ;;
  start)
    [ "${1:-}" = -- ] && shift
    [ $# -ge 1 ] || usage
    printf -v words '%q ' "$@"
    # The TPU's own environment tells JAX of the other hosts.
    on_hosts all "python3 -m venv exif-jax && exif-jax/bin/pip install -q '${SOURCE}[tpu,gcs]'"
    gcloud compute tpus tpu-vm scp "$(dirname "$0")/restart.sh" "$NAME": "${at[@]}" --worker=all
    on_hosts all "JAX_COMPILATION_CACHE_DIR=\$HOME/jax_cache nohup bash restart.sh exif-jax/bin/exif-jax train \
--distributed $words > exif-jax.log 2>&1 < /dev/null & echo \$! > exif-jax.pid"
    ;;
  logs) on_hosts "${1:-0}" 'tail -n 100 -F exif-jax.log' ;;
  stop) on_hosts all "kill -TERM \$(cat exif-jax.pid)" ;;
  delete) gcloud compute tpus queued-resources delete "$NAME" "${at[@]}" --force --quiet ;;
  *) usage ;;
esac
