#!/usr/bin/env bash
# PASCAL VOC 2012 from boxes, by labels of the CAMs inside them, or other data by CFG. Settings: bashscripts/pipeline.sh
#   DATAROOT=folder GPUS=4 bash bashscripts/voc12/train_spml_box.sh
# With CAM_DIR the config's list names the labels; pyscripts/data/cams.py --kind box makes them of such CAMs.
set -euo pipefail
# shellcheck source=bashscripts/pipeline.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../pipeline.sh"

CAM_KIND=box
RELEASED=(--crf)
if [ -z "${CFG:-}" ]; then
  INSTANCE_DIR=${INSTANCE_DIR:-${DATAROOT:-}/VOC2012/hed} BOXES=${BOXES:-${DATAROOT:-}/VOC2012/Annotations}
fi
pipeline configs/voc12/box.yaml 12,12 "train retrieval pseudo classifier evaluate" "$@"
