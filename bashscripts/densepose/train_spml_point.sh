#!/usr/bin/env bash
# DensePose from points. Settings: bashscripts/pipeline.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/densepose/train_spml_point.sh
set -euo pipefail
# shellcheck source=bashscripts/pipeline.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../pipeline.sh"

SOURCE=points
pipeline configs/densepose/point.yaml 24,24 "train retrieval pseudo classifier evaluate" "$@"
