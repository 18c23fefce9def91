#!/usr/bin/env bash
# PARTITION JOB_NAME TOOL [OPTIONS]: tools/TOOL on GPUS GPUs of a Slurm cluster.
set -euxo pipefail

PARTITION=$1
JOB_NAME=$2
TOOL=$3

# SRUN_ARGS holds several arguments, so it is not quoted.
srun -p "$PARTITION" \
    --job-name="$JOB_NAME" \
    --gres=gpu:"${GPUS_PER_NODE:-8}" \
    --ntasks="${GPUS:-8}" \
    --ntasks-per-node="${GPUS_PER_NODE:-8}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/$TOOL" "${@:4}" --launcher=slurm
