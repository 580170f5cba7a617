#!/usr/bin/env bash
# DensePose from points: `spml run point`. Settings: spml_run in bashscripts/setup.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/densepose/train_spml_point.sh [key=value ..]
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
# shellcheck source=bashscripts/setup.sh
source bashscripts/setup.sh
spml_run point configs/densepose/point.yaml "$@"
