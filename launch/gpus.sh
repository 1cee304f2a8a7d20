#!/usr/bin/env bash
# A run on all GPUs of this machine: one process sees them all, and divides the batch.
#
#   launch/gpus.sh --config=pretext --config.data.photos=records --config.batch_size=512 --workdir=runs/pretext
#
# Some of them only: CUDA_VISIBLE_DEVICES=0,1. WORKERS: processes that decode, by default one for each core but two.
set -euo pipefail
cores=$(nproc)
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/jax}"
workers=${WORKERS:-$((cores > 3 ? cores - 2 : 0))}
exec "$(dirname "$0")/restart.sh" exif-jax train --config.data.workers="$workers" "$@"
