#!/usr/bin/env bash
# PASCAL VOC 2012 from boxes: labels of the CAMs inside them. Settings: bashscripts/pipeline.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_box.sh
set -euo pipefail
# shellcheck source=bashscripts/pipeline.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../pipeline.sh"

RELEASED=(--crf)
pipeline configs/voc12/box.yaml 12,12 "train retrieval pseudo classifier evaluate" "$@"
