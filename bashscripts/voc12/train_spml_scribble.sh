#!/usr/bin/env bash
# PASCAL VOC 2012 from scribbles. Settings: bashscripts/pipeline.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_scribble.sh
set -euo pipefail
# shellcheck source=bashscripts/pipeline.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../pipeline.sh"

pipeline configs/voc12/scribble.yaml 12,12 "train retrieval pseudo classifier evaluate" "$@"
